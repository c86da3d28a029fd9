"""Submit tasks and ask after them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse

from receiver.core import deadlines, ids
from receiver.core.errors import FieldError, InvalidInput
from receiver.core.model import AccountId, Asset, AssetState, State
from receiver.flow import query
from receiver.flow.accept import Order, accept
from receiver.flow.query import Filter, Line, Locked, Told, Unarchived
from receiver.flow.services import Services
from receiver.web.auth import caller_of, owner_of
from receiver.web.bodies import TaskBody, check_names, check_text, read_model

#: Tasks of one page of a list.
DEFAULT_PAGE: Final = 50
LARGEST_PAGE: Final = 200
#: Characters.
LONGEST_KEY: Final = 255


async def create(request: Request) -> JSONResponse:
    """
    POST /v1/tasks

    202 with Location when the task is durable; the same Idempotency-Key and
    request give the same task again. Errors: 400, 401, 413, 422, 429, 503.
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
    return JSONResponse(shown(services, found), status_code=202, headers={"Location": f"/v1/tasks/{accepted.id}"})


async def show(request: Request) -> JSONResponse:
    """
    GET /v1/tasks/{id}

    200 with assets and events. Errors: 401, 404, 503.
    """
    services: Services = request.app.state.services
    found, told = await query.task_and_story(services, await owner_of(request), request.path_params["id"])
    return JSONResponse({**shown(services, found), "events": [_event(each) for each in told]})


async def events(request: Request) -> JSONResponse:
    """
    GET /v1/tasks/{id}/events

    200 with the whole story of a task, the oldest first. Errors: 401, 404, 503.
    """
    services: Services = request.app.state.services
    _, told = await query.task_and_story(services, await owner_of(request), request.path_params["id"])
    return JSONResponse({"events": [_event(each) for each in told]})


async def listing(request: Request) -> JSONResponse:
    """
    GET /v1/tasks?state=&account=&cursor=&limit=

    200 with one page, newest first, and the cursor of the next. Errors: 401, 422, 503.
    """
    services: Services = request.app.state.services
    wanted = _filter(request, await owner_of(request))
    found = await query.page(services, wanted)
    more = str(found[-1].task.id) if len(found) == wanted.limit else None
    return JSONResponse({"tasks": [shown(services, each) for each in found], "next_cursor": more})


async def ledger(request: Request) -> JSONResponse:
    """
    GET /v1/ledger

    200 with the sum of all accepted tasks by state, and by account, kind and day (UTC), and with the newest
    1,000 tasks that are not archived beside their true number. Errors: 401, 503.
    """
    services: Services = request.app.state.services
    sums = await query.sums(services, await owner_of(request))
    totals = {state: sum(line.states.get(state, 0) for line in sums.lines) for state in State}
    return JSONResponse(
        {
            "accepted": sum(line.accepted for line in sums.lines),
            "states": totals,
            "callbacks": {"received": sums.received, "duplicates": sums.repeats},
            "lines": [_line(line) for line in sums.lines],
            "not_archived_total": sum(number for state, number in totals.items() if state is not State.ARCHIVED),
            "not_archived": [_unarchived(each) for each in sums.not_archived],
        }
    )


def shown(services: Services, found: Locked) -> dict[str, Any]:
    """Return a task as the API shows it; times are RFC 3339 UTC, durations seconds."""
    task = found.task
    slack = deadlines.slack(task, found.now)
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
        "slack_seconds": seconds(slack),
        "assets": [shown_asset(services, asset) for asset in task.assets],
    }


def shown_asset(services: Services, asset: Asset) -> dict[str, Any]:
    """Return an asset as the API shows it; `url` works for a while, or needs the API key."""
    stored = asset.state is AssetState.STORED
    return {
        "id": str(asset.id),
        "task": str(asset.task_id),
        "clip": asset.clip,
        "position": asset.position,
        "format": asset.format,
        "state": asset.state,
        "s3_uri": services.bucket.uri(asset.key) if asset.key is not None else None,
        "bytes": asset.size,
        "sha256": None if asset.sha256 is None else asset.sha256.hex(),
        "media_type": asset.media_type,
        "seconds": seconds(asset.duration),
        "verified": asset.verified,
        "stored_at": moment(asset.stored_at),
        "error": asset.error,
        "url": (query.link(services, asset) or f"/v1/assets/{asset.id}/content") if stored else None,
    }


def moment(at: datetime | None) -> str | None:
    """Return a time as RFC 3339 in UTC with milliseconds."""
    return None if at is None else at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds(span: timedelta | None) -> float | None:
    """Return a duration in seconds, to the millisecond."""
    return None if span is None else round(span.total_seconds(), 3)


def _event(told: Told) -> dict[str, Any]:
    return {"id": str(told.id), "at": moment(told.at), "type": told.type, "data": dict(told.data)}


def _line(line: Line) -> dict[str, Any]:
    return {
        "account": line.account,
        "kind": line.kind,
        "day": line.day.isoformat(),
        "accepted": line.accepted,
        "states": line.states,
    }


def _unarchived(task: Unarchived) -> dict[str, Any]:
    return {
        "id": str(task.id),
        "state": task.state,
        "reason": task.reason,
        "attention": task.attention,
        "due_at": moment(task.due_at),
    }


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not (0 < len(key) <= LONGEST_KEY and key.isascii() and key.isprintable()):
        message = f"must be 1 to {LONGEST_KEY} printable ASCII characters"
        raise InvalidInput([FieldError("Idempotency-Key", message)])
    return key


def _filter(request: Request, owner: str) -> Filter:
    params = request.query_params
    errors = [
        FieldError(name, "unknown parameter; known: state, account, cursor, limit")
        for name in params
        if name not in {"state", "account", "cursor", "limit"}
    ]
    state, cursor, limit = params.get("state"), params.get("cursor"), params.get("limit", str(DEFAULT_PAGE))
    if state is not None and state not in set(State):
        errors.append(FieldError("state", f"must be one of {', '.join(State)}"))
    before = None if cursor is None else ids.parse_task_id(cursor)
    if cursor is not None and before is None:
        errors.append(FieldError("cursor", "must be the next_cursor of an earlier answer"))
    if limit not in {str(number) for number in range(1, LARGEST_PAGE + 1)}:
        errors.append(FieldError("limit", f"must be a whole number from 1 to {LARGEST_PAGE}"))
    check_text("account", params.get("account"))
    if errors:
        raise InvalidInput(errors)
    return Filter(
        owner=owner,
        state=None if state is None else State(state),
        account=params.get("account"),
        before=before,
        limit=int(limit),
    )
