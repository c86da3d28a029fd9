"""The hot endpoint: check, keep once, answer. No work is done here."""

from __future__ import annotations

from typing import Final

from starlette.types import Message, Receive, Scope, Send

from receiver.flow.callback import Intake, Posted
from receiver.web.bodies import read_body

_NEW: Final = b'{"repeat":false}'
_REPEAT: Final = b'{"repeat":true}'


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


def _text(header: bytes | None) -> str | None:
    return None if header is None else header.decode("latin-1")


def _start(body: bytes) -> Message:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    return {"type": "http.response.start", "status": 200, "headers": headers}
