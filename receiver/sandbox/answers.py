"""What the API says: envelopes, task records, refusals. Shapes as in providers.md 6."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final

from starlette.responses import HTMLResponse, JSONResponse

from receiver.sandbox.plan import Unsure
from receiver.sandbox.records import Audio, Status, Task

#: Makes the link to one file of a task, good from now on.
LinkMaker = Callable[[Task, Audio], str]


#: HTTP status and message of each code of providers.md 2.8; the messages are invented but for 1303.
CODES: Final = MappingProxyType(
    {
        1000: (401, "Authentication failed"),
        1001: (401, "Authorization is empty"),
        1002: (401, "Authorization is invalid"),
        1003: (401, "Authorization is not yet valid"),
        1004: (401, "Authorization has expired"),
        1100: (429, "Account exception"),
        1101: (429, "Account in arrears"),
        1102: (429, "Resource pack exhausted or expired"),
        1103: (403, "No access to the requested resource"),
        1200: (400, "Invalid request parameters"),
        1201: (400, "Invalid parameter value"),
        1202: (404, "Method is invalid"),
        1203: (404, "Resource does not exist"),
        1300: (400, "Platform policy is triggered"),
        1301: (400, "Content safety policy is triggered"),
        1302: (429, "Requests are too frequent"),
        1303: (429, "parallel task over resource pack limit"),
        1304: (429, "IP is not in the whitelist"),
        5000: (500, "Internal error"),
        5001: (503, "Service temporarily unavailable"),
        5002: (504, "Internal timeout, tasks are backlogged"),
    }
)


class Refusal(Exception):
    """The request is refused; `http` and `code` are those of providers.md 2.8."""

    def __init__(self, http: int, code: int, message: str, *, fault: str | None = None) -> None:
        super().__init__(message)
        self.http = http
        self.code = code
        self.message = message
        #: The simulator's reason when it is not the request's; the ledger shows it.
        self.fault = fault


def bad_parameter(message: str) -> Refusal:
    """Return the refusal of a request that is readable but wrong."""
    return Refusal(400, 1201, message)


def duplicate(external_id: str) -> Refusal:
    """Return the refusal of an external id that the account has used before."""
    return bad_parameter(f"External_task_id {external_id} already exists")


def unknown_task(given: str) -> Refusal:
    """Return the refusal of an id that is neither a task's nor an external one."""
    return bad_parameter(f"Task not found by id/external id: {given}")


def no_free_slot() -> Refusal:
    """Return the refusal of a create over the concurrency; nothing was made."""
    return Refusal(429, 1303, "parallel task over resource pack limit")


def unmade() -> Refusal:
    """Return the refusal that leaves in doubt whether a task was made; none was."""
    return refusal_of(Unsure.ERROR_5001, fault=Unsure.UNMADE)


def refusal_of(code: str, *, fault: str) -> Refusal:
    """Return the refusal with one of the codes of providers.md 2.8."""
    number = int(code)
    http, message = CODES[number]
    return Refusal(http, number, message, fault=fault)


def page(status: int) -> HTMLResponse:
    """Return what a proxy shows in place of an answer."""
    phrase = HTTPStatus(status).phrase
    return HTMLResponse(f"<html><head><title>{status} {phrase}</title></head><body>{phrase}</body></html>", status)


def refused(refusal: Refusal) -> JSONResponse:
    """Render *refusal*: no `data`, as in providers.md 6.9."""
    content = {"code": refusal.code, "message": refusal.message, "request_id": str(uuid.uuid4())}
    return JSONResponse(content, refusal.http)


def succeeded(data: Mapping[str, Any] | list[dict[str, Any]]) -> JSONResponse:
    """Wrap *data* in the envelope of success."""
    return JSONResponse({"code": 0, "message": "SUCCEED", "request_id": str(uuid.uuid4()), "data": data})


def created(task: Task) -> dict[str, Any]:
    """Return the data of a create reply (providers.md 6.2)."""
    return {
        "task_id": str(task.id),
        "task_info": _info(task),
        "task_status": Status.SUBMITTED,
        "created_at": task.created_at,
        "updated_at": task.created_at,
    }


def record(task: Task, link: LinkMaker) -> dict[str, Any]:
    """Return the data of a query, and of one entry of a list (providers.md 2.4)."""
    data = report(task, task.status, task.updated_at, link)
    if task.status is Status.SUCCEED:
        data["final_balance_deduction"] = {"quota": "0", "list_price": "0"}
    return data


def report(task: Task, status: Status, changed_at: int, link: LinkMaker, *, failure: str = "") -> dict[str, Any]:
    """
    Return the body of the callback that tells *status* (providers.md 6.3; the deduction: 2.6).

    *failure* is told of a task that has none.
    """
    data: dict[str, Any] = {
        "task_id": str(task.id),
        "task_status": status,
        "task_status_msg": (task.failure or failure) if status is Status.FAILED else "",
        "task_info": _info(task),
        "task_result": _result(task, link) if status is Status.SUCCEED else {},
        "created_at": task.created_at,
        "updated_at": changed_at,
    }
    if status is Status.SUCCEED:
        data["final_unit_deduction"] = task.charged
    return data


def _info(task: Task) -> dict[str, str]:
    external_id = task.order.external_id
    return {} if external_id is None else {"external_task_id": external_id}


def _result(task: Task, link: LinkMaker) -> dict[str, list[dict[str, str]]]:
    clips: dict[int, dict[str, str]] = {}
    for audio in task.audios:
        clips.setdefault(audio.clip, {"id": str(audio.clip)})[f"url_{audio.format}"] = link(task, audio)
    for audio in task.audios:
        clips[audio.clip][f"duration_{audio.format}"] = audio.duration
    return {"audios": list(clips.values())}
