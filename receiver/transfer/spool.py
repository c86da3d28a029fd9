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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

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

    Making one wipes what dead processes left under *root*. *give_way* is called
    when room is short: it removes one file that can be spared, or returns False.
    """

    def __init__(
        self,
        root: Path,
        *,
        floor: int = DEFAULT_FLOOR,
        quota: int | None = None,
        give_way: Callable[[], bool] = lambda: False,
    ) -> None:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.give_way = give_way
        self._floor = floor
        self._quota = quota
        self._growing: set[SpoolFile] = set()
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

    @property
    def quota(self) -> int | None:
        """Bytes that may lie here; None leaves that to the floor."""
        return self._quota

    def has_room(self, size: int, *, spare: int = 0) -> bool:
        """
        Tell whether one more file of *size* bytes may begin.

        Files that are being written are taken to reach *size* too, and *spare*
        bytes to be given up. An idle spool has room for one, however small its quota.
        """
        usual = size if self._quota is None else min(size, self._quota)
        coming = sum(max(0, usual - file.size) for file in self._growing)
        return self._shortage(usual + coming, spare) is None

    def check_room(self, size: int) -> None:
        """
        Make sure that *size* more bytes may be written, and give up what can be spared for them.

        Raises:
            SpoolFull: They would pass the quota, or leave less than the floor free on the disk.
        """
        while (why := self._shortage(size)) is not None:
            if not self.give_way():
                raise SpoolFull(why)

    def relieve(self) -> None:
        """Give up what can be spared while the disk has less than the floor free."""
        while self._shortage(0) is not None:
            if not self.give_way():
                return

    def open(self) -> SpoolFile:
        """
        Start an empty file.

        Raises:
            SpoolFull: The disk has no room for one more.
        """
        return SpoolFile(self)

    def grows(self, file: SpoolFile) -> None:
        """Count *file* as being written."""
        self._growing.add(file)

    def rests(self, file: SpoolFile) -> None:
        """Count *file* as no longer being written; harmless when repeated."""
        self._growing.discard(file)

    def take(self, size: int) -> None:
        """
        Count *size* bytes about to be written; looks at the disk now and then.

        Raises:
            SpoolFull: There is no room for them.
        """
        if self._over_quota(size) or self._used + size - self._looked_at >= LOOK_EVERY:
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

    def _shortage(self, size: int, spare: int = 0) -> str | None:
        """Say what *size* more bytes would pass if *spare* ones were gone; None when there is room."""
        if self._over_quota(size - spare):
            return "the spool's quota is used up"
        if shutil.disk_usage(self._directory).free + spare - size < self._floor:
            return "the disk has too little free space"
        return None

    def _over_quota(self, size: int) -> bool:
        return self._quota is not None and self._used + size > self._quota


class SpoolFile:
    """One file in the spool, written front to back; whoever opened it discards it."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        with _disk_full_told():
            handle, name = tempfile.mkstemp(dir=spool.directory)
        self._file: BinaryIO = os.fdopen(handle, "wb", buffering=0)
        self.path = Path(name)
        self.size = 0
        spool.grows(self)

    @property
    def intact(self) -> bool:
        """Whether the disk still holds as many bytes as were written."""
        try:
            return self.path.stat().st_size == self.size
        except FileNotFoundError:
            return False

    def write(self, chunk: bytes) -> None:
        """
        Append *chunk*.

        Raises:
            SpoolFull: There is no room for it.
        """
        self._spool.take(len(chunk))
        self.size += len(chunk)
        view = memoryview(chunk)
        while view:
            try:
                with _disk_full_told():
                    view = view[self._file.write(view) :]
            except SpoolFull:
                # The free space that a disk reports is not always ours to use.
                if not self._spool.give_way():
                    raise

    def reserve(self, size: int) -> None:
        """
        Leave an empty file to another writer, and count *size* bytes as written; `settle` tells how many came.

        Raises:
            SpoolFull: There is no room for them.
        """
        self._spool.check_room(size)
        self._spool.take(size)
        self.size = size
        self.close()

    def settle(self) -> None:
        """Count the bytes that another writer left here in place of those that were reserved."""
        size = self.path.stat().st_size
        self._spool.release(self.size - size)
        self.size = size

    def restart(self) -> None:
        """Forget what was written."""
        self._file.seek(0)
        self._file.truncate()
        self._spool.release(self.size)
        self.size = 0

    def close(self) -> None:
        """End the writing; the bytes stay."""
        self._file.close()
        self._spool.rests(self)

    def reopen(self) -> None:
        """Go on writing after `close`, at the end."""
        self._file = self.path.open("ab", buffering=0)
        self._spool.grows(self)

    def discard(self) -> None:
        """Remove the file and give its room back; harmless when repeated."""
        self.close()
        self.path.unlink(missing_ok=True)
        self._spool.release(self.size)
        self.size = 0


@contextmanager
def _disk_full_told() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno in _FULL:
            raise SpoolFull("the disk is full") from exc
        raise


def _wipe_leftovers(root: Path) -> None:
    """Remove the directories whose processes no longer hold their lock."""
    for directory in root.glob(f"{_PREFIX}*"):
        try:
            lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            continue  # its process is just closing it
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(directory, ignore_errors=True)
        finally:
            os.close(lock)
