"""API keys, of which only the hash is kept, and the facts that all processes must agree on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from receiver.store.db import Connection, every, one


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key that is in force: whom it speaks for, and what it may cost per day (UTC)."""

    id: str
    owner: str
    daily_tasks: int | None
    daily_units: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed(Key):
    """A key and its life; times are UTC."""

    created_at: datetime
    #: None while it is in force.
    revoked_at: datetime | None


ADD: Final = """
-- store.keys.add: a new key
INSERT INTO api_key (id, owner, hash, daily_tasks, daily_units)
VALUES (%(id)s, %(owner)s, %(hash)s, %(daily_tasks)s, %(daily_units)s)
"""

FIND: Final = """
-- store.keys.find: whom a key speaks for
SELECT id, owner, daily_tasks, daily_units FROM api_key WHERE hash = %(hash)s AND revoked_at IS NULL
"""

LOCK: Final = """
-- store.keys.lock: what a key has cost is counted under it
SELECT FROM api_key WHERE id = %(id)s FOR NO KEY UPDATE
"""

LIST: Final = """
-- store.keys.listed: every key that was ever made, the newest first
SELECT id, owner, daily_tasks, daily_units, created_at, revoked_at FROM api_key ORDER BY created_at DESC, id
"""

REVOKE: Final = """
-- store.keys.revoke: a key that opens nothing any more; the first time stays
UPDATE api_key SET revoked_at = now() WHERE id = %(id)s AND revoked_at IS NULL
"""

ANY: Final = """
-- store.keys.exist: whether any key was ever made
SELECT EXISTS (SELECT FROM api_key) AS found
"""

AGREE: Final = """
-- store.keys.agree: the first process to start writes the fact, the others read it
INSERT INTO fact (name, value) VALUES (%(name)s, %(value)s)
ON CONFLICT (name) DO UPDATE SET value = fact.value
RETURNING value
"""

RECORD: Final = """
-- store.keys.record: change a fact
UPDATE fact SET value = %(value)s WHERE name = %(name)s AND value <> %(value)s
"""


async def add(conn: Connection, key: Key, digest: bytes) -> None:
    """Keep the SHA-256 *digest* of a new key."""
    limits = {"daily_tasks": key.daily_tasks, "daily_units": key.daily_units}
    await conn.execute(ADD, {"id": key.id, "owner": key.owner, "hash": digest, **limits})


async def find(conn: Connection, digest: bytes) -> Key | None:
    """Return the key with this SHA-256, or None."""
    row = await one(conn, FIND, {"hash": digest})
    return None if row is None else Key(**row)


async def lock(conn: Connection, key_id: str) -> None:
    """Lock the key's row until the transaction ends; before an account's."""
    await conn.execute(LOCK, {"id": key_id})


async def listed(conn: Connection) -> list[Listed]:
    """Return every key that was ever made, the newest first."""
    return [Listed(**row) for row in await every(conn, LIST)]


async def revoke(conn: Connection, key_id: str) -> bool:
    """Let a key open nothing any more; False when there is none in force by that id."""
    return (await conn.execute(REVOKE, {"id": key_id})).rowcount > 0


async def exist(conn: Connection) -> bool:
    """Return whether any key was ever made."""
    row = await one(conn, ANY)
    return row is not None and bool(row["found"])


async def agree(conn: Connection, name: str, value: str) -> str:
    """Write the fact if it is new and return what stands."""
    row = await one(conn, AGREE, {"name": name, "value": value})
    return value if row is None else str(row["value"])


async def record(conn: Connection, name: str, value: str) -> None:
    """Change a fact that stands."""
    await conn.execute(RECORD, {"name": name, "value": value})
