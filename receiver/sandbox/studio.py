"""Keeps the media: makes files in a thread, and knows where they lie."""

from __future__ import annotations

import asyncio
import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Final

from receiver.sandbox import film, ids, sound
from receiver.sandbox.records import FORMATS, SOUNDS, Format, MediaFile, Order, Task

#: Seconds of the sound that is made for a video.
VIDEOS: Final = Decimal("3.0")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Take:
    """What files are made of: tasks whose takes are equal share them."""

    #: The task's id, or a number that many tasks share.
    number: int
    formats: tuple[Format, ...]
    seconds: Decimal
    #: The video sounds.
    sound: bool


class Studio:
    """Files of succeeded tasks, one directory for each take."""

    def __init__(self, directory: Path, threads: ThreadPoolExecutor, *, clips: int) -> None:
        """
        Prepare to keep files.

        Args:
            directory: Holds them.
            threads: Make them.
            clips: That many sounds are made and shared by all tasks; 0: each task has its own.
        """
        self._directory = directory
        self._threads = threads
        self._clips = clips
        self._shared: dict[_Take, asyncio.Future[tuple[MediaFile, ...]]] = {}

    async def make(self, task: Task) -> tuple[MediaFile, ...]:
        """Make the files of *task*; again after a kill gives the same bytes."""
        take = self._take(task)
        if not self._clips:
            files = await self._run(take)
        else:
            files = await asyncio.shield(self._shared.setdefault(take, self._shared.get(take) or self._run(take)))
        clip = {form: task.id + (ids.SOUND if form in SOUNDS else ids.VIDEO) for form in Format}
        return tuple(replace(one, clip=clip[one.format]) for one in files)

    async def invent(self, number: int, form: Format) -> bytes:
        """Make a file that sounds like no task, another one for each *number* of a task; nothing is kept."""
        make = _film if form is Format.MP4 else _invented_sound
        return await asyncio.get_running_loop().run_in_executor(self._threads, make, number + ids.LAST, form)

    def path(self, task: Task, file: MediaFile) -> Path:
        """Return where the file lies."""
        return self._place(replace(self._take(task), number=file.take), file.format)

    def _run(self, take: _Take) -> asyncio.Future[tuple[MediaFile, ...]]:
        return asyncio.get_running_loop().run_in_executor(self._threads, self._make, take)

    def _take(self, task: Task) -> _Take:
        order: Order = task.order
        return _Take(
            number=task.number % self._clips if self._clips else task.id,
            formats=FORMATS[order.product],
            seconds=order.duration or VIDEOS,
            sound=order.sound,
        )

    def _make(self, take: _Take) -> tuple[MediaFile, ...]:
        files: list[MediaFile] = []
        if Format.MP3 in take.formats:
            recordings = sound.record(take.number, take.seconds)
            files += [self._keep(take, made.format, made.data, made.duration) for made in recordings]
        if Format.MP4 in take.formats:
            shot = film.shoot(take.number, sound=take.sound)
            kept = self._keep(take, Format.MP4, shot.data, shot.duration)
            files.append(replace(kept, sound_sha256=shot.sound_sha256))
        return tuple(files)

    def _keep(self, take: _Take, form: Format, data: bytes, duration: str) -> MediaFile:
        path = self._place(take, form)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f"{path.suffix}.part")
        partial.write_bytes(data)
        partial.replace(path)
        return MediaFile(
            clip=0,
            take=take.number,
            format=form,
            bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            duration=duration,
        )

    def _place(self, take: _Take, form: Format) -> Path:
        stem = str(take.seconds) if form in SOUNDS else "film" if take.sound else "silent"
        return self._directory / str(take.number) / f"{stem}.{form}"


def _film(number: int, _form: Format) -> bytes:
    return film.shoot(number, sound=True).data


def _invented_sound(number: int, form: Format) -> bytes:
    return next(made.data for made in sound.record(number, VIDEOS) if made.format is form)
