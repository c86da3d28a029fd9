"""Answer "where is the audio?": what the database and the bucket say, for one owner."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from receiver.core import ids
from receiver.core.errors import NotFound, Unauthorized
from receiver.core.model import Asset, AssetId, AssetState, TaskId
from receiver.flow.services import Services
from receiver.store import assets, events, inbox, keys, ledger, listing, tasks
from receiver.store.db import Connection
from receiver.store.events import Told
from receiver.store.keys import Key
from receiver.store.ledger import Line, Unarchived
from receiver.store.listing import Filter
from receiver.store.tasks import Locked
from receiver.transfer.bucket import ObjectStream

#: How long a presigned URL works.
LINK_LIFE: Final = timedelta(minutes=15)

__all__ = [
    "Filter",
    "Key",
    "Line",
    "Locked",
    "Page",
    "Sums",
    "Told",
    "Unarchived",
    "asset",
    "caller_of",
    "content",
    "filename",
    "is_ready",
    "key_of",
    "link",
    "page",
    "story",
    "sums",
    "task",
    "task_and_story",
    "task_id",
]


@dataclass(frozen=True, slots=True)
class Page:
    """Some tasks, newest first, and whether there are older ones."""

    tasks: Sequence[Locked]
    more: bool


@dataclass(frozen=True, slots=True)
class Sums:
    """The ledger of one owner, and the callbacks of the whole deployment."""

    lines: Sequence[Line]
    #: The newest; how many there are follows from the lines.
    not_archived: Sequence[Unarchived]
    received: int
    repeats: int


async def caller_of(services: Services, secret: str) -> Key:
    """
    Return the API key that *secret* is, and so whom it speaks for.

    Raises:
        Unauthorized: There is no such key.
    """
    async with services.database.connection() as conn:
        key = await keys.find(conn, hashlib.sha256(secret.encode("utf-8", "replace")).digest())
    if key is None:
        raise Unauthorized("this API key is unknown or revoked; `receiver keys create` makes one")
    return key


async def task(services: Services, owner: str, text: str) -> Locked:
    """
    Return a task of *owner* by the id that *text* spells.

    Raises:
        NotFound: There is none.
    """
    async with services.database.connection() as conn:
        return await _task(conn, owner, text)


async def task_and_story(services: Services, owner: str, text: str) -> tuple[Locked, list[Told]]:
    """
    Return a task of *owner* with all its events, the oldest first.

    Raises:
        NotFound: There is none.
    """
    async with services.database.connection() as conn:
        found = await _task(conn, owner, text)
        return found, await events.of(conn, found.task.id)


async def story(services: Services, owner: str, text: str) -> list[Told]:
    """
    Return all events of a task of *owner*, the oldest first.

    Raises:
        NotFound: There is no such task.
    """
    number = task_id(text)
    async with services.database.connection() as conn:
        if not await tasks.owned(conn, number, owner):
            raise NotFound("no such task")
        return await events.of(conn, number)


async def page(services: Services, wanted: Filter) -> Page:
    """Return one page of tasks, newest first."""
    async with services.database.connection() as conn:
        found = await listing.newest(conn, replace(wanted, limit=wanted.limit + 1))
    return Page(found[: wanted.limit], more=len(found) > wanted.limit)


async def asset(services: Services, owner: str, text: str) -> Asset:
    """
    Return an asset of a task of *owner*.

    Raises:
        NotFound: There is none.
    """
    number = ids.parse_task_id(text)
    if number is not None:
        async with services.database.connection() as conn:
            found = await assets.get(conn, AssetId(number), owner)
        if found is not None:
            return found
    raise NotFound("no such asset")


def key_of(found: Asset) -> str:
    """
    Return where in the bucket the bytes of an asset are.

    Raises:
        NotFound: It is not stored.
    """
    if found.state is not AssetState.STORED or found.key is None:
        raise NotFound(f"this asset is {found.state}, there are no bytes")
    return found.key


async def content(services: Services, found: Asset, *, start: int | None, end: int | None) -> str | ObjectStream:
    """
    Return a presigned URL, or the bytes from *start* to *end* where the bucket has no public address.

    Raises:
        NotFound: The asset is not stored.
        BucketUnavailable: The bucket did not answer.
    """
    key, url = key_of(found), link(services, found)
    return url if url is not None else await services.bucket.read(key, start=start, end=end)


def link(services: Services, found: Asset) -> str | None:
    """Return a presigned URL of a stored asset; None where outsiders cannot reach the bucket."""
    if not services.bucket.public or found.key is None or found.media_type is None:
        return None
    return services.bucket.presign(found.key, expires=LINK_LIFE, filename=filename(found), media_type=found.media_type)


def filename(found: Asset) -> str:
    """Return the name under which a player or a person saves the asset."""
    return f"{found.task_id}-{found.position}.{found.format}"


async def sums(services: Services, owner: str) -> Sums:
    """Return the ledger of *owner*."""
    async with services.database.connection() as conn:
        lines = await ledger.lines(conn, owner)
        left = await ledger.not_archived(conn, owner)
        counts = await inbox.counts(conn)
    return Sums(lines, left, int(counts["received"]), int(counts["repeats"]))


async def is_ready(services: Services) -> None:
    """
    Prove that the database answers.

    Raises:
        StoreUnavailable: It does not.
    """
    async with services.database.connection() as conn:
        await conn.execute("SELECT 1")


def task_id(text: str) -> TaskId:
    """
    Return the id that *text* spells.

    Raises:
        NotFound: It spells none.
    """
    number = ids.parse_task_id(text)
    if number is None:
        raise NotFound("no such task")
    return number


async def _task(conn: Connection, owner: str, text: str) -> Locked:
    found = await tasks.get(conn, task_id(text))
    if found is None or found.task.owner != owner:
        raise NotFound("no such task")
    return found
