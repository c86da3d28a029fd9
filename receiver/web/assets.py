"""Metadata and bytes of archived assets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from pydantic import Field
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from receiver.core.errors import RangeUnsatisfiable
from receiver.core.model import Asset, AssetState, Format
from receiver.flow import capability, query
from receiver.flow.services import Services
from receiver.web.auth import owner_of
from receiver.web.bodies import Given, Moment, answer, moment, seconds

_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
#: To the owner of the key.
_KEPT: Final = {"Cache-Control": "private, max-age=31536000, immutable"}
#: To whoever has the URL, which ends with an erasure: no shared cache keeps them, and the URL is told to nobody.
_OPEN: Final = {
    "Cache-Control": "private, max-age=3600",
    "X-Robots-Tag": "noindex, nofollow",
    "Referrer-Policy": "no-referrer",
}


class AssetView(Given):
    """One clip in one format, wanted or stored."""

    id: str = Field(description="The asset's id")
    task: str = Field(description="The id of the task that it belongs to")
    clip: str = Field(description="The provider's id of the clip, or its position where there is none")
    position: int = Field(ge=0, description="The place of the clip in the task, from 0")
    format: Format
    state: AssetState
    s3_uri: str | None = Field(description="Where it is in the bucket, once it is stored")
    bytes: int | None = Field(ge=0, description="Its size")
    sha256: str | None = Field(description="Of the bytes in the bucket, in hexadecimal", pattern="^[0-9a-f]{64}$")
    media_type: str | None = Field(description="Proven from the bytes, such as audio/mpeg")
    seconds: float | None = Field(ge=0, description="How long it plays")
    verified: str | None = Field(description="How the bytes in the bucket were proven: checksum or readback")
    stored_at: Moment | None = Field(description="When it was proven to be in the bucket")
    error: str | None = Field(description="Why it is expired or invalid, or why the last try failed")
    url: str | None = Field(
        description="Where the bytes are: a presigned URL that works for 15 minutes, or a path here that needs the key"
    )
    play_url: str | None = Field(
        description="Gives the bytes to whoever has it, without a key, for as long as they are kept and the secret"
        " that made it is not retired (`receiver secrets retire`); only a path where no public URL is set"
    )


async def show(request: Request) -> Response:
    """Show one asset: its size, SHA-256, type and a working URL."""
    services: Services = request.app.state.services
    found = await query.asset(services, await owner_of(request), request.path_params["asset"])
    return answer(asset_view(services, found))


async def content(request: Request) -> Response:
    """
    Give the bytes of an asset.

    Where the bucket has a public address the answer points to a presigned URL
    there; else the bytes come from here, also a single range of them.
    """
    services: Services = request.app.state.services
    found = await query.asset(services, await owner_of(request), request.path_params["asset"])
    return await _bytes(request, services, found, disposition="attachment", more=_KEPT)


async def play(request: Request) -> Response:
    """
    Give the bytes of an asset to whoever has its `play_url`.

    For players, and for those who have no key. The bytes come as from
    `/v1/assets/{asset}/content`. A wrong token is answered as an unknown asset is.
    """
    services: Services = request.app.state.services
    found = await capability.asset(services, request.path_params["asset"], request.path_params["token"])
    return await _bytes(request, services, found, disposition="inline", more=_OPEN)


async def _bytes(
    request: Request, services: Services, found: Asset, *, disposition: str, more: Mapping[str, str]
) -> Response:
    etag = f'"{(found.sha256 or b"").hex()}"'
    headers = {
        **more,
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'{disposition}; filename="{query.filename(found)}"',
        "X-Content-Type-Options": "nosniff",
    }
    # Of what is not stored there is nothing to tell.
    query.key_of(found)
    known = ",".join(request.headers.getlist("if-none-match"))
    if etag in known or known.strip() == "*":
        return Response(status_code=304, headers=headers)
    if request.method == "HEAD":
        # Known here: a presigned URL is good for GET alone, and bytes that nobody gets are not worth a reading.
        told = {**headers, "Content-Length": str(found.size)}
        return Response(status_code=200, headers=told, media_type=found.media_type)
    span = _span(request, found, etag)
    start, end = span if span is not None else (None, None)
    given = await query.content(services, found, start=start, end=end)
    if isinstance(given, str):
        return RedirectResponse(given, status_code=307, headers={**more, "Cache-Control": "no-store"})
    headers["Content-Length"] = str(given.length)
    if span is not None:
        headers["Content-Range"] = f"bytes {span[0]}-{span[1]}/{found.size}"
    status = 200 if span is None else 206
    return StreamingResponse(given, status_code=status, headers=headers, media_type=found.media_type)


def asset_view(services: Services, asset: Asset) -> AssetView:
    """Return an asset as the API shows it."""
    stored = asset.state is AssetState.STORED
    return AssetView(
        id=str(asset.id),
        task=str(asset.task_id),
        clip=asset.clip,
        position=asset.position,
        format=asset.format,
        state=asset.state,
        s3_uri=services.bucket.uri(asset.key) if asset.key is not None else None,
        bytes=asset.size,
        sha256=None if asset.sha256 is None else asset.sha256.hex(),
        media_type=asset.media_type,
        seconds=seconds(asset.duration),
        verified=asset.verified,
        stored_at=moment(asset.stored_at),
        error=asset.error,
        url=(query.link(services, asset) or f"/v1/assets/{asset.id}/content") if stored else None,
        play_url=capability.url(services, asset.id) if stored else None,
    )


def _span(request: Request, found: Asset, etag: str) -> tuple[int, int] | None:
    """
    Return the first and the last byte of the one range that is asked for, or None for all.

    Raises:
        RangeUnsatisfiable: It lies outside the object.
    """
    match = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if match is None or found.size is None or request.headers.get("if-range", etag) != etag:
        return None
    first, last = match.groups()
    if not first and not last:
        return None
    start = int(first) if first else max(found.size - int(last), 0)
    end = min(int(last), found.size - 1) if first and last else found.size - 1
    if first and last and int(last) < int(first):
        return None
    if start > end or (not first and int(last) == 0):
        raise RangeUnsatisfiable(f"the object has {found.size} bytes", size=found.size)
    return start, end
