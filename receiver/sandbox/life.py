"""Moves tasks on by the clock and tells each change. Whatever a kill interrupts goes on at the next start."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from receiver.sandbox import bodies, callbacks, tasks
from receiver.sandbox.courier import Courier, Letter
from receiver.sandbox.gates import Gate, Gates
from receiver.sandbox.houses import HOUSES, Signer
from receiver.sandbox.links import Links
from receiver.sandbox.records import Callback, MediaFile, Status, Task
from receiver.sandbox.state import State
from receiver.sandbox.studio import Studio
from receiver.sandbox.tasks import Change
from receiver.sandbox.teller import Teller


class Life:
    """All tasks that have not ended, each in its own coroutine."""

    def __init__(
        self,
        *,
        group: asyncio.TaskGroup,
        state: State,
        studio: Studio,
        courier: Courier,
        links: Mapping[str, Links],
        gates: Gates,
        keys: Mapping[Signer, bytes | None],
        clock: Callable[[], float],
    ) -> None:
        self._group = group
        self._state = state
        self._studio = studio
        self._courier = courier
        self._links = links
        self._gates = gates
        self._keys = keys
        self._clock = clock

    def resume(self, left: Iterable[Change]) -> None:
        """Go on with what the last process *left*."""
        for change in left:
            self.begin(change)

    def begin(self, change: Change) -> Teller:
        """Take on a task with the callbacks that it has so far; return what tells them."""
        teller = Teller(change.task, group=self._group, send=self._send, clock=self._clock)
        self._group.create_task(self._live(change, teller))
        return teller

    def now(self) -> int:
        """Return the time in milliseconds."""
        return int(self._clock() * 1000)

    async def _live(self, change: Change, teller: Teller) -> None:
        task = change.task
        teller.tell(task, change.callbacks)
        if task.status is Status.SUBMITTED:
            await self._until(task.starts_at)
            task = await self._move(task, Status.PROCESSING, teller)
        if task.status is Status.PROCESSING:
            files = await self._studio.make(task) if task.failure is None else ()
            await self._until(task.ends_at)
            await self._move(task, Status.FAILED if task.failure else Status.SUCCEED, teller, files)

    async def _move(self, task: Task, status: Status, teller: Teller, files: tuple[MediaFile, ...] = ()) -> Task:
        move = partial(tasks.move, task_id=task.id, status=status, now=self.now(), files=files)
        change = await self._state.do(move)
        teller.tell(change.task, change.callbacks)
        return change.task

    async def _send(self, task: Task, callback: Callback) -> None:
        if task.order.callback_url is None:
            return
        if not await self._gates.go_on(Gate.CALLBACK, task.house, task.order.external_id):
            await self._state.do(partial(callbacks.end, callback=callback, outcome=callbacks.CUT))
            return
        house = HOUSES[task.house]
        letter = Letter(
            url=task.order.callback_url,
            body=partial(bodies.body, task, callback, self._links[house.name]),
            signed=house.callbacks.signer is not Signer.NOBODY,
            key=self._keys[house.callbacks.signer],
            agent=house.callbacks.agent,
        )
        await self._courier.send(callback, task.plan.telling(callback.position), letter)

    async def _until(self, moment: int) -> None:
        await asyncio.sleep(max(0, moment - self.now()) / 1000)
