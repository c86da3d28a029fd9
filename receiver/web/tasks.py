"""Submit tasks and ask after them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from receiver.core import deadlines
from receiver.core.errors import FieldError, InvalidInput
from receiver.core.model import AccountId, State, TaskId, Trust
from receiver.flow import query
from receiver.flow.accept import Order, accept
from receiver.flow.query import Filter, Locked, Told
from receiver.flow.services import Services
from receiver.flow.waiting import Waiting
from receiver.web import cursors
from receiver.web.assets import AssetView, asset_view
from receiver.web.auth import caller_of, owner_of
from receiver.web.bodies import (
    MOST_LABELS,
    SIGNED,
    Given,
    Instant,
    Labels,
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
#: Seconds that a filter may look ahead or back.
LONGEST: Final = 10 * 365 * 86_400
#: `attention` of a filter that takes any reason.
ANY: Final = "any"


class TaskBody(Taken):
    """What is to be made."""

    model_config = ConfigDict(strict=True)

    account: str | None = Field(
        default=None,
        min_length=1,
        max_length=63,
        description="Which configured account pays; needed where several offer the kind and none is its default",
    )
    kind: str = Field(min_length=1, max_length=63, description="What is made, such as text-to-audio")
    input: dict[str, Any] = Field(
        description="What the provider needs, by its own field names. The profile of the account says which fields a"
        " kind takes; a 422 names each field that is wrong and what it may hold"
    )
    reference: str | None = Field(default=None, max_length=255, description="Your own id; not unique")
    labels: Labels = Field(default_factory=dict)


class ShowQuery(Taken):
    """How a task is shown."""

    wait: Whole = Field(
        default=0,
        ge=0,
        le=60,
        description="Answer when the task has ended, or after this many seconds, with the task as it is then",
    )


class ListQuery(Taken):
    """Which tasks a page holds; all that is given must be true of a task."""

    state: tuple[State, ...] = Field(
        default=(), description="Only tasks in this state; given several times, in one of these"
    )
    account: str | None = Field(default=None, description="Only tasks of this account")
    kind: str | None = Field(default=None, description="Only tasks of this kind, such as text-to-audio")
    label: tuple[Annotated[str, Field(pattern="^[^:]+:")], ...] = Field(
        default=(),
        max_length=MOST_LABELS,
        description="Only tasks with this label, as `name:value`; given several times, with all of these",
    )
    reference: str | None = Field(default=None, description="Only tasks with this reference of yours")
    slack_below: Annotated[int, Field(ge=-LONGEST, le=LONGEST), SIGNED] | None = Field(
        default=None, description="Only open tasks with less time left than this many seconds"
    )
    attention: str | None = Field(
        default=None, description="Only tasks at which a person must look for this reason; `any` is for any reason"
    )
    created_after: Instant | None = Field(default=None, description="Only tasks made at this time (RFC 3339) or later")
    created_before: Instant | None = Field(default=None, description="Only tasks made before this time (RFC 3339)")
    cursor: str | None = Field(
        default=None, description="The `next_cursor` of an earlier answer to the same question; `limit` may change"
    )
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
    accepted = await accept(services, caller, order_of(body, _idempotency_key(request)))
    found = accepted.made or await query.task(services, caller.owner, str(accepted.id))
    return task_answer(services, found, status=202)


async def show(request: Request) -> Response:
    """
    Show a task with its assets and its events.

    With `wait` the answer comes when the task has ended, or when the time is over. Where too many wait already, or the
    service stops, it comes at once: look at `state`, and ask again.
    """
    services: Services = request.app.state.services
    owner, text = await owner_of(request), request.path_params["task"]
    asked = read_query(request, ShowQuery)
    if asked.wait and (await query.task(services, owner, text)).task.due_at is not None:
        await _end_of(request, query.task_id(text), within=timedelta(seconds=asked.wait))
    found, told = await query.task_and_story(services, owner, text)
    return answer(TaskStory(**_fields(services, found), events=_events(told)))


async def events(request: Request) -> Response:
    """Tell the whole story of a task."""
    services: Services = request.app.state.services
    told = await query.story(services, await owner_of(request), request.path_params["task"])
    return answer(EventList(events=_events(told)))


async def listing(request: Request) -> Response:
    """
    List tasks, newest first, page by page.

    Tasks that are made while you read on are not among the pages that follow, and none of the others is left out.
    """
    services: Services = request.app.state.services
    owner = await owner_of(request)
    asked = read_query(request, ListQuery)
    page = await query.page(services, _filter(asked, owner))
    return answer(
        TaskPage(
            tasks=tuple(task_view(services, each) for each in page.tasks),
            next_cursor=cursors.write(page.tasks[-1].task.id, asked) if page.more else None,
        )
    )


def order_of(body: TaskBody, idempotency_key: str | None) -> Order:
    """Return what *body* asks for."""
    return Order(
        account=None if body.account is None else AccountId(body.account),
        kind=body.kind,
        input=body.input,
        reference=body.reference,
        labels=body.labels,
        idempotency_key=idempotency_key,
    )


def task_answer(services: Services, found: Locked, *, status: int) -> Response:
    """Answer with a task and where it is."""
    return answer(task_view(services, found), status=status, headers={"Location": f"/v1/tasks/{found.task.id}"})


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
    given = request.headers.getlist("idempotency-key")
    if not given:
        return None
    if len(given) > 1:
        raise InvalidInput([FieldError("Idempotency-Key", "may be given once")])
    (key,) = given
    if not (0 < len(key) <= LONGEST_KEY and key.isascii() and key.isprintable()):
        message = f"must be 1 to {LONGEST_KEY} printable ASCII characters"
        raise InvalidInput([FieldError("Idempotency-Key", message)])
    return key


async def _end_of(request: Request, task: TaskId, *, within: timedelta) -> None:
    """
    Return when *task* has ended or need not be waited for any longer.

    Raises:
        ClientDisconnect: Nobody waits for the answer any more.
    """
    waiting: Waiting = request.app.state.waiting
    end = asyncio.ensure_future(waiting.end_of(task, within=within))
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({end, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not end.done():
            raise ClientDisconnect
        await end
    finally:
        end.cancel()
        gone.cancel()
        await asyncio.wait({end, gone})


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _filter(asked: ListQuery, owner: str) -> Filter:
    return Filter(
        owner=owner,
        states=asked.state,
        account=asked.account,
        kind=asked.kind,
        labels=_labels(asked.label),
        reference=asked.reference,
        slack_below=None if asked.slack_below is None else timedelta(seconds=asked.slack_below),
        attention=None if asked.attention == ANY else asked.attention,
        attended=asked.attention == ANY,
        created_after=asked.created_after,
        created_before=asked.created_before,
        before=cursors.read(asked.cursor, asked),
        limit=asked.limit,
    )


def _labels(given: Sequence[str]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for each in given:
        name, _, value = each.partition(":")
        if labels.setdefault(name, value) != value:
            raise InvalidInput([FieldError("label", f"{name}: a task has one value of a label")])
    return labels
