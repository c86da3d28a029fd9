"""The hot endpoint: check, keep once, answer. No work is done here."""

from __future__ import annotations

from typing import Final

from pydantic import Field
from starlette.requests import ClientDisconnect, Request
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from receiver.core.errors import ReceiverError
from receiver.flow.callback import Intake, Posted
from receiver.web import access, problems
from receiver.web.bodies import Given, read_body
from receiver.web.operation import Header

_NEW: Final = b'{"repeat":false}'
_REPEAT: Final = b'{"repeat":true}'
#: Of `/callbacks/{account}/{task}/{token}` between and before the slashes.
_PARTS: Final = 5


#: All three together, or none: a provider that does not sign sends none.
SIGNATURE_HEADERS: Final = (
    Header("webhook-id", "The id of the message that was signed"),
    Header("webhook-timestamp", "When it was signed, in seconds since 1970; within five minutes of now"),
    Header("webhook-signature", "`v1,` and the signature in base64; several stand apart by spaces"),
)


class Kept(Given):
    """The callback is in the database."""

    repeat: bool = Field(description="The same bytes were kept before")


class Callbacks:
    """Answers callbacks as plain ASGI, without the objects for request and response that this route has no use for."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Keep what a provider says of a task; the answer comes after the commit, whether it is new or a repeat.

        The body is kept as it came and looked into later. An unknown account or
        task is answered as a wrong token is. After a 503 send it again. `test` in place
        of a task is for the test of a provider's console: of that only the verdict on
        its signature is kept.
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
        access.note(scope, "kept" if new else "repeated")
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
