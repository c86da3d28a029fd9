"""The hot endpoint: check, keep once, answer. No work is done here."""

from __future__ import annotations

from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from receiver.core.errors import ReceiverError
from receiver.flow.callback import Intake, Posted
from receiver.web import problems
from receiver.web.bodies import read_body

_NEW: Final = b'{"repeat":false}'
_REPEAT: Final = b'{"repeat":true}'
#: Of `/callbacks/{account}/{task}/{token}` between and before the slashes.
_PARTS: Final = 5


class Callbacks:
    """Answers callbacks as plain ASGI, without the objects for request and response that this route has no use for."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        POST /callbacks/{account}/{task}/{token}

        200 whether new or a repeat, after the commit. Errors: 401 signature_rejected,
        404 token_unknown (also for an unknown account or task), 413 body_too_large,
        503 store_unavailable with Retry-After: the provider should send it again.
        """
        path = scope["path_params"]
        # Of a header that comes twice the first counts.
        headers: dict[bytes, bytes] = dict(reversed(scope["headers"]))
        new = await self._intake.take(
            Posted(
                account=path["account"],
                task=path["task"],
                token=path["token"],
                body=await read_body(receive),
                webhook_id=_text(headers.get(b"webhook-id")),
                timestamp=_text(headers.get(b"webhook-timestamp")),
                signatures=_text(headers.get(b"webhook-signature")),
            )
        )
        body = _NEW if new else _REPEAT
        await send(_start(body))
        await send({"type": "http.response.body", "body": body})


class Shortcut:
    """
    Takes callbacks past the router, whose work for a request is more than theirs.

    All else, other methods on their path among it, goes the usual way.
    """

    def __init__(self, app: ASGIApp, route: Route) -> None:
        self._app = app
        self._route = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a callback, or pass the request on."""
        parts = scope["path"].split("/") if scope["type"] == "http" else []
        if len(parts) != _PARTS or parts[1] != "callbacks" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        scope["route"] = self._route
        scope["path_params"] = {"account": parts[2], "task": parts[3], "token": parts[4]}
        try:
            await self._route.app(scope, receive, send)
        except ReceiverError as exc:
            response = await problems.render_error(Request(scope), exc)
            await response(scope, receive, send)
        except ClientDisconnect as exc:
            response = await problems.render_left(Request(scope), exc)
            await response(scope, receive, send)


def _text(header: bytes | None) -> str | None:
    return None if header is None else header.decode("latin-1")


def _start(body: bytes) -> Message:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    return {"type": "http.response.start", "status": 200, "headers": headers}
