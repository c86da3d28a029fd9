"""
The worker: claims jobs by kind, runs their flow, settles them in batches.

It may be killed between any two steps: leases lapse, and another worker's next
claim takes over. Nothing is decided by what lies in memory here.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, assert_never
from uuid import UUID, uuid4

import structlog

from receiver import telemetry
from receiver.core import schedule
from receiver.core.errors import ProviderFault, StoreConflict, StoreUnavailable, Unavailable
from receiver.core.model import JobKind
from receiver.flow import advance, archive, list_reconcile, submit, sweep
from receiver.flow.outcome import Done, Held, Later, Outcome, Retry
from receiver.flow.services import Services
from receiver.jobs.settling import Settler
from receiver.jobs.waking import Waker
from receiver.store import jobs
from receiver.store.jobs import Job, Settled

log = structlog.get_logger(__name__)

Handler = Callable[[Services, Sequence[Job]], Awaitable[Sequence[Outcome]]]


def single(handle: Callable[[Services, Job], Awaitable[Outcome]]) -> Handler:
    """Make a handler of one that takes a job at a time."""

    async def handled(services: Services, mine: Sequence[Job]) -> list[Outcome]:
        return [await handle(services, job) for job in mine]

    return handled


HANDLERS: Final[Mapping[JobKind, Handler]] = {
    JobKind.SUBMIT: single(submit.send),
    JobKind.QUERY: single(list_reconcile.query),
    JobKind.ADVANCE: advance.advance,
    JobKind.ARCHIVE: single(archive.archive),
}
#: Handlers of each kind that one worker runs at the same time; one of callbacks, so that they stay in their order.
SLOTS: Final[Mapping[JobKind, int]] = {
    JobKind.SUBMIT: 16,
    JobKind.QUERY: 16,
    JobKind.ADVANCE: 1,
    JobKind.ARCHIVE: 8,
}
#: Jobs that one of them takes at once.
BATCH: Final[Mapping[JobKind, int]] = {kind: 250 if kind is JobKind.ADVANCE else 1 for kind in JobKind}
POLL: Final = timedelta(seconds=0.5)
SELDOM: Final = timedelta(seconds=5)
MEND: Final = timedelta(minutes=1)
RENEW: Final = timedelta(seconds=10)
#: The same unexpected exception this often in a row, or this many leases lost in a row, and a person must look.
PATIENCE: Final = 5


@dataclass(slots=True)
class Worker:
    """One worker process; `run` ends when `stop` is set and the jobs at hand are given back."""

    services: Services
    handlers: Mapping[JobKind, Handler] = field(default_factory=lambda: HANDLERS)
    slots: Mapping[JobKind, int] = field(default_factory=lambda: SLOTS)
    #: How long jobs at hand may go on after `stop`.
    grace: timedelta = timedelta(seconds=5)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    id: UUID = field(default_factory=uuid4)
    _running: dict[asyncio.Task[None], Sequence[Job]] = field(default_factory=dict)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    #: Kinds of which a job may be ready; the others are not asked for until something is heard.
    _likely: set[JobKind] = field(default_factory=lambda: set(JobKind))

    async def run(self) -> None:
        """Claim and run jobs until stopped; a database that is away is waited for."""
        structlog.contextvars.bind_contextvars(worker=str(self.id))
        await self._enlist()
        settler = Settler(self.services.database, self.id)
        log.info("worker.started")
        async with asyncio.TaskGroup() as group:
            helpers = [
                group.create_task(settler.run()),
                group.create_task(Waker(self.services.database.url, self._look).run()),
                group.create_task(self._every(POLL, self._often)),
                group.create_task(self._every(SELDOM, lambda: sweep.seldom(self.services))),
                group.create_task(self._every(MEND, lambda: sweep.mend(self.services))),
                group.create_task(self._every(RENEW, self._renew)),
            ]
            await self._claim_until_stopped(group, settler)
            await self._wind_down(settler)
            for helper in helpers:
                helper.cancel()
        with suppress(StoreUnavailable):
            async with self.services.database.connection() as conn:
                await jobs.retire(conn, self.id)
        log.info("worker.stopped")

    async def _enlist(self) -> None:
        try:
            async with self.services.database.connection() as conn:
                await jobs.renew(conn, self.id, [])
        except StoreUnavailable as exc:
            # The next renewal does it; until then only lost leases of others are judged with less evidence.
            log.warning("worker.not_enlisted", error=exc.code)

    async def _claim_until_stopped(self, group: asyncio.TaskGroup, settler: Settler) -> None:
        stopped = asyncio.create_task(self.stop.wait())
        try:
            while not self.stop.is_set():
                self._wake.clear()
                if await self._claim_all(group, settler):
                    continue
                woken = asyncio.create_task(self._wake.wait())
                waits = {woken, stopped}
                done, _ = await asyncio.wait(waits, timeout=POLL.total_seconds(), return_when=asyncio.FIRST_COMPLETED)
                woken.cancel()
                if not done:
                    self._look()
        finally:
            stopped.cancel()

    async def _claim_all(self, group: asyncio.TaskGroup, settler: Settler) -> int:
        """Fill the free slots of every kind that may have a job; return how many jobs were claimed."""
        claimed = 0
        try:
            if free := self._free():
                async with self.services.database.connection() as conn:
                    for kind, slots in free.items():
                        # Before the claim: what becomes ready while it runs is heard of and adds the kind again.
                        self._likely.discard(kind)
                        most = slots * BATCH[kind]
                        found = await jobs.claim(conn, kind, most, lapsed=slots)
                        if len(found) == most:
                            self._likely.add(kind)
                        telemetry.LEASES_LOST.labels(kind=kind).inc(sum(job.lapsed for job in found))
                        for first in range(0, len(found), BATCH[kind]):
                            self._start(group, settler, found[first : first + BATCH[kind]])
                        claimed += len(found)
        except StoreUnavailable as exc:
            log.warning("worker.database_away", error=exc.code)
            await asyncio.sleep(POLL.total_seconds())
            self._look()
        return claimed

    def _free(self) -> dict[JobKind, int]:
        """Return the free slots of the kinds to ask for."""
        taken = Counter(mine[0].kind for mine in self._running.values())
        free = {kind: slots - taken[kind] for kind, slots in self.slots.items() if kind in self._likely}
        if JobKind.ARCHIVE in free and not self.services.downloader.has_room():
            del free[JobKind.ARCHIVE]
        return {kind: slots for kind, slots in free.items() if slots > 0}

    def _look(self) -> None:
        """Ask for every kind again."""
        self._likely.update(JobKind)
        self._wake.set()

    def _start(self, group: asyncio.TaskGroup, settler: Settler, mine: Sequence[Job]) -> None:
        task = group.create_task(self._handle(settler, mine))
        self._running[task] = mine
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        # The jobs themselves may be ready again, when they were wanted meanwhile.
        self._likely.add(self._running.pop(task)[0].kind)
        self._wake.set()

    async def _handle(self, settler: Settler, mine: Sequence[Job]) -> None:
        # Last, and each alone, those that may be the reason why a worker was lost or a try failed.
        for part in ([job for job in mine if not _is_doubtful(job)], *([job] for job in mine if _is_doubtful(job))):
            settled = await self.outcomes(part) if part else []
            for each in settled:
                if each.dead:
                    with suppress(StoreUnavailable):
                        await advance.give_up(self.services, each.job, each.error or "")
            await settler.settle(settled)

    async def outcomes(self, mine: Sequence[Job]) -> list[Settled]:
        """Run the flow of some jobs of a kind and translate how they ended, but for those that settled themselves."""
        kind, alone = mine[0].kind, len(mine) == 1
        with structlog.contextvars.bound_contextvars(**_names(mine)):
            if alone and mine[0].lost >= PATIENCE:
                return [self._dead(mine[0], "lease_lost")]
            try:
                ended = await self.handlers[kind](self.services, mine)
            except (Unavailable, ProviderFault) as exc:
                if alone or not isinstance(exc, StoreConflict):
                    return self._settled(mine, [Retry(exc.code)] * len(mine))
            except Exception as exc:
                if alone:
                    log.exception("job.crashed", subject=mine[0].subject, attempt=mine[0].attempt)
                    return [self._crashed(mine[0], type(exc).__name__)]
            else:
                return self._settled(mine, ended)
        # What undid all of them is one of them, or two that met others in the wrong order.
        half = len(mine) // 2
        return [*await self.outcomes(mine[:half]), *await self.outcomes(mine[half:])]

    def _settled(self, mine: Sequence[Job], ended: Sequence[Outcome]) -> list[Settled]:
        for outcome, times in Counter(type(each).__name__.lower() for each in ended).items():
            telemetry.JOBS.labels(kind=mine[0].kind, outcome=outcome).inc(times)
        settled = [self._translated(job, outcome) for job, outcome in zip(mine, ended, strict=True)]
        return [each for each in settled if each is not None]

    def _translated(self, job: Job, outcome: Outcome) -> Settled | None:
        match outcome:
            case Done():
                return Settled(job=job)
            case Later(delay):
                return Settled(job=job, delay=max(delay, timedelta()))
            case Retry(error, delay):
                pause = delay or self._pause(job)
                log.info("job.retried", subject=job.subject, attempt=job.attempt, error=error)
                # What follows a code is for people.
                telemetry.RETRIES.labels(kind=job.kind, error=error.partition(":")[0]).inc()
                return Settled(job=job, delay=pause, error=error)
            case Held():
                return None
            case _:  # pragma: no cover
                assert_never(outcome)

    def _pause(self, job: Job) -> timedelta:
        remaining = job.deliver_by - self.services.clock()
        if job.kind is JobKind.ADVANCE:
            remaining = schedule.LONGEST_PAUSE
        return schedule.retry_after(job.attempt, remaining=remaining, jitter=self.services.random())

    def _crashed(self, job: Job, error: str) -> Settled:
        same = job.same_error + 1 if error == job.last_error else 1
        telemetry.JOBS.labels(kind=job.kind, outcome="crashed").inc()
        if same >= PATIENCE:
            return self._dead(job, error)
        return Settled(job=job, delay=self._pause(job), error=error, same_error=same)

    def _dead(self, job: Job, error: str) -> Settled:
        log.error("job.dead", job_id=str(job.id), kind=job.kind, subject=job.subject, error=error)
        telemetry.JOBS.labels(kind=job.kind, outcome="dead").inc()
        return Settled(job=job, error=error, same_error=job.same_error + 1, dead=True)

    async def _often(self) -> None:
        await sweep.often(self.services)
        # The poll, also while so much is heard of one kind that the loop never waits in vain.
        self._look()

    async def _renew(self) -> None:
        async with self.services.database.connection() as conn:
            await jobs.renew(conn, self.id, [job for mine in self._running.values() for job in mine])

    async def _every(self, pause: timedelta, act: Callable[[], Awaitable[object]]) -> None:
        """Repeat *act*, also after the database was away."""
        while True:
            await asyncio.sleep(pause.total_seconds())
            try:
                await act()
            except Unavailable as exc:
                log.warning("sweep.skipped", error=exc.code)

    async def _wind_down(self, settler: Settler) -> None:
        """Let the jobs at hand end, cut those that do not, and give all leases back."""
        if self._running:
            await asyncio.wait(self._running, timeout=self.grace.total_seconds())
        left = dict(self._running)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
        for mine in left.values():
            await settler.settle([Settled(job=job, delay=timedelta()) for job in mine])
        await settler.drain()


def _is_doubtful(job: Job) -> bool:
    # The tries of a batch that takes too long for any database are no different from those of an outage.
    return job.lapsed or job.same_error > 0 or job.attempt > PATIENCE


def _names(mine: Sequence[Job]) -> dict[str, object]:
    """Return what the log lines of a try say: of many jobs only their kind."""
    if len(mine) > 1:
        return {"job_kind": mine[0].kind, "jobs": len(mine)}
    (job,) = mine
    subject = "callback_id" if job.kind is JobKind.ADVANCE else "task_id"
    return {"job_id": str(job.id), "job_kind": job.kind, "account": job.account, subject: job.subject}
