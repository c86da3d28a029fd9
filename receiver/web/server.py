"""Serve an application by uvicorn until told to stop."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

import structlog
import uvicorn
from starlette.applications import Starlette

from receiver.core.errors import Misconfigured
from receiver.flow.callback import Intake
from receiver.flow.services import Services
from receiver.web.app import build_app
from receiver.web.protocol import Protocol

log = structlog.get_logger(__name__)

#: Requests under way may go on for this long.
_GRACE: Final = timedelta(seconds=5)


class _Server(uvicorn.Server):
    """Leaves signals to us, so that a clean stop is exit status 0, and says where it listens."""

    def __init__(self, config: uvicorn.Config, role: str) -> None:
        super().__init__(config)
        self._role = role

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit as exc:
            # The base has logged the operating system's own words.
            where = f"{self.config.host}:{self.config.port}"
            raise Misconfigured(f"{self._role} cannot listen on {where}: stop what does, or set another port") from exc
        for listener in [each for server in self.servers for each in server.sockets]:
            host, port, *_ = listener.getsockname()
            log.info("server.started", role=self._role, host=host, port=port)

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


async def serve_web(services: Services, *, host: str, port: int) -> None:
    """Serve the API and the callbacks until SIGTERM or SIGINT."""
    intake = Intake(services)
    keeping = asyncio.create_task(intake.run())
    stop = stop_on_signal()
    # Without it every callback would be turned away for ever: better to be started again.
    keeping.add_done_callback(lambda _: stop.set())
    try:
        app = build_app(services, intake)
        await serve(app, host=host, port=port, name="web", stop=stop, release=app.state.waiting.close)
    finally:
        keeping.cancel()
        await asyncio.wait({keeping})
    if not keeping.cancelled():
        await keeping


async def serve(
    app: Starlette,
    *,
    host: str,
    port: int,
    name: str,
    stop: asyncio.Event | None = None,
    release: Callable[[], None] | None = None,
    protocol: type[asyncio.Protocol] = Protocol,
) -> None:
    """
    Serve *app* until *stop* is set; without one, until SIGTERM or SIGINT.

    *release* lets go of requests that would only wait; *protocol* is another one for comparison alone.

    Raises:
        Misconfigured: The port is taken, or the host is no address of this machine.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=protocol,
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=int(_GRACE.total_seconds()),
        backlog=4096,
    )
    server = _Server(config, name)
    if stop is None:
        stop = stop_on_signal()
    serving = asyncio.create_task(server.serve())
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    if release is not None:
        release()
    waiting.cancel()
    await serving
    log.info("server.stopped", role=name)


def stop_on_signal() -> asyncio.Event:
    """Return an event that SIGTERM or SIGINT sets."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
