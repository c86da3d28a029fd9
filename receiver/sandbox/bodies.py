"""What callbacks say: the truth, a contradiction of it, a stranger's invention."""

from __future__ import annotations

from typing import Any, Final

from receiver.sandbox import answers
from receiver.sandbox.links import Links
from receiver.sandbox.plan import Forgery
from receiver.sandbox.records import Callback, Format, Kind, Status, Task

#: The reason that a contradiction gives.
NOT_SO: Final = "internal error"
#: Seconds, as text, of invented media.
INVENTED_DURATION: Final = "3.0"
#: The leading digits of invented ids; no clock will say so for a long time.
INVENTED_ID: Final = "99"


def body(task: Task, callback: Callback, links: Links) -> dict[str, Any]:
    """Return the body of *callback*; its links are fresh."""
    if callback.kind is Kind.FORGERY:
        return _forged(task, callback, links)
    failure = NOT_SO if callback.kind is Kind.CONTRADICTION else ""
    told = answers.report(task, callback.status, callback.changed_at, links.make, failure=failure)
    if task.plan.strip_audios:
        told["task_result"].pop("audios", None)
    return told


def _forged(task: Task, callback: Callback, links: Links) -> dict[str, Any]:
    other = task.plan.forgery is Forgery.OTHER_TASK
    told = answers.report(task, Status.PROCESSING, callback.changed_at, links.make)
    clip: dict[str, str] = {"id": _invented(task.id)}
    for form in Format:
        clip |= {f"url_{form}": links.invented(task, form), f"duration_{form}": INVENTED_DURATION}
    told |= {"task_status": Status.SUCCEED, "task_result": {"audios": [clip]}, "final_unit_deduction": "9.75"}
    if other:
        told |= {"task_id": _invented(task.id + 1), "task_info": {"external_task_id": _invented(task.id + 2)}}
    return told


def _invented(task_id: int) -> str:
    return INVENTED_ID + str(task_id)[len(INVENTED_ID) :]
