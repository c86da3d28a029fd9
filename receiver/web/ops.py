"""For those who operate the service: alive, ready, metrics."""

from __future__ import annotations

from typing import Literal

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from receiver.flow import query
from receiver.flow.services import Services
from receiver.web.bodies import Given, answer


class Alive(Given):
    """The process answers."""

    alive: Literal[True] = True


class Ready(Given):
    """The process answers and its database too."""

    ready: Literal[True] = True


async def healthz(_: Request) -> Response:
    """Say that the process is alive."""
    return answer(Alive())


async def readyz(request: Request) -> Response:
    """Say that the process can work: its database answers."""
    services: Services = request.app.state.services
    await query.is_ready(services)
    return answer(Ready())


async def metrics(_: Request) -> Response:
    """Give this process's own metrics in Prometheus' text format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
