"""The HTTP side: every route, what stands before each, and how refusals are rendered."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.sandbox import answers, api, control, media
from receiver.sandbox.answers import Refusal
from receiver.sandbox.config import SandboxConfig
from receiver.sandbox.parts import Clock, Sandbox, open_sandbox
from receiver.sandbox.records import Counted
from receiver.sandbox.state import StateClosed
from receiver.sandbox.weather import Mode, Outage, Part
from receiver.sandbox.wire import Cut, Hang

#: Answers one request; its number among those of its kind is from 1.
Answer = Callable[[Request, Sandbox, int], Awaitable[Response]]


def build_app(config: SandboxConfig, *, clock: Clock = time.time) -> Starlette:
    """
    Return the application; its lifespan opens the state and lets the tasks live.

    `app.state.alive` is True from start to end of the lifespan; a database
    error ends it early. The server has to use `wire.Protocol`.

    Raises:
        ValueError: `config.public_url` is not set; links need it.
    """
    if config.public_url is None:
        raise ValueError("public_url is not set")
    base = config.public_url

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with open_sandbox(config, base, clock) as sandbox:
            app.state.sandbox = sandbox
            app.state.alive = True
            try:
                yield
            finally:
                app.state.alive = False

    kinds = (Refusal, HTTPException, ClientDisconnect, StateClosed, Exception)
    app = Starlette(routes=_routes(), lifespan=lifespan, exception_handlers=dict.fromkeys(kinds, render_error))
    app.router.redirect_slashes = False
    return app


def render_error(_request: Request, exc: Exception) -> Response:
    """Render whatever a route raised in Kling's envelope (providers.md 2.8)."""
    match exc:
        case Refusal():
            refusal = exc
        case HTTPException(status_code=405):
            refusal = Refusal(404, 1202, "Method is invalid")
        case HTTPException(status_code=404):
            refusal = Refusal(404, 1203, "Resource does not exist")
        case HTTPException(status_code=status):
            refusal = Refusal(status, 1200, "Request is invalid")
        case ClientDisconnect():
            refusal = Refusal(400, 1200, "The request was cut")
        case StateClosed():
            refusal = Refusal(503, 5001, "Server is stopping")
        case _:
            refusal = Refusal(500, 5000, "Internal error")
    return answers.refused(refusal)


def _routes() -> list[Route]:
    return [
        Route(api.PATH, _public(Counted.CREATE, api.create), methods=["POST"]),
        Route(api.PATH, _public(Counted.LIST, api.list_page), methods=["GET"]),
        Route(api.PATH + "/{given}", _public(Counted.QUERY, api.query), methods=["GET"]),
        Route("/media/{task:int}/{clip:int}.{form}", _public(Counted.MEDIA, media.media), methods=["GET"]),
        Route("/stranger/{task:int}.{form}", _public(Counted.STRANGER, media.invented), methods=["GET"]),
        Route("/control/ledger", control.read_ledger, methods=["GET"]),
        Route("/control/health", control.health, methods=["GET"]),
        Route("/control/held", control.held, methods=["GET"]),
        Route("/control/hold", control.hold, methods=["POST"]),
        Route("/control/release", control.release, methods=["POST"]),
        Route("/control/faults", control.read_faults, methods=["GET"]),
        Route("/control/faults", control.change_faults, methods=["POST"]),
        Route("/control/answer", control.answer, methods=["POST"]),
        Route("/control/account", control.account, methods=["POST"]),
        Route("/control/down", control.down, methods=["POST"]),
        Route("/control/up", control.up, methods=["POST"]),
    ]


def _public(kind: Counted, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
    """Count each request, and let an outage answer in place of *answer*."""
    part = Part.MEDIA if kind in {Counted.MEDIA, Counted.STRANGER} else Part.API

    async def counted(request: Request) -> Response:
        sandbox: Sandbox = request.app.state.sandbox
        number = sandbox.state.count(kind)
        if (outage := sandbox.weather.outage(part)) is None:
            return await answer(request, sandbox, number)
        await sandbox.note(kind, None, f"down_{outage.mode}")
        return _down(sandbox, part, outage)

    return counted


def _down(sandbox: Sandbox, part: Part, outage: Outage) -> Response:
    match outage.mode:
        case Mode.CUT:
            return Cut()
        case Mode.HANG:
            return Hang(sandbox.weather.left(outage), outage.over, sandbox.stopping)
        case Mode.SERVER_ERROR if part is Part.API:
            return answers.refused(answers.refusal_of("5001", fault="down"))
        case Mode.SERVER_ERROR:
            return answers.page(503)
