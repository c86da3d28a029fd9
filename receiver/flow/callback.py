"""Make callbacks durable before they are answered; what they mean is read later, by `advance`."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from receiver import telemetry
from receiver.core import ids
from receiver.core.errors import DataRefused, SignatureRejected, StoreConflict, StoreUnavailable, TokenUnknown
from receiver.core.model import AccountId, SignatureMode, TaskId, Verdict
from receiver.core.tokens import CONSOLE_TEST, key_id
from receiver.dialects import signature
from receiver.flow import advance
from receiver.flow.services import Deal, Services
from receiver.store import accounts, db, inbox, tasks
from receiver.store.db import Connection
from receiver.store.events import Event
from receiver.store.inbox import Arrival, Key

log = structlog.get_logger(__name__)

#: From the last byte of a callback to its answer; senders give up after 3 s (providers.md 4.3).
ANSWER_WITHIN: Final = timedelta(seconds=2)
#: A statement that takes longer is given up with its connection; what it may still keep is a repeat later.
_GIVE_UP: Final = timedelta(seconds=10)
#: Rows of one statement.
_BATCH: Final = 500
#: Callbacks that may wait for their batch; more are turned away with 503.
_QUEUE: Final = 8192


@dataclass(frozen=True, slots=True)
class Posted:
    """A callback as the web received it; *body* is the raw bytes that were signed."""

    account: str
    task: str
    token: str
    body: bytes
    webhook_id: str | None
    timestamp: str | None
    signatures: str | None


@dataclass(slots=True, eq=False)
class _Waiting:
    arrival: Arrival
    #: True: new; False: a repeat.
    answer: asyncio.Future[bool]
    #: By the loop's clock.
    until: float


class Intake:
    """Checks callbacks and keeps them in batches: all that wait at a moment are one statement and one commit."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._queue: deque[_Waiting] = deque()
        self._batch: list[_Waiting] = []
        self._wake = asyncio.Event()
        #: One for all: set to the moment when the first that waits has waited too long.
        self._timer: asyncio.TimerHandle | None = None
        self._conn: Connection | None = None

    async def take(self, posted: Posted) -> bool:
        """
        Check *posted* and return when it is durable: True when new, False for a repeat.

        Of a console's test only the verdict is kept.

        Raises:
            TokenUnknown: The URL is not one of ours.
            SignatureRejected: Its signature is wrong, or missing where one is required; the provider is asked.
            StoreUnavailable: It is not durable; the sender should send it again.
        """
        deal = self._services.deals.get(AccountId(posted.account))
        self._services.tokens.check_callback(posted.token, posted.account, posted.task)
        if deal is None:
            raise TokenUnknown("no such callback URL")
        if posted.task == CONSOLE_TEST:
            return await self._console_test(deal, posted)
        task = ids.parse_task_id(posted.task)
        if task is None:
            raise TokenUnknown("no such callback URL")
        verified = await self._verify(deal, task, posted)
        digest = hashlib.sha256(posted.body).digest()
        return await self._keep(Arrival(Key(task, posted.account, verified, digest), posted.body))

    async def run(self) -> None:
        """Keep batches until cancelled; one task of each web process."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._queue:
                    taken = [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]
                    self._batch = [waiting for waiting in taken if not waiting.answer.done()]
                    await self._answer(self._batch)
        finally:
            for waiting in (*self._batch, *self._queue):
                if not waiting.answer.done():
                    waiting.answer.set_exception(StoreUnavailable("the service stops"))
            await self._drop_connection()

    async def _verify(self, deal: Deal, task: TaskId, posted: Posted) -> bool:
        """Return whether the callback counts as signed."""
        mode = deal.account.signature_mode
        if mode is SignatureMode.NONE:
            return False
        verdict = signature.verify(
            deal.account.webhook_secrets,
            webhook_id=posted.webhook_id,
            timestamp=posted.timestamp,
            signatures=posted.signatures,
            body=posted.body,
            now=self._services.clock(),
        )
        if verdict is Verdict.BAD or (verdict is Verdict.ABSENT and mode is SignatureMode.REQUIRED):
            await self._refuse(deal, task, verdict)
        return verdict is Verdict.GOOD

    async def _console_test(self, deal: Deal, posted: Posted) -> bool:
        """
        Note what a console's test callback shows, and answer as a real one would be answered (providers.md 2.6, 6.7).

        Raises:
            SignatureRejected: By the account's mode it would not be kept.
        """
        verdict, by = self._judge_test(deal, posted)
        async with self._services.database.transaction() as conn:
            await accounts.note_test(conn, deal.account.id, verdict, by)
        log.info("callback.tested", account=deal.account.id, verdict=verdict, signed_by=by)
        mode = deal.account.signature_mode
        if (verdict is Verdict.BAD and mode is not SignatureMode.NONE) or (
            verdict is Verdict.ABSENT and mode is SignatureMode.REQUIRED
        ):
            raise SignatureRejected(f"the signature is {verdict}")
        return True

    def _judge_test(self, deal: Deal, posted: Posted) -> tuple[Verdict, str | None]:
        """Return the verdict, whatever the mode, and the key id of the secret that had signed."""
        verdict = Verdict.ABSENT
        for secret in deal.account.webhook_secrets:
            verdict = signature.verify(
                (secret,),
                webhook_id=posted.webhook_id,
                timestamp=posted.timestamp,
                signatures=posted.signatures,
                body=posted.body,
                now=self._services.clock(),
            )
            if verdict in {Verdict.GOOD, Verdict.STALE}:
                return verdict, key_id(secret)
        return verdict, None

    async def _refuse(self, deal: Deal, task: TaskId, verdict: Verdict) -> None:
        async with self._services.database.transaction() as conn:
            locked = await tasks.lock(conn, task)
            if locked is not None and locked.task.due_at is not None:
                await advance.ask(conn, deal, locked, Event(task, "callback.refused", {"verdict": verdict}))
        raise SignatureRejected(f"the signature is {verdict}")

    async def _keep(self, arrival: Arrival) -> bool:
        if len(self._queue) >= _QUEUE:
            raise StoreUnavailable("too many callbacks wait")
        loop = asyncio.get_running_loop()
        waiting = _Waiting(arrival, loop.create_future(), loop.time() + ANSWER_WITHIN.total_seconds())
        self._queue.append(waiting)
        self._wake.set()
        if self._timer is None:
            self._timer = loop.call_at(waiting.until, self._expire)
        return await waiting.answer

    def _expire(self) -> None:
        """Turn away what has waited too long, and look again when the next one has."""
        self._timer = None
        loop = asyncio.get_running_loop()
        for waiting in (*self._batch, *self._queue):
            if waiting.answer.done():
                continue
            if waiting.until > loop.time():
                self._timer = loop.call_at(waiting.until, self._expire)
                return
            waiting.answer.set_exception(StoreUnavailable("the database is too slow"))

    async def _answer(self, batch: list[_Waiting]) -> None:
        if not batch:
            return
        try:
            told = await self._commit([waiting.arrival for waiting in batch])
        except StoreUnavailable as exc:
            log.warning("callback.not_kept", error=exc.code, callbacks=len(batch))
            for waiting in batch:
                if not waiting.answer.done():
                    waiting.answer.set_exception(StoreUnavailable("the callback was not kept"))
            return
        counts: Counter[tuple[str, str]] = Counter()
        for waiting, new in zip(batch, told, strict=True):
            outcome = _settle(waiting.answer, new=new)
            counts[waiting.arrival.key.account, outcome] += 1
        for (account, outcome), times in counts.items():
            telemetry.CALLBACKS.labels(account=account, outcome=outcome).inc(times)

    async def _commit(self, arrivals: list[Arrival]) -> Sequence[bool | DataRefused]:
        """Keep a batch: after a deadlock once more whole, after bad data once more one row at a time."""
        try:
            try:
                return await self._insert(arrivals)
            except StoreConflict:
                return await self._insert(arrivals)
        except DataRefused:
            log.warning("callback.batch_refused", callbacks=len(arrivals))
            return [await self._insert_one(arrival) for arrival in arrivals]

    async def _insert_one(self, arrival: Arrival) -> bool | DataRefused:
        try:
            return (await self._insert([arrival]))[0]
        except DataRefused as exc:
            return exc

    async def _insert(self, arrivals: list[Arrival]) -> list[bool]:
        try:
            if self._conn is None:
                self._conn = await db.connect(self._services.database.url)
            async with asyncio.timeout(_GIVE_UP.total_seconds()), db.translated():
                return await inbox.keep(self._conn, arrivals)
        except TimeoutError as exc:
            await self._drop_connection()
            raise StoreUnavailable("the database does not answer") from exc
        except StoreUnavailable as exc:
            if not isinstance(exc, StoreConflict):
                await self._drop_connection()
            raise

    async def _drop_connection(self) -> None:
        if self._conn is not None:
            await self._conn.close()
            self._conn = None


def _settle(answer: asyncio.Future[bool], *, new: bool | DataRefused) -> str:
    """Answer one callback and return what became of it; it may have been turned away for its time already."""
    if isinstance(new, DataRefused):
        if not answer.done():
            answer.set_exception(new)
        return "refused"
    if not answer.done():
        answer.set_result(new)
    return "kept" if new else "repeated"
