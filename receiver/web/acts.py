"""What a person may do to a task."""

from __future__ import annotations

from pydantic import ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from receiver.core.model import AccountId, TaskId
from receiver.flow import act, query
from receiver.flow.act import Adoption
from receiver.flow.services import Services
from receiver.web.auth import caller_of, owner_of
from receiver.web.bodies import Labels, Taken, check_names, check_text, read_model
from receiver.web.tasks import task_answer


class AdoptBody(Taken):
    """A task that was made elsewhere."""

    model_config = ConfigDict(strict=True)

    account: str = Field(min_length=1, max_length=63, description="The account that made it")
    kind: str = Field(min_length=1, max_length=63, description="What was made, such as text-to-audio")
    provider_task_id: str = Field(min_length=1, max_length=256, description="The provider's own id")
    reference: str | None = Field(default=None, max_length=255, description="Your own id; not unique")
    labels: Labels = Field(default_factory=dict)


class RetryBody(Taken):
    """How a task is tried again; no body at all means the defaults."""

    model_config = ConfigDict(strict=True)

    may_charge_twice: bool = Field(default=False, description="Send again where the provider may charge again")


async def cancel(request: Request) -> Response:
    """Cancel a task that was never sent."""
    services: Services = request.app.state.services
    owner = await owner_of(request)
    task = _task(request)
    await act.cancel(services, owner, task)
    return await _answer(services, owner, task, status=200)


async def retry(request: Request) -> Response:
    """
    Try again what ended or stopped: the send, the media or the dead jobs.

    Where the provider does not refuse a repeated id a second send may be paid
    twice; it is made only if the body says that this is accepted.
    """
    services: Services = request.app.state.services
    owner = await owner_of(request)
    body = await read_model(request, RetryBody, empty=True)
    task = _task(request)
    await act.retry(services, owner, task, may_charge_twice=body.may_charge_twice)
    return await _answer(services, owner, task, status=202)


async def refresh(request: Request) -> Response:
    """Ask the provider for a task now."""
    services: Services = request.app.state.services
    owner = await owner_of(request)
    task = _task(request)
    await act.refresh(services, owner, task)
    return await _answer(services, owner, task, status=202)


async def adopt(request: Request) -> Response:
    """
    Archive a task that was made elsewhere.

    It is never sent: the provider is asked for it by its own id until its media are known.
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
    return query.task_id(request.path_params["task"])


async def _answer(services: Services, owner: str, task: TaskId, *, status: int) -> Response:
    return task_answer(services, await query.task(services, owner, str(task)), status=status)
