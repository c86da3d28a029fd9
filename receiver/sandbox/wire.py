"""Answers that are none: connections cut or left hanging."""

from __future__ import annotations

import asyncio
from typing import cast

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from receiver.sandbox.background import first_of


class Protocol(HttpToolsProtocol):
    """Hands each request the transport of its connection, in the state of its scope."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        super().connection_made(cast("asyncio.Transport", transport))
        self.app_state = {**self.app_state, "transport": transport}


def transport_of(scope: Scope) -> asyncio.Transport:
    """Return the connection that a request came by."""
    transport: asyncio.Transport = scope["state"]["transport"]
    return transport


async def gone(receive: Receive) -> None:
    """Wait until the client has gone, or the connection was closed here."""
    while (await receive())["type"] != "http.disconnect":
        pass


class Cut(Response):
    """Resets the connection; nothing is answered."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reset it."""
        del send
        transport_of(scope).abort()
        await gone(receive)


class Hang(Response):
    """Answers nothing until the client goes, *seconds* have passed or one of *ends* is set; then cuts."""

    def __init__(self, seconds: float | None, *ends: asyncio.Event) -> None:
        super().__init__()
        self._seconds = seconds
        self._ends = ends

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait, then cut."""
        await first_of(gone(receive), *(end.wait() for end in self._ends), seconds=self._seconds)
        await Cut()(scope, receive, send)
