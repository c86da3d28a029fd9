"""What the API says: envelopes, task records, refusals. Shapes as in providers.md 6."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from starlette.responses import JSONResponse

from receiver.sandbox.records import Audio, Status, Task

#: Makes the link to one file of a task, good from now on.
LinkMaker = Callable[[Task, Audio], str]


class Refusal(Exception):
    """The request is refused; `http` and `code` are those of providers.md 2.8."""

    def __init__(self, http: int, code: int, message: str) -> None:
        super().__init__(message)
        self.http = http
        self.code = code
        self.message = message


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


def report(task: Task, status: Status, changed_at: int, link: LinkMaker) -> dict[str, Any]:
    """Return the body of the callback that tells *status* (providers.md 6.3; the deduction: 2.6)."""
    data: dict[str, Any] = {
        "task_id": str(task.id),
        "task_status": status,
        "task_status_msg": (task.failure or "") if status is Status.FAILED else "",
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
