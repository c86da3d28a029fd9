"""The append-only story of each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from receiver.core.model import TaskId
from receiver.store.db import Connection, every, one, records


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a task: a constant name and what belongs to it."""

    task: TaskId
    type: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Told:
    """An event as it was written, at the database's time (UTC)."""

    id: int
    at: datetime
    type: str
    data: Mapping[str, Any]


ADD: Final = """
-- store.events.add: append
INSERT INTO event (task_id, type, data)
SELECT task_id, type, data FROM jsonb_populate_recordset(NULL::event, %(events)s)
"""

OF: Final = """
-- store.events.of: the story of one task
SELECT id, at, type, data FROM event WHERE task_id = %(task)s ORDER BY id
"""

LAST: Final = """
-- store.events.last: what was told last under a name
SELECT data FROM event WHERE task_id = %(task)s AND type = %(type)s ORDER BY id DESC LIMIT 1
"""


async def add(conn: Connection, events: Sequence[Event]) -> None:
    """Append *events* in their order; the caller commits."""
    if events:
        rows = [{"task_id": e.task, "type": e.type, "data": dict(e.data)} for e in events]
        await conn.execute(ADD, {"events": records(rows)})


async def of(conn: Connection, task: TaskId) -> list[Told]:
    """Return all events of *task*, the oldest first."""
    return [Told(**row) for row in await every(conn, OF, {"task": task})]


async def last(conn: Connection, task: TaskId, name: str) -> Mapping[str, Any] | None:
    """Return the data of the last event of *task* that is called *name*; None when there is none."""
    row = await one(conn, LAST, {"task": task, "type": name})
    return None if row is None else row["data"]
