"""Bring a task's media into the bucket and prove that they are there, before their links die."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from receiver import telemetry
from receiver.core import schedule
from receiver.core.errors import (
    BucketMismatch,
    BucketUnavailable,
    DownloadFailed,
    FetchBlocked,
    LinkDead,
    MediaInvalid,
    ReceiverError,
    SpoolFull,
)
from receiver.core.model import Asset, AssetId, AssetState, State, Task
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
from receiver.transfer.download import Download
from receiver.transfer.guard import FetchPolicy
from receiver.transfer.media import Sniffed

log = structlog.get_logger(__name__)

#: Fetches after which bytes that are not the promised audio are given up.
_INVALID_AFTER: Final = 3
#: Bytes; less is no second of audio in any format.
_LEAST: Final = 128
#: Only the provider can mend these, with a fresh link.
_NEEDS_LINK: Final = frozenset({"link_dead", "link_lapsed", "fetch_blocked"})
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
    deal = services.deals[found.task.account]
    pending = [asset for asset in found.task.assets if asset.state is AssetState.PENDING]
    if not pending:
        return Done()
    results = await _bring_all(services, deal, pending, found.now)
    stored = [result.asset for result in results if isinstance(result, _Stored)]
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
    results = await asyncio.gather(*(_bring(services, deal, asset, now) for asset in pending), return_exceptions=True)
    found = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        found.append(result)
    return found


async def _bring(services: Services, deal: Deal, asset: Asset, now: datetime) -> _Stored | _Missed:
    """Download one asset, judge its bytes, store and prove them."""
    kept = services.downloader.has_whole(_spool_key(asset))
    if not kept and asset.link_expires_at is not None and asset.link_expires_at <= now:
        return _Missed(asset, "link_lapsed")
    started = asyncio.get_running_loop().time()
    try:
        async with await services.downloader.fetch(asset.url, _policy(deal), key=_spool_key(asset)) as download:
            sniffed = await asyncio.to_thread(_judged, download, asset)
            stored = await _store(services, asset, download, sniffed)
    except (LinkDead, FetchBlocked, DownloadFailed, MediaInvalid, BucketUnavailable, BucketMismatch, SpoolFull) as exc:
        log.warning(
            "asset.missed", task_id=asset.task_id, asset_id=asset.id, host=links.host(asset.url), error=exc.code
        )
        telemetry.ASSETS.labels(account=deal.account.id, outcome=exc.code).inc()
        return _Missed(asset, _error_of(exc))
    telemetry.ASSETS.labels(account=deal.account.id, outcome="stored").inc()
    telemetry.ASSET_BYTES.labels(account=deal.account.id).inc(stored.size or 0)
    telemetry.ASSET_SECONDS.labels(account=deal.account.id).observe(asyncio.get_running_loop().time() - started)
    return _Stored(stored)


def _policy(deal: Deal) -> FetchPolicy:
    account = deal.account
    return FetchPolicy(hosts=account.asset_hosts, allow_cidrs=account.allow_cidrs, allow_http=account.allow_http)


def _spool_key(asset: Asset) -> str:
    return f"{asset.task_id}/{asset.clip}.{asset.format}"


def _judged(download: Download, asset: Asset) -> Sniffed:
    with Path(download.path).open("rb") as file:
        sniffed = media.sniff(file, download.size)
    media.judge(
        sniffed, expected=asset.format, length_verified=download.length_verified, size=download.size, min_bytes=_LEAST
    )
    return sniffed


async def _store(services: Services, asset: Asset, download: Download, sniffed: Sniffed) -> Asset:
    key = bucket.object_key(asset.task_id, asset.clip, download.sha256, asset.format)
    media_type = media.MEDIA_TYPES[asset.format]
    try:
        verification = await services.bucket.put(
            key,
            download.path,
            size=download.size,
            sha256=download.sha256,
            md5=download.md5,
            media_type=media_type,
            proof=services.proof,
        )
    except BucketUnavailable:
        download.keep()
        raise
    return replace(
        asset,
        state=AssetState.STORED,
        key=key,
        size=download.size,
        sha256=download.sha256,
        media_type=media_type,
        duration=sniffed.duration,
        verified=verification.how,
        error=None,
    )


async def _put_manifest(services: Services, task: Task, stored: list[Asset]) -> None:
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
        "assets": [_entry(asset) for asset in sorted(stored, key=lambda a: (a.clip, a.format))],
    }
    body = json.dumps(listed, sort_keys=True, ensure_ascii=False, indent=1).encode()
    key = bucket.manifest_key(task.id, hashlib.sha256(body).digest())
    await services.bucket.put_bytes(key, body, media_type="application/json", proof=services.proof)


def _entry(asset: Asset) -> dict[str, object]:
    return {
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


async def _record(services: Services, deal: Deal, job: Job, stored: list[Asset], missed: list[_Missed]) -> Outcome:
    """Write the rows of one pass in one transaction; bytes win over whatever happened meanwhile."""
    async with services.database.transaction() as conn:
        locked = await tasks.lock(conn, advance.task_of(job))
        if locked is None:
            return Done()
        story: list[Event] = []
        rows = {asset.id: asset for asset in locked.task.assets}
        for asset in stored:
            if await _save(conn, rows, replace(asset, stored_at=locked.now), story):
                slack = max((asset.deliver_by - locked.now).total_seconds(), 0)
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
    for asset in written.assets:
        if asset.state is not AssetState.PENDING:
            services.downloader.forget(_spool_key(asset))
    left = any(asset.state is AssetState.PENDING for asset in written.assets)
    return Retry(errors[0]) if left and errors else Done()


async def _save(conn: Connection, rows: dict[AssetId, Asset], asset: Asset, story: list[Event]) -> bool:
    """Write the row of *asset* and what is told of it; False when it stays as it is."""
    saved = await assets.save(conn, asset)
    if saved is None:
        return False
    rows[saved.id] = saved
    if saved.state is AssetState.STORED:
        data = {"key": saved.key, "bytes": saved.size, "sha256": (saved.sha256 or b"").hex()}
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
