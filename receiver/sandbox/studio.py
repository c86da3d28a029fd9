"""Keeps the media: makes a task's files in a thread, and knows where they lie."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

from receiver.sandbox import sound, tasks
from receiver.sandbox.records import Audio, Format, Task


class Studio:
    """Files of succeeded tasks, one directory for each task."""

    def __init__(self, directory: Path, threads: ThreadPoolExecutor) -> None:
        self._directory = directory
        self._threads = threads

    async def make(self, task: Task) -> tuple[Audio, ...]:
        """Make both files of *task*; again after a kill gives the same bytes."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._make, task)

    async def invent(self, number: int, form: Format, seconds: Decimal) -> bytes:
        """Make a file that sounds like no task, another one for each *number* of a task; nothing is kept."""
        number += tasks.LAST_ID
        recordings = await asyncio.get_running_loop().run_in_executor(self._threads, sound.record, number, seconds)
        return next(one.data for one in recordings if one.format is form)

    def path(self, task_id: int, clip: int, form: Format) -> Path:
        """Return where the file lies, or would lie."""
        return self._directory / str(task_id) / f"{clip}.{form}"

    def _make(self, task: Task) -> tuple[Audio, ...]:
        clip = tasks.clip_id(task.id)
        return tuple(self._keep(task, clip, made) for made in sound.record(task.id, task.order.duration))

    def _keep(self, task: Task, clip: int, made: sound.Recording) -> Audio:
        path = self.path(task.id, clip, made.format)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f"{path.suffix}.part")
        partial.write_bytes(made.data)
        partial.replace(path)
        return Audio(clip=clip, format=made.format, bytes=len(made.data), sha256=made.sha256, duration=made.duration)
