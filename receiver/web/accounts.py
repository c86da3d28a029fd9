"""The configured accounts: how they stand, and whether their submits go on."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from receiver.core.model import AccountId
from receiver.flow import account
from receiver.flow.account import Standing
from receiver.flow.services import Services
from receiver.web.auth import owner_of
from receiver.web.tasks import moment


async def listing(request: Request) -> JSONResponse:
    """
    GET /v1/accounts

    200 with limits and what today (UTC) has cost, tasks in flight and waiting, and the reason of a pause.
    Errors: 401, 503.
    """
    services: Services = request.app.state.services
    await owner_of(request)
    return JSONResponse({"accounts": [_shown(each) for each in await account.all_of(services)]})


async def pause(request: Request) -> JSONResponse:
    """
    POST /v1/accounts/{id}/pause

    200: submits wait, queries and archiving go on. Errors: 401, 404, 503.
    """
    services: Services = request.app.state.services
    await owner_of(request)
    return JSONResponse(_shown(await account.pause(services, AccountId(request.path_params["id"]))))


async def resume(request: Request) -> JSONResponse:
    """
    POST /v1/accounts/{id}/resume

    200: submits go on, the longest waiting first. Errors: 401, 404, 503.
    """
    services: Services = request.app.state.services
    await owner_of(request)
    return JSONResponse(_shown(await account.resume(services, AccountId(request.path_params["id"]))))


def _shown(standing: Standing) -> dict[str, Any]:
    return {
        "id": standing.account.id,
        "dialect": standing.account.dialect,
        "concurrency": standing.account.concurrency,
        "in_flight": standing.in_flight,
        "waiting": standing.waiting,
        "tasks_today": standing.spent.tasks,
        "daily_tasks": standing.account.daily_tasks,
        "units_today": str(standing.spent.units),
        "daily_units": None if standing.account.daily_units is None else str(standing.account.daily_units),
        "signature_mode": standing.account.signature_mode,
        "paused": standing.pause.paused_at is not None,
        "paused_reason": standing.pause.paused_reason,
        "paused_detail": standing.pause.paused_detail,
        "paused_at": moment(standing.pause.paused_at),
    }
