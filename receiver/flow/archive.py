"""Bring a task's media into the bucket and prove that they are there, before their links die."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Final

import structlog

from receiver import telemetry
from receiver.core import keeping, schedule
from receiver.core.errors import (
    BucketMismatch,
    BucketUnavailable,
    DownloadFailed,
    FetchBlocked,
    LinkDead,
    MediaInvalid,
    ReceiverError,
    SpoolFull,
    TrackUnavailable,
)
from receiver.core.model import Asset, AssetId, AssetState, Format, State, Task
from receiver.dialects import links
from receiver.flow import advance, change
from receiver.flow.outcome import Done, Outcome, Retry
from receiver.flow.services import Deal, Services
from receiver.store import assets, db, tasks
from receiver.store.db import Connection
from receiver.store.events import Event
from receiver.store.jobs import Job
from receiver.store.tasks import Locked
from receiver.transfer import bucket, media
from receiver.transfer.body import VIDEO
from receiver.transfer.cut import Track
from receiver.transfer.download import Download
from receiver.transfer.guard import FetchPolicy
from receiver.transfer.media import Sniffed

log = structlog.get_logger(__name__)

#: Fetches after which bytes that are not the promised audio are given up.
_INVALID_AFTER: Final = 3
#: Bytes; less is no second of audio in any format.
_LEAST: Final = 128
#: Only the provider can mend these, with a fresh link or another look at what it offers.
_NEEDS_LINK: Final = frozenset({"link_dead", "link_lapsed", "fetch_blocked", keeping.NOT_CUT})
#: The bytes are whole and wait for the next pass.
_KEEPS_BYTES: Final = frozenset({BucketUnavailable.code, SpoolFull.code, TrackUnavailable.code})
_ERRORS: Final = (
    LinkDead,
    FetchBlocked,
    DownloadFailed,
    MediaInvalid,
    BucketUnavailable,
    BucketMismatch,
    SpoolFull,
    TrackUnavailable,
)
#: What is told of errors that outlast the grace of a deadline.
_UNREACHABLE: Final = {
    BucketUnavailable.code: "bucket_unreachable",
    BucketMismatch.code: "bucket_unreachable",
    DownloadFailed.code: "provider_unreachable",
}
#: Ends that a clock or another worker's verdict gave while the bytes were under way: bytes win.
_OVERTAKEN: Final = frozenset({State.EXPIRED, State.PARTIAL, State.FAILED})


@dataclass(frozen=True, slots=True)
class _Stored:
    """An asset whose bytes are proven to be in the bucket; `stored_at` is set when the row is written."""

    asset: Asset
    #: The SHA-256 of the video that it was cut out of, if it was.
    cut_from: bytes | None = None


@dataclass(frozen=True, slots=True)
class _Missed:
    asset: Asset
    error: str


async def archive(services: Services, job: Job) -> Outcome:
    """
    Handle an `archive` job: one pass over the task's pending assets.

    Downloads and uploads run side by side, one manifest follows, then all rows in
    one transaction. What could not be had stays pending. The provider's API is
    never called here: for a fresh link the query job is wanted.

    Raises:
        StoreUnavailable: What was uploaded is found again by the next pass.
    """
    async with services.database.connection() as conn:
        found = await tasks.get(conn, advance.task_of(job))
    if found is None:
        return Done()
    deal = services.deal_of(found.task)
    pending = [asset for asset in found.task.assets if asset.state is AssetState.PENDING]
    if not pending:
        return Done()
    results = await _bring_all(services, deal, pending, found.now)
    stored = [result for result in results if isinstance(result, _Stored)]
    missed = [result for result in results if isinstance(result, _Missed)]
    if stored:
        try:
            await _put_manifest(services, found.task, stored)
        except BucketUnavailable as exc:
            missed = [_Missed(asset, exc.code) for asset in pending]
            stored = []
    return await _record(services, deal, job, stored, missed)


async def _bring_all(services: Services, deal: Deal, pending: list[Asset], now: datetime) -> list[_Stored | _Missed]:
    """Bring the assets side by side; an unexpected error waits until none of them is under way any more."""
    groups: dict[tuple[str, str], list[Asset]] = {}
    for asset in pending:
        groups.setdefault((_spool_key(asset), asset.url), []).append(asset)
    brought = (_bring(services, deal, group, now) for group in groups.values())
    found: list[_Stored | _Missed] = []
    for result in await asyncio.gather(*brought, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
        found += result
    return found


async def _bring(services: Services, deal: Deal, group: list[Asset], now: datetime) -> list[_Stored | _Missed]:
    """Download the one file that a *group* of assets is made of, and make them."""
    found: list[_Stored | _Missed] = []
    if not deal.cuts:
        # They were wanted by a process that can; the provider's next answer makes this one want the video.
        found += [_Missed(asset, keeping.NOT_CUT) for asset in group if asset.format is Format.M4A]
        group = [asset for asset in group if asset.format is not Format.M4A]
    if not group:
        return found
    key, first, started = _spool_key(group[0]), group[0], asyncio.get_running_loop().time()
    kept = services.downloader.has_whole(key)
    if not kept and first.link_expires_at is not None and first.link_expires_at <= now:
        return found + [_Missed(asset, "link_lapsed") for asset in group]
    cap = VIDEO if first.format in keeping.OF_VIDEO else None
    try:
        async with await services.downloader.fetch(first.url, _policy(deal), key=key, cap=cap) as download:
            found += [await _made(services, deal, asset, download, started) for asset in group]
            # What the bucket or the disk did not take needs no other download.
            if any(isinstance(each, _Missed) and each.error in _KEEPS_BYTES for each in found):
                download.keep()
    except _ERRORS as exc:
        return found + [_missed(deal, asset, exc) for asset in group]
    return found


async def _made(services: Services, deal: Deal, asset: Asset, download: Download, started: float) -> _Stored | _Missed:
    """Judge the bytes, cut the sound out of them where that is wanted, store and prove."""
    try:
        if asset.format is Format.M4A:
            made = await _cut(services, asset, download)
        else:
            sniffed = await asyncio.to_thread(_judged, download, asset.format, verified=download.length_verified)
            made = _Stored(await _store(services, asset, download, sniffed))
    except _ERRORS as exc:
        return _missed(deal, asset, exc)
    telemetry.ASSETS.labels(account=deal.account.id, outcome="stored").inc()
    telemetry.ASSET_BYTES.labels(account=deal.account.id).inc(made.asset.size or 0)
    telemetry.ASSET_SECONDS.labels(account=deal.account.id).observe(asyncio.get_running_loop().time() - started)
    return made


async def _cut(services: Services, asset: Asset, download: Download) -> _Stored:
    await asyncio.to_thread(_judged_film, download)
    with await services.cutter.cut(download) as track:
        sniffed = await asyncio.to_thread(_judged, track, Format.M4A, verified=True)
        return _Stored(await _store(services, asset, track, sniffed), download.sha256)


def _missed(deal: Deal, asset: Asset, exc: ReceiverError) -> _Missed:
    log.warning("asset.missed", task_id=asset.task_id, asset_id=asset.id, host=links.host(asset.url), error=exc.code)
    telemetry.ASSETS.labels(account=deal.account.id, outcome=exc.code).inc()
    return _Missed(asset, _error_of(exc))


def _policy(deal: Deal) -> FetchPolicy:
    account = deal.account
    return FetchPolicy(hosts=account.asset_hosts, allow_cidrs=account.allow_cidrs, allow_http=account.allow_http)


def _spool_key(asset: Asset) -> str:
    """Name the file that *asset* is made of: a video and its sound come by one link."""
    form = Format.MP4 if asset.format is Format.M4A else asset.format
    return f"{asset.task_id}/{asset.clip}.{form}"


def _judged(content: Download | Track, expected: Format, *, verified: bool) -> Sniffed:
    sniffed = _sniffed(content)
    media.judge(sniffed, expected=expected, length_verified=verified, size=content.size, min_bytes=_LEAST)
    return sniffed


def _judged_film(download: Download) -> None:
    """Accept what sound can be cut out of: a whole film, or one without pictures."""
    sniffed = _sniffed(download)
    expected = Format.M4A if sniffed.format is Format.M4A else Format.MP4
    verified = download.length_verified
    media.judge(sniffed, expected=expected, length_verified=verified, size=download.size, min_bytes=_LEAST)
    if not sniffed.has_sound:
        raise MediaInvalid("no_audio_track")


def _sniffed(content: Download | Track) -> Sniffed:
    with content.path.open("rb") as file:
        return media.sniff(file, content.size)


async def _store(services: Services, asset: Asset, content: Download | Track, sniffed: Sniffed) -> Asset:
    key = bucket.object_key(asset.task_id, asset.clip, content.sha256, asset.format)
    media_type = media.MEDIA_TYPES[asset.format]
    verification = await services.bucket.put(
        key,
        content.path,
        size=content.size,
        sha256=content.sha256,
        md5=content.md5,
        media_type=media_type,
        proof=services.proof,
    )
    return replace(
        asset,
        state=AssetState.STORED,
        key=key,
        size=content.size,
        sha256=content.sha256,
        media_type=media_type,
        duration=sniffed.duration,
        verified=verification.how,
        error=None,
    )


async def _put_manifest(services: Services, task: Task, stored: list[_Stored]) -> None:
    """Write what this pass stored beside the objects: deterministic, so that a repeat is the same object."""
    listed = {
        "task": str(task.id),
        "owner": task.owner,
        "account": task.account,
        "kind": task.kind,
        "input": dict(task.input),
        "reference": task.reference,
        "labels": dict(task.labels),
        "provider_task_id": task.provider_task_id,
        "assets": [_entry(each) for each in sorted(stored, key=lambda each: (each.asset.clip, each.asset.format))],
    }
    body = json.dumps(listed, sort_keys=True, ensure_ascii=False, indent=1).encode()
    key = bucket.manifest_key(task.id, hashlib.sha256(body).digest())
    await services.bucket.put_bytes(key, body, media_type="application/json", proof=services.proof)


def _entry(stored: _Stored) -> dict[str, object]:
    asset = stored.asset
    entry: dict[str, object] = {
        "clip": asset.clip,
        "position": asset.position,
        "format": asset.format,
        "key": asset.key,
        "bytes": asset.size,
        "sha256": (asset.sha256 or b"").hex(),
        "media_type": asset.media_type,
        "seconds": None if asset.duration is None else asset.duration.total_seconds(),
        "source_host": links.host(asset.url),
    }
    return (
        entry if stored.cut_from is None else entry | {"cut_from": {"format": "mp4", "sha256": stored.cut_from.hex()}}
    )


async def _record(services: Services, deal: Deal, job: Job, stored: list[_Stored], missed: list[_Missed]) -> Outcome:
    """Write the rows of one pass in one transaction; bytes win over whatever happened meanwhile."""
    async with services.database.transaction() as conn:
        locked = await tasks.lock(conn, advance.task_of(job))
        if locked is None:
            return Done()
        story: list[Event] = []
        rows = {asset.id: asset for asset in locked.task.assets}
        for each in stored:
            if await _save(conn, rows, replace(each.asset, stored_at=locked.now), story, cut_from=each.cut_from):
                slack = max((each.asset.deliver_by - locked.now).total_seconds(), 0)
                db.on_commit(partial(telemetry.ASSET_SLACK.labels(account=deal.account.id).observe, slack))
        # What was missed by an old link says nothing of one that has come meanwhile.
        missed = [miss for miss in missed if _is_wanted(rows.get(miss.asset.id), miss)]
        for miss in missed:
            await _save(conn, rows, _after_miss(locked, rows[miss.asset.id], miss), story)
        errors = [miss.error for miss in missed if rows[miss.asset.id].state is AssetState.PENDING]
        after = replace(
            locked.task,
            assets=tuple(rows.values()),
            query_wanted=locked.task.query_wanted or any(error in _NEEDS_LINK for error in errors),
        )
        if errors and _is_due(locked) and not after.grace_given:
            after = replace(after, grace_given=True)
            story.append(Event(after.id, "task.grace_given", {"why": errors[0]}))
        if stored and after.state in _OVERTAKEN:
            after = replace(after, state=State.SUCCEEDED, reason=None, detail=None)
            story.append(Event(after.id, "task.rescued"))
        pause = schedule.retry_after(job.attempt, remaining=schedule.LONGEST_PAUSE * 8, jitter=services.random())
        written = await change.commit(conn, deal, locked, after, story, ask_after=pause)
    left = {_spool_key(asset) for asset in written.assets if asset.state is AssetState.PENDING}
    for key in {_spool_key(asset) for asset in written.assets} - left:
        services.downloader.forget(key)
    return Retry(errors[0]) if left and errors else Done()


async def _save(
    conn: Connection, rows: dict[AssetId, Asset], asset: Asset, story: list[Event], *, cut_from: bytes | None = None
) -> bool:
    """Write the row of *asset* and what is told of it; False when it stays as it is."""
    written = await assets.saved(conn, [asset])
    if not written:
        return False
    (saved,) = written
    rows[saved.id] = saved
    if saved.state is AssetState.STORED:
        data = {"key": saved.key, "bytes": saved.size, "sha256": (saved.sha256 or b"").hex()}
        data |= {} if cut_from is None else {"cut_from": cut_from.hex()}
        story.append(Event(saved.task_id, "asset.stored", {"asset": str(saved.id), **data, "verified": saved.verified}))
    elif saved.state is not AssetState.PENDING:
        story.append(Event(saved.task_id, f"asset.{saved.state}", {"asset": str(saved.id), "error": saved.error}))
    return True


def _after_miss(locked: Locked, asset: Asset, miss: _Missed) -> Asset:
    """Decide whether a missed asset may still be had."""
    if miss.error.startswith(MediaInvalid.code):
        asset = replace(asset, invalid_fetches=asset.invalid_fetches + 1)
        if asset.invalid_fetches >= _INVALID_AFTER:
            return replace(asset, state=AssetState.INVALID, error=miss.error)
    polled = locked.task.last_polled_at
    answered_late = polled is not None and polled >= asset.gone_at
    if miss.error in _NEEDS_LINK and locked.now >= asset.gone_at and answered_late:
        return replace(asset, state=AssetState.EXPIRED, error=miss.error)
    if locked.task.grace_given and _is_due(locked):
        return replace(asset, state=AssetState.EXPIRED, error=_UNREACHABLE.get(miss.error, miss.error))
    return replace(asset, error=miss.error)


def _is_wanted(found: Asset | None, miss: _Missed) -> bool:
    return found is not None and found.state is AssetState.PENDING and found.url == miss.asset.url


def _is_due(locked: Locked) -> bool:
    return locked.task.due_at is not None and locked.now >= locked.task.due_at


def _error_of(exc: ReceiverError) -> str:
    return f"{exc.code}: {exc}" if isinstance(exc, MediaInvalid) else exc.code
