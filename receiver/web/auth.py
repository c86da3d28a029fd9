"""Who asks: every /v1 route needs an API key."""

from __future__ import annotations

from starlette.requests import Request

from receiver.core.errors import Unauthorized
from receiver.flow import query
from receiver.flow.services import Services


async def owner_of(request: Request) -> str:
    """
    Return the owner whose API key the request carries.

    Raises:
        Unauthorized: It carries none, or an unknown one.
    """
    services: Services = request.app.state.services
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Unauthorized("send the API key as `Authorization: Bearer <key>`")
    return await query.owner_of(services, key.strip())
