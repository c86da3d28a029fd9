"""
Pages of tasks, newest first, by any filters.

Each filter alone reads a bounded number of rows from its own index, however
many tasks there are. Values must be known when a statement is planned, so none
of these is prepared: what is not filtered by falls away, and the statistics
choose among several filters. Each of several states is asked for by itself,
since only of a known state the statistics say how common it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain
from typing import Final, LiteralString

from psycopg.types.json import Jsonb

from receiver.core import ids
from receiver.core.model import State
from receiver.store import assets
from receiver.store.db import Connection
from receiver.store.tasks import Locked, located

#: Ids are made before their rows, by a clock that is compared with the database's each minute.
CLOCK_SLACK: Final = timedelta(minutes=1)
#: More tasks with a label than this, and it is common.
COMMON: Final = 1000

_ANY_ID: Final = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which tasks a page shows; None and empty mean any."""

    owner: str
    states: Sequence[State] = ()
    account: str | None = None
    kind: str | None = None
    #: All of them must be on the task.
    labels: Mapping[str, str] = field(default_factory=dict)
    reference: str | None = None
    #: Open tasks with less time left than this.
    slack_below: timedelta | None = None
    attention: str | None = None
    #: Any attention at all.
    attended: bool = False
    #: From here on, and before there (UTC).
    created_after: datetime | None = None
    created_before: datetime | None = None
    #: Only ids below it: where the page before ended.
    before: int | None = None
    limit: int = 50


_OTHERS: Final = """
   AND (%(account)s::text IS NULL OR account = %(account)s)
   AND (%(kind)s::text IS NULL OR kind = %(kind)s)
   AND (%(labels)s::jsonb IS NULL OR labels @> %(labels)s)
   AND (%(reference)s::text IS NULL OR reference = %(reference)s)
   AND (%(attention)s::text IS NULL OR attention = %(attention)s)
   AND (NOT %(attended)s::boolean OR attention IS NOT NULL)
   AND (%(slack)s::interval IS NULL
        OR (due_at IS NOT NULL AND (deliver_by < now() + %(slack)s OR due_at < now() + %(slack)s)))
   AND (%(after)s::timestamptz IS NULL OR created_at >= %(after)s)
   AND (%(until)s::timestamptz IS NULL OR created_at < %(until)s)
"""

NEWEST: Final = (
    """
-- store.listing.newest: one page, newest first
SELECT *, now() AS read_at FROM task
 WHERE owner = %(owner)s AND id < %(before)s AND id >= %(first)s
   AND (%(state)s::text IS NULL OR state = %(state)s)"""
    + _OTHERS
    + " ORDER BY id DESC LIMIT %(limit)s"
)

NEWEST_LABELLED: Final = (
    """
-- store.listing.newest: one page of a label, newest first; the row tells of the other labels
SELECT task.*, now() AS read_at
  FROM task_label JOIN task ON task.id = task_label.task_id
 WHERE task_label.owner = %(owner)s AND task_label.digest = label_digest(%(name)s, %(value)s)
   AND task_id < %(before)s AND task_id >= %(first)s
   AND task.owner = %(owner)s AND id < %(before)s AND id >= %(first)s
   AND (%(states)s::text[] IS NULL OR state = ANY(%(states)s))"""
    + _OTHERS
    + " ORDER BY task_id DESC LIMIT %(limit)s"
)

RAREST: Final = """
-- store.listing.rarest: the label that the fewest tasks have; all common ones are alike
SELECT name, value FROM jsonb_each_text(%(labels)s) AS l (name, value)
 ORDER BY (SELECT count(*) FROM (SELECT FROM task_label
                                  WHERE owner = %(owner)s AND digest = label_digest(l.name, l.value)
                                  LIMIT %(common)s) AS capped)
 LIMIT 1
"""


async def newest(conn: Connection, wanted: Filter) -> list[Locked]:
    """Return one page of tasks with their assets, newest first."""
    label = await _rarest(conn, wanted) if len(wanted.labels) > 1 else next(iter(wanted.labels.items()), None)
    async with conn.pipeline():
        cursors = [await conn.execute(*each, prepare=False) for each in pages(wanted, label)]
        parts = [await cursor.fetchall() for cursor in cursors]
    rows = sorted(chain(*parts), key=lambda row: row["id"], reverse=True)[: wanted.limit]
    found = await assets.of(conn, [row["id"] for row in rows])
    return [located(row, found) for row in rows]


def pages(wanted: Filter, label: tuple[str, str] | None) -> list[tuple[LiteralString, dict[str, object]]]:
    """Return the statements whose newest rows together are a page, with their values; *label* is the one to read by."""
    first = 0 if wanted.created_after is None else ids.task_id(wanted.created_after - CLOCK_SLACK, 0)
    last = _ANY_ID if wanted.created_before is None else ids.task_id(wanted.created_before + CLOCK_SLACK, 0)
    before = _ANY_ID if wanted.before is None else wanted.before
    params: dict[str, object] = {
        "owner": wanted.owner,
        "account": wanted.account,
        "kind": wanted.kind,
        "labels": Jsonb(dict(wanted.labels)) if wanted.labels else None,
        "reference": wanted.reference,
        "attention": wanted.attention,
        "attended": wanted.attended,
        "slack": wanted.slack_below,
        "after": wanted.created_after,
        "until": wanted.created_before,
        "first": min(max(first, 0), _ANY_ID),
        "before": min(max(last, 0), before),
        "limit": wanted.limit,
    }
    if label is not None:
        name, value = label
        return [(NEWEST_LABELLED, {**params, "states": list(wanted.states) or None, "name": name, "value": value})]
    return [(NEWEST, {**params, "state": state}) for state in dict.fromkeys(wanted.states) or (None,)]


async def _rarest(conn: Connection, wanted: Filter) -> tuple[str, str] | None:
    params = {"labels": Jsonb(dict(wanted.labels)), "owner": wanted.owner, "common": COMMON}
    row = await (await conn.execute(RAREST, params)).fetchone()
    return None if row is None else (row["name"], row["value"])
