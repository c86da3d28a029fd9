"""Whose turn it is to read a provider's list, and what waits for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

from receiver.core.model import AccountId, JobKind, State, TaskId
from receiver.store.db import Connection, every, one
from receiver.store.jobs import LEASE, Job

#: Polls of one statement.
MOST: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """An open task that a list may name by its own id, by the provider's, or by both."""

    id: TaskId
    provider_task_id: str | None
    adopted: bool
    state: State
    unsure: bool
    query_wanted: bool


MANY_WAIT: Final = """
-- store.turns.many_wait: whether so many other polls are due, or are being made, that a list may answer; each half has
-- an index
SELECT count(*) >= %(many)s AS many FROM (
    (SELECT FROM job JOIN task ON task.id = job.subject
      WHERE job.kind = 'query' AND job.state = 'ready' AND job.account = %(account)s
        AND task.id <> %(task)s AND task.kind = %(kind)s AND task.state IN ('submitted', 'processing')
        AND NOT task.query_wanted
      LIMIT %(many)s)
    UNION ALL
    (SELECT FROM job JOIN task ON task.id = job.subject
      WHERE job.kind = 'query' AND job.state = 'leased' AND job.account = %(account)s
        AND task.id <> %(task)s AND task.kind = %(kind)s AND task.state IN ('submitted', 'processing')
        AND NOT task.query_wanted
      LIMIT %(many)s)) AS x
"""

TAKE: Final = """
-- store.turns.take: one reader of an account's list among all processes; a killed one's turn lapses
INSERT INTO list_turn AS t (account, kind, taken_until) VALUES (%(account)s, %(kind)s, now() + %(span)s)
ON CONFLICT (account, kind) DO UPDATE SET taken_until = excluded.taken_until WHERE t.taken_until <= now()
RETURNING now() AS at
"""

KEEP: Final = """
-- store.turns.keep: the reading goes on
UPDATE list_turn SET taken_until = now() + %(span)s WHERE account = %(account)s AND kind = %(kind)s
"""

SOUGHT: Final = """
-- store.turns.sought: the tasks whose polls are due, about to be put off, or not yet ready though their time has come,
-- and may wait for the list
SELECT task.id, task.first_sent_at FROM task
 WHERE task.id IN (SELECT subject FROM job WHERE kind = 'query' AND state = 'ready' AND account = %(account)s
                   UNION ALL
                   SELECT subject FROM job WHERE kind = 'query' AND state = 'leased' AND account = %(account)s
                   UNION ALL
                   SELECT subject FROM job WHERE kind = 'query' AND state = 'waiting' AND account = %(account)s
                      AND NOT held AND run_at <= now())
   AND task.kind = %(kind)s AND task.state IN ('submitted', 'processing') AND NOT task.query_wanted
 ORDER BY task.first_sent_at LIMIT %(limit)s
"""

PUT_OFF: Final = """
-- store.turns.put_off: the due polls that may wait for the end of the turn, all at once; each costs a claim otherwise
WITH mine AS (
    SELECT job.id FROM job JOIN task ON task.id = job.subject
     WHERE job.kind = 'query' AND job.state = 'ready' AND job.account = %(account)s
       AND task.kind = %(kind)s AND task.state IN ('submitted', 'processing') AND NOT task.query_wanted
       AND task.due_at > now()
     ORDER BY job.subject LIMIT %(limit)s FOR UPDATE OF job SKIP LOCKED
)
UPDATE job SET state = 'waiting',
       run_at = CASE WHEN taken_until > now() + %(most)s THEN now() + %(soon)s ELSE taken_until END
  FROM mine, list_turn
 WHERE job.id = mine.id AND list_turn.account = %(account)s AND list_turn.kind = %(kind)s
"""

LEFT: Final = """
-- store.turns.left: how long to wait for the turn; nobody knows how long a reading goes on
SELECT CASE WHEN taken_until > now() + %(most)s THEN %(soon)s ELSE taken_until - now() END AS wait
  FROM list_turn WHERE account = %(account)s AND kind = %(kind)s
"""

GIVE: Final = """
-- store.turns.give: the next reading begins after a while; *read_at* is for those who look at the database
UPDATE list_turn SET taken_until = now() + %(pause)s, read_at = coalesce(%(read_at)s, read_at)
 WHERE account = %(account)s AND kind = %(kind)s
"""

NAMED: Final = """
-- store.turns.named: which open tasks of ours a page names
SELECT id, provider_task_id, adopted, state, unsure, query_wanted FROM task
 WHERE account = %(account)s AND kind = %(kind)s AND due_at IS NOT NULL AND id = ANY(%(ours)s)
UNION
SELECT id, provider_task_id, adopted, state, unsure, query_wanted FROM task
 WHERE account = %(account)s AND kind = %(kind)s AND due_at IS NOT NULL AND provider_task_id = ANY(%(theirs)s)
"""

CLAIM: Final = """
-- store.turns.claim: the polls that nobody is at; of tasks with news, or that the reading is for, also waiting ones
WITH mine AS (
    SELECT id FROM job
     WHERE kind = 'query' AND subject = ANY(%(tasks)s)
       AND (state = 'ready' OR (state = 'waiting' AND subject = ANY(%(waiting)s)))
     ORDER BY subject FOR UPDATE SKIP LOCKED
)
UPDATE job
   SET state = 'leased', run_at = 'infinity', attempt = attempt + 1, lease_until = now() + %(lease)s,
       lease_token = %(token)s
  FROM mine WHERE job.id = mine.id
RETURNING job.id, kind, subject, account, lease_token AS token, wanted, attempt, lost, same_error, last_error,
          deliver_by
"""


async def many_wait(conn: Connection, account: AccountId, kind: str, *, beside: TaskId, many: int) -> bool:
    """Return whether at least *many* polls of *kind* are due or under way that a list may answer, *beside* one."""
    row = await one(conn, MANY_WAIT, {"account": account, "kind": kind, "task": beside, "many": many})
    return row is not None and bool(row["many"])


async def take(conn: Connection, account: AccountId, kind: str, *, span: timedelta) -> datetime | None:
    """Take the turn to read the list for at most *span* and return the time (UTC); None while it is another's."""
    row = await one(conn, TAKE, {"account": account, "kind": kind, "span": span})
    return None if row is None else row["at"]


async def keep(conn: Connection, account: AccountId, kind: str, *, span: timedelta) -> None:
    """Keep the turn for another *span*."""
    await conn.execute(KEEP, {"account": account, "kind": kind, "span": span})


async def sought(conn: Connection, account: AccountId, kind: str) -> dict[TaskId, datetime | None]:
    """Return the tasks whose polls wait for a reading, the oldest first, with when each was sent (UTC)."""
    rows = await every(conn, SOUGHT, {"account": account, "kind": kind, "limit": MOST})
    return {TaskId(row["id"]): row["first_sent_at"] for row in rows}


async def put_off(conn: Connection, account: AccountId, kind: str, *, most: timedelta, soon: timedelta) -> None:
    """Let the polls that wait for a reading come back after as long as `left` says."""
    params = {"account": account, "kind": kind, "most": most, "soon": soon, "limit": MOST}
    await conn.execute(PUT_OFF, params)


async def left(conn: Connection, account: AccountId, kind: str, *, most: timedelta, soon: timedelta) -> timedelta:
    """Return when to come back: after the rest, *most* at the most, or *soon* while a reading goes on."""
    row = await one(conn, LEFT, {"account": account, "kind": kind, "most": most, "soon": soon})
    return timedelta() if row is None else max(row["wait"], timedelta())


async def give(conn: Connection, account: AccountId, kind: str, read_at: datetime | None, *, pause: timedelta) -> None:
    """End the turn; *read_at* is when a reading began that came to its end."""
    await conn.execute(GIVE, {"account": account, "kind": kind, "read_at": read_at, "pause": pause})


async def named(
    conn: Connection, account: AccountId, kind: str, *, ours: Sequence[TaskId], theirs: Sequence[str]
) -> list[Named]:
    """Return the open tasks that *ours* or the provider's ids *theirs* name."""
    params = {"account": account, "kind": kind, "ours": list(ours), "theirs": list(theirs)}
    return [Named(**{**row, "state": State(row["state"])}) for row in await every(conn, NAMED, params)]


async def claim(conn: Connection, tasks: Sequence[TaskId], *, waiting: Sequence[TaskId]) -> dict[TaskId, Job]:
    """Lease the due query jobs of *tasks*, and those of *waiting* among them that are not due yet, by task."""
    params = {"tasks": list(tasks), "waiting": list(waiting), "lease": LEASE, "token": uuid4()}
    rows = await every(conn, CLAIM, params)
    return {TaskId(row["subject"]): Job(**{**row, "kind": JobKind(row["kind"])}) for row in rows}
