"""The callbacks that were kept: search them, read one, and have one read again."""

from __future__ import annotations

import base64
from typing import Any, Final, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from receiver.core import ids
from receiver.core.errors import FieldError, InvalidInput
from receiver.core.model import ProviderStatus, TaskId, Trust
from receiver.flow import inbox
from receiver.flow.inbox import Callback, Filter, Line, Outcome, Shown
from receiver.flow.services import Services
from receiver.web import cursors
from receiver.web.auth import owner_of
from receiver.web.bodies import Given, Instant, Moment, Taken, Whole, answer, moment, read_query

#: Callbacks of one page of a list.
DEFAULT_PAGE: Final = 50
LARGEST_PAGE: Final = 200

#: Every outcome, and that there is none yet.
Wanted = Literal["moved", "noted", "hinted", "asked", "cross_wired", "orphan", "unreadable", "unprocessed"]


class InboxQuery(Taken):
    """Which callbacks a page holds."""

    task: str | None = Field(default=None, description="Only callbacks of this task's URL")
    account: str | None = Field(default=None, description="Only callbacks of this account's URLs")
    outcome: Wanted | None = Field(default=None, description="Only those of which this became; see `outcome` below")
    received_after: Instant | None = Field(
        default=None, description="Only those received at this time (RFC 3339) or later"
    )
    received_before: Instant | None = Field(default=None, description="Only those received before this time (RFC 3339)")
    cursor: str | None = Field(
        default=None, description="The `next_cursor` of an earlier answer to the same question; `limit` may change"
    )
    limit: Whole = Field(default=DEFAULT_PAGE, ge=1, le=LARGEST_PAGE, description="Callbacks of one page")


class CallbackView(Given):
    """A callback as it was kept, without its body."""

    id: str
    account: str = Field(description="The account of its URL")
    task: str = Field(description="The task of its URL")
    trust: Trust = Field(
        description="signed: its signature was good; token: only its URL vouches for it, so it is a hint"
    )
    outcome: Outcome | None = Field(
        description="moved: it changed its task; noted: it told nothing new; hinted: the next poll comes sooner; asked:"
        " the provider is asked, since only its answer can settle it; cross_wired: it is about another task than its"
        " URL; orphan: there is no such task; unreadable: it is no report that we know; null until it is read"
    )
    told: ProviderStatus | None = Field(description="The status that it gave its task; null when it gave none")
    bytes: int = Field(ge=0, description="Size of its body")
    repeats: int = Field(ge=0, description="Copies that came later, byte for byte; they are counted, not kept")
    received_at: Moment
    processed_at: Moment | None = Field(description="When it was read; null while it waits")


class CallbackDetail(CallbackView):
    """A callback with its body."""

    sha256: str = Field(description="Of the body as it is kept, in hexadecimal", pattern="^[0-9a-f]{64}$")
    body: str = Field(description="As it came, but for the queries of URLs, which may be signed, and tokens of ours")
    body_encoding: Literal["utf-8", "base64"] = Field(description="base64 when it is not UTF-8")
    body_cut: bool = Field(description="Something was left out of it; what is kept is whole")


class CallbackPage(Given):
    """One page of callbacks, newest first."""

    callbacks: tuple[CallbackView, ...]
    next_cursor: str | None = Field(description="Asks for the next page; null at the end")


async def listing(request: Request) -> Response:
    """
    List the callbacks that came for your tasks, newest first, page by page.

    Those for which there is no task are listed for every key. Copies that came in
    the last second may not be counted yet.
    """
    services: Services = request.app.state.services
    owner = await owner_of(request)
    asked = read_query(request, InboxQuery)
    page = await inbox.page(services, _filter(asked, owner))
    cursor = cursors.write(page.lines[-1].id, asked) if page.more else None
    return answer(CallbackPage(callbacks=tuple(_view(each) for each in page.lines), next_cursor=cursor))


async def show(request: Request) -> Response:
    """Show a callback with its body."""
    services: Services = request.app.state.services
    found = await inbox.show(services, await owner_of(request), request.path_params["callback"])
    return answer(_detail(found))


async def replay(request: Request) -> Response:
    """
    Read a callback again, as if it had just come.

    What it does then is decided as it was the first time: what is known already changes nothing.
    """
    services: Services = request.app.state.services
    found = await inbox.replay(services, await owner_of(request), request.path_params["callback"])
    return answer(_detail(found), status=202, headers={"Location": f"/v1/callbacks/{found.callback.id}"})


def _fields(found: Line | Callback, size: int) -> dict[str, Any]:
    return {
        "id": str(found.id),
        "account": found.account,
        "task": str(found.task_id),
        "trust": Trust.SIGNED if found.verified else Trust.TOKEN,
        "outcome": found.outcome,
        "told": found.told,
        "bytes": size,
        "repeats": found.repeats,
        "received_at": moment(found.received_at),
        "processed_at": moment(found.processed_at),
    }


def _view(found: Line) -> CallbackView:
    return CallbackView(**_fields(found, found.size))


def _detail(shown: Shown) -> CallbackDetail:
    body, encoding = _readable(shown.body)
    return CallbackDetail(
        **_fields(shown.callback, shown.size),
        sha256=shown.sha256.hex(),
        body=body,
        body_encoding=encoding,
        body_cut=shown.cut,
    )


def _readable(body: bytes) -> tuple[str, Literal["utf-8", "base64"]]:
    try:
        return body.decode(), "utf-8"
    except UnicodeDecodeError:
        return base64.b64encode(body).decode(), "base64"


def _filter(asked: InboxQuery, owner: str) -> Filter:
    return Filter(
        owner=owner,
        task=_task(asked.task),
        account=asked.account,
        outcome=None if asked.outcome in {None, "unprocessed"} else Outcome(asked.outcome),
        unprocessed=asked.outcome == "unprocessed",
        received_after=asked.received_after,
        received_before=asked.received_before,
        before=cursors.read(asked.cursor, asked),
        limit=asked.limit,
    )


def _task(text: str | None) -> TaskId | None:
    number = None if text is None else ids.parse_task_id(text)
    if text is not None and number is None:
        raise InvalidInput([FieldError("task", "must be the id of a task")])
    return number
