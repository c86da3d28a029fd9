"""The web application: every operation of the table, and the few things that stand around them."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from receiver.core.errors import ReceiverError
from receiver.flow.callback import Intake
from receiver.flow.gauges import WebGauges, WorkerGauges
from receiver.flow.services import Services
from receiver.flow.waiting import Waiting
from receiver.web import ops, problems
from receiver.web.access import AccessLog
from receiver.web.callbacks import Callbacks, Shortcut
from receiver.web.operations import OPERATIONS
from receiver.web.page import reference


def build_app(services: Services, intake: Intake) -> Starlette:
    """Build the web application; the caller runs *intake* for as long as it serves."""
    callbacks = Callbacks(intake)
    routes = [
        Route(each.path, callbacks if each.handler is Callbacks else each.handler, methods=[each.method])
        for each in OPERATIONS
    ]
    hot = next(route for route in routes if route.endpoint is callbacks)
    app = Starlette(
        routes=routes,
        exception_handlers={
            ReceiverError: problems.render_error,
            HTTPException: problems.render_http,
            ClientDisconnect: problems.render_left,
        },
        middleware=[Middleware(AccessLog), Middleware(problems.CrashGuard), Middleware(Shortcut, route=hot)],
    )
    # It would point to http and to whatever host the request names; a secret in the path or a key would follow.
    app.router.redirect_slashes = False
    app.state.services = services
    app.state.waiting = Waiting(services)
    app.state.gauges = WebGauges(services)
    app.state.reference = reference()
    return app


def build_ops_app(services: Services) -> Starlette:
    """Build what a worker serves on its own port: alive, ready, metrics."""
    app = Starlette(
        routes=[Route("/healthz", ops.healthz), Route("/readyz", ops.readyz), Route("/metrics", ops.metrics)],
        exception_handlers={ReceiverError: problems.render_error, HTTPException: problems.render_http},
        middleware=[Middleware(AccessLog), Middleware(problems.CrashGuard)],
    )
    app.router.redirect_slashes = False
    app.state.services = services
    app.state.gauges = WorkerGauges(services)
    return app
