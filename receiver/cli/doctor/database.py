"""The database: reachable, new enough, ours to write, and not forgetful."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from receiver.cli.doctor.findings import Finding, broken, ok, warning
from receiver.core.errors import Misconfigured, StoreUnavailable
from receiver.settings import Settings
from receiver.store import db, health, migrate, refusal
from receiver.store.db import Connection
from receiver.store.health import Server

NAME: Final = "database"
OLDEST: Final = 15
#: A notification on a direct connection takes a millisecond.
HEARD_WITHIN: Final = timedelta(seconds=2)
#: Of one process beside its pool: one that listens, one that keeps callbacks or settles jobs, one to spare.
BESIDE_POOL: Final = 3
#: Web and worker.
PROCESSES: Final = 2

_MAJOR: Final = 10_000
_UNSAFE: Final = frozenset({"off"})


def unreachable(exc: StoreUnavailable | Misconfigured) -> Finding:
    """Say why there is no connection."""
    why = refusal.reason(exc)
    if why is None:
        return broken(NAME, f"no connection: {exc}", "correct RECEIVER_DATABASE_URL, and see the log of the server")
    return broken(NAME, f"no connection: {why.found}", why.mend)


async def check(conn: Connection, settings: Settings) -> list[Finding]:
    """Look at version, durability, rights and room."""
    server = await health.server(conn)
    where = "embedded" if settings.database_url is None else "yours"
    text = f"PostgreSQL {server.version // _MAJOR}.{server.version % _MAJOR}, {where}, answers"
    findings = [*_version(server), *_durability(server), *_rights(server, await health.closed(conn))]
    return [*(findings or [ok(NAME, f"{text}; commits are durable")]), *_room(server, settings)]


def _version(server: Server) -> Iterator[Finding]:
    if server.version // _MAJOR < OLDEST:
        major = server.version // _MAJOR
        yield broken(NAME, f"PostgreSQL {major} is too old", f"upgrade the server to {OLDEST} or later")
    if server.read_only:
        yield broken(NAME, "it only reads: a standby, or set so", "point RECEIVER_DATABASE_URL at the primary")


def _durability(server: Server) -> Iterator[Finding]:
    if server.fsync in _UNSAFE:
        yield broken(NAME, "fsync is off: a power cut destroys it", "set fsync = on on the server")
    if server.synchronous_commit in _UNSAFE:
        yield broken(
            NAME,
            "synchronous_commit is off: a crash forgets callbacks that were answered 200",
            "set synchronous_commit = on for this database or user",
        )
    if server.full_page_writes in _UNSAFE:
        yield warning(NAME, "full_page_writes is off", "set it on, unless the file system never tears a page")


def _rights(server: Server, closed: list[str]) -> Iterator[Finding]:
    if closed:
        yield broken(NAME, f"the user may not read and write {', '.join(closed)}", "GRANT it all rights on our tables")
    if not server.may_create:
        yield warning(
            NAME, "the user may not make tables", "GRANT CREATE ON SCHEMA to it, or run `receiver migrate` as another"
        )


def _room(server: Server, settings: Settings) -> Iterator[Finding]:
    """Compare what the processes of one machine may open with what the server has."""
    wanted = PROCESSES * (settings.database_connections + BESIDE_POOL)
    text = f"{server.connections} of {server.max_connections} taken; web and worker may open {wanted}"
    if wanted > server.max_connections:
        yield warning(
            "connections", text, "raise max_connections of the server, or lower RECEIVER_DATABASE_CONNECTIONS"
        )
    else:
        yield ok("connections", text)


async def check_pooler(database_url: str, conn: Connection) -> list[Finding]:
    """Tell whether something stands between us and the server, and whether notifications pass it."""
    server = await health.server(conn)
    between = conn.info.backend_pid != server.backend
    listener = await db.connect(database_url)
    try:
        async with db.translated():
            heard = await health.hears(listener, conn, within=HEARD_WITHIN)
    finally:
        await listener.close()
    if heard:
        kind = "a pooler of sessions stands between" if between else "direct connection"
        return [ok("notifications", f"{kind}; workers are woken at once")]
    return [
        warning(
            "notifications",
            f"none arrive: {'a pooler of transactions' if between else 'something'} stands between",
            "workers look every 0.5 s instead; to wake them at once point RECEIVER_DATABASE_URL at the server itself",
        )
    ]


def check_migrations(database_url: str, settings: Settings) -> Finding:
    """Compare the schema with what this program has."""
    try:
        missing = migrate.pending(database_url)
    except migrate.DatabaseNewer as exc:
        return broken("migrations", str(exc), "run the newer release; a schema never goes back")
    except Misconfigured as exc:
        found, _, mend = str(exc).partition("; ")
        return broken("migrations", found, mend)
    if not missing:
        return ok("migrations", f"all {len(migrate.migrations())} applied")
    text = f"{len(missing)} to be applied: {', '.join(missing)}"
    if settings.database_url is None:
        return warning("migrations", text, "`receiver serve` applies them itself; or run `receiver migrate`")
    return broken("migrations", text, "run `receiver migrate`; `receiver serve` does it itself")
