"""Real processes: find them by their parents, kill them by a handle that no other process can take over."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

#: Seconds; far above what any fact takes, below the limit of a test.
PATIENCE = 100.0
#: Seconds between two questions, at first and at last.
PAUSES = (0.01, 0.2)


def until(fact: Callable[[], T | None], *, what: str, patience: float = PATIENCE, pause: float | None = None) -> T:
    """
    Return the first true answer of *fact*.

    Without a *pause* it is asked less and less often: what takes seconds is not slowed down by the questions, nor are
    the other tests.
    """
    deadline = time.monotonic() + patience
    waits = PAUSES[0] if pause is None else pause
    while not (answer := fact()):
        assert time.monotonic() < deadline, f"it never came true: {what}"
        threading.Event().wait(waits)
        waits = min(waits * 1.3, PAUSES[1]) if pause is None else pause
    return answer


@dataclass(frozen=True)
class Process:
    """A process as it was when looked at; *born* tells it from a later one with the same id."""

    pid: int
    parent: int
    born: int
    argv: tuple[str, ...]

    @property
    def role(self) -> str:
        """What it is in a deployment, or "" for what no test asks for."""
        program = Path(self.argv[0]).name
        if self.argv[-3:-1] == ("-m", "receiver"):
            return self.argv[-1]
        if "sandbox" in self.argv and "receiver" in self.argv:
            return "sandbox"
        if self.argv[0].startswith("postgres: "):
            return "backend" if "[local]" in self.argv[0] else ""
        return program if program in {"postgres", "rclone"} else ""

    def lives(self) -> bool:
        """Say whether this very process runs; a zombie does not."""
        now = look(self.pid)
        return now is not None and now.born == self.born

    def kill9(self) -> bool:
        """Send SIGKILL to this very process; False when it has ended already."""
        return self.send(signal.SIGKILL)

    def send(self, number: signal.Signals) -> bool:
        """Send a signal to this very process; False when it has ended already."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            if not self.lives():
                return False
            signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)
        return True


def look(pid: int) -> Process | None:
    """Return what runs under *pid*; None for nothing, and for a zombie."""
    try:
        state, parent, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").rstrip("\0 ").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return None
    if state in {"Z", "X"} or not argv[0]:
        return None
    return Process(pid, int(parent), int(rest[17]), tuple(argv))


def everything() -> list[Process]:
    """Return all processes of this machine."""
    found = (look(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [process for process in found if process is not None]


def tree(root: int) -> list[Process]:
    """Return the process *root* and all that descend from it, parents first."""
    children: dict[int, list[Process]] = {}
    for process in everything():
        children.setdefault(process.parent, []).append(process)
    first = look(root)
    found = [] if first is None else [first]
    for process in found:
        found.extend(children.get(process.pid, ()))
    return found


def mentioning(text: str) -> list[Process]:
    """Return the processes with *text* in their command line or environment, which is how an escaped child is found."""
    return [process for process in everything() if process.pid != os.getpid() and _mentions(process, text)]


def _mentions(process: Process, text: str) -> bool:
    if any(text in argument for argument in process.argv):
        return True
    return any(text in value for value in environment_of(process).values())


def environment_of(process: Process) -> dict[str, str]:
    """Return the environment that a process was started with; empty when it is not ours to see."""
    try:
        raw = Path(f"/proc/{process.pid}/environ").read_bytes()
    except OSError:
        return {}
    pairs = (item.partition("=") for item in raw.decode(errors="replace").split("\0") if "=" in item)
    return {name: value for name, _, value in pairs}


def living(processes: Iterable[Process]) -> list[Process]:
    """Return those that still run."""
    return [process for process in processes if process.lives()]


def ended(process: Process) -> bool:
    """Say whether this very process has ended."""
    return not process.lives()
