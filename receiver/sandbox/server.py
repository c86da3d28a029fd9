"""Serves the sandbox as a process of its own."""

from __future__ import annotations

import ipaddress
import json
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import uvicorn
from starlette.applications import Starlette

from receiver.sandbox.app import build_app
from receiver.sandbox.config import SandboxConfig
from receiver.sandbox.wire import Protocol

#: Seconds that open requests get at a stop.
GRACE: Final = 3

IPV4: Final = 4


def run(config: SandboxConfig, *, host: str, port: int) -> None:
    """
    Serve until SIGTERM or SIGINT; port 0 takes a free one.

    When ready, prints one JSON line: `{"sandbox": "http://127.0.0.1:PORT"}`.

    Raises:
        SystemExit: The address cannot be bound, the state is locked, or the database failed on the way.
    """
    with _listen(host, port) as listener:
        url = _url(listener)
        app = build_app(replace(config, public_url=config.public_url or url))
        server = _Server(app, url)
        server.run(sockets=[listener])
    if server.broken:
        sys.exit(1)


class _Server(uvicorn.Server):
    """Announces itself, ends with status 0 on a signal, and goes down with the sandbox."""

    def __init__(self, app: Starlette, url: str) -> None:
        # Without an access log: queries of media links are secrets.
        super().__init__(
            uvicorn.Config(
                app,
                http=Protocol,
                lifespan="on",
                log_level="warning",
                access_log=False,
                ws="none",
                server_header=False,
                timeout_graceful_shutdown=GRACE,
            )
        )
        self._app = app
        self._url = url
        self.broken = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            sys.stdout.write(json.dumps({"sandbox": self._url}) + "\n")
            sys.stdout.flush()

    async def on_tick(self, counter: int) -> bool:
        self.broken = not self._app.state.alive
        return self.broken or await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Cut what is held, then go down as the base does."""
        self._app.state.sandbox.stop()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave out the base's last step, which raises the signal again."""
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named so that asyncio sets TCP_NODELAY; without it every answer may wait 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as exc:
        listener.close()
        raise SystemExit(f"cannot listen on {host}:{port}: {exc.strerror or exc}") from exc
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    address = ipaddress.ip_address(host)
    if address.is_unspecified:
        host = "127.0.0.1" if address.version == IPV4 else "::1"
    return f"http://{host}:{port}" if address.version == IPV4 else f"http://[{host}]:{port}"
