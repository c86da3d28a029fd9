"""The hot endpoint: check, keep once, answer. No work is done here."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from receiver.flow.callback import Intake, Posted
from receiver.web.bodies import read_body

_NEW: Final = b'{"repeat":false}'
_REPEAT: Final = b'{"repeat":true}'


async def receive(request: Request) -> Response:
    """
    POST /callbacks/{account}/{task}/{token}

    200 whether new or a repeat, after the commit. Errors: 401 signature_rejected,
    404 token_unknown (also for an unknown account or task), 413 body_too_large,
    503 store_unavailable with Retry-After: the provider should send it again.
    """
    intake: Intake = request.app.state.intake
    headers = request.headers
    path = request.path_params
    new = await intake.take(
        Posted(
            account=path["account"],
            task=path["task"],
            token=path["token"],
            body=await read_body(request),
            webhook_id=headers.get("webhook-id"),
            timestamp=headers.get("webhook-timestamp"),
            signatures=headers.get("webhook-signature"),
        )
    )
    return Response(_NEW if new else _REPEAT, media_type="application/json")
