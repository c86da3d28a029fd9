"""One row per clip and format; `stored` is written when the bytes are proven to be in the bucket."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import attrgetter, itemgetter
from typing import Any, Final, LiteralString

from receiver.core.model import Asset, AssetId, AssetState, Format, TaskId, Trust
from receiver.store.db import Connection, every, one, records

OF: Final = """
-- store.assets.of: all assets of some tasks
SELECT * FROM asset WHERE task_id = ANY(%(tasks)s) ORDER BY task_id, position, clip, format
"""

GET: Final = """
-- store.assets.get: one asset, if the caller's owner has it
SELECT asset.* FROM asset JOIN task ON task.id = asset.task_id WHERE asset.id = %(id)s AND task.owner = %(owner)s
"""

STORED: Final = """
-- store.assets.stored: one asset whose bytes are in the bucket, whoever has its task
SELECT * FROM asset WHERE id = %(id)s AND state = 'stored'
"""

SAVE: Final[LiteralString] = """
-- store.assets.save: insert or refresh; what is stored stays stored
INSERT INTO asset (task_id, clip, position, format, state, url, trust, link_expires_at, gone_at, key, size, sha256,
                   media_type, duration, verified, stored_at, error, invalid_fetches)
SELECT task_id, clip, position, format, state, url, trust, link_expires_at, gone_at, key, size, sha256,
       media_type, duration, verified, stored_at, error, invalid_fetches
  FROM jsonb_populate_recordset(NULL::asset, %(assets)s)
ON CONFLICT (task_id, clip, format) DO UPDATE
   SET state = excluded.state, url = excluded.url, trust = excluded.trust, link_expires_at = excluded.link_expires_at,
       gone_at = excluded.gone_at, key = excluded.key, size = excluded.size, sha256 = excluded.sha256,
       media_type = excluded.media_type, duration = excluded.duration, verified = excluded.verified,
       stored_at = excluded.stored_at, error = excluded.error,
       invalid_fetches = excluded.invalid_fetches
 WHERE asset.state <> 'stored'
"""

SAVED: Final = SAVE + "RETURNING *"

WITHDRAW: Final = """
-- store.assets.withdraw: the provider's own answer no longer names them
DELETE FROM asset
 WHERE state = 'pending'
   AND (task_id, clip, format) IN (SELECT * FROM unnest(%(tasks)s::bigint[], %(clips)s::text[], %(formats)s::text[]))
"""

#: By these an asset is found.
Key = tuple[TaskId, str, Format]
#: An asset that has no row yet.
NEW: Final = AssetId(0)
_COLUMNS: Final = Asset.__slots__
_ROW: Final = itemgetter(*_COLUMNS)
_SAVED: Final = tuple(name for name in _COLUMNS if name != "id")
_VALUES: Final = attrgetter(*_SAVED)


async def of(conn: Connection, tasks: Sequence[TaskId]) -> Mapping[TaskId, tuple[Asset, ...]]:
    """Return the assets of *tasks* by task, in the provider's order."""
    found: dict[TaskId, tuple[Asset, ...]] = {}
    if tasks:
        for row in await every(conn, OF, {"tasks": list(tasks)}):
            found[row["task_id"]] = (*found.get(row["task_id"], ()), _asset(row))
    return found


async def get(conn: Connection, asset: AssetId, owner: str) -> Asset | None:
    """Return one asset of a task of *owner*."""
    row = await one(conn, GET, {"id": asset, "owner": owner})
    return None if row is None else _asset(row)


async def stored(conn: Connection, asset: AssetId) -> Asset | None:
    """Return one stored asset, whoever has its task; the caller has seen a proof that it may be given."""
    row = await one(conn, STORED, {"id": asset})
    return None if row is None else _asset(row)


async def save(conn: Connection, given: Iterable[Asset]) -> None:
    """
    Insert or update by (task, clip, format); a stored one stays as it is.

    The caller holds the locks of the tasks' rows, recomputes the tasks afterwards, and
    commits: asset, task, event and jobs become visible together or not at all.
    """
    if rows := _rows(given):
        await conn.execute(SAVE, {"assets": records(rows)})


async def saved(conn: Connection, given: Iterable[Asset]) -> list[Asset]:
    """Do what `save` does and return what was written: none where a stored one stands in the way."""
    rows = _rows(given)
    return [_asset(row) for row in await every(conn, SAVED, {"assets": records(rows)})] if rows else []


async def withdraw(conn: Connection, keys: Collection[Key]) -> None:
    """Forget pending assets; the caller holds the locks of the tasks' rows."""
    if keys:
        tasks, clips, formats = zip(*keys, strict=True)
        await conn.execute(WITHDRAW, {"tasks": list(tasks), "clips": list(clips), "formats": list(formats)})


def key_of(asset: Asset) -> Key:
    """Return what makes *asset* the same asset, also before it has a row."""
    return asset.task_id, asset.clip, asset.format


def _rows(given: Iterable[Asset]) -> list[dict[str, object]]:
    return [dict(zip(_SAVED, _VALUES(asset), strict=True)) for asset in given]


def _asset(row: Mapping[str, Any]) -> Asset:
    values = dict(zip(_COLUMNS, _ROW(row), strict=True))
    values |= {"state": AssetState(row["state"]), "format": Format(row["format"]), "trust": Trust(row["trust"])}
    return Asset(**values)
