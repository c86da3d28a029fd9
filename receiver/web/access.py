"""Around every request: its id, what is known of it on each log line, one line at its end, and its metrics."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import structlog
from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from receiver import telemetry
from receiver.telemetry import logs

log = structlog.get_logger(__name__)
#: Asked before a line is put together that is not wanted.
_levels: Final = logging.getLogger(__name__)

#: A client's own `X-Request-Id` that is worth keeping.
_SANE: Final = re.compile(rb"[A-Za-z0-9._-]{8,64}")
#: What a path names, known before the router has looked at it.
_TASK: Final = re.compile(r"/v1/(task|asset|callback)s/([0-9]{1,19})(?:/|$)")
_ACCOUNT: Final = re.compile(r"/v1/accounts/([a-z0-9][a-z0-9_-]{0,62})(?:/|$)")
_CALLBACK: Final = re.compile(r"/callbacks/([a-z0-9][a-z0-9_-]{0,62})/([0-9]{1,19})/")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: Asked every few seconds by machines, which keep count themselves.
_QUIET: Final = frozenset({"/healthz", "/readyz", "/metrics"})
_CALLBACKS: Final = "/callbacks/{account}/{task}/{token}"
_REFUSED: Final = 400
_BROKEN: Final = 500
_UNAVAILABLE: Final = 503

#: The route of what no route took.
UNKNOWN: Final = "unknown"
#: Keys of the scope.
REQUEST_ID: Final = "receiver.request_id"
_OUTCOME: Final = "receiver.outcome"
_FIELDS: Final = "receiver.fields"
#: What became of a request whose answer was not sent whole.
_CUT: Final = "cut"
#: What became of a request that was not sent whole.
LEFT: Final = "left"
#: The same of one whose sender stays, in silence; an error's code.
STALLED: Final = "request_timeout"


class AccessLog:
    """
    Stands outside of everything else.

    A callback that is answered with 200 is told at level debug alone: what it
    brought is told when it is advanced, and a line would cost as much as its checks.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and tell how it was answered; the answer carries `X-Request-Id`."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0
        request_id = scope[REQUEST_ID] = _id_of(scope)

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        with logs.within({"request_id": request_id, **_named(scope["path"])}):
            try:
                await self._app(scope, receive, watch)
            except BaseException:
                note(scope, _CUT)
                raise
            finally:
                _told(scope, status, time.perf_counter() - began)


def note(scope: Scope, outcome: str, fields: Sequence[str] = ()) -> None:
    """Say what became of a request: a stable word, an error's code among them, and the fields that were wrong."""
    scope[_OUTCOME] = outcome
    scope[_FIELDS] = fields


def noted(scope: Scope) -> str | None:
    """Return what `note` was told last; None before."""
    outcome: str | None = scope.get(_OUTCOME)
    return outcome


def route_of(scope: Scope) -> str:
    """Return the template of the route that took the request; "unknown" where none did."""
    return getattr(scope.get("route"), "path", UNKNOWN)


def _id_of(scope: Scope) -> str:
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return given.decode("ascii") if _SANE.fullmatch(given) else new_id()


def new_id() -> str:
    """Return an id for a request that brought none."""
    return secrets.token_hex(8)


def _named(path: str) -> dict[str, str]:
    if match := _CALLBACK.match(path):
        return {"account": match[1], "task_id": match[2]}
    if match := _TASK.match(path):
        return {f"{match[1]}_id": match[2]}
    if match := _ACCOUNT.match(path):
        return {"account": match[1]}
    return {}


def _told(scope: Scope, status: int, seconds: float) -> None:
    """Count the request and write its line."""
    route, method = route_of(scope), scope["method"]
    _requests(method if method in _METHODS else "other", route, status).inc()
    outcome = scope.get(_OUTCOME)
    if route == _CALLBACKS:
        # The time that passed until we gave a sender up is none that it has waited for its answer.
        if outcome != STALLED:
            _answers(outcome or _CUT).observe(seconds)
    else:
        _durations(route).observe(seconds)
    failed = outcome is not None and (status >= _REFUSED or outcome == _CUT)
    if outcome == LEFT:
        log.info("request.left", request_id=scope[REQUEST_ID], method=method, route=route)
        return
    level = _level(route, status, failed=failed)
    if level is None or not _levels.isEnabledFor(level):
        return
    log.log(
        level,
        "request.refused" if failed else "request.answered",
        request_id=scope[REQUEST_ID],
        method=method,
        route=route,
        status=status,
        duration_ms=round(seconds * 1000, 1),
        **({"error": outcome} if failed else {}),
        **({"fields": list(scope[_FIELDS])} if failed and scope[_FIELDS] else {}),
    )


def _level(route: str, status: int, *, failed: bool) -> int | None:
    """Return how loudly a request is told; None is not at all. What a caller did wrong is the caller's to mend."""
    if status >= _BROKEN and status != _UNAVAILABLE:
        return logging.ERROR
    if failed:
        return logging.INFO if _REFUSED <= status < _BROKEN and route != _CALLBACKS else logging.WARNING
    if route in _QUIET:
        return None
    return logging.DEBUG if route == _CALLBACKS else logging.INFO


# A look into the cache is cheaper than one into the metric, and callbacks are many.
@lru_cache(maxsize=4096)
def _requests(method: str, route: str, status: int) -> Counter:
    return telemetry.HTTP_REQUESTS.labels(method=method, route=route, status=str(status))


@lru_cache(maxsize=512)
def _durations(route: str) -> Histogram:
    return telemetry.HTTP_SECONDS.labels(route=route)


@lru_cache(maxsize=64)
def _answers(outcome: str) -> Histogram:
    return telemetry.CALLBACK_SECONDS.labels(outcome=outcome)
