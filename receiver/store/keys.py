"""API keys, of which only the hash is kept, and the facts that all processes must agree on."""

from __future__ import annotations

from typing import Final

from receiver.store.db import Connection, one

ADD: Final = """
-- store.keys.add: a new key
INSERT INTO api_key (id, owner, hash) VALUES (%(id)s, %(owner)s, %(hash)s)
"""

OWNER: Final = """
-- store.keys.owner_of: who a key speaks for
SELECT owner FROM api_key WHERE hash = %(hash)s AND revoked_at IS NULL
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


async def add(conn: Connection, key_id: str, owner: str, digest: bytes) -> None:
    """Keep the SHA-256 *digest* of a new key."""
    await conn.execute(ADD, {"id": key_id, "owner": owner, "hash": digest})


async def owner_of(conn: Connection, digest: bytes) -> str | None:
    """Return the owner of the key with this SHA-256, or None."""
    row = await one(conn, OWNER, {"hash": digest})
    return None if row is None else str(row["owner"])


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
