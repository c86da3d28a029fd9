"""What is known of secrets without knowing them: fingerprints, ages, and which open tasks need which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from receiver.store.db import Connection, every

#: In the place of an account: the secrets of the callback URLs.
CALLBACKS: Final = ""


@dataclass(frozen=True, slots=True)
class Need:
    """Open tasks whose callback URL was made with one secret."""

    tasks: int
    #: None of them is open after that (UTC), as things stand now.
    until: datetime


NOTE: Final = """
-- store.secrets.note: a secret is as old as the first process that had it
INSERT INTO secret (account, key_id)
SELECT %(account)s, key_id FROM unnest(%(key_ids)s::text[]) AS x (key_id) ORDER BY key_id
ON CONFLICT DO NOTHING
"""

AGES: Final = """
-- store.secrets.ages: since when each secret is known
SELECT account, key_id, first_seen_at FROM secret
"""

FORGET: Final = """
-- store.secrets.forget: a secret that no process shall have any more
DELETE FROM secret WHERE account = %(account)s AND key_id = %(key_id)s
"""

NEEDED: Final = """
-- store.secrets.needed: open tasks by the secret of their callback URL; null where it was not written down
SELECT sent.key_id, count(DISTINCT task.id) AS tasks, max(task.due_at) AS until
  FROM task
 CROSS JOIN LATERAL (SELECT data ->> 'callback_key' AS key_id FROM event
                      WHERE task_id = task.id AND type = 'task.sending'
                        AND coalesce((data ->> 'callback')::boolean, true)) AS sent
 WHERE task.due_at IS NOT NULL AND task.sends > 0
 GROUP BY sent.key_id
"""


async def note(conn: Connection, account: str, key_ids: Iterable[str]) -> None:
    """Remember that a process has these secrets; those that are known keep their age."""
    await conn.execute(NOTE, {"account": account, "key_ids": list(key_ids)})


async def forget(conn: Connection, account: str, key_id: str) -> None:
    """Forget the age of a secret; nothing when it has none."""
    await conn.execute(FORGET, {"account": account, "key_id": key_id})


async def ages(conn: Connection) -> Mapping[tuple[str, str], datetime]:
    """Return since when (UTC) each secret is known, by account and key id."""
    return {(row["account"], row["key_id"]): row["first_seen_at"] for row in await every(conn, AGES)}


async def needed(conn: Connection) -> Mapping[str | None, Need]:
    """Return what open tasks need, by key id; under None those sent before it was written down."""
    return {row["key_id"]: Need(row["tasks"], row["until"]) for row in await every(conn, NEEDED)}
