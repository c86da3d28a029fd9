"""Settle finished jobs together: one statement for all of a kind that end at the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog

from receiver.core.errors import StoreUnavailable
from receiver.core.model import JobKind
from receiver.store import jobs
from receiver.store.db import Database
from receiver.store.jobs import Settled

log = structlog.get_logger(__name__)

#: Between two tries while the database is away; leases lapse by themselves if that takes long.
_PAUSE: Final = timedelta(seconds=0.5)
_TRIES: Final = 20


class Settler:
    """Collects what has ended while a statement is under way, and writes it with the next one."""

    def __init__(self, database: Database, worker: UUID) -> None:
        self._database = database
        self._worker = worker
        self._ended: list[tuple[Sequence[Settled], asyncio.Future[None]]] = []
        self._wake = asyncio.Event()

    async def settle(self, settled: Sequence[Settled]) -> None:
        """Return when *settled* are written, or given up to the lapse of their leases."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended.append((settled, done))
        self._wake.set()
        await done

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.drain()

    async def drain(self) -> None:
        """Write all that has ended so far."""
        batch, self._ended = self._ended, []
        # One kind a statement: a task's own transaction locks at most one job of each kind, so none waits in a circle.
        for kind in JobKind:
            await self._write([each for settled, _ in batch for each in settled if each.job.kind is kind])
        for _, done in batch:
            if not done.done():
                done.set_result(None)

    async def _write(self, ended: list[Settled]) -> None:
        for _ in range(_TRIES if ended else 0):
            try:
                async with self._database.connection() as conn:
                    await jobs.settle(conn, self._worker, ended)
            except StoreUnavailable as exc:
                log.warning("jobs.not_settled", jobs=len(ended), error=exc.code)
                await asyncio.sleep(_PAUSE.total_seconds())
            else:
                return
