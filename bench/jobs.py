"""Row `jobs`: jobs claimed and finished a second by one worker process, against procrastinate's worker."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import psycopg

from bench import queues
from bench.figures import Figure, against
from bench.parts import ACCOUNT, Keys, Parts, program, service_environment
from receiver.core.model import AccountId, JobKind
from receiver.store import db, jobs
from receiver.store.jobs import Wanted

CONCURRENCY: Final = 20
#: Jobs of one run for each second that it should take, about.
AMOUNT: Final = {"ours": 6000, "baseline": 800}
#: Jobs that one transaction adds.
BATCH: Final = 50
_DATABASE: Final = "bench_procrastinate"

Add = Callable[[int], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Engine:
    """One of the two that are compared."""

    name: str
    env: dict[str, str]
    url: str


def measure(parts: Parts, *, rounds: int, seconds: float) -> tuple[list[Figure], list[str]]:
    """Run both in turn, with all jobs there before the start and with jobs added meanwhile."""
    keys = Keys(secrets.token_hex(32), "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode())
    url = parts.create_database(_DATABASE)
    queues.prepare(url)
    engines = [
        Engine("ours", service_environment(parts, keys, 0), parts.database_url),
        Engine("baseline", {"PATH": os.defpath, "BENCH_DATABASE": url}, url),
    ]
    figures = []
    for name, live in (("jobs", False), ("jobs-live", True)):
        rates: dict[str, list[float]] = {engine.name: [] for engine in engines}
        for turn in range(rounds):
            for engine in engines[:: -1 if turn % 2 else 1]:
                rate = run(parts, engine, int(AMOUNT[engine.name] * seconds), live=live)
                rates[engine.name].append(rate)
                print(f"{name} {engine.name}: {rate:,.0f}/s", file=sys.stderr, flush=True)
        figures.append(against("baseline", rates, name=name, unit="jobs/s", must=4, goal=10))
    how = f"added while it works, {BATCH} a transaction, as fast as that goes"
    return figures, [f"jobs: concurrency {CONCURRENCY}, all there before the worker starts; jobs-live: {how}"]


def run(parts: Parts, engine: Engine, amount: int, *, live: bool) -> float:
    """Let a worker of *engine* finish *amount* jobs; return how many it finished a second."""
    add = _adder(engine)
    with psycopg.connect(engine.url, autocommit=True) as conn:
        conn.execute(queues.EMPTY[engine.name])
    if not live:
        asyncio.run(add(amount))
        with psycopg.connect(engine.url, autocommit=True) as conn:
            # Autovacuum would do so within a minute; without it procrastinate's fetch has a bad plan.
            conn.execute("ANALYZE")
    argv = ["-m", "bench.queues", engine.name, str(amount), str(CONCURRENCY)]
    with program(parts, f"worker-{engine.name}", argv, engine.env) as process:
        if process.stdout is None or process.stdout.readline() != "ready\n":
            raise RuntimeError(f"the worker of {engine.name} did not start; see its log")
        if live:
            asyncio.run(add(amount))
        told = json.loads(process.stdout.readline())
    if told["jobs"] != amount:
        raise RuntimeError(f"{engine.name} ran {told['jobs']} of {amount} jobs")
    return float(amount / told["seconds"])


def _adder(engine: Engine) -> Add:
    async def ours(amount: int) -> None:
        conn = await db.connect(engine.url)
        try:
            for first in range(0, amount, BATCH):
                async with conn.transaction():
                    await jobs.want(conn, [_wish(n) for n in range(first + 1, min(first + BATCH, amount) + 1)])
        finally:
            await conn.close()

    async def baseline(amount: int) -> None:
        app, task = queues.procrastinate_app(engine.url, lambda: None)
        async with app.open_async():
            for first in range(0, amount, BATCH):
                await task.batch_defer_async(*[{} for _ in range(min(BATCH, amount - first))])

    return ours if engine.name == "ours" else baseline


def _wish(subject: int) -> Wanted:
    by = datetime.now(UTC) + timedelta(seconds=secrets.randbelow(30 * 86_400))
    return Wanted(kind=JobKind.QUERY, subject=subject, account=AccountId(ACCOUNT), deliver_by=by)
