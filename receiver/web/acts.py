"""What a person may do to a task."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse

from receiver.core import ids
from receiver.core.errors import NotFound
from receiver.core.model import AccountId, TaskId
from receiver.flow import act, query
from receiver.flow.act import Adoption
from receiver.flow.services import Services
from receiver.web.auth import caller_of, owner_of
from receiver.web.bodies import AdoptBody, RetryBody, check_names, check_text, read_model
from receiver.web.tasks import shown


async def cancel(request: Request) -> JSONResponse:
    """
    POST /v1/tasks/{id}/cancel

    200 with the cancelled task. Errors: 401, 404, 409 already_sent, 503.
    """
    services: Services = request.app.state.services
    owner = await owner_of(request)
    task = _task(request)
    await act.cancel(services, owner, task)
    return await _answer(services, owner, task, status=200)


async def retry(request: Request) -> JSONResponse:
    """
    POST /v1/tasks/{id}/retry

    202: the send, the media or the dead jobs are tried again. Errors: 400, 401,
    404, 409 not_retryable or may_charge_twice, 422, 503.
    """
    services: Services = request.app.state.services
    owner = await owner_of(request)
    body = await read_model(request, RetryBody, empty=True)
    task = _task(request)
    await act.retry(services, owner, task, may_charge_twice=body.may_charge_twice)
    return await _answer(services, owner, task, status=202)


async def refresh(request: Request) -> JSONResponse:
    """
    POST /v1/tasks/{id}/refresh

    202: the provider is asked now. Errors: 401, 404, 409, 503.
    """
    services: Services = request.app.state.services
    owner = await owner_of(request)
    task = _task(request)
    await act.refresh(services, owner, task)
    return await _answer(services, owner, task, status=202)


async def adopt(request: Request) -> JSONResponse:
    """
    POST /v1/tasks:adopt

    202 with Location: a task that was made elsewhere is asked after and archived.
    Errors: 400, 401, 409 already_known, 413, 422, 429, 503.
    """
    services: Services = request.app.state.services
    caller = await caller_of(request)
    body = await read_model(request, AdoptBody)
    check_text("provider_task_id", body.provider_task_id)
    check_names(body.reference, body.labels)
    adoption = Adoption(
        account=AccountId(body.account),
        kind=body.kind,
        provider_task_id=body.provider_task_id,
        reference=body.reference,
        labels=body.labels,
    )
    task = await act.adopt(services, caller, adoption)
    return await _answer(services, caller.owner, task, status=202)


def _task(request: Request) -> TaskId:
    number = ids.parse_task_id(request.path_params["id"])
    if number is None:
        raise NotFound("no such task")
    return number


async def _answer(services: Services, owner: str, task: TaskId, *, status: int) -> JSONResponse:
    found = await query.task(services, owner, str(task))
    return JSONResponse(shown(services, found), status_code=status, headers={"Location": f"/v1/tasks/{task}"})
