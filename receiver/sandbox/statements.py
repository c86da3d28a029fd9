"""What a house says of a task, and how it puts it: Kling's two standards, and a gateway's record around the first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from receiver.sandbox import ids
from receiver.sandbox.houses import KLINGS_WORDS, House
from receiver.sandbox.records import SOUNDS, Format, MediaFile, Product, Status, Task

#: Makes the link to one file of a task, good from now on.
LinkMaker = Callable[[Task, MediaFile], str]

Said = dict[str, Any]

#: Of the video that an order names by its id: what `/source.mp4` serves. Seconds, as text.
SOURCE: Final = "source.mp4"
SOURCE_DURATION: Final = "3.1"

#: The new standard's word for success (providers.md 7).
SUCCEEDED: Final = "succeeded"
#: Of one second, in milliseconds.
SECOND: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What is said at one moment; forgeries are made of it, too."""

    task_id: str
    external_id: str | None
    parent: Mapping[str, str] | None
    status: Status
    #: Why it failed.
    message: str
    #: Milliseconds since 1970.
    created_at: int
    changed_at: int
    #: In the words of the legacy standard; None: nothing is said of media.
    audios: tuple[Said, ...] | None = None
    videos: tuple[Said, ...] | None = None
    #: Units taken.
    units: str | None = None


def state(
    task: Task, status: Status, changed_at: int, link: LinkMaker, *, task_id: str, source: str, failure: str = ""
) -> Statement:
    """
    Say of *task*, under the id *task_id*, that it has *status*.

    *source* is the link to the house's source video; *failure* is said of a
    task that has none.
    """
    succeeded = status is Status.SUCCEED
    return Statement(
        task_id=task_id,
        external_id=task.order.external_id,
        parent=_parent(task, source),
        status=status,
        message=(task.failure or failure) if status is Status.FAILED else "",
        created_at=task.created_at,
        changed_at=changed_at,
        audios=_audios(task, link) if succeeded else None,
        videos=_videos(task, link) if succeeded else None,
        units=task.charged if succeeded else None,
    )


def legacy(said: Statement, words: Mapping[Status, str] = KLINGS_WORDS) -> Said:
    """Put it as Kling's legacy standard does (providers.md 2.6, 6.3)."""
    info: Said = {} if said.external_id is None else {"external_task_id": said.external_id}
    if said.parent is not None:
        info["parent_video"] = dict(said.parent)
    result = {"videos": said.videos, "audios": said.audios}
    data: Said = {
        "task_id": said.task_id,
        "task_status": words[said.status],
        "task_status_msg": said.message,
        "task_info": info,
        "task_result": {name: list(media) for name, media in result.items() if media is not None},
        "created_at": said.created_at,
        "updated_at": said.changed_at,
    }
    return data if said.units is None else data | {"final_unit_deduction": said.units}


def newer(said: Statement) -> Said:
    """Put it as Kling's new standard does (providers.md 2.6, 6.6)."""
    outputs: list[Said] = [{"type": "video", **video} for video in said.videos or ()]
    outputs += [{"type": "audio", **{_reversed(name): text for name, text in one.items()}} for one in said.audios or ()]
    data: Said = {
        "id": said.task_id,
        "status": SUCCEEDED if said.status is Status.SUCCEED else said.status,
        "message": said.message,
        "create_time": said.created_at,
        "update_time": said.changed_at,
    }
    if said.external_id is not None:
        data["external_id"] = said.external_id
    data["outputs"] = outputs
    if said.units is not None:
        data["billing"] = [{"charge_type": "unit", "amount": said.units, "package_type": "video"}]
    return data


def wrapped(said: Statement, told_id: str, house: House) -> Said:
    """Put Kling's answer into a gateway's record (providers.md 4.1, 6.10); its times are seconds."""
    ended = said.status in {Status.SUCCEED, Status.FAILED}
    media = [*(said.videos or ()), *(said.audios or ())]
    progress = {Status.SUBMITTED: "10%", Status.PROCESSING: "50%"}
    return {
        "task_id": told_id,
        "status": house.words[said.status],
        "fail_reason": said.message,
        "result_url": (media[0].get("url") or media[0].get("url_mp3")) if media else "",
        "progress": progress.get(said.status, "100%"),
        "submit_time": said.created_at // SECOND,
        "start_time": said.created_at // SECOND if said.status is not Status.SUBMITTED else 0,
        "finish_time": said.changed_at // SECOND if ended else 0,
        "data": {"code": 0, "message": "SUCCEED", "data": legacy(said)},
    }


def created(task: Task, house: House) -> Said:
    """Return the reply to a create, without its envelope (providers.md 6.2)."""
    if task.order.product is Product.NEW_VIDEO:
        times = {"create_time": task.created_at, "update_time": task.created_at}
        told = {} if task.order.external_id is None else {"external_id": task.order.external_id}
        return {"id": task.told_id, "status": Status.SUBMITTED, **times, **told}
    if house.bare_create:
        return {"task_id": task.told_id, "task_status": house.words[Status.SUBMITTED]}
    named = house.task_info and task.order.external_id is not None
    return {
        "task_id": task.told_id,
        "task_info": {"external_task_id": task.order.external_id} if named else {},
        "task_status": house.words[Status.SUBMITTED],
        "created_at": task.created_at,
        "updated_at": task.created_at,
    }


def queued(task: Task) -> Said:
    """Return a gateway's whole reply to a create, an object for a video of another make (providers.md 4.1)."""
    return {
        "id": task.told_id,
        "task_id": task.told_id,
        "object": "video",
        "model": f"kling-{task.order.product}",
        "status": "queued",
        "progress": 0,
        "created_at": task.created_at // SECOND,
    }


def record(task: Task, house: House, link: LinkMaker, source: str) -> Said:
    """Return what a query, and an entry of a list, says of *task* (providers.md 2.4)."""
    task_id = str(task.id) if house.wraps else task.told_id
    said = state(task, task.status, task.updated_at, link, task_id=task_id, source=source)
    if house.wraps:
        return wrapped(replace(said, external_id=None), task.told_id, house)
    data = legacy(said, house.words)
    if not house.task_info:
        data["task_info"] = {}
    if task.status is Status.SUCCEED:
        data["final_balance_deduction"] = {"quota": "0", "list_price": "0"}
    return data


def _reversed(name: str) -> str:
    """Return the new standard's name of a field of sound: `url_mp3` is `mp3_url` there."""
    return "_".join(reversed(name.split("_")))


def _parent(task: Task, source: str) -> dict[str, str] | None:
    if task.order.product is not Product.VIDEO_SOUND:
        return None
    order = task.order
    return {
        "id": order.video_id or str(task.id + ids.PARENT),
        "url": order.video_url or source,
        "duration": SOURCE_DURATION,
    }


def _audios(task: Task, link: LinkMaker) -> tuple[Said, ...] | None:
    sounds = [file for file in task.files if file.format in SOUNDS]
    clips: dict[int, Said] = {}
    for file in sounds:
        clips.setdefault(file.clip, {"id": str(file.clip)})[f"url_{file.format}"] = link(task, file)
    for file in sounds:
        clips[file.clip][f"duration_{file.format}"] = file.duration
    return tuple(clips.values()) or None


def _videos(task: Task, link: LinkMaker) -> tuple[Said, ...] | None:
    videos = [file for file in task.files if file.format is Format.MP4]
    return tuple({"id": str(one.clip), "url": link(task, one), "duration": one.duration} for one in videos) or None
