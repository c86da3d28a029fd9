"""What the database says of itself and of the work in it, for people who look for what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, LiteralString

from receiver.store.db import Connection, every, one

#: A worker renews its row every 10 s.
ALIVE: Final = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The database's server as one connection sees it."""

    #: As `server_version_num`: 150004 is 15.4.
    version: int
    #: "on" or "off", or a word of `synchronous_commit`.
    fsync: str
    synchronous_commit: str
    full_page_writes: str
    #: It only reads: a standby, or set so.
    read_only: bool
    #: For users without special rights.
    max_connections: int
    #: Connections of all users now, ours included.
    connections: int
    #: Whether the user may make tables where ours are.
    may_create: bool
    #: The server's process of this connection, as the server says.
    backend: int


SERVER: Final = """
-- store.health.server: version, durability, room and rights
SELECT current_setting('server_version_num')::int AS version, current_setting('fsync') AS fsync,
       current_setting('synchronous_commit') AS synchronous_commit,
       current_setting('full_page_writes') AS full_page_writes,
       pg_is_in_recovery() OR current_setting('transaction_read_only')::bool AS read_only,
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
           AS max_connections,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')::int AS connections,
       coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create,
       pg_backend_pid() AS backend
"""

CLOSED: Final = """
-- store.health.closed: tables of ours that the user may not read and write
SELECT relname AS name FROM pg_class
 WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')
   AND NOT (has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT')
            AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE'))
 ORDER BY relname
"""

LISTEN: Final = """
-- store.health.hears: wait for a word
LISTEN receiver_doctor
"""

NOTIFY: Final = """
-- store.health.hears: give the word
NOTIFY receiver_doctor
"""

WORKERS: Final = """
-- store.health.work: workers that were seen of late
SELECT count(*)::int AS n FROM worker WHERE seen_at > now() - %(alive)s
"""

TASKS: Final = """
-- store.health.work: open tasks, and how many of them are past their due time
SELECT count(*)::int AS open, (count(*) FILTER (WHERE due_at < now()))::int AS overdue
  FROM task WHERE due_at IS NOT NULL
"""

ATTENTION: Final = """
-- store.health.work: why people are wanted, by reason
SELECT attention, count(*)::int AS n FROM task WHERE attention IS NOT NULL AND due_at IS NOT NULL
 GROUP BY attention ORDER BY attention
"""

DEAD: Final = """
-- store.health.work: jobs that were given up, by kind and error
SELECT kind || ' (' || coalesce(last_error, 'unknown') || ')' AS what, count(*)::int AS n FROM job WHERE state = 'dead'
 GROUP BY what ORDER BY what
"""

HELD: Final = """
-- store.health.work: submits that wait for a slot or the end of a pause, by account
SELECT account, count(*)::int AS n FROM job WHERE held GROUP BY account ORDER BY account
"""

LATE: Final = """
-- store.health.work: since when the job that waits longest could have been taken
SELECT min(run_at) AS at, now() AS now FROM job WHERE state = 'ready'
"""

PAUSED: Final = """
-- store.health.work: paused accounts and why
SELECT id, paused_reason AS reason, paused_detail AS detail FROM account WHERE paused_at IS NOT NULL ORDER BY id
"""

AGREED: Final = """
-- store.health.agreed: the secrets that the last process to start had, by key id
SELECT value FROM fact WHERE name = 'callback_secrets'
"""


@dataclass(frozen=True, slots=True)
class Paused:
    """An account whose submits wait."""

    account: str
    reason: str
    #: The provider's words.
    detail: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """How the work stands."""

    workers: int
    open_tasks: int
    #: Open tasks past their due time.
    overdue: int
    attention: Mapping[str, int]
    dead: Mapping[str, int]
    held: Mapping[str, int]
    #: How long the oldest ready job has waited for a worker.
    backlog: timedelta
    paused: tuple[Paused, ...]


async def server(conn: Connection) -> Server:
    """Return what the server says of itself."""
    return Server(**(await one(conn, SERVER) or {}))


async def closed(conn: Connection) -> list[str]:
    """Return the names of tables that the user lacks a right on."""
    return [row["name"] for row in await every(conn, CLOSED)]


async def hears(listener: Connection, speaker: Connection, *, within: timedelta) -> bool:
    """Tell whether a notification of *speaker* reaches *listener*; behind a pooler of transactions it does not."""
    await listener.execute(LISTEN)
    await speaker.execute(NOTIFY)
    async for _ in listener.notifies(timeout=within.total_seconds(), stop_after=1):
        return True
    return False


async def agreed(conn: Connection) -> frozenset[str]:
    """Return the key ids of the callback secrets that the last process to start had; empty before the first."""
    row = await one(conn, AGREED)
    return frozenset(row["value"].split(",")) if row is not None else frozenset()


async def work(conn: Connection) -> Work:
    """Return how the work stands."""
    workers, tasks = await one(conn, WORKERS, {"alive": ALIVE}), await one(conn, TASKS)
    return Work(
        workers=workers["n"] if workers else 0,
        open_tasks=tasks["open"] if tasks else 0,
        overdue=tasks["overdue"] if tasks else 0,
        attention=await _counts(conn, ATTENTION, "attention"),
        dead=await _counts(conn, DEAD, "what"),
        held=await _counts(conn, HELD, "account"),
        backlog=_span(await one(conn, LATE)),
        paused=tuple(Paused(row["id"], row["reason"], row["detail"]) for row in await every(conn, PAUSED)),
    )


async def _counts(conn: Connection, sql: LiteralString, name: str) -> dict[str, int]:
    return {row[name]: row["n"] for row in await every(conn, sql)}


def _span(row: Mapping[str, datetime | None] | None) -> timedelta:
    if row is None or row["at"] is None or row["now"] is None:
        return timedelta()
    return max(row["now"] - row["at"], timedelta())
