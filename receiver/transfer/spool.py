"""
Disk on which bytes wait between download and upload.

Several processes share one directory. Each works in a subdirectory of its own
and holds a lock on it for as long as it lives, so that what a dead process
left behind can be told from what a live one is using.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from receiver.core.errors import SpoolFull

#: Bytes that stay free on the disk for the others who live there, the database first of all.
DEFAULT_FLOOR: Final = 256 * 1024 * 1024
#: Bytes between two looks at the free space of the disk.
LOOK_EVERY: Final = 4 * 1024 * 1024

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_LOCK: Final = "lock"
_PREFIX: Final = "process-"


class Spool:
    """
    A private directory of this process under *root*; *quota* bounds its bytes, None leaves that to the floor.

    Making one wipes what dead processes left under *root*.
    """

    def __init__(self, root: Path, *, floor: int = DEFAULT_FLOOR, quota: int | None = None) -> None:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._floor = floor
        self._quota = quota
        self._used = 0
        self._looked_at = -LOOK_EVERY
        gate = os.open(root / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # Nobody may look at a directory between its making and its locking.
            fcntl.flock(gate, fcntl.LOCK_EX)
            _wipe_leftovers(root)
            self._directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
            self._lock = os.open(self._directory / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        finally:
            os.close(gate)

    @property
    def directory(self) -> Path:
        """Where this process keeps its files."""
        return self._directory

    @property
    def used(self) -> int:
        """Bytes that lie here now."""
        return self._used

    def check_room(self, size: int) -> None:
        """
        Make sure that *size* more bytes may be written.

        Raises:
            SpoolFull: They would pass the quota, or leave less than the floor free on the disk.
        """
        if self._quota is not None and self._used + size > self._quota:
            raise SpoolFull("the spool's quota is used up")
        if shutil.disk_usage(self._directory).free - size < self._floor:
            raise SpoolFull("the disk has too little free space")

    def open(self) -> SpoolFile:
        """Start an empty file."""
        return SpoolFile(self)

    def take(self, size: int) -> None:
        """
        Count *size* bytes about to be written; looks at the disk now and then.

        Raises:
            SpoolFull: There is no room for them.
        """
        if self._quota is not None and self._used + size > self._quota:
            raise SpoolFull("the spool's quota is used up")
        if self._used + size - self._looked_at >= LOOK_EVERY:
            self.check_room(size)
            self._looked_at = self._used
        self._used += size

    def release(self, size: int) -> None:
        """Count *size* bytes as gone."""
        self._used -= size
        self._looked_at = min(self._looked_at, self._used)

    def close(self) -> None:
        """Remove everything and give up the lock."""
        shutil.rmtree(self._directory, ignore_errors=True)
        os.close(self._lock)


class SpoolFile:
    """One file in the spool, written front to back; removed unless kept."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        handle, name = tempfile.mkstemp(dir=spool.directory)
        self._file: BinaryIO = os.fdopen(handle, "wb", buffering=0)
        self.path = Path(name)
        self.size = 0

    def write(self, chunk: bytes) -> None:
        """
        Append *chunk*.

        Raises:
            SpoolFull: There is no room for it.
        """
        self._spool.take(len(chunk))
        self.size += len(chunk)
        view = memoryview(chunk)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as exc:
            if exc.errno in _FULL:
                raise SpoolFull("the disk is full") from exc
            raise

    def restart(self) -> None:
        """Forget what was written."""
        self._file.seek(0)
        self._file.truncate()
        self._spool.release(self.size)
        self.size = 0

    def close(self) -> None:
        """End the writing; the bytes stay."""
        self._file.close()

    def discard(self) -> None:
        """Remove the file and give its room back; harmless when repeated."""
        self._file.close()
        self.path.unlink(missing_ok=True)
        self._spool.release(self.size)
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close; after an error also remove."""
        if kind is None:
            self.close()
        else:
            self.discard()


def _wipe_leftovers(root: Path) -> None:
    """Remove the directories whose processes no longer hold their lock."""
    for directory in root.glob(f"{_PREFIX}*"):
        lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(directory, ignore_errors=True)
        finally:
            os.close(lock)
