"""What callbacks say: the truth, a contradiction of it, a stranger's invention; each in the way of its house."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from receiver.sandbox import statements
from receiver.sandbox.houses import HOUSES, Body, House
from receiver.sandbox.links import Links
from receiver.sandbox.plan import Forgery
from receiver.sandbox.records import FORMATS, SOUNDS, Callback, Format, Kind, Product, Status, Task
from receiver.sandbox.statements import Statement

#: The reason that a contradiction gives.
NOT_SO: Final = "internal error"
#: Seconds, as text, of invented media.
INVENTED_DURATION: Final = "3.0"
INVENTED_UNITS: Final = "9.75"
#: The leading digits of invented ids; no clock will say so for a long time.
INVENTED_ID: Final = "99"


def body(task: Task, callback: Callback, links: Links) -> dict[str, Any]:
    """Return the body of *callback*; its links are fresh. Gateways hand on Kling's own id of the task."""
    house = HOUSES[task.house]
    forged = callback.kind is Kind.FORGERY
    said = statements.state(
        task,
        Status.PROCESSING if forged else callback.status,
        callback.changed_at,
        links.make,
        task_id=str(task.id),
        source=links.source(),
        failure=NOT_SO if callback.kind is Kind.CONTRADICTION else "",
    )
    if forged:
        said = _forged(task, said, links)
    elif task.plan.strip_audios:
        said = replace(said, audios=None)
    return _put(task, said, house)


def _put(task: Task, said: Statement, house: House) -> dict[str, Any]:
    match house.callbacks.body:
        case Body.KLING if task.order.product is Product.NEW_VIDEO:
            return statements.newer(said)
        case Body.KLING:
            return statements.legacy(said)
        case Body.BARE:
            told = statements.legacy(said, house.words)
            del told["task_info"]
            return told
        case Body.STRIPPED:
            return _stripped(said)
        case Body.RECORD:
            return statements.wrapped(replace(said, external_id=None), task.told_id, house)


def _stripped(said: Statement) -> dict[str, Any]:
    """Leave what a record of videos alone can hold (providers.md 6.4)."""
    whole = statements.legacy(said)
    kept = ("task_id", "task_status", "task_status_msg", "created_at", "updated_at", "final_unit_deduction")
    told = {name: whole[name] for name in kept if whole.get(name)}
    return told | {"task_result": {"videos": None if said.videos is None else list(said.videos)}}


def _forged(task: Task, said: Statement, links: Links) -> Statement:
    """Let a stranger claim a success with media of their own, of this task or of another one."""
    video: dict[str, str] = {"id": _invented(task.id), "url": links.invented(task, Format.MP4)}
    sound: dict[str, str] = {"id": _invented(task.id)}
    for form in SOUNDS:
        sound |= {f"url_{form}": links.invented(task, form), f"duration_{form}": INVENTED_DURATION}
    formats = FORMATS[task.order.product]
    invented = replace(
        said,
        status=Status.SUCCEED,
        audios=(sound,) if Format.MP3 in formats else None,
        videos=({**video, "duration": INVENTED_DURATION},) if Format.MP4 in formats else None,
        units=INVENTED_UNITS,
    )
    if task.plan.forgery is not Forgery.OTHER_TASK:
        return invented
    return replace(invented, task_id=_invented(task.id + 1), external_id=_invented(task.id + 2))


def _invented(task_id: int) -> str:
    return INVENTED_ID + str(task_id)[len(INVENTED_ID) :]
