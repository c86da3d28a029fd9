"""The sum of all accepted tasks, and the query that finds a task without its work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

from receiver.core.model import AccountId, State, TaskId
from receiver.store.db import Connection, every

#: Tasks that the ledger names at most.
LISTED: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Tasks of one account, kind and day (UTC) by state; `accepted` is counted from the events."""

    account: AccountId
    kind: str
    day: date
    accepted: int
    states: dict[State, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unarchived:
    """A task that is not archived: why not, whether a person must look, when it must have ended (UTC)."""

    id: TaskId
    state: State
    reason: str | None
    attention: str | None
    due_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A job that must exist and does not."""

    kind: str
    subject: int
    account: AccountId


LINES: Final = """
-- store.ledger.lines: accepted by events, states by rows; the caller compares
SELECT account, kind, day, sum(accepted) AS accepted, jsonb_object_agg(state, n) AS states
  FROM (SELECT task.account, task.kind, (task.created_at AT TIME ZONE 'UTC')::date AS day, task.state,
               count(event.id) AS accepted, count(*) AS n
          FROM task LEFT JOIN event ON event.task_id = task.id AND event.type = 'task.accepted'
         WHERE task.owner = %(owner)s
         GROUP BY 1, 2, 3, 4) AS by_state
 GROUP BY account, kind, day ORDER BY day, account, kind
"""

NOT_ARCHIVED: Final = """
-- store.ledger.not_archived: the newest tasks of one state
SELECT id, state, reason, attention, due_at FROM task
 WHERE owner = %(owner)s AND state = %(state)s ORDER BY id DESC LIMIT %(limit)s
"""

INVARIANT: Final = """
-- store.ledger.gaps: every open task has exactly one submit or query job, pending assets an archive job,
-- an unprocessed callback an advance job; what is missing is returned
SELECT CASE WHEN task.state IN ('accepted', 'submitting') THEN 'submit' ELSE 'query' END AS kind,
       task.id AS subject, task.account
  FROM task
 WHERE task.due_at IS NOT NULL
   AND (SELECT count(*) FROM job WHERE job.subject = task.id AND job.kind IN ('submit', 'query')) <> 1
UNION ALL
SELECT 'archive', task.id, task.account
  FROM task
 WHERE EXISTS (SELECT FROM asset WHERE asset.task_id = task.id AND asset.state = 'pending')
   AND NOT EXISTS (SELECT FROM job WHERE job.subject = task.id AND job.kind = 'archive')
UNION ALL
SELECT 'advance', inbox.id, inbox.account
  FROM inbox
 WHERE inbox.processed_at IS NULL
   AND NOT EXISTS (SELECT FROM job WHERE job.subject = inbox.id AND job.kind = 'advance')
"""


async def lines(conn: Connection, owner: str) -> list[Line]:
    """Return the sums for all tasks of *owner*."""
    return [_line(row) for row in await every(conn, LINES, {"owner": owner})]


async def not_archived(conn: Connection, owner: str) -> list[Unarchived]:
    """Return the newest tasks of *owner* that are not archived, at most `LISTED`."""
    params = {"owner": owner, "limit": LISTED}
    async with conn.pipeline():
        # Not prepared: only of a known state the statistics say how common it is, and so which index to read.
        cursors = [
            await conn.execute(NOT_ARCHIVED, {**params, "state": state}, prepare=False)
            for state in State
            if state is not State.ARCHIVED
        ]
        found = [row for cursor in cursors for row in await cursor.fetchall()]
    newest = sorted(found, key=lambda row: row["id"], reverse=True)[:LISTED]
    return [Unarchived(**{**row, "state": State(row["state"])}) for row in newest]


async def gaps(conn: Connection) -> Sequence[Gap]:
    """Return the jobs that must exist and do not; nothing, unless something is broken."""
    return [Gap(**row) for row in await every(conn, INVARIANT)]


def _line(row: dict[str, Any]) -> Line:
    states = {State(name): n for name, n in row["states"].items()}
    return Line(**{**row, "accepted": int(row["accepted"]), "states": states})
