"""Where the database's unix socket lies: a directory for the owner alone, whose path a socket address can hold."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from pathlib import Path
from typing import Final

from receiver.local.child import Identity

#: The server's name for its socket on the port number 5432, which exists in no other way.
SOCKET: Final = ".s.PGSQL.5432"
#: Bytes that a socket's path may have (`sun_path` without its final zero).
LONGEST: Final = 107 if sys.platform == "linux" else 103


def directory(home: Path, owner: Identity | None) -> Path:
    """
    Make or find the socket directory: `socket` in *home*, or a short path that *home* remembers.

    The short one is drawn at random and checked before it is used again, since others can write beside it.
    """
    place = home / "socket"
    if _fits(place):
        place.mkdir(mode=0o700, exist_ok=True)
        place.chmod(0o700)
    else:
        place = _remembered(home, owner)
    if owner:
        os.chown(place, owner.uid, owner.gid)
    return place


def _fits(place: Path) -> bool:
    """Say whether the server and libpq take the path; both read a comma as the start of another."""
    return len(os.fsencode(place / SOCKET)) <= LONGEST and "," not in str(place)


def _remembered(home: Path, owner: Identity | None) -> Path:
    note = home / "socket-directory"
    if note.exists():
        place = Path(note.read_text())
        if _private(place, owner.uid if owner else os.geteuid()):
            return place
    place = Path(tempfile.mkdtemp(prefix="receiver-", dir=_short_base()))
    unfinished = note.with_suffix(".new")
    unfinished.write_text(str(place))
    unfinished.replace(note)
    return place


def _private(place: Path, uid: int) -> bool:
    try:
        status = place.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == uid and not status.st_mode & 0o077


def _short_base() -> Path:
    """Choose the user's own runtime directory where there is one, else the one for all."""
    mine = os.environ.get("XDG_RUNTIME_DIR")
    if mine and os.geteuid() != 0 and _private(Path(mine), os.geteuid()) and _fits(Path(mine) / "receiver-12345678"):
        return Path(mine)
    return Path("/tmp")  # noqa: S108  the name below it is drawn at random, and the directory is 0700
