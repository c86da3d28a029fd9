"""What shall be written of locked tasks: gathered by the flows, and written together, each sort by one statement."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from receiver.core.model import AccountId, Asset, JobKind, Task, TaskId
from receiver.flow import pace, repeat
from receiver.flow.services import Deal
from receiver.store import assets, events, jobs, tasks
from receiver.store.db import Connection
from receiver.store.events import Event
from receiver.store.jobs import Wanted
from receiver.store.tasks import Locked


@dataclass(slots=True)
class Draft:
    """
    Changes of tasks whose rows the caller has locked in this transaction.

    A task may change several times before anything is written: what is written
    is as if each change had been written before the next.
    """

    conn: Connection
    _tasks: dict[TaskId, Task] = field(default_factory=dict)
    _saved: dict[assets.Key, Asset] = field(default_factory=dict)
    _withdrawn: set[assets.Key] = field(default_factory=set)
    _story: list[Event] = field(default_factory=list)
    _wanted: dict[tuple[JobKind, int], Wanted] = field(default_factory=dict)
    _unwanted: set[tuple[JobKind, int]] = field(default_factory=set)
    #: Accounts of which a slot became free.
    _freed: dict[AccountId, Deal] = field(default_factory=dict)

    def latest(self, locked: Locked) -> Locked:
        """Return a locked task as it stands after what was drafted so far."""
        return Locked(self._tasks.get(locked.task.id, locked.task), locked.now)

    async def at_provider(self, account: AccountId, provider_task_id: str) -> TaskId | None:
        """Return the task of ours that the provider calls *provider_task_id*, by what is drafted or written."""
        for task in self._tasks.values():
            if (task.account, task.provider_task_id) == (account, provider_task_id):
                return task.id
        return await tasks.at_provider(self.conn, account, provider_task_id)

    async def is_anothers(self, task: Task, provider_task_id: str) -> bool:
        """Return whether that is another task of ours at the provider, by what is drafted or written."""
        named = (task.account, provider_task_id)
        drafted = (each for each in self._tasks.values() if each.id != task.id and not each.adopted)
        return any((each.account, each.provider_task_id) == named for each in drafted) or await repeat.is_anothers(
            self.conn, task, provider_task_id
        )

    def move(self, task: Task, story: Iterable[Event]) -> None:
        """Write *task*, and the events that led there."""
        self._tasks[task.id] = task
        self._story += story

    def free(self, deal: Deal) -> None:
        """Give slots of an account to tasks that wait for one."""
        self._freed[deal.account.id] = deal

    def save(self, asset: Asset) -> Asset:
        """Insert or refresh an asset that is not stored, and return it."""
        self._saved[assets.key_of(asset)] = asset
        return asset

    def withdraw(self, asset: Asset) -> None:
        """Forget a pending asset."""
        self._saved.pop(assets.key_of(asset), None)
        self._withdrawn.add(assets.key_of(asset))

    def want(self, wish: Wanted) -> None:
        """Want a job; of two wishes the earlier time counts, and the later word on its deadline."""
        key = (wish.kind, wish.subject)
        before = self._wanted.get(key)
        self._wanted[key] = wish if before is None else replace(wish, delay=min(before.delay, wish.delay))

    def remove(self, task: TaskId, *kinds: JobKind) -> None:
        """Remove jobs of a task, also such as were wanted before."""
        for kind in kinds:
            self._wanted.pop((kind, task), None)
            self._unwanted.add((kind, task))

    async def write(self) -> None:
        """Write all of it, in the order of locks: task, asset, account, job; the caller commits."""
        conn = self.conn
        await tasks.move(conn, self._tasks.values())
        await assets.withdraw(conn, self._withdrawn)
        await assets.save(conn, self._saved.values())
        await events.add(conn, self._story)
        for account in sorted(self._freed):
            await pace.release_held(conn, self._freed[account])
        await jobs.remove(conn, self._unwanted)
        await jobs.want(conn, list(self._wanted.values()))
