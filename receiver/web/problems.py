"""Errors over HTTP: RFC 9457 problem details, one table of status codes, one line in the log for each."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from math import ceil
from typing import Final

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from receiver import telemetry
from receiver.core.errors import (
    BodyTooLarge,
    BucketUnavailable,
    Conflict,
    IdempotencyMismatch,
    InvalidInput,
    MalformedBody,
    NotFound,
    RangeUnsatisfiable,
    ReceiverError,
    SignatureRejected,
    SpendLimit,
    StoreUnavailable,
    TokenUnknown,
    Unauthorized,
)

log = structlog.get_logger(__name__)

#: The one place where an error gets its status.
STATUS: Final[Mapping[type[ReceiverError], int]] = {
    InvalidInput: 422,
    IdempotencyMismatch: 422,
    Conflict: 409,
    SpendLimit: 429,
    MalformedBody: 400,
    Unauthorized: 401,
    SignatureRejected: 401,
    NotFound: 404,
    TokenUnknown: 404,
    BodyTooLarge: 413,
    RangeUnsatisfiable: 416,
    StoreUnavailable: 503,
    BucketUnavailable: 503,
}
TITLES: Final[Mapping[int, str]] = {
    400: "The request cannot be read",
    401: "Not authorised",
    404: "Not found",
    405: "Method not allowed",
    409: "Not in this state",
    413: "The body is too large",
    416: "No such range",
    422: "The request is not valid",
    429: "The day's limit is reached",
    500: "Something broke here",
    503: "Not now",
}
#: Seconds.
RETRY_AFTER: Final = 2
_UNAUTHORIZED: Final = 401
_METHOD_NOT_ALLOWED: Final = 405
_SERVER_ERROR: Final = 500
_UNAVAILABLE: Final = 503


def status_of(error: ReceiverError) -> int:
    """Return the status of *error*: its own, or that of the nearest class above it."""
    return next((STATUS[cls] for cls in type(error).__mro__ if cls in STATUS), _SERVER_ERROR)


async def render_error(request: Request, error: Exception) -> Response:
    """Answer an error that the product raised on purpose."""
    if not isinstance(error, ReceiverError):
        raise error
    status = status_of(error)
    detail = str(error) if status < _SERVER_ERROR or status == _UNAVAILABLE else "see the service's log"
    fields = []
    if isinstance(error, InvalidInput):
        fields = [{"field": _plain(e.field), "message": _plain(e.message)} for e in error.errors]
    retry_after = RETRY_AFTER if status == _UNAVAILABLE else None
    if isinstance(error, SpendLimit):
        retry_after = ceil(error.opens_in.total_seconds())
    response = _problem(request, status, error.code, _plain(detail), fields=fields, retry_after=retry_after)
    if isinstance(error, RangeUnsatisfiable):
        response.headers["Content-Range"] = f"bytes */{error.size}"
    return response


async def render_http(request: Request, error: Exception) -> Response:
    """Answer what the router refuses: an unknown path or method."""
    status = error.status_code if isinstance(error, HTTPException) else _SERVER_ERROR
    code = {404: "not_found", 405: "method_not_allowed"}.get(status, "refused")
    response = _problem(request, status, code, f"{request.method} is not served at this path")
    if status == _METHOD_NOT_ALLOWED:
        response.headers["Allow"] = ", ".join(sorted(_methods(request)))
    return response


async def render_left(request: Request, error: Exception) -> Response:
    """Note that the caller went away before its request was whole; nobody reads the answer."""
    del error
    log.info("request.left", method=request.method, route=_route(request))
    return Response(status_code=400)


class CrashGuard:
    """
    Answers a fault of ours without showing it, and writes it to the log once.

    A handler for `Exception` would not do: Starlette raises again after it, and
    the server writes the same traceback a second time.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; raise only when an answer has begun, which the server then cuts."""
        begun = False

        async def watch(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception:
            if begun:
                raise
            log.exception("request.crashed")
            answer = _problem(Request(scope), _SERVER_ERROR, "internal_error", "see the service's log")
            await answer(scope, receive, send)


def _problem(
    request: Request,
    status: int,
    code: str,
    detail: str,
    *,
    fields: list[dict[str, str]] | None = None,
    retry_after: int | None = None,
) -> JSONResponse:
    request_id = secrets.token_hex(8)
    route = _route(request)
    log.warning(
        "request.refused",
        request_id=request_id,
        method=request.method,
        route=route,
        status=status,
        error=code,
        fields=[f["field"] for f in fields or []],
    )
    telemetry.REQUESTS_REFUSED.labels(route=route, error=code).inc()
    body: dict[str, object] = {
        "type": f"urn:receiver:error:{code}",
        "title": TITLES.get(status, "Refused"),
        "status": status,
        "code": code,
        "detail": detail,
        "request_id": request_id,
    }
    if fields:
        body["errors"] = fields
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    if status == _UNAUTHORIZED and route.startswith("/v1"):
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, status_code=status, headers=headers, media_type="application/problem+json")


def _plain(text: str) -> str:
    """Spell out what no JSON answer in UTF-8 can carry: half a surrogate pair in a stranger's key."""
    return text.encode("utf-8", "backslashreplace").decode()


def _route(request: Request) -> str:
    return getattr(request.scope.get("route"), "path", "unknown")


def _methods(request: Request) -> set[str]:
    """Return all methods that are served at the request's path; each has a route of its own."""
    routes = [each for each in request.app.routes if isinstance(each, Route)]
    here = [each for each in routes if each.matches(request.scope)[0] is not Match.NONE]
    return {method for each in here for method in each.methods or ()}
