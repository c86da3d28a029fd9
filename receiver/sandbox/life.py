"""Moves tasks on by the clock and tells each change. Whatever a kill interrupts goes on at the next start."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial

from receiver.sandbox import answers, tasks
from receiver.sandbox.courier import Courier
from receiver.sandbox.records import Audio, Callback, Status, Task
from receiver.sandbox.state import State
from receiver.sandbox.studio import Studio
from receiver.sandbox.tasks import Change, Unfinished


class Life:
    """All tasks that have not ended, each in its own coroutine."""

    def __init__(
        self,
        *,
        group: asyncio.TaskGroup,
        state: State,
        studio: Studio,
        courier: Courier,
        link: answers.LinkMaker,
        clock: Callable[[], float],
    ) -> None:
        self._group = group
        self._state = state
        self._studio = studio
        self._courier = courier
        self._link = link
        self._clock = clock

    def resume(self, left: Iterable[Unfinished]) -> None:
        """Go on with what the last process *left*."""
        for unfinished in left:
            self._group.create_task(self._live(unfinished.task, unfinished.due))

    def begin(self, change: Change) -> None:
        """Take on a task that was just made."""
        due = () if change.callback is None else (change.callback,)
        self._group.create_task(self._live(change.task, due))

    def now(self) -> int:
        """Return the time in milliseconds."""
        return int(self._clock() * 1000)

    async def _live(self, task: Task, due: Iterable[Callback]) -> None:
        telling: asyncio.Task[None] | None = None
        for callback in due:
            telling = self._tell(Change(task=task, callback=callback), telling)
        if task.status is Status.SUBMITTED:
            await self._until(task.starts_at)
            change = await self._move(task, Status.PROCESSING)
            task, telling = change.task, self._tell(change, telling)
        if task.status is Status.PROCESSING:
            audios = await self._studio.make(task) if task.failure is None else ()
            await self._until(task.ends_at)
            change = await self._move(task, Status.FAILED if task.failure else Status.SUCCEED, audios)
            self._tell(change, telling)

    async def _move(self, task: Task, status: Status, audios: tuple[Audio, ...] = ()) -> Change:
        return await self._state.do(partial(tasks.move, task_id=task.id, status=status, now=self.now(), audios=audios))

    def _tell(self, change: Change, before: asyncio.Task[None] | None) -> asyncio.Task[None] | None:
        """Send the callback after those *before* it; return what the next one has to wait for."""
        if change.callback is None:
            return before
        return self._group.create_task(self._deliver(change.task, change.callback, before))

    async def _deliver(self, task: Task, callback: Callback, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await before
        if task.order.callback_url is not None:
            body = partial(answers.report, task, callback.status, callback.changed_at, self._link)
            await self._courier.send(callback, task.order.callback_url, body)

    async def _until(self, moment: int) -> None:
        await asyncio.sleep(max(0, moment - self.now()) / 1000)
