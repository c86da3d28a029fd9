"""Real services on a real database and bucket, jobs that are really claimed, and a scripted provider."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import structlog
from pydantic import SecretStr

from receiver.core.model import AccountId, Asset, JobKind, State, Task, TaskId
from receiver.flow import advance
from receiver.flow.accept import Order, accept
from receiver.flow.callback import Intake, Posted
from receiver.flow.services import Services
from receiver.jobs.worker import Worker
from receiver.local.store import StoreAddress
from receiver.settings import AccountSettings, Settings
from receiver.store import jobs, ledger, tasks
from receiver.store.db import every
from receiver.store.jobs import Job, Settled
from receiver.store.keys import Key
from receiver.wiring import open_services
from tests.flow.world import Provider, Reply, created, sound

ACCOUNT: Final = AccountId("studio")
OWNER: Final = "team"
CALLER: Final = Key(id="k1", owner=OWNER, daily_tasks=None, daily_units=None)
KEY = Key(id="key", owner=OWNER, daily_tasks=None, daily_units=None)
API_KEY: Final = "provider-api-key-0123456789"
WEBHOOK_KEY: Final = b"0123456789abcdef0123456789abcdef"
WEBHOOK_SECRET: Final = f"whsec_{base64.b64encode(WEBHOOK_KEY).decode()}"
CALLBACK_SECRET: Final = "c" * 40
HURRY: Final = "UPDATE job SET run_at = now(), state = 'ready' WHERE kind = %(kind)s AND state = 'waiting' AND NOT held"

Row = dict[str, Any]


@dataclass(kw_only=True)
class Rig:
    services: Services
    world: Provider
    intake: Intake
    #: Everything that was logged.
    logs: list[MutableMapping[str, Any]]
    #: Names of log lines that are a fault unless a test wants them.
    faults: set[str] = field(default_factory=lambda: {"job.crashed", "job.dead", "job.mended", "request.crashed"})

    def __post_init__(self) -> None:
        self.worker = Worker(self.services)

    async def sql(self, text: str, **params: object) -> list[Row]:
        async with self.services.database.connection() as conn:
            cursor = await conn.execute(text.encode(), params)
            return await cursor.fetchall() if cursor.description else []

    async def accept(self, *, key: str | None = None, account: AccountId = ACCOUNT, **given: Any) -> TaskId:
        order = Order(
            account=account,
            kind="text-to-audio",
            input={"prompt": "rain on a tin roof", "duration": 3.0} | given,
            labels={},
            idempotency_key=key,
        )
        return (await accept(self.services, KEY, order)).id

    async def task(self, task: TaskId) -> Task:
        async with self.services.database.connection() as conn:
            found = await tasks.get(conn, task)
        assert found is not None
        return found.task

    async def state(self, task: TaskId) -> tuple[State, str | None]:
        found = await self.task(task)
        return found.state, found.reason

    async def story(self, task: TaskId) -> list[str]:
        return [
            row["type"] for row in await self.sql("SELECT type FROM event WHERE task_id = %(t)s ORDER BY id", t=task)
        ]

    async def jobs_of(self, subject: int) -> dict[str, Row]:
        columns = "kind, state, held, attempt, lost, same_error, last_error, lease_token, deliver_by"
        rows = await self.sql(f"SELECT {columns} FROM job WHERE subject = %(s)s", s=subject)  # noqa: S608 - our own
        return {row["kind"]: row for row in rows}

    async def claim(self, kind: JobKind, *, lease: timedelta = jobs.LEASE) -> Job | None:
        """Claim a job as a worker would, without waiting for its time."""
        await self.sql(HURRY, kind=kind)
        return await self.claim_due(kind, lease=lease)

    async def claim_due(self, kind: JobKind, *, lease: timedelta = jobs.LEASE) -> Job | None:
        """Claim a job as a worker would."""
        async with self.services.database.connection() as conn:
            found = await jobs.claim(conn, kind, 1, lease=lease)
        return found[0] if found else None

    async def handle(self, job: Job) -> Settled | None:
        """Run a claimed job to its end; None when its handler settled it itself."""
        settled = next(iter(await self.worker.outcomes([job])), None)
        if settled is not None:
            if settled.dead:
                await advance.give_up(self.services, job, settled.error or "")
            async with self.services.database.connection() as conn:
                await jobs.settle(conn, self.worker.id, [settled])
        return settled

    async def work(self, kind: JobKind) -> Settled | None:
        """Claim one job of *kind* and run it to its end."""
        job = await self.claim(kind)
        assert job is not None, f"there is no {kind} job"
        return await self.handle(job)

    async def forget_spacing(self, task: TaskId) -> None:
        """Let the five seconds between two questions be over."""
        await self.pass_time(task, "6 s", "last_polled_at")

    async def just_asked(self, task: TaskId) -> None:
        """Let the last question have been asked at this moment, however slow this machine is."""
        await self.sql("UPDATE task SET last_polled_at = now() WHERE id = %(t)s AND last_polled_at IS NOT NULL", t=task)

    async def stay_at_rest(self) -> None:
        """Let a rest of some seconds that has begun outlast what a slow machine does meanwhile; `pass_rest` ends it."""
        await self.sql("UPDATE pace SET open_until = open_until + interval '30 min' WHERE open_until > now()")

    async def pass_rest(self) -> None:
        """Let the time be over for which the account's provider is left alone."""
        await self.sql("UPDATE pace SET open_until = open_until - interval '1 hour'")

    async def pass_time(self, task: TaskId, span: str, *columns: str) -> None:
        """Move times of a task's row into the past."""
        assert columns
        sets = ", ".join(f"{column} = {column} - %(span)s::interval" for column in columns)
        await self.sql(f"UPDATE task SET {sets} WHERE id = %(task)s", task=task, span=span)  # noqa: S608 - names of our own columns

    async def overdue(self, task: TaskId) -> None:
        """Let the task's deadline, and all that stood before it, be over."""
        span = "(SELECT due_at - now() + interval '1 s' FROM task WHERE id = %(task)s)"
        shifted = ("created_at", "submit_by", "settle_by", "due_at", "first_sent_at", "last_sent_at", "last_polled_at")
        sets = ", ".join(f"{column} = {column} - x.span" for column in shifted)
        await self.sql(
            f"WITH x AS (SELECT {span} AS span), a AS (UPDATE asset SET gone_at = gone_at - x.span,"  # noqa: S608
            " link_expires_at = link_expires_at - x.span FROM x WHERE task_id = %(task)s), j AS (UPDATE job SET"
            " deliver_by = deliver_by - x.span FROM x WHERE subject = %(task)s)"
            f" UPDATE task SET {sets} FROM x WHERE id = %(task)s",
            task=task,
        )
        async with self.services.database.connection() as conn:
            await jobs.ready_due(conn)

    async def call_back(self, task: TaskId, body: Mapping[str, Any] | bytes, *, sign: str = "good") -> bool:
        """Post a callback as the provider would; *sign*: good, no, bad, stale or odd."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        token = self.services.tokens.callback_token(ACCOUNT, task)
        headers = signed(raw, sign)
        return await self.intake.take(Posted(ACCOUNT, str(task), token, raw, *headers))

    async def told(self, task: TaskId, body: Mapping[str, Any] | bytes, *, sign: str = "good") -> str:
        """Post a callback, advance it, and return what became of it."""
        assert await self.call_back(task, body, sign=sign)
        await self.work(JobKind.ADVANCE)
        rows = await self.sql("SELECT outcome FROM inbox WHERE task_id = %(t)s ORDER BY id DESC LIMIT 1", t=task)
        return str(rows[0]["outcome"])

    async def submitted(self) -> TaskId:
        """Return a task that the provider has made as `p1`."""
        self.world.creates = self.world.creates or [created()]
        task = await self.accept()
        assert await self.work(JobKind.SUBMIT)
        assert (await self.state(task))[0] is State.SUBMITTED
        return task

    async def succeeded(self, *clips: str) -> TaskId:
        """Return a task whose media are known and served, and not archived yet."""
        task = await self.submitted()
        for seed, clip in enumerate(clips or ("c1",)):
            self.world.media[f"/media/{clip}.mp3"] = [Reply(200, sound("mp3", seed))]
            self.world.media[f"/media/{clip}.wav"] = [Reply(200, sound("wav", seed))]
        self.world.queries = [self.world.report("succeed", task, clips=clips or ("c1",))]
        await self.work(JobKind.QUERY)
        assert (await self.state(task))[0] is State.SUCCEEDED
        return task

    async def assets(self, task: TaskId) -> list[Asset]:
        return list((await self.task(task)).assets)

    def with_profile(self, **changes: Any) -> None:
        """Let the account's provider be another one from now on."""
        deal = self.services.deals[ACCOUNT]
        deals = dict(self.services.deals) | {ACCOUNT: replace(deal, profile=replace(deal.profile, **changes))}
        self.services = replace(self.services, deals=deals)
        self.worker.services = self.services
        self.intake._services = self.services

    def logged(self, event: str) -> list[MutableMapping[str, Any]]:
        return [line for line in self.logs if line["event"] == event]

    async def judge(self) -> None:
        """Assert what must hold at the end of every test."""
        async with self.services.database.connection() as conn:
            assert list(await ledger.gaps(conn)) == []
            states = await every(conn, "SELECT state, count(*) AS n FROM task GROUP BY state")
            accepted = await every(conn, "SELECT count(*) AS n FROM event WHERE type = 'task.accepted'")
        assert sum(row["n"] for row in states) == accepted[0]["n"]
        assert self.world.surprises == []
        assert [line for line in self.logs if line["event"] in self.faults] == []


def signed(raw: bytes, how: str) -> tuple[str | None, str | None, str | None]:
    """Return the three headers of a signature."""
    if how == "no":
        return None, None, None
    at = {"stale": str(int(time.time()) - 3600), "odd": "yesterday"}.get(how, str(int(time.time())))
    mac = hmac.digest(WEBHOOK_KEY if how != "bad" else b"x" * 32, b"msg_1." + at.encode() + b"." + raw, hashlib.sha256)
    return "msg_1", at, f"v1,{base64.b64encode(mac).decode()}"


@dataclass(frozen=True)
class Stage:
    """Where a test plays: its database, its place in the bucket, its directory."""

    database_url: str
    store: StoreAddress
    prefix: str
    directory: Path

    def play(self, story: Callable[[Rig], Awaitable[None]], **options: Any) -> None:
        async def played() -> None:
            async with self.rig(**options) as rig:
                await story(rig)

        asyncio.run(played())

    def settings(self, base_url: str, **account: Any) -> Settings:
        contract = {
            "dialect": "sandbox",
            "base_url": base_url,
            "api_key": API_KEY,
            "webhook_secrets": (WEBHOOK_SECRET,),
            "allow_cidrs": ("127.0.0.0/8",),
            "allow_http": True,
        }
        return Settings(
            data_dir=self.directory,
            public_url="https://hooks.example.com",
            callback_secrets=(SecretStr(CALLBACK_SECRET),),
            database_url=SecretStr(self.database_url),
            s3_endpoint=self.store.endpoint,
            s3_bucket=self.store.bucket,
            s3_prefix=self.prefix,
            s3_access_key=self.store.access_key,
            s3_secret_key=SecretStr(self.store.secret_key),
            accounts={ACCOUNT: AccountSettings.model_validate(contract | account)},
        )

    @asynccontextmanager
    async def rig(
        self, *, settings: Mapping[str, Any] | None = None, judged: bool = True, **account: Any
    ) -> AsyncIterator[Rig]:
        world = Provider()
        await world.start()
        chosen = self.settings(**{"base_url": world.url} | account).model_copy(update=dict(settings or {}))
        try:
            with structlog.testing.capture_logs() as logs:
                async with open_services(chosen) as services:
                    intake = Intake(services)
                    keeping = asyncio.create_task(intake.run())
                    rig = Rig(services=services, world=world, intake=intake, logs=logs)
                    try:
                        yield rig
                        if judged:
                            await rig.judge()
                    finally:
                        keeping.cancel()
                        await asyncio.wait({keeping})
        finally:
            await world.stop()
