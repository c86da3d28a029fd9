"""Tells what becomes of one task, in the order and at the times that its plan says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from receiver.sandbox import callbacks
from receiver.sandbox.records import Callback, Kind, Task

#: Sends one callback of a task and returns when it has an outcome.
Sender = Callable[[Task, Callback], Awaitable[None]]


class Teller:
    """The callbacks of one task."""

    def __init__(self, task: Task, *, group: asyncio.TaskGroup, send: Sender, clock: Callable[[], float]) -> None:
        self._plan = task.plan
        self._group = group
        self._send = send
        self._clock = clock
        #: Places that no other has to wait for any more, and those that somebody waits for.
        self._done = set(callbacks.untold(task))
        self._awaited: dict[int, asyncio.Event] = {}

    def tell(self, task: Task, told: Iterable[Callback]) -> None:
        """See to the callbacks of *task* that have no outcome yet; returns at once."""
        for callback in told:
            if callback.outcome is None:
                self._group.create_task(self._deliver(task, callback))
            else:
                self._pass(callback.position)

    async def passed(self, place: int) -> None:
        """Wait until the callback at *place* has an outcome, or is one that comes late."""
        if place not in self._done:
            await self._awaited.setdefault(place, asyncio.Event()).wait()

    def _pass(self, place: int) -> None:
        self._done.add(place)
        if place in self._awaited:
            self._awaited.pop(place).set()

    async def _deliver(self, task: Task, callback: Callback) -> None:
        for place in self._plan.before(callback.position):
            await self.passed(place)
        telling = self._plan.telling(callback.position)
        if callback.kind is Kind.TRUTH and telling.late:
            self._pass(callback.position)
            await asyncio.sleep(max(0.0, callback.changed_at / 1000 + telling.late - self._clock()))
        await self._send(task, callback)
        self._pass(callback.position)
