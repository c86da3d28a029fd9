"""
One child process that dies with us.

On Linux the kernel sends the child a signal when its parent's *thread* ends, so children are started from the main
thread only; the child asks for it after it has changed its user (which would undo it) and then looks again whether the
parent is still there. Elsewhere a watcher process holds the read end of a pipe whose write end lives in the parent, and
ends the child when that closes. The pipe way runs on Linux too and is tested there; on macOS it could not be tried.

All of it happens in `shim.py`, a fresh process, and not in `preexec_fn`: no Python code of ours runs between fork and
exec.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import IO, Final

from receiver.local import shim


class Watch(StrEnum):
    """How a child learns that its parent is gone."""

    KERNEL = "kernel"  #: Linux: a parent-death signal
    PIPE = "pipe"  #: everywhere: a watcher process on a pipe


#: The surest way that this system has.
DEFAULT_WATCH: Final = Watch.KERNEL if sys.platform == "linux" else Watch.PIPE


@dataclass(frozen=True, slots=True)
class Identity:
    """The user and group that a child becomes."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How a child starts; the defaults suit a program of our own."""

    #: The child's whole environment; None: ours.
    env: Mapping[str, str] | None = None
    #: Takes stdout and stderr; None: ours.
    output: IO[bytes] | None = None
    #: Read as stdin; None: empty.
    input: IO[bytes] | None = None
    #: None: our own user.
    identity: Identity | None = None
    #: Keep the right to pass directories that are closed to `identity`.
    search: bool = False
    #: Sent when we are gone.
    death_signal: signal.Signals = signal.SIGKILL
    watch: Watch = DEFAULT_WATCH


class Child:
    """A running or ended child; only this object waits for it."""

    def __init__(self, process: subprocess.Popen[bytes], lifeline: int | None) -> None:
        self._process = process
        self._lifeline = lifeline

    @property
    def pid(self) -> int:
        """The process id of the program itself, never of a wrapper."""
        return self._process.pid

    def poll(self) -> int | None:
        """Return the exit status (negative: the signal that ended it), None while it runs."""
        status = self._process.poll()
        if status is not None and self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
        return status

    def alive(self) -> bool:
        """Say whether it still runs."""
        return self.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless the child has ended."""
        self._process.send_signal(number)

    def wait(self, limit: timedelta) -> int | None:
        """Wait at most *limit* for the end; None when it still runs."""
        try:
            self._process.wait(limit.total_seconds())
        except subprocess.TimeoutExpired:
            return None
        return self.poll()

    def end(self, *steps: tuple[signal.Signals, timedelta]) -> int | None:
        """Send each signal in turn, giving it its time; at last SIGKILL. Return the exit status."""
        for number, limit in steps:
            self.send(number)
            if (status := self.wait(limit)) is not None:
                return status
        self.send(signal.SIGKILL)
        return self.wait(timedelta(seconds=5))


def start(argv: Sequence[str], launch: Launch | None = None) -> Child:
    """
    Start the program `argv[0]` (an absolute path) in its own session, so that the terminal's Ctrl-C is ours alone.

    A program that cannot be started ends at once with status 1 and says why in its output.

    Raises:
        RuntimeError: Not called from the main thread, whose end Linux would take for ours.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("a child is tied to the thread that starts it: start it from the main thread")
    launch = launch or Launch()
    read_end, write_end = os.pipe() if launch.watch is Watch.PIPE else (None, None)
    try:
        process = subprocess.Popen(  # noqa: S603  the callers name the programs; nothing from outside gets here
            [sys.executable, "-I", "-S", shim.__file__, _order(launch, read_end), *argv],
            env=launch.env,
            stdin=launch.input or subprocess.DEVNULL,
            stdout=launch.output,
            stderr=subprocess.STDOUT if launch.output else None,
            pass_fds=() if read_end is None else (read_end,),
            start_new_session=True,
        )
    except BaseException:
        if write_end is not None:
            os.close(write_end)
        raise
    finally:
        if read_end is not None:
            os.close(read_end)
    return Child(process, write_end)


def _order(launch: Launch, lifeline: int | None) -> str:
    order = shim.Order(
        parent=os.getpid(),
        signal=launch.death_signal,
        uid=launch.identity.uid if launch.identity else None,
        gid=launch.identity.gid if launch.identity else None,
        search=launch.search,
        lifeline=lifeline,
    )
    return json.dumps(order)


def open_log(path: Path, *, limit: int = 8 * 1024 * 1024) -> IO[bytes]:
    """Open a child's log for appending, for the owner only; set one larger than *limit* bytes aside as `.1` first."""
    if path.exists() and path.stat().st_size > limit:
        path.replace(path.with_name(path.name + ".1"))
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "ab")
