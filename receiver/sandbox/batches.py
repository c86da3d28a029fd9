"""`/tasks` of Kling's new standard: many by their ids, and all by time (providers.md 2.4)."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from functools import partial
from typing import Final

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from receiver.sandbox import answers, checks, statements, tasks
from receiver.sandbox.answers import bad_parameter
from receiver.sandbox.checks import Fields
from receiver.sandbox.gates import Gate
from receiver.sandbox.houses import MONTH, House
from receiver.sandbox.records import Status, Task
from receiver.sandbox.visit import Visit, read_body

#: Ids in one question: 20 were measured (providers.md 2.4).
MOST_IDS: Final = 20
MOST: Final = 500
USUAL: Final = 100
#: Seconds are told in milliseconds.
SECOND: Final = 1000
#: The longest number of milliseconds, and the longest id.
DIGITS: Final = 18

#: The statuses by the new standard's words.
STATUSES: Final = {statements.SUCCEEDED if one is Status.SUCCEED else one.value: one for one in Status}
PRODUCTS: Final = ("video", "image", "try_on")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    start: int
    end: int
    before: int | None
    limit: int
    statuses: tuple[Status, ...]


async def by_ids(request: Request, visit: Visit) -> Response:
    """
    GET /tasks?task_ids=a,b or ?external_task_ids=a,b

    200, without those that are unknown; 400 1201 both or neither, or more than
    20 ids; 401; whatever the faults say.
    """
    visit.authorize(request)
    external, given = _ids(request.query_params)
    if (instead := await visit.instead(Gate.QUERY, given[0] if external else None)) is not None:
        return instead
    find = partial(_find, house=visit.house, given=given, external=external)
    found = await visit.sandbox.state.do(find)
    return answers.succeeded([_put(visit, task) for task in found], visit.house)


async def by_time(request: Request, visit: Visit) -> Response:
    """
    POST /tasks {"start_time"?, "end_time"?, "cursor"?, "limit"?, "filters"?}

    The newest first. 200; 400 1200, 1201; 401; whatever the faults say.
    """
    visit.authorize(request)
    wanted = _wanted(checks.read_object(await read_body(request, visit.seen)), visit.sandbox.life.now())
    if (instead := await visit.instead(Gate.LIST, None)) is not None:
        return instead
    since = partial(
        tasks.since,
        house=visit.house,
        start=wanted.start,
        end=wanted.end,
        before=wanted.before,
        statuses=wanted.statuses,
        limit=wanted.limit + 1,
    )
    found = await visit.sandbox.state.do(since)
    page, more = found[: wanted.limit], len(found) > wanted.limit
    told = {
        "result": [_put(visit, task) for task in page],
        "count": len(page),
        "next_cursor": str(page[-1].id) if more else "",
        "has_more": more,
    }
    return answers.succeeded(told, visit.house)


def _put(visit: Visit, task: Task) -> statements.Said:
    """Tell a task, also one that was made by the legacy standard."""
    source = visit.links.source()
    said = statements.state(task, task.status, task.updated_at, visit.links.make, task_id=task.told_id, source=source)
    return statements.newer(said)


def _ids(query: QueryParams) -> tuple[bool, list[str]]:
    checks.check_parameters(query, {"task_ids", "external_task_ids"})
    if len(query) != 1:
        raise bad_parameter("exactly one of task_ids and external_task_ids is required")
    ((name, text),) = query.items()
    given = text.split(",")
    if not all(given):
        raise bad_parameter(f"{name} holds an empty id")
    if len(given) > MOST_IDS:
        raise bad_parameter(f"{name} has more than {MOST_IDS} ids")
    return name == "external_task_ids", given


def _find(conn: sqlite3.Connection, house: House, given: list[str], *, external: bool) -> list[Task]:
    look = tasks.by_external_id if external else tasks.by_id
    found = (look(conn, house, one) for one in dict.fromkeys(given))
    return [task for task in found if task is not None]


def _wanted(fields: Fields, now: int) -> _Wanted:
    fields.refuse_others({"start_time", "end_time", "cursor", "limit", "filters"})
    end = _whole(fields, "end_time", now)
    start = _whole(fields, "start_time", end - MONTH * SECOND)
    if start >= end:
        raise bad_parameter("start_time must be earlier than end_time")
    before = _whole(fields, "cursor", 0) or None
    if before is not None:
        start, end = 0, 10**DIGITS
    limit = fields.value("limit") if fields.has("limit") else USUAL
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MOST:
        raise bad_parameter(f"limit must be a whole number from 1 to {MOST}")
    return _Wanted(start=start, end=end, before=before, limit=limit, statuses=_statuses(fields))


def _whole(fields: Fields, name: str, default: int) -> int:
    text = fields.text(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= DIGITS):
        raise bad_parameter(f"{name} must be a whole number as text")
    return int(text)


def _statuses(fields: Fields) -> tuple[Status, ...]:
    """Read the filters; all that is ordered here is video."""
    filters = fields.value("filters") if fields.has("filters") else []
    if not isinstance(filters, list):
        raise bad_parameter("filters must be an array")
    wanted = set(STATUSES)
    for one in filters:
        if not isinstance(one, dict) or one.keys() != {"key", "values"} or not isinstance(one["values"], list):
            raise bad_parameter("a filter must have key and values")
        known = {"status": tuple(STATUSES), "product_type": PRODUCTS}.get(str(one["key"]))
        if known is None or not all(value in known for value in one["values"]):
            raise bad_parameter("a filter has an unknown key or value")
        if one["key"] == "status":
            wanted &= set(one["values"])
        elif PRODUCTS[0] not in one["values"]:
            wanted = set()
    return tuple(STATUSES[word] for word in sorted(wanted))
