"""Apply the numbered SQL files, forward only."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from typing import Final

import psycopg

from receiver.core.errors import Misconfigured, StoreUnavailable
from receiver.store.db import conninfo

#: Two processes that start together apply each file once.
_LOCK: Final = 7_262_636_931


class DatabaseNewer(Misconfigured):
    """The database was brought to a version that this program does not know."""


class MigrationChanged(Misconfigured):
    """A file was changed after it was applied, so nobody knows what the database has."""


LOCK: Final = """
-- store.migrate.migrate: one process at a time, until its transaction ends
SELECT pg_advisory_xact_lock(%(lock)s)
"""

CREATE: Final = """
-- store.migrate.migrate: the list of what was applied
CREATE TABLE IF NOT EXISTS migration (
    name text PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now(),
    sha256 text
)
"""

LACKS_DIGESTS: Final = """
-- store.migrate.migrate: whether the list is from before digests were kept
SELECT NOT EXISTS (SELECT FROM pg_attribute
                    WHERE attrelid = 'migration'::regclass AND attname = 'sha256' AND NOT attisdropped)
"""

ADD_DIGESTS: Final = """
-- store.migrate.migrate: room for them
ALTER TABLE migration ADD COLUMN sha256 text
"""

FILL: Final = """
-- store.migrate.migrate: what was applied before digests were kept is taken for what the file is now
UPDATE migration SET sha256 = %(sha256)s WHERE name = %(name)s AND sha256 IS NULL
"""

EXISTS: Final = """
-- store.migrate.pending: whether anything was ever applied
SELECT to_regclass('migration') IS NOT NULL
"""

APPLIED: Final = """
-- store.migrate.pending: what was applied; the digest is null where none is kept yet
SELECT name, to_jsonb(migration) ->> 'sha256' FROM migration
"""

RECORD: Final = """
-- store.migrate.migrate: remember a file
INSERT INTO migration (name, sha256) VALUES (%(name)s, %(sha256)s)
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
        DatabaseNewer: It has what this program does not know.
        MigrationChanged: A file is not what it was when it was applied.
        Misconfigured: Its user lacks a right, or what is in it is not ours.
    """
    with _connected(database_url) as conn:
        _prepare(conn)
        return [name for name, text in migrations().items() if _apply(conn, name, text)]


def pending(database_url: str) -> list[str]:
    """
    Return the names of the migrations that the database lacks.

    Raises:
        StoreUnavailable: The database did not answer.
        DatabaseNewer: It has what this program does not know.
        MigrationChanged: A file is not what it was when it was applied.
        Misconfigured: Its user lacks a right, or what is in it is not ours.
    """
    with _connected(database_url) as conn:
        row = conn.execute(EXISTS).fetchone()
        applied = _applied(conn) if row and row[0] else set()
    return [name for name in migrations() if name not in applied]


@contextmanager
def _connected(database_url: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """Lend a connection that prepares no statements: not every pooler of transactions can do with them."""
    try:
        with psycopg.connect(conninfo(database_url), autocommit=True, prepare_threshold=None) as conn:
            yield conn
    except psycopg.errors.InsufficientPrivilege as exc:
        raise Misconfigured("the database user may not do that; GRANT it all rights on our tables and schema") from exc
    except psycopg.ProgrammingError as exc:
        raise Misconfigured(
            f"what is in the database is not receiver's ({exc.diag.message_primary}); "
            "give receiver a database of its own, which nobody else changes"
        ) from exc
    except (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError) as exc:
        raise StoreUnavailable(type(exc).__name__) from exc


def _prepare(conn: psycopg.Connection[tuple[object, ...]]) -> None:
    with conn.transaction():
        # Two that create the same table at the same moment both fail, IF NOT EXISTS or not.
        conn.execute(LOCK, {"lock": _LOCK})
        conn.execute(CREATE)
        row = conn.execute(LACKS_DIGESTS).fetchone()
        if row and row[0]:
            conn.execute(ADD_DIGESTS)
        known = migrations()
        for name in _applied(conn):
            conn.execute(FILL, {"name": name, "sha256": _digest(known[name])})


def _apply(conn: psycopg.Connection[tuple[object, ...]], name: str, text: str) -> bool:
    with conn.transaction():
        conn.execute(LOCK, {"lock": _LOCK})
        if name in _applied(conn):
            return False
        try:
            conn.execute(text.encode())
        except psycopg.errors.InsufficientPrivilege:
            raise
        except psycopg.ProgrammingError as exc:
            raise Misconfigured(
                f"migration {name} does not fit what is in the database ({exc.diag.message_primary}); "
                "give receiver a database of its own, which nobody else changes"
            ) from exc
        conn.execute(RECORD, {"name": name, "sha256": _digest(text)})
        return True


def _applied(conn: psycopg.Connection[tuple[object, ...]]) -> set[str]:
    known = migrations()
    digests = {str(name): digest for name, digest in conn.execute(APPLIED).fetchall()}
    if unknown := sorted(digests.keys() - known.keys()):
        raise DatabaseNewer(f"the database is newer than this program: it has {', '.join(unknown)}")
    changed = sorted(name for name, digest in digests.items() if digest not in {None, _digest(known[name])})
    if changed:
        raise MigrationChanged(
            f"the database was made with another text of {', '.join(changed)} than this program has; "
            "run the receiver that made it, or give this one a new database"
        )
    return set(digests)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
