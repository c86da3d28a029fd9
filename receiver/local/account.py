"""
Which user the embedded PostgreSQL runs as; it refuses to run as root.

Started by a normal user it is that user. Started by root it is the owner of the data directory, or at first a number
that no account has: no account is made, and no other program runs under it and so may open our socket. `initdb` alone
insists on a user with a name, so it runs as `nobody` in a directory that is then given to the number. Directories above
the server's own are never changed: where one is closed to that user (a checkout below /root, a home with mode 0700),
the server keeps the one capability that passes directories, and no other.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from receiver.core.errors import Misconfigured
from receiver.local.child import Identity

#: In 60706-61183, which no distribution hands out. Source: systemd, "Users, Groups, UIDs and GIDs on systemd systems".
#: Below 65536, so that it also exists in a container with its own user numbers.
SERVER: Final = Identity(61018, 61018)


@dataclass(frozen=True, slots=True)
class Account:
    """Who runs what; None stands for the user that we are."""

    #: Runs the server and owns its data.
    server: Identity | None
    #: Runs initdb.
    maker: Identity | None


def choose(data: Path) -> Account:
    """
    Choose the users for the data directory *data*, which need not exist.

    Raises:
        Misconfigured: The data belong to someone else, or this user has no name.
    """
    owner = data.stat() if data.exists() else None
    if os.geteuid() == 0:
        if owner is None or owner.st_uid == 0:
            return Account(server=SERVER, maker=_named())
        return Account(server=Identity(owner.st_uid, owner.st_gid), maker=None)
    if owner is None:
        _require_name(os.geteuid())
    elif owner.st_uid != os.geteuid():
        raise Misconfigured(
            f"{data} belongs to user {owner.st_uid}, this process runs as {os.geteuid()}: start it as root "
            "or as that user, or give it another data directory"
        )
    return Account(server=None, maker=None)


def _named() -> Identity:
    """Name an unprivileged user that initdb can look up."""
    candidates = [entry for entry in pwd.getpwall() if entry.pw_uid != 0]
    for entry in sorted(candidates, key=lambda entry: entry.pw_name != "nobody"):
        return Identity(entry.pw_uid, entry.pw_gid)
    raise Misconfigured(
        "the embedded database cannot be made by root on a system without any other user: "
        "run as another user, or set RECEIVER_DATABASE_URL"
    )


def _require_name(uid: int) -> None:
    try:
        pwd.getpwuid(uid)
    except KeyError as exc:
        raise Misconfigured(
            f"the embedded database needs a name for user {uid} in /etc/passwd: add one, run as a user that has one, "
            "or set RECEIVER_DATABASE_URL"
        ) from exc


def closed_to(identity: Identity | None, paths: Iterable[Path]) -> bool:
    """Say whether a directory above one of *paths* cannot be passed by *identity* (by its mode; ACLs are not read)."""
    if identity is None:
        return False
    parents = {parent for path in paths for parent in path.resolve().parents}
    return not all(_passable(parent.stat(), identity) for parent in parents)


def _passable(status: os.stat_result, identity: Identity) -> bool:
    if status.st_uid == identity.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == identity.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def give(directory: Path, identity: Identity | None) -> None:
    """Give *directory* and all below it to *identity*; it is closed to its former owner first."""
    if identity is None:
        return
    os.chown(directory, os.geteuid(), os.getegid())
    for _, names, files, opened in os.fwalk(directory):
        for name in (*names, *files):
            os.chown(name, identity.uid, identity.gid, dir_fd=opened, follow_symlinks=False)
    os.chown(directory, identity.uid, identity.gid)
