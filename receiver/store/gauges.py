"""What the gauges show; each statement looks at so many rows at most, however many there are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from receiver.core.model import AccountId, State
from receiver.store.db import Connection, every, one

#: Rows that one statement counts at most.
COUNTED: Final = 100_000
#: Tasks with `attention` that are counted at most; one is too many already.
ATTENTION_COUNTED: Final = 1_000
#: A worker renews its row every 10 s.
ALIVE: Final = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Queue:
    """The jobs of one kind and state; *due* is how long the first has been due, None when none is."""

    kind: str
    state: str
    n: int
    due: timedelta | None
    #: Until the first `deliver_by`.
    slack: timedelta


@dataclass(frozen=True, slots=True)
class Open:
    """The open tasks of one state; *overdue* is how long the first is past its deadline, negative when it is not."""

    state: State
    n: int
    overdue: timedelta


@dataclass(frozen=True, slots=True)
class Pace:
    """Why an account's circuit is open, and how many tasks its provider takes at once; None is as usual."""

    open_reason: str | None = None
    lowered_to: int | None = None


QUEUES: Final = """
-- store.gauges.queues: jobs by kind and state; what waits past its time counts as due, since no worker has readied it
SELECT kind, CASE WHEN held THEN 'held' ELSE state END AS state, count(*) AS n,
       now() - min(run_at) FILTER (WHERE state IN ('ready', 'waiting') AND NOT held AND run_at <= now()) AS due,
       min(deliver_by) - now() AS slack
  FROM (SELECT kind, state, held, run_at, deliver_by FROM job LIMIT %(limit)s) AS x
 GROUP BY 1, 2
"""

OPEN: Final = """
-- store.gauges.open_tasks: those with the earliest deadlines
SELECT state, count(*) AS n, now() - min(due_at) AS overdue
  FROM (SELECT state, due_at FROM task WHERE due_at IS NOT NULL ORDER BY due_at LIMIT %(limit)s) AS x
 GROUP BY state
"""

ATTENTION: Final = """
-- store.gauges.attention: tasks that a person must look at, by reason
SELECT attention, count(*) AS n
  FROM (SELECT attention FROM task WHERE attention IS NOT NULL LIMIT %(limit)s) AS x
 GROUP BY attention
"""

IN_USE: Final = """
-- store.gauges.slots_in_use: the concurrency of the accounts bounds these rows
SELECT account, count(*) AS n FROM task WHERE state IN ('submitting', 'submitted', 'processing') GROUP BY account
"""

PAUSES: Final = """
-- store.gauges.pauses: accounts whose submits wait
SELECT id, paused_reason FROM account WHERE paused_at IS NOT NULL
"""

PACES: Final = """
-- store.gauges.paces: accounts whose circuit is open, or whose provider takes fewer tasks at once for a while
SELECT account, CASE WHEN open_until > now() THEN open_reason END AS open_reason,
       CASE WHEN lowered_until > now() THEN lowered_to END AS lowered_to
  FROM pace WHERE open_until > now() OR lowered_until > now()
"""

WORKERS: Final = """
-- store.gauges.workers: how many have been seen of late
SELECT count(*) AS n FROM worker WHERE seen_at > now() - %(alive)s
"""


async def queues(conn: Connection) -> list[Queue]:
    """Return the jobs by kind and state."""
    return [Queue(**row) for row in await every(conn, QUEUES, {"limit": COUNTED})]


async def open_tasks(conn: Connection) -> list[Open]:
    """Return the open tasks by state."""
    return [Open(**{**row, "state": State(row["state"])}) for row in await every(conn, OPEN, {"limit": COUNTED})]


async def attention(conn: Connection) -> dict[str, int]:
    """Return how many tasks a person must look at, by reason."""
    return {row["attention"]: row["n"] for row in await every(conn, ATTENTION, {"limit": ATTENTION_COUNTED})}


async def slots_in_use(conn: Connection) -> dict[AccountId, int]:
    """Return how many tasks of each account are at its provider."""
    return {row["account"]: row["n"] for row in await every(conn, IN_USE)}


async def pauses(conn: Connection) -> dict[AccountId, str]:
    """Return the reason of each pause."""
    return {row["id"]: row["paused_reason"] for row in await every(conn, PAUSES)}


async def paces(conn: Connection) -> dict[AccountId, Pace]:
    """Return the accounts that are spoken to more slowly for a while."""
    return {row["account"]: Pace(row["open_reason"], row["lowered_to"]) for row in await every(conn, PACES)}


async def workers(conn: Connection) -> int:
    """Return how many workers live."""
    row = await one(conn, WORKERS, {"alive": ALIVE})
    return 0 if row is None else int(row["n"])
