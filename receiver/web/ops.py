"""For those who operate the service: alive, ready, metrics."""

from __future__ import annotations

from typing import Literal

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from receiver.flow import query
from receiver.flow.gauges import WebGauges, WorkerGauges
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


async def metrics(request: Request) -> Response:
    """Give this process's own metrics in Prometheus' text format; web adds what the database tells of all of them."""
    gauges: WebGauges | WorkerGauges = request.app.state.gauges
    readings = await gauges.read()
    text = b"".join(generate_latest(each) for each in (REGISTRY, *readings))
    return Response(text, media_type=CONTENT_TYPE_LATEST)
