"""The data directory: ours to write, closed to others, with room."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from receiver.cli.doctor.findings import Finding, broken, ok, warning
from receiver.settings import Settings
from receiver.transfer.spool import DEFAULT_FLOOR

NAME: Final = "data directory"
#: What only the owner may read.
SECRET_FILES: Final = ("callback-secret", "store/key.json")

_MEGABYTE: Final = 10**6
_OTHERS: Final = 0o077


def check(settings: Settings) -> Iterator[Finding]:
    """Look at rights and room; makes nothing."""
    directory = settings.data_dir.absolute()
    found = [*_rights(directory), *_room(directory, settings)]
    yield from found or [ok(NAME, f"{directory}: ours, {_free(directory) // _MEGABYTE:,} MB free")]


def _rights(directory: Path) -> Iterator[Finding]:
    place = _existing(directory)
    if not os.access(place, os.W_OK | os.X_OK):
        yield broken(
            NAME,
            f"no right to write in {place}",
            f"give it to user id {os.geteuid()}, or set another",
        )
        return
    for name in SECRET_FILES:
        file = directory / name
        if file.exists() and file.stat().st_mode & _OTHERS:
            yield broken(NAME, f"others may read {file}", f"chmod 600 {file}, and change what it holds")


def _room(directory: Path, settings: Settings) -> Iterator[Finding]:
    free, quota = _free(directory), settings.spool_quota_mb * _MEGABYTE
    text = f"{free // _MEGABYTE:,} MB free in {directory}"
    if free < DEFAULT_FLOOR:
        yield broken(NAME, f"{text}: downloads wait", "free some space")
    elif free < quota + DEFAULT_FLOOR:
        yield warning(
            NAME,
            f"{text}, and downloads may take {settings.spool_quota_mb:,} MB",
            "free some, or lower RECEIVER_SPOOL_QUOTA_MB",
        )


def _free(directory: Path) -> int:
    return shutil.disk_usage(_existing(directory)).free


def _existing(directory: Path) -> Path:
    """Return *directory*, or the nearest above it that exists."""
    return next(place for place in (directory, *directory.parents) if place.exists())
