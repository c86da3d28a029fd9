"""Callbacks as they came, kept before they are answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, LiteralString, NamedTuple

from receiver.core.model import CallbackId, ProviderStatus, TaskId
from receiver.store.db import Connection, every, one


class Outcome(StrEnum):
    """What became of a callback; the values are the stored text."""

    MOVED = "moved"  #: it changed its task
    NOTED = "noted"  #: it told nothing that was not known
    HINTED = "hinted"  #: the next poll comes sooner
    ASKED = "asked"  #: the provider is asked, because only its answer can settle it
    CROSS_WIRED = "cross_wired"  #: it is about another task than its URL
    ORPHAN = "orphan"  #: there is no such task
    UNREADABLE = "unreadable"  #: it is no report that we know


class Key(NamedTuple):
    """What makes a callback the same callback."""

    task: TaskId
    account: str
    verified: bool
    digest: bytes


class Arrival(NamedTuple):
    """
    One callback to keep; those with the same key are the same callback.

    Deduplication is by task of the URL, account, verified or not, and SHA-256 of
    the raw body, so that an unsigned copy never hides a signed one.
    """

    key: Key
    body: bytes

    def __repr__(self) -> str:
        return f"Arrival({self.key.task}, {self.key.account!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """A kept callback."""

    id: CallbackId
    account: str
    task_id: TaskId
    verified: bool
    body: bytes = field(repr=False)
    received_at: datetime
    #: Copies of it that came later, without those that the next sweep will count.
    repeats: int
    processed_at: datetime | None
    #: None until it is processed.
    outcome: str | None
    #: The status that it gave its task; None when it gave none.
    told: str | None


class Read(NamedTuple):
    """What became of a callback, and the status that it gave its task."""

    callback: CallbackId
    outcome: Outcome
    told: ProviderStatus | None = None


KEEP: Final[LiteralString] = """
-- store.inbox.keep: rows, their advance jobs, repeats and the wake-up in one statement; parameters are binary
WITH x AS (
    SELECT * FROM unnest(%(accounts)b::text[], %(tasks)b::bigint[], %(verifieds)b::boolean[], %(digests)b::bytea[],
                         %(bodies)b::bytea[], %(times)b::int[]) AS x (account, task_id, verified, digest, body, times)
), kept AS (
    INSERT INTO inbox (account, task_id, verified, digest, body)
    SELECT account, task_id, verified, digest, body FROM x
    ON CONFLICT DO NOTHING
    RETURNING id, account, task_id, verified, digest
), jobs AS (
    INSERT INTO job (kind, subject, account, state, run_at, deliver_by)
    SELECT 'advance', id, account, 'ready', now(), now() FROM kept ORDER BY id
), again AS (
    INSERT INTO inbox_repeat (account, task_id, verified, digest, times)
    SELECT x.account, x.task_id, x.verified, x.digest, x.times - (kept.id IS NOT NULL)::int
      FROM x LEFT JOIN kept USING (task_id, account, verified, digest)
     WHERE x.times > 1 OR kept.id IS NULL
    RETURNING task_id, account, verified, digest, times
), woken AS (
    SELECT pg_notify('receiver_job', '') WHERE EXISTS (SELECT FROM kept)
)
SELECT again.* FROM (SELECT count(*) FROM woken) AS told LEFT JOIN again ON true
"""

OF: Final = """
-- store.inbox.of: callbacks in the order in which they came
SELECT id, account, task_id, verified, body, received_at, repeats, processed_at, outcome, told
  FROM inbox WHERE id = ANY(%(ids)s) ORDER BY id
"""

PROCESSED: Final = """
-- store.inbox.processed: what became of callbacks
UPDATE inbox SET processed_at = now(), outcome = x.outcome, told = x.told
  FROM unnest(%(ids)s::bigint[], %(outcomes)s::text[], %(tolds)s::text[]) AS x (id, outcome, told)
 WHERE inbox.id = x.id
"""

REOPEN: Final = """
-- store.inbox.reopen: it shall be read again
UPDATE inbox SET processed_at = NULL, outcome = NULL, told = NULL WHERE id = %(id)s
"""

FOLD: Final = """
-- store.inbox.fold: count repeats where they belong
WITH taken AS (
    DELETE FROM inbox_repeat WHERE ctid IN (SELECT ctid FROM inbox_repeat LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
    RETURNING *
), sums AS (
    SELECT task_id, account, verified, digest, sum(times) AS times FROM taken GROUP BY 1, 2, 3, 4
), mine AS MATERIALIZED (
    SELECT inbox.id, sums.times FROM inbox JOIN sums USING (task_id, account, verified, digest)
     ORDER BY inbox.id FOR NO KEY UPDATE OF inbox
)
UPDATE inbox SET repeats = repeats + mine.times FROM mine WHERE inbox.id = mine.id
"""

COUNTS: Final = """
-- store.inbox.counts: kept callbacks and repeats, the folded and the waiting ones
SELECT count(*) AS received, coalesce(sum(repeats), 0) + (SELECT coalesce(sum(times), 0) FROM inbox_repeat) AS repeats
  FROM inbox
"""


async def keep(conn: Connection, arrivals: Sequence[Arrival]) -> list[bool]:
    """
    Keep a batch and want its advance jobs in one statement; say of each whether it was new.

    Arrivals that are alike are kept once and counted. The rows are sorted by
    key, so that two batches at the same time cannot deadlock.
    """
    bodies = dict(arrivals)
    times = Counter(key for key, _ in arrivals)
    batch = sorted(bodies)
    rows = await every(
        conn,
        KEEP,
        {
            "tasks": [key.task for key in batch],
            "accounts": [key.account for key in batch],
            "verifieds": [key.verified for key in batch],
            "digests": [key.digest for key in batch],
            "bodies": [bodies[key] for key in batch],
            "times": [times[key] for key in batch],
        },
    )
    repeats = {
        Key(row["task_id"], row["account"], row["verified"], row["digest"]): row["times"]
        for row in rows
        if row["task_id"] is not None
    }
    told: list[bool] = []
    for key, _ in arrivals:
        told.append(times[key] > repeats.get(key, 0))
        times[key] -= 1
    return told


async def of(conn: Connection, callbacks: Iterable[CallbackId]) -> list[Callback]:
    """Return callbacks in the order in which they came, without those that were purged."""
    return [Callback(**row) for row in await every(conn, OF, {"ids": list(callbacks)})]


async def processed(conn: Connection, read: Sequence[Read]) -> None:
    """Note what became of callbacks; the caller commits."""
    if read:
        ids, outcomes, tolds = zip(*sorted(read), strict=True)
        await conn.execute(PROCESSED, {"ids": list(ids), "outcomes": list(outcomes), "tolds": list(tolds)})


async def reopen(conn: Connection, callback: CallbackId) -> None:
    """Forget what became of a callback; the caller wants its advance job in the same transaction."""
    await conn.execute(REOPEN, {"id": callback})


async def fold(conn: Connection, *, limit: int = 1000) -> None:
    """Add counted repeats to the rows that they repeat."""
    await conn.execute(FOLD, {"limit": limit})


async def counts(conn: Connection) -> dict[str, Any]:
    """Return how many callbacks were received and how many repeated one."""
    return await one(conn, COUNTS) or {}
