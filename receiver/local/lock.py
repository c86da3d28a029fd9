"""One process per directory."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from receiver.core.errors import Misconfigured


class DirectoryLock:
    """
    A lock that ends with this process, however it ends; no child inherits it.

    Args:
        directory: Is named in the message; holds the file `lock`.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file: int | None = None

    @property
    def held(self) -> bool:
        """Whether we hold it."""
        return self._file is not None

    def acquire(self) -> None:
        """
        Take the lock; nothing when we hold it.

        Raises:
            Misconfigured: Another process holds it.
        """
        if self._file is not None:
            return
        file = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            os.close(file)
            raise Misconfigured(
                f"another receiver runs on {self._directory}: stop it, or give this one another data directory"
            ) from exc
        self._file = file

    def release(self) -> None:
        """Give the lock back; nothing when we do not hold it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
