"""Kept callbacks, as people look for them: those of an owner's tasks, and those of no task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, LiteralString

from receiver.core.model import CallbackId, TaskId
from receiver.store.db import Connection, every, one
from receiver.store.inbox import Callback, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A kept callback in a list, without its body."""

    id: CallbackId
    account: str
    task_id: TaskId
    verified: bool
    #: Bytes of the body.
    size: int
    received_at: datetime
    repeats: int
    processed_at: datetime | None
    outcome: str | None
    told: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which callbacks a list shows; None means any. Always those of the owner's tasks, and those of no task."""

    owner: str
    task: TaskId | None = None
    account: str | None = None
    outcome: Outcome | None = None
    #: Only those that no job has read yet.
    unprocessed: bool = False
    #: From this moment on, and before that one (UTC).
    received_after: datetime | None = None
    received_before: datetime | None = None
    #: Only ids below it: where the page before ended.
    before: int | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Page:
    """Callbacks, newest first."""

    lines: Sequence[Line]
    #: There are older ones.
    more: bool


VISIBLE: Final = """
-- store.kept.get: one callback, if the owner has its task or nobody has
SELECT inbox.id, inbox.account, task_id, verified, body, received_at, processed_at, outcome, told,
       repeats + (SELECT coalesce(sum(times), 0)::int FROM inbox_repeat AS r
                   WHERE r.task_id = inbox.task_id AND r.account = inbox.account AND r.verified = inbox.verified
                     AND r.digest = inbox.digest) AS repeats
  FROM inbox LEFT JOIN task ON task.id = inbox.task_id
 WHERE inbox.id = %(id)s AND coalesce(task.owner, %(owner)s) = %(owner)s
"""

_LINES: Final = """
SELECT inbox.id, inbox.account, task_id, verified, length(body) AS size, received_at, repeats, processed_at, outcome,
       told
  FROM inbox LEFT JOIN task ON task.id = inbox.task_id
 WHERE inbox.id < %(before)s AND coalesce(task.owner, %(owner)s) = %(owner)s
   AND (%(account)s::text IS NULL OR inbox.account = %(account)s)
   AND (%(received_after)s::timestamptz IS NULL OR received_at >= %(received_after)s)
   AND (%(received_before)s::timestamptz IS NULL OR received_at < %(received_before)s)
"""

_NEWEST_FIRST: Final = " ORDER BY inbox.id DESC LIMIT %(limit)s"

NEWEST: Final = (
    """
-- store.kept.newest: one page, newest first"""
    + _LINES
    + "   AND (%(outcome)s::text IS NULL OR outcome = %(outcome)s)\n"
    + _NEWEST_FIRST
)

NEWEST_OF_TASK: Final = (
    """
-- store.kept.newest: one page of one task, by its own range of an index"""
    + _LINES
    + """   AND inbox.task_id = %(task)s AND (%(outcome)s::text IS NULL OR outcome = %(outcome)s)
   AND (NOT %(unprocessed)s OR processed_at IS NULL)
"""
    + _NEWEST_FIRST
)

NEWEST_REMARKABLE: Final = (
    """
-- store.kept.newest: one page of an outcome that is rare, by its own index, whose words these are"""
    + _LINES
    + "   AND outcome = %(outcome)s AND outcome IN ('orphan', 'cross_wired', 'unreadable')\n"
    + _NEWEST_FIRST
)

NEWEST_UNPROCESSED: Final = (
    """
-- store.kept.newest: one page of those that no job has read yet"""
    + _LINES
    + "   AND processed_at IS NULL\n"
    + _NEWEST_FIRST
)

REMARKABLE: Final = frozenset({Outcome.ORPHAN, Outcome.CROSS_WIRED, Outcome.UNREADABLE})

_ANY_ID: Final = 2**63 - 1


async def get(conn: Connection, callback: CallbackId, owner: str) -> Callback | None:
    """Return one callback of a task of *owner* or of no task, with all its repeats; None when there is none."""
    row = await one(conn, VISIBLE, {"id": callback, "owner": owner})
    return None if row is None else Callback(**row)


async def newest(conn: Connection, wanted: Filter) -> Page:
    """Return one page of callbacks, newest first."""
    params = {name: getattr(wanted, name) for name in Filter.__slots__}
    params |= {"before": wanted.before or _ANY_ID, "limit": wanted.limit + 1}
    rows = await every(conn, _statement(wanted), params)
    return Page([Line(**row) for row in rows[: wanted.limit]], more=len(rows) > wanted.limit)


def _statement(wanted: Filter) -> LiteralString:
    if wanted.task is not None:
        return NEWEST_OF_TASK
    if wanted.unprocessed:
        return NEWEST_UNPROCESSED
    return NEWEST_REMARKABLE if wanted.outcome in REMARKABLE else NEWEST
