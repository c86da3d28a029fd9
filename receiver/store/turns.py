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
-- store.turns.many_wait: whether so many polls became due after the list was last read
SELECT count(*) >= %(many)s AS many FROM (
    SELECT FROM job
     WHERE state = 'ready' AND kind = 'query' AND account = %(account)s
       AND run_at > coalesce((SELECT read_at FROM list_turn WHERE account = %(account)s AND kind = %(kind)s),
                             '-infinity')
       AND EXISTS (SELECT FROM task WHERE task.id = job.subject AND task.kind = %(kind)s)
     LIMIT %(many)s) AS x
"""

TAKE: Final = """
-- store.turns.take: one reader of an account's list among all processes; a killed one's turn lapses
INSERT INTO list_turn AS t (account, kind, taken_until) VALUES (%(account)s, %(kind)s, now() + %(span)s)
ON CONFLICT (account, kind) DO UPDATE SET taken_until = excluded.taken_until WHERE t.taken_until <= now()
RETURNING now() AS at
"""

OLDEST: Final = """
-- store.turns.oldest: how far back the list must be read
SELECT min(task.first_sent_at) AS at FROM job JOIN task ON task.id = job.subject
 WHERE job.state = 'ready' AND job.kind = 'query' AND job.account = %(account)s AND task.kind = %(kind)s
"""

GIVE: Final = """
-- store.turns.give: the next reading begins after a while; what was due before this one and not found is asked singly
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
-- store.turns.claim: the polls that nobody is at, of tasks with news also those that are not due yet
WITH mine AS (
    SELECT id FROM job
     WHERE kind = 'query' AND subject = ANY(%(tasks)s)
       AND (state = 'ready' OR (state = 'waiting' AND subject = ANY(%(news)s)))
     ORDER BY subject FOR UPDATE SKIP LOCKED
)
UPDATE job
   SET state = 'leased', run_at = 'infinity', attempt = attempt + 1, lease_until = now() + %(lease)s,
       lease_token = %(token)s
  FROM mine WHERE job.id = mine.id
RETURNING job.id, kind, subject, account, lease_token AS token, wanted, attempt, lost, same_error, last_error,
          deliver_by
"""


async def many_wait(conn: Connection, account: AccountId, kind: str, *, many: int) -> bool:
    """Return whether at least *many* polls of *kind* became due since its list was last read."""
    row = await one(conn, MANY_WAIT, {"account": account, "kind": kind, "many": many})
    return row is not None and bool(row["many"])


async def take(conn: Connection, account: AccountId, kind: str, *, span: timedelta) -> datetime | None:
    """Take the turn to read the list for at most *span* and return the time (UTC); None while it is another's."""
    row = await one(conn, TAKE, {"account": account, "kind": kind, "span": span})
    return None if row is None else row["at"]


async def give(conn: Connection, account: AccountId, kind: str, read_at: datetime | None, *, pause: timedelta) -> None:
    """End the turn; *read_at* is when a reading began that came to its end."""
    await conn.execute(GIVE, {"account": account, "kind": kind, "read_at": read_at, "pause": pause})


async def oldest(conn: Connection, account: AccountId, kind: str) -> datetime | None:
    """Return when the oldest task was sent whose poll is due (UTC)."""
    row = await one(conn, OLDEST, {"account": account, "kind": kind})
    return None if row is None else row["at"]


async def named(
    conn: Connection, account: AccountId, kind: str, *, ours: Sequence[TaskId], theirs: Sequence[str]
) -> list[Named]:
    """Return the open tasks that *ours* or the provider's ids *theirs* name."""
    params = {"account": account, "kind": kind, "ours": list(ours), "theirs": list(theirs)}
    return [Named(**{**row, "state": State(row["state"])}) for row in await every(conn, NAMED, params)]


async def claim(conn: Connection, tasks: Sequence[TaskId], *, news: Sequence[TaskId]) -> dict[TaskId, Job]:
    """Lease the due query jobs of *tasks*, and those of *news* among them that are not due yet, by task."""
    params = {"tasks": list(tasks), "news": list(news), "lease": LEASE, "token": uuid4()}
    rows = await every(conn, CLAIM, params)
    return {TaskId(row["subject"]): Job(**{**row, "kind": JobKind(row["kind"])}) for row in rows}
