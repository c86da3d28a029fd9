"""Submit tasks and ask after them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pydantic import ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from receiver.core import deadlines, ids
from receiver.core.errors import FieldError, InvalidInput
from receiver.core.model import AccountId, State, Trust
from receiver.flow import query
from receiver.flow.accept import Order, accept
from receiver.flow.query import Filter, Locked, Told
from receiver.flow.services import Services
from receiver.web.assets import AssetView, asset_view
from receiver.web.auth import caller_of, owner_of
from receiver.web.bodies import (
    Given,
    Moment,
    Taken,
    Whole,
    answer,
    check_names,
    moment,
    read_model,
    read_query,
    seconds,
)

#: Tasks of one page of a list.
DEFAULT_PAGE: Final = 50
LARGEST_PAGE: Final = 200
#: Characters.
LONGEST_KEY: Final = 255


class TaskBody(Taken):
    """What is to be made."""

    model_config = ConfigDict(strict=True)

    account: str = Field(min_length=1, max_length=63, description="Which configured account pays")
    kind: str = Field(min_length=1, max_length=63, description="What is made, such as text-to-audio")
    input: dict[str, Any] = Field(
        description="What the provider needs, by its own field names. The profile of the account says which fields a"
        " kind takes; a 422 names each field that is wrong and what it may hold"
    )
    reference: str | None = Field(default=None, max_length=255, description="Your own id; not unique")
    labels: dict[str, str] = Field(default_factory=dict, max_length=32, description="Your own names and values")


class ListQuery(Taken):
    """Which tasks a page holds."""

    state: State | None = Field(default=None, description="Only tasks in this state")
    account: str | None = Field(default=None, description="Only tasks of this account")
    cursor: str | None = Field(default=None, description="The `next_cursor` of an earlier answer")
    limit: Whole = Field(default=DEFAULT_PAGE, ge=1, le=LARGEST_PAGE, description="Tasks of one page")


class TaskView(Given):
    """A task and all that is known of it; times are RFC 3339 UTC."""

    id: str = Field(description="The task's id, which sorts by time")
    account: str
    kind: str
    input: dict[str, Any] = Field(description="As accepted")
    reference: str | None
    labels: dict[str, str]
    state: State
    reason: str | None = Field(description="Why it ended without being archived: a stable word")
    detail: str | None = Field(description="The provider's words, or ours, that explain the reason")
    attention: str | None = Field(description="Why a person must look: a stable word")
    revision: int = Field(ge=1, description="Grows when an archived task gets more assets")
    trust: Trust | None = Field(description="How well the last news of it is vouched for")
    provider_task_id: str | None
    units: str | None = Field(description="Units that the provider charged, as decimal text")
    created_at: Moment
    sent_at: Moment | None = Field(description="When it was first sent to the provider")
    due_at: Moment | None = Field(description="When it will have ended at the latest; null once it has")
    ended_at: Moment | None
    slack_seconds: float | None = Field(description="Time left until it is due, negative when it is late")
    assets: tuple[AssetView, ...]


class EventView(Given):
    """Something that happened to a task."""

    id: str
    at: Moment
    type: str = Field(description="A stable name, such as `task.accepted`")
    data: dict[str, Any] = Field(description="What belongs to it")


class TaskStory(TaskView):
    """A task with all its events, the oldest first."""

    events: tuple[EventView, ...]


class EventList(Given):
    """The whole story of a task, the oldest event first."""

    events: tuple[EventView, ...]


class TaskPage(Given):
    """One page of tasks, newest first."""

    tasks: tuple[TaskView, ...]
    next_cursor: str | None = Field(description="Asks for the next page; null at the end")


async def create(request: Request) -> Response:
    """
    Submit a task; it is durable when this answers.

    The same `Idempotency-Key` with the same request gives the same task again, for as long as the task lives.
    """
    services: Services = request.app.state.services
    caller = await caller_of(request)
    body = await read_model(request, TaskBody)
    check_names(body.reference, body.labels)
    order = Order(
        account=AccountId(body.account),
        kind=body.kind,
        input=body.input,
        reference=body.reference,
        labels=body.labels,
        idempotency_key=_idempotency_key(request),
    )
    accepted = await accept(services, caller, order)
    found = await query.task(services, caller.owner, str(accepted.id))
    return answer(task_view(services, found), status=202, headers={"Location": f"/v1/tasks/{accepted.id}"})


async def show(request: Request) -> Response:
    """Show a task with its assets and its events."""
    services: Services = request.app.state.services
    found, told = await query.task_and_story(services, await owner_of(request), request.path_params["task"])
    return answer(TaskStory(**_fields(services, found), events=_events(told)))


async def events(request: Request) -> Response:
    """Tell the whole story of a task."""
    services: Services = request.app.state.services
    _, told = await query.task_and_story(services, await owner_of(request), request.path_params["task"])
    return answer(EventList(events=_events(told)))


async def listing(request: Request) -> Response:
    """List tasks, newest first, page by page."""
    services: Services = request.app.state.services
    owner = await owner_of(request)
    wanted = _filter(read_query(request, ListQuery), owner)
    found = await query.page(services, wanted)
    more = str(found[-1].task.id) if len(found) == wanted.limit else None
    return answer(TaskPage(tasks=tuple(task_view(services, each) for each in found), next_cursor=more))


def task_view(services: Services, found: Locked) -> TaskView:
    """Return a task as the API shows it."""
    return TaskView(**_fields(services, found))


def _fields(services: Services, found: Locked) -> dict[str, Any]:
    task = found.task
    return {
        "id": str(task.id),
        "account": task.account,
        "kind": task.kind,
        "input": dict(task.input),
        "reference": task.reference,
        "labels": dict(task.labels),
        "state": task.state,
        "reason": task.reason,
        "detail": task.detail,
        "attention": task.attention,
        "revision": task.revision,
        "trust": task.trust,
        "provider_task_id": task.provider_task_id,
        "units": task.units,
        "created_at": moment(task.created_at),
        "sent_at": moment(task.first_sent_at),
        "due_at": moment(task.due_at),
        "ended_at": moment(task.ended_at),
        "slack_seconds": seconds(deadlines.slack(task, found.now)),
        "assets": tuple(asset_view(services, asset) for asset in task.assets),
    }


def _events(told: Sequence[Told]) -> tuple[EventView, ...]:
    return tuple(EventView(id=str(each.id), at=moment(each.at), type=each.type, data=dict(each.data)) for each in told)


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not (0 < len(key) <= LONGEST_KEY and key.isascii() and key.isprintable()):
        message = f"must be 1 to {LONGEST_KEY} printable ASCII characters"
        raise InvalidInput([FieldError("Idempotency-Key", message)])
    return key


def _filter(asked: ListQuery, owner: str) -> Filter:
    before = None if asked.cursor is None else ids.parse_task_id(asked.cursor)
    if asked.cursor is not None and before is None:
        raise InvalidInput([FieldError("cursor", "must be the next_cursor of an earlier answer")])
    return Filter(owner=owner, state=asked.state, account=asked.account, before=before, limit=asked.limit)
