"""The HTTP side: every route, what stands before each, and how refusals are rendered."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.sandbox import answers, api, batches, control, media
from receiver.sandbox.answers import Refusal
from receiver.sandbox.config import SandboxConfig
from receiver.sandbox.houses import HOUSES, KLING, House
from receiver.sandbox.parts import Clock, Sandbox, open_sandbox
from receiver.sandbox.records import Counted, Product
from receiver.sandbox.state import StateClosed
from receiver.sandbox.statements import SOURCE
from receiver.sandbox.visit import Visit
from receiver.sandbox.weather import Mode, Outage, Part
from receiver.sandbox.wire import Cut, Hang

#: Answers one request.
Answer = Callable[[Request, Visit], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]

#: Requests that are not remembered: the queries of media links are secrets.
UNSEEN: Final = frozenset({Counted.MEDIA, Counted.STRANGER, Counted.SOURCE})


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


def render_error(request: Request, exc: Exception) -> Response:
    """Render whatever a route raised in the envelope of its house (providers.md 2.8)."""
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
    return answers.refused(refusal, HOUSES.get(request.url.path.split("/")[1], HOUSES[KLING]))


def _routes() -> list[Route]:
    return [
        *(route for house in HOUSES.values() for route in _house(house)),
        Route("/control/ledger", control.read_ledger, methods=["GET"]),
        Route("/control/health", control.health, methods=["GET"]),
        Route("/control/houses", control.houses, methods=["GET"]),
        Route("/control/requests", control.requests, methods=["GET"]),
        Route("/control/held", control.held, methods=["GET"]),
        Route("/control/hold", control.hold, methods=["POST"]),
        Route("/control/release", control.release, methods=["POST"]),
        Route("/control/faults", control.read_faults, methods=["GET"]),
        Route("/control/faults", control.change_faults, methods=["POST"]),
        Route("/control/answer", control.answer, methods=["POST"]),
        Route("/control/answers", control.raw_answers, methods=["POST"]),
        Route("/control/account", control.account, methods=["POST"]),
        Route("/control/down", control.down, methods=["POST"]),
        Route("/control/up", control.up, methods=["POST"]),
    ]


def _house(house: House) -> Iterator[Route]:
    """Yield the routes of a house; Kling's own API is also without a house in the path."""
    for root in dict.fromkeys((house.root, f"/{house.name}")):
        for path, product in house.paths.items():
            yield Route(root + path, _public(house, Counted.CREATE, api.create, product), methods=["POST"])
            if house.lists and product is not Product.NEW_VIDEO:
                yield Route(root + path, _public(house, Counted.LIST, api.list_page, product), methods=["GET"])
            if product is not Product.NEW_VIDEO:
                one = f"{root}{path}/{{given}}"
                yield Route(one, _public(house, Counted.QUERY, api.query, product), methods=["GET"])
        if house.batches:
            yield Route(f"{root}/tasks", _public(house, Counted.QUERY, batches.by_ids), methods=["GET"])
            yield Route(f"{root}/tasks", _public(house, Counted.LIST, batches.by_time), methods=["POST"])
    files = {
        "/media/{task:int}/{clip:int}.{form}": _public(house, Counted.MEDIA, media.media),
        "/stranger/{task:int}.{form}": _public(house, Counted.STRANGER, media.invented),
        f"/{SOURCE}": _public(house, Counted.SOURCE, media.source),
    }
    for path, endpoint in files.items():
        yield Route(house.root + path, endpoint, methods=["GET"])


def _public(house: House, kind: Counted, answer: Answer, product: Product | None = None) -> Endpoint:
    """Count each request, and let an outage answer in place of *answer*."""
    part = Part.MEDIA if kind in UNSEEN else Part.API

    async def counted(request: Request) -> Response:
        sandbox: Sandbox = request.app.state.sandbox
        visit = Visit(
            sandbox=sandbox,
            house=house,
            kind=kind,
            product=product,
            number=sandbox.state.count(house.name, kind),
            seen=None if kind in UNSEEN else sandbox.traffic.see(request, house.name, kind),
        )
        try:
            response = await _instead(visit, part) or await answer(request, visit)
        except (Refusal, HTTPException, ClientDisconnect, StateClosed) as exc:
            response = render_error(request, exc)
        if visit.seen is not None and not isinstance(response, Cut | Hang):
            visit.seen.status = response.status_code
        return response

    return counted


async def _instead(visit: Visit, part: Part) -> Response | None:
    """Return what an outage answers; None without one."""
    if (outage := visit.weather.outage(part)) is None:
        return None
    await visit.note(None, f"down_{outage.mode}")
    return _down(visit, part, outage)


def _down(visit: Visit, part: Part, outage: Outage) -> Response:
    match outage.mode:
        case Mode.CUT:
            return Cut()
        case Mode.HANG:
            return Hang(visit.weather.left(outage), outage.over, visit.sandbox.stopping)
        case Mode.SERVER_ERROR if part is Part.API:
            return visit.refused(answers.refusal_of("5001", fault="down"))
        case Mode.SERVER_ERROR:
            return answers.page(503)
