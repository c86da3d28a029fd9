"""Wait for the end of tasks: all who wait in a process share one query per second."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from typing import Final

import structlog

from receiver.core.errors import StoreUnavailable
from receiver.core.model import TaskId
from receiver.flow.services import Services
from receiver.store import tasks

#: Who comes when so many wait is answered at once.
MOST: Final = 2000
PAUSE: Final = timedelta(seconds=1)

log = structlog.get_logger(__name__)


class Waiting:
    """
    Everybody in this process who waits for a task to end.

    The query is made while somebody waits, by a task of its own that ends with the
    last of them; what it cannot survive reaches all who wait.
    """

    def __init__(self, services: Services, *, most: int = MOST, pause: timedelta = PAUSE) -> None:
        self._services = services
        self._most = most
        self._pause = pause
        self._ends: dict[TaskId, set[asyncio.Future[None]]] = {}
        self._count = 0
        self._asking: asyncio.Task[None] | None = None
        self._empty = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        return self._count

    async def end_of(self, task: TaskId, *, within: timedelta) -> None:
        """Return when *task* has ended, the time is over, too many wait, or `close` was called."""
        if self._closed or self._count >= self._most:
            return
        end = self._enter(task)
        try:
            async with asyncio.timeout(within.total_seconds()):
                await end
        except TimeoutError:
            return
        finally:
            self._leave(task, end)

    def close(self) -> None:
        """Let everybody go at once, and nobody wait any more: the process stops."""
        self._closed = True
        self._release(self._ends)

    def _enter(self, task: TaskId) -> asyncio.Future[None]:
        end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ends.setdefault(task, set()).add(end)
        self._count += 1
        self._empty.clear()
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
            self._asking.add_done_callback(self._stopped)
        return end

    def _leave(self, task: TaskId, end: asyncio.Future[None]) -> None:
        self._count -= 1
        self._ends[task].discard(end)
        if not self._ends[task]:
            del self._ends[task]
        if not self._ends:
            self._empty.set()

    async def _ask(self) -> None:
        while self._ends:
            try:
                async with asyncio.timeout(self._pause.total_seconds()):
                    await self._empty.wait()
            except TimeoutError:
                self._release(await self._ended())
        self._asking = None

    def _stopped(self, asking: asyncio.Task[None]) -> None:
        if asking.cancelled() or (fault := asking.exception()) is None:
            return
        self._asking = None
        for end in self._waiting(self._ends):
            end.set_exception(fault)

    def _release(self, ended: Iterable[TaskId]) -> None:
        for end in self._waiting(ended):
            end.set_result(None)

    def _waiting(self, asked: Iterable[TaskId]) -> list[asyncio.Future[None]]:
        return [end for task in asked for end in self._ends.get(task, ()) if not end.done()]

    async def _ended(self) -> list[TaskId]:
        try:
            async with self._services.database.connection() as conn:
                return await tasks.ended(conn, list(self._ends))
        except StoreUnavailable as exc:
            # Who waits may outlast it; who does not hears of it from the last look.
            log.warning("waiting.not_asked", error=exc.code)
            return []
