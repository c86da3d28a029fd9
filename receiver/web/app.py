"""The routes."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from receiver.core.errors import ReceiverError
from receiver.flow.callback import Intake
from receiver.flow.services import Services
from receiver.web import accounts, acts, assets, ops, problems, tasks
from receiver.web.callbacks import Callbacks, Shortcut


def build_app(services: Services, intake: Intake) -> Starlette:
    """Build the web application; the caller runs *intake* for as long as it serves."""
    callback = Route("/callbacks/{account}/{task}/{token}", Callbacks(intake), methods=["POST"])
    app = Starlette(
        routes=[
            callback,
            Route("/v1/tasks", tasks.create, methods=["POST"]),
            Route("/v1/tasks", tasks.listing, methods=["GET"]),
            Route("/v1/tasks:adopt", acts.adopt, methods=["POST"]),
            Route("/v1/tasks/{id}", tasks.show, methods=["GET"]),
            Route("/v1/tasks/{id}/events", tasks.events, methods=["GET"]),
            Route("/v1/tasks/{id}/cancel", acts.cancel, methods=["POST"]),
            Route("/v1/tasks/{id}/retry", acts.retry, methods=["POST"]),
            Route("/v1/tasks/{id}/refresh", acts.refresh, methods=["POST"]),
            Route("/v1/accounts", accounts.listing, methods=["GET"]),
            Route("/v1/accounts/{id}/pause", accounts.pause, methods=["POST"]),
            Route("/v1/accounts/{id}/resume", accounts.resume, methods=["POST"]),
            Route("/v1/assets/{id}", assets.show, methods=["GET"]),
            Route("/v1/assets/{id}/content", assets.content, methods=["GET"]),
            Route("/v1/ledger", tasks.ledger, methods=["GET"]),
            Route("/healthz", ops.healthz),
            Route("/readyz", ops.readyz),
            Route("/metrics", ops.metrics),
        ],
        exception_handlers={
            ReceiverError: problems.render_error,
            HTTPException: problems.render_http,
            ClientDisconnect: problems.render_left,
        },
        middleware=[Middleware(problems.CrashGuard), Middleware(Shortcut, route=callback)],
    )
    app.state.services = services
    return app


def build_ops_app(services: Services) -> Starlette:
    """Build what a worker serves on its own port: alive, ready, metrics."""
    app = Starlette(
        routes=[Route("/healthz", ops.healthz), Route("/readyz", ops.readyz), Route("/metrics", ops.metrics)],
        exception_handlers={ReceiverError: problems.render_error, HTTPException: problems.render_http},
    )
    app.state.services = services
    return app
