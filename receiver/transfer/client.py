"""HTTP out, through the guard: what the downloader and the provider client stand on."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final

import certifi
import httpcore

from receiver.transfer.guard import FetchPolicy, GuardBackend, target_of

#: Called by httpcore before and after each step of a request.
TraceHook = Callable[[str, Mapping[str, Any]], Awaitable[None]]
#: Seconds that an idle connection is kept.
KEEP_ALIVE: Final = 30.0
#: What a transport can raise; everything else is ours.
TRANSPORT_ERRORS: Final = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError)


@lru_cache(maxsize=1)
def system_tls() -> ssl.SSLContext:
    """Trust what the system trusts and what certifi ships: bare containers and private authorities both work."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


class GuardedClient:
    """
    One request at a time over kept-alive connections that all went through the guard.

    It stands on httpcore, not on the client above it: no redirects, no cookies,
    no proxies or passwords from the environment, and no log line that shows a
    signed URL.
    """

    def __init__(
        self,
        policy: FetchPolicy,
        *,
        connect: timedelta,
        read: timedelta,
        connections: int,
        backend: httpcore.AsyncNetworkBackend | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._policy = policy
        self._timeouts = {
            "connect": connect.total_seconds(),
            "pool": connect.total_seconds(),
            "read": read.total_seconds(),
            "write": read.total_seconds(),
        }
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls or system_tls(),
            max_connections=connections,
            keepalive_expiry=KEEP_ALIVE,
            network_backend=backend or GuardBackend(policy),
        )

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        content: bytes | None = None,
        trace: TraceHook | None = None,
    ) -> AsyncIterator[httpcore.Response]:
        """
        Send one request; inside the block the body can be read from `aiter_stream`, raw.

        Raises:
            FetchBlocked: The URL or its address is not allowed; nothing was dialled.
            httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError: The transport failed.
        """
        target = target_of(url, self._policy)
        extensions: dict[str, Any] = {"timeout": self._timeouts}
        if trace is not None:
            extensions["trace"] = trace
        sent = {"Host": target.netloc, "User-Agent": "receiver", "Accept-Encoding": "identity", **headers}
        async with self._pool.stream(
            method,
            httpcore.URL(
                scheme=target.scheme.encode(),
                host=target.host.encode(),
                port=target.port,
                target=target.path.encode(),
            ),
            headers=[(name.encode(), value.encode()) for name, value in sent.items()],
            content=content,
            extensions=extensions,
        ) as response:
            yield response

    async def aclose(self) -> None:
        """Close every connection, also busy ones."""
        await self._pool.aclose()


def guarded_client(
    policy: FetchPolicy,
    *,
    connect: timedelta,
    read: timedelta,
    connections: int = 32,
    tls: ssl.SSLContext | None = None,
) -> GuardedClient:
    """
    Make a client whose every connection *policy* allows.

    *read* bounds each single read and write; bounding the whole is the caller's part.
    """
    return GuardedClient(policy, connect=connect, read=read, connections=connections, tls=tls)


def headers_of(response: httpcore.Response) -> dict[str, str]:
    """Give the headers by lower-case name; of a repeated one the last."""
    return {name.decode("ascii").lower(): value.decode("latin-1") for name, value in response.headers}
