"""
The workers of the row `jobs`, each in a process of its own: `python -m bench.queues ours|baseline JOBS CONCURRENCY`.

Both run a handler that does nothing, and print "ready", then a JSON object with the number of jobs and the seconds from
the first handler to the moment when the database shows no unfinished job.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import procrastinate
import psycopg
import uvloop

from receiver import wiring
from receiver.core.model import JobKind
from receiver.flow.outcome import Done, Outcome
from receiver.flow.services import Services
from receiver.jobs.worker import HANDLERS, SLOTS, Worker, single
from receiver.settings import Settings
from receiver.store.jobs import Job
from receiver.telemetry import logs

#: Empties the tables before a run.
EMPTY: Final = {
    "ours": b"TRUNCATE inbox, inbox_repeat, job",
    "baseline": b"TRUNCATE procrastinate_jobs, procrastinate_events, procrastinate_workers CASCADE",
}
_LEFT: Final = {
    "ours": b"SELECT count(*) FROM job",
    "baseline": b"SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')",
}


class Tally:
    """Counts the handled jobs and notes when the first and the last was."""

    def __init__(self, amount: int) -> None:
        self._amount = amount
        self.jobs = 0
        self._first = 0.0
        self.all_handled = asyncio.Event()

    def add(self) -> None:
        """Count one."""
        if self.jobs == 0:
            self._first = time.perf_counter()
        self.jobs += 1
        if self.jobs == self._amount:
            self.all_handled.set()

    async def report(self, url: str, left: bytes) -> None:
        """Wait until the database agrees that all are finished, and print the result."""
        print("ready", flush=True)
        await self.all_handled.wait()
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as conn:
            while await _count(conn, left):  # noqa: ASYNC110  only the database knows
                await asyncio.sleep(0.005)
        print(json.dumps({"jobs": self.jobs, "seconds": time.perf_counter() - self._first}), flush=True)


async def _count(conn: psycopg.AsyncConnection, query: bytes) -> int:
    row = await (await conn.execute(query)).fetchone()
    return int(row[0]) if row else 0


async def ours(amount: int, concurrency: int) -> None:
    """Run the released worker: all kinds, sweeps, LISTEN, batched settling; only the handler does nothing."""
    settings = Settings()
    logs.configure(form=settings.log_format, level=settings.log_level)

    async def nothing(_: Services, __: Job) -> Outcome:
        tally.add()
        return Done()

    tally = Tally(amount)
    async with wiring.open_services(settings) as services:
        wiring.spare_what_lives()
        worker = Worker(
            services,
            handlers={**HANDLERS, JobKind.QUERY: single(nothing)},
            slots={**SLOTS, JobKind.QUERY: concurrency},
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run())
            await tally.report(services.database.url, _LEFT["ours"])
            worker.stop.set()


async def baseline(amount: int, concurrency: int) -> None:
    """Run procrastinate's worker with its defaults."""
    tally = Tally(amount)
    url = os.environ["BENCH_DATABASE"]
    app, _ = procrastinate_app(url, tally.add)
    async with app.open_async():
        working = asyncio.create_task(app.run_worker_async(concurrency=concurrency, install_signal_handlers=False))
        await tally.report(url, _LEFT["baseline"])
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working


def procrastinate_app(url: str, act: Callable[[], None]) -> tuple[Any, Any]:
    """Return an app and its one task, which calls *act*."""
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))

    @app.task(name="nothing")  # type: ignore[untyped-decorator]
    async def nothing() -> None:
        act()

    return app, nothing


def prepare(url: str) -> None:
    """Make procrastinate's tables."""

    async def apply() -> None:
        app, _ = procrastinate_app(url, lambda: None)
        async with app.open_async():
            await app.schema_manager.apply_schema_async()

    asyncio.run(apply())


if __name__ == "__main__":
    uvloop.run({"ours": ours, "baseline": baseline}[sys.argv[1]](int(sys.argv[2]), int(sys.argv[3])))
