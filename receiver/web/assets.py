"""Metadata and bytes of archived assets."""

from __future__ import annotations

import re
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse

from receiver.core.errors import RangeUnsatisfiable
from receiver.core.model import Asset
from receiver.flow import query
from receiver.flow.services import Services
from receiver.web.auth import owner_of
from receiver.web.tasks import shown_asset

_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


async def show(request: Request) -> JSONResponse:
    """
    GET /v1/assets/{id}

    200 with size, SHA-256, type and a working URL. Errors: 401, 404, 503.
    """
    services: Services = request.app.state.services
    found = await query.asset(services, await owner_of(request), request.path_params["id"])
    return JSONResponse(shown_asset(services, found))


async def content(request: Request) -> Response:
    """
    GET /v1/assets/{id}/content

    307 to a presigned URL, or the bytes: 200, 206 for a single range, 304 for a
    known ETag. Errors: 401, 404, 416, 503.
    """
    services: Services = request.app.state.services
    found = await query.asset(services, await owner_of(request), request.path_params["id"])
    etag = f'"{(found.sha256 or b"").hex()}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=31536000, immutable",
        "Content-Disposition": f'attachment; filename="{query.filename(found)}"',
        "X-Content-Type-Options": "nosniff",
    }
    known = request.headers.get("if-none-match", "")
    if found.size is not None and (etag in known or known.strip() == "*"):
        return Response(status_code=304, headers=headers)
    span = _span(request, found, etag)
    start, end = span if span is not None else (None, None)
    given = await query.content(services, found, start=start, end=end)
    if isinstance(given, str):
        return RedirectResponse(given, status_code=307, headers={"Cache-Control": "no-store"})
    headers["Content-Length"] = str(given.length)
    if span is not None:
        headers["Content-Range"] = f"bytes {span[0]}-{span[1]}/{found.size}"
    status = 200 if span is None else 206
    return StreamingResponse(given, status_code=status, headers=headers, media_type=found.media_type)


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
