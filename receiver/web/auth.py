"""Who asks: every /v1 route needs an API key."""

from __future__ import annotations

from starlette.requests import Request

from receiver.core.errors import Unauthorized
from receiver.flow import query
from receiver.flow.query import Key
from receiver.flow.services import Services


async def owner_of(request: Request) -> str:
    """
    Return the owner whose API key the request carries.

    Raises:
        Unauthorized: It carries none, or an unknown one.
    """
    return (await caller_of(request)).owner


async def caller_of(request: Request) -> Key:
    """
    Return the API key that the request carries.

    Raises:
        Unauthorized: It carries none, or an unknown one.
    """
    services: Services = request.app.state.services
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise Unauthorized("send the API key as `Authorization: Bearer <key>`")
    return await query.caller_of(services, secret.strip())
