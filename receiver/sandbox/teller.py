"""Tells what becomes of one task, in the order and at the times that its plan says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from receiver.sandbox.plan import PLACES, Plan
from receiver.sandbox.records import Callback, Kind, Task

#: Sends one callback of a task and returns when it has an outcome.
Sender = Callable[[Task, Callback], Awaitable[None]]


class Teller:
    """The callbacks of one task."""

    def __init__(self, plan: Plan, *, group: asyncio.TaskGroup, send: Sender, clock: Callable[[], float]) -> None:
        self._plan = plan
        self._group = group
        self._send = send
        self._clock = clock
        #: Set for each place that no other has to wait for any more.
        self._passed = [asyncio.Event() for _ in range(PLACES)]

    def tell(self, task: Task, told: Iterable[Callback]) -> None:
        """See to the callbacks of *task* that have no outcome yet; returns at once."""
        for callback in told:
            if callback.outcome is None:
                self._group.create_task(self._deliver(task, callback))
            else:
                self._passed[callback.position].set()

    async def passed(self, place: int) -> None:
        """Wait until the callback at *place* has an outcome, or is one that comes late."""
        await self._passed[place].wait()

    async def _deliver(self, task: Task, callback: Callback) -> None:
        for place in self._plan.before(callback.position):
            await self._passed[place].wait()
        telling = self._plan.telling(callback.position)
        if callback.kind is Kind.TRUTH and telling.late:
            self._passed[callback.position].set()
            await asyncio.sleep(max(0.0, callback.changed_at / 1000 + telling.late - self._clock()))
        await self._send(task, callback)
        self._passed[callback.position].set()
