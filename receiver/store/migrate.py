"""Apply the numbered SQL files, forward only."""

from __future__ import annotations

import re
from importlib import resources
from typing import Final

import psycopg

from receiver.core.errors import Misconfigured, StoreUnavailable
from receiver.store.db import conninfo

#: Two processes that start together apply each file once.
_LOCK: Final = 7_262_636_931

LOCK: Final = """
-- store.migrate.migrate: one process at a time, until its transaction ends
SELECT pg_advisory_xact_lock(%(lock)s)
"""

CREATE: Final = """
-- store.migrate.migrate: the list of what was applied
CREATE TABLE IF NOT EXISTS migration (
    name text PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""

EXISTS: Final = """
-- store.migrate.pending: whether anything was ever applied
SELECT to_regclass('migration') IS NOT NULL
"""

APPLIED: Final = """
-- store.migrate.pending: what was applied
SELECT name FROM migration
"""

RECORD: Final = """
-- store.migrate.migrate: remember a file
INSERT INTO migration (name) VALUES (%(name)s)
"""


def migrations() -> dict[str, str]:
    """Return name and SQL text of every migration, in order."""
    files = (resources.files("receiver.store") / "migrations").iterdir()
    found = {file.name.removesuffix(".sql"): file.read_text() for file in files if file.name.endswith(".sql")}
    for name in found:
        if not re.fullmatch(r"\d{4}_(pre|post)_[a-z_]+", name):
            raise Misconfigured(f"migration {name} is not named NNNN_{{pre|post}}_text.sql")
    return dict(sorted(found.items()))


def migrate(database_url: str) -> list[str]:
    """
    Apply what is missing, each file in its own transaction, and return the names.

    Raises:
        StoreUnavailable: The database did not answer.
        Misconfigured: The database is newer than this program, or its user lacks a right.
    """
    try:
        with psycopg.connect(conninfo(database_url), autocommit=True) as conn:
            with conn.transaction():
                # Two that create the same table at the same moment both fail, IF NOT EXISTS or not.
                conn.execute(LOCK, {"lock": _LOCK})
                conn.execute(CREATE)
            return [name for name, text in migrations().items() if _apply(conn, name, text)]
    except psycopg.errors.InsufficientPrivilege as exc:
        raise Misconfigured("the database user may not do that; it needs all rights on its own schema") from exc
    except psycopg.OperationalError as exc:
        raise StoreUnavailable(type(exc).__name__) from exc


def pending(database_url: str) -> list[str]:
    """
    Return the names of the migrations that the database lacks.

    Raises:
        StoreUnavailable: The database did not answer.
        Misconfigured: The database is newer than this program, or its user lacks a right.
    """
    try:
        with psycopg.connect(conninfo(database_url), autocommit=True) as conn:
            row = conn.execute(EXISTS).fetchone()
            applied = _applied(conn) if row and row[0] else set()
    except psycopg.errors.InsufficientPrivilege as exc:
        raise Misconfigured("the database user may not do that; it needs all rights on its own schema") from exc
    except psycopg.OperationalError as exc:
        raise StoreUnavailable(type(exc).__name__) from exc
    return [name for name in migrations() if name not in applied]


def _apply(conn: psycopg.Connection[tuple[object, ...]], name: str, text: str) -> bool:
    with conn.transaction():
        conn.execute(LOCK, {"lock": _LOCK})
        if name in _applied(conn):
            return False
        conn.execute(text.encode())
        conn.execute(RECORD, {"name": name})
        return True


def _applied(conn: psycopg.Connection[tuple[object, ...]]) -> set[str]:
    names = {str(row[0]) for row in conn.execute(APPLIED).fetchall()}
    if unknown := names - set(migrations()):
        raise Misconfigured(f"the database is newer than this program: it has {', '.join(sorted(unknown))}")
    return names
