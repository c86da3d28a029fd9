"""The pool of connections, and the one place where the driver's errors become ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final, LiteralString

import psycopg
from psycopg import AsyncConnection, errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from receiver.core.errors import DataRefused, Misconfigured, StoreConflict, StoreUnavailable

Connection = AsyncConnection[DictRow]

#: What waits for the end of the current task's transaction; None outside of one.
_ON_COMMIT: Final[ContextVar[list[Callable[[], object]] | None]] = ContextVar("on_commit", default=None)

#: A server that is gone without a word is noticed within about 15 s (libpq's names and units).
_NOTICE_LOSS: Final = {
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "5",
    "keepalives_count": "2",
    "tcp_user_timeout": "15000",
}
#: Prepared statements that are gone, or there already, are those of a pooler that mixes them up.
_NOT_NOW: Final = (
    *(psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError),
    *(errors.InvalidSqlStatementName, errors.DuplicatePreparedStatement, PoolTimeout),
)
#: No network call is made while a connection is lent, so only a database that hangs takes longer.
LONGEST: Final = timedelta(seconds=20)
#: How long a caller waits for a free connection before it hears that the database is unavailable.
POOL_WAIT: Final = timedelta(seconds=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolUsage:
    """Connections of one process, and requests that wait for one."""

    in_use: int
    idle: int
    limit: int
    waiting: int


CLOCK: Final = """
-- store.db.clock: the time that decides
SELECT clock_timestamp() AS now
"""


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """
    Turn the driver's errors into ours.

    Raises:
        StoreUnavailable: The connection was lost or refused, the server stops, or
            it only reads now; nothing was recorded.
        StoreConflict: A deadlock undid the transaction; nothing was recorded.
        DataRefused: A value is none that the database can hold.
    """
    try:
        yield
    except (errors.DeadlockDetected, errors.SerializationFailure) as exc:
        raise StoreConflict(type(exc).__name__) from exc
    except psycopg.DataError as exc:
        raise DataRefused(type(exc).__name__) from exc
    except TimeoutError as exc:
        raise StoreUnavailable("the database does not answer") from exc
    except _NOT_NOW as exc:
        raise StoreUnavailable(type(exc).__name__) from exc


async def connect(url: str) -> Connection:
    """
    Open one connection outside the pool; the caller closes it.

    Raises:
        StoreUnavailable: The database did not answer.
    """
    async with translated():
        return await AsyncConnection.connect(conninfo(url), autocommit=True, row_factory=dict_row)


def on_commit(act: Callable[[], object]) -> None:
    """
    Do *act* when the transaction of the current task has committed, and never when it is undone.

    Its log lines say what they would say now: of which callback or job they are.
    """
    acts = _ON_COMMIT.get()
    if acts is None:
        act()
    else:
        acts.append(partial(copy_context().run, act))


def conninfo(url: str) -> str:
    """
    Add our settings to the operator's, which win.

    Raises:
        Misconfigured: It is no address of a database; the text, which may hold a password, is not repeated.
    """
    try:
        return make_conninfo("", **{**_NOTICE_LOSS, **conninfo_to_dict(url)})
    except psycopg.ProgrammingError:
        raise Misconfigured(
            "RECEIVER_DATABASE_URL is not like postgresql://user:password@host/database, or has an unknown option"
        ) from None


class Database:
    """A pool of connections to one PostgreSQL database."""

    def __init__(self, url: str, *, connections: int) -> None:
        self.url = url
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            conninfo(url),
            min_size=1,
            max_size=connections,
            open=False,
            timeout=POOL_WAIT.total_seconds(),
            reconnect_timeout=POOL_WAIT.total_seconds(),
            check=AsyncConnectionPool.check_connection,
            connection_class=AsyncConnection[DictRow],
            kwargs={"autocommit": True, "row_factory": dict_row},
        )

    async def open(self) -> None:
        """
        Open the pool and wait for its first connection.

        Raises:
            StoreUnavailable: The database did not answer.
        """
        async with translated():
            await self._pool.open(wait=True, timeout=POOL_WAIT.total_seconds() * 5)

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.close()

    def usage(self) -> PoolUsage:
        """Return how busy the pool is at this moment."""
        stats = self._pool.get_stats()
        idle = stats.get("pool_available", 0)
        return PoolUsage(
            in_use=stats.get("pool_size", 0) - idle,
            idle=idle,
            limit=self._pool.max_size,
            waiting=stats.get("requests_waiting", 0),
        )

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """
        Lend a connection on which each statement commits by itself.

        Raises:
            StoreUnavailable: None was to be had, or it broke.
        """
        async with translated(), asyncio.timeout(LONGEST.total_seconds()), self._pool.connection() as conn:
            yield conn

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """
        Lend a connection inside a transaction that commits when the block ends well.

        Raises:
            StoreUnavailable: Nothing was recorded - or, when the connection broke
                during the commit, perhaps all of it: what follows must be repeatable.
        """
        acts: list[Callable[[], object]] = []
        token = _ON_COMMIT.set(acts)
        try:
            async with (
                translated(),
                asyncio.timeout(LONGEST.total_seconds()),
                self._pool.connection() as conn,
                conn.transaction(),
            ):
                yield conn
        finally:
            _ON_COMMIT.reset(token)
        for act in acts:
            act()


async def one(conn: Connection, sql: LiteralString, params: Mapping[str, object] | None = None) -> DictRow | None:
    """Run *sql* and return its first row, if any."""
    return await (await conn.execute(sql, params)).fetchone()


async def every(conn: Connection, sql: LiteralString, params: Mapping[str, object] | None = None) -> list[DictRow]:
    """Run *sql* and return all rows."""
    return await (await conn.execute(sql, params)).fetchall()


def records(rows: Sequence[Mapping[str, object]]) -> Jsonb:
    """Return *rows* as jsonb_populate_recordset takes them: one parameter, however many columns."""
    return Jsonb(rows, dumps=_dumps)


def _plain(value: object) -> str:
    match value:
        case datetime():
            return value.isoformat()
        case timedelta():
            return f"{value / timedelta(microseconds=1):.0f} microseconds"
        case bytes():
            return f"\\x{value.hex()}"
    raise TypeError(f"no column holds {type(value).__name__}")


_dumps: Final = partial(json.dumps, default=_plain)


async def clock(conn: Connection) -> datetime:
    """Return the database's time at this moment (UTC)."""
    row = await one(conn, CLOCK)
    if row is None:  # pragma: no cover
        raise StoreUnavailable("the database has no time")
    at: datetime = row["now"]
    return at
