"""Errors over HTTP: RFC 9457 problem details, one table of status codes. `access` writes their line in the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Final

import structlog
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from receiver import telemetry
from receiver.core.errors import (
    BodyTooLarge,
    BucketUnavailable,
    Conflict,
    FieldError,
    IdempotencyMismatch,
    InvalidInput,
    LimitTooSmall,
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
from receiver.web import access

log = structlog.get_logger(__name__)

#: The one place where an error gets its status.
STATUS: Final[Mapping[type[ReceiverError], int]] = {
    InvalidInput: 422,
    IdempotencyMismatch: 422,
    LimitTooSmall: 422,
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
    408: "The request did not come whole",
    409: "Not in this state",
    413: "The body is too large",
    416: "No such range",
    422: "The request is not valid",
    429: "The day's limit is reached",
    431: "The request's head is too large",
    500: "Something broke here",
    503: "Not now",
}
#: Fields that one answer names; what is wrong everywhere is found from the first of them.
NAMED: Final = 100
PROBLEM_JSON: Final = "application/problem+json"
#: What the server, the router and a crash answer; no error class stands behind them.
_OTHERS: Final[Mapping[str, tuple[int, str]]] = {
    "malformed_request": (400, "What came is no HTTP request."),
    "method_not_allowed": (405, "This path is served, but not by this method; `Allow` names those that are."),
    access.STALLED: (408, "The rest of the request did not come in time."),
    "head_too_large": (431, "Path and headers of the request are too large together."),
    "internal_error": (500, "Something broke here; the log tells more of it by the same `request_id`."),
}
#: Seconds.
RETRY_AFTER: Final = 2
_UNAUTHORIZED: Final = 401
_METHOD_NOT_ALLOWED: Final = 405
_SERVER_ERROR: Final = 500
_UNAVAILABLE: Final = 503


class ProblemField(BaseModel):
    """One thing wrong with the input."""

    model_config = ConfigDict(frozen=True)

    field: str = Field(description="Where it is, such as `input.prompt`")
    message: str = Field(description="How to mend it")


class Problem(BaseModel):
    """Why a request was refused, by RFC 9457."""

    model_config = ConfigDict(frozen=True)

    type: str = Field(description="`urn:receiver:error:` and the code")
    title: str = Field(description="What the status means here")
    status: int
    code: str = Field(description="A stable word for what is wrong")
    detail: str = Field(description="What is wrong this time, for a person")
    request_id: str = Field(description="Finds the line in the log")
    errors: tuple[ProblemField, ...] = Field(
        default=(), description="Each field that is wrong, where fields are; beyond 100 only how many, as `*`"
    )


def catalogue() -> Mapping[str, tuple[int, str]]:
    """Return the status and the meaning of every code that an answer may carry, by status."""
    known = {error.code: (status_of(error), about(error)) for error in _family(tuple(STATUS))}
    return dict(sorted({**known, **_OTHERS}.items(), key=lambda item: (item[1][0], item[0])))


def about(error: type[ReceiverError]) -> str:
    """Return what *error* means, as its class says."""
    return " ".join((error.__doc__ or "").split())


def type_of(code: str) -> str:
    """Return the URI that names a kind of problem."""
    return f"urn:receiver:error:{code}"


def _family(errors: tuple[type[ReceiverError], ...]) -> list[type[ReceiverError]]:
    return [each for error in errors for each in (error, *_family(tuple(error.__subclasses__())))]


def status_of(error: type[ReceiverError]) -> int:
    """Return the status of an error: its own, or that of the nearest class above it."""
    return next((STATUS[cls] for cls in error.__mro__ if cls in STATUS), _SERVER_ERROR)


async def render_error(request: Request, error: Exception) -> Response:
    """Answer an error that the product raised on purpose."""
    if not isinstance(error, ReceiverError):
        raise error
    status = status_of(type(error))
    detail = str(error) if status < _SERVER_ERROR or status == _UNAVAILABLE else "see the service's log"
    fields = []
    if isinstance(error, InvalidInput):
        told = InvalidInput(_some(error.errors))
        fields = [ProblemField(field=_plain(e.field), message=_plain(e.message)) for e in told.errors]
        detail = str(told)
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
    """Note that the caller went away before its request was whole, or fell silent; nobody reads this answer."""
    del error
    if access.noted(request.scope) == access.STALLED:
        return Response(status_code=_OTHERS[access.STALLED][0])
    access.note(request.scope, access.LEFT)
    return Response(status_code=400)


def unread(code: str) -> tuple[int, str, bytes]:
    """Refuse what never became a request, and write its line; return the status, the request's id and the body."""
    status, detail = _OTHERS[code]
    request_id = access.new_id()
    log.info("request.refused", request_id=request_id, route=access.UNKNOWN, status=status, error=code)
    return status, request_id, _body(status, code, detail, request_id, route=access.UNKNOWN)


def stalled(scope: Scope) -> tuple[int, str, bytes]:
    """Refuse a request whose body stopped coming; `render_left` sees to its line. Return the same as `unread`."""
    status, detail = _OTHERS[access.STALLED]
    request_id = scope.setdefault(access.REQUEST_ID, access.new_id())
    access.note(scope, access.STALLED)
    return status, request_id, _body(status, access.STALLED, detail, request_id, route=access.route_of(scope))


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
    fields: Sequence[ProblemField] = (),
    retry_after: int | None = None,
) -> Response:
    route = access.route_of(request.scope)
    access.note(request.scope, code, [each.field for each in fields])
    body = _body(status, code, detail, request.scope[access.REQUEST_ID], route=route, fields=fields)
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    if status == _UNAUTHORIZED and route.startswith("/v1"):
        headers["WWW-Authenticate"] = "Bearer"
    return Response(body, status_code=status, headers=headers, media_type=PROBLEM_JSON)


def _body(
    status: int, code: str, detail: str, request_id: str, *, route: str, fields: Sequence[ProblemField] = ()
) -> bytes:
    """Return a problem as JSON, and count it."""
    telemetry.REQUESTS_REFUSED.labels(route=route, error=code).inc()
    problem = Problem(
        type=type_of(code),
        title=TITLES.get(status, "Refused"),
        status=status,
        code=code,
        detail=detail,
        request_id=request_id,
        **({"errors": tuple(fields)} if fields else {}),
    )
    return problem.model_dump_json(exclude_unset=True).encode()


def _some(errors: Sequence[FieldError]) -> Sequence[FieldError]:
    rest = len(errors) - NAMED
    return errors if rest <= 0 else [*errors[:NAMED], FieldError("*", f"{rest} more fields are wrong")]


def _plain(text: str) -> str:
    """Spell out what no JSON answer in UTF-8 can carry: half a surrogate pair in a stranger's key."""
    return text.encode("utf-8", "backslashreplace").decode()


def _methods(request: Request) -> set[str]:
    """Return all methods that are served at the request's path; each has a route of its own."""
    routes = [each for each in request.app.routes if isinstance(each, Route)]
    here = [each for each in routes if each.matches(request.scope)[0] is not Match.NONE]
    return {method for each in here for method in each.methods or ()}
