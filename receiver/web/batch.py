"""Many tasks in one request, all or none of them."""

from __future__ import annotations

from typing import Final

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from receiver.core.errors import FieldError, InvalidInput
from receiver.flow.accept import Order, accept_all
from receiver.flow.services import Services
from receiver.web.auth import caller_of
from receiver.web.bodies import Given, Taken, answer, check_names, read_model
from receiver.web.tasks import LONGEST_KEY, TaskBody, order_of

#: Bytes, and tasks.
MAX_BODY: Final = 4 * 1024 * 1024
MOST: Final = 1000


class BatchItem(TaskBody):
    """One task of a batch."""

    idempotency_key: str | None = Field(
        default=None,
        min_length=1,
        max_length=LONGEST_KEY,
        pattern=r"^[ -~]*$",
        description="What the header `Idempotency-Key` is for a single task",
    )


class BatchBody(Taken):
    """What is to be made."""

    tasks: list[BatchItem] = Field(min_length=1, max_length=MOST, description="All of them are taken, or none")


class BatchedTask(Given):
    """A task that stands for an item of the batch."""

    id: str = Field(description="The task's id")
    existed: bool = Field(description="An earlier request with this idempotency key had made it")


class BatchView(Given):
    """The tasks of a batch, in its order."""

    tasks: tuple[BatchedTask, ...]


async def create(request: Request) -> Response:
    """
    Submit up to 1,000 tasks, all or none of them; they are durable when this answers.

    A body may have 4 MiB. Wrong fields are named as `tasks.17.input.prompt`, counted from 0. The day's limits count
    all that is new in the batch. With an `idempotency_key` in each item the same batch may be sent again, also in
    other portions: what exists is told, not made twice. The header `Idempotency-Key`, which is for
    a single task, is refused.
    """
    services: Services = request.app.state.services
    caller = await caller_of(request)
    if "idempotency-key" in request.headers:
        message = "is for a single task; give each task of a batch its own `idempotency_key`"
        raise InvalidInput([FieldError("Idempotency-Key", message)])
    body = await read_model(request, BatchBody, limit=MAX_BODY)
    accepted = await accept_all(services, caller, _orders(body))
    tasks = tuple(BatchedTask(id=str(each.id), existed=each.made is None) for each in accepted)
    return answer(BatchView(tasks=tasks), status=202)


def _orders(body: BatchBody) -> list[Order]:
    errors: list[FieldError] = []
    for n, item in enumerate(body.tasks):
        try:
            check_names(item.reference, item.labels)
        except InvalidInput as exc:
            errors += [FieldError(f"tasks.{n}.{each.field}", each.message) for each in exc.errors]
    if errors:
        raise InvalidInput(errors)
    return [order_of(item, item.idempotency_key) for item in body.tasks]
