"""For those who operate the service: alive, ready, metrics."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from receiver.flow import query
from receiver.flow.services import Services


async def healthz(_: Request) -> JSONResponse:
    """
    GET /healthz

    200 while the process answers at all.
    """
    return JSONResponse({"alive": True})


async def readyz(request: Request) -> JSONResponse:
    """
    GET /readyz

    200 while the database answers. Errors: 503.
    """
    services: Services = request.app.state.services
    await query.is_ready(services)
    return JSONResponse({"ready": True})


async def metrics(_: Request) -> Response:
    """
    GET /metrics

    200 with this process's own metrics in Prometheus' text format.
    """
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
