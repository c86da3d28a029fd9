"""The machine: what it is, and which core does what."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Final

#: The process that is measured.
SERVER_CORE: Final = 0
#: The load, and PostgreSQL.
OTHER_CORE: Final = 1

_SHOWN: Final = ("receiver", "starlette", "uvicorn", "uvloop", "psycopg", "procrastinate", "fastapi", "sqlalchemy")


def can_pin() -> bool:
    """Say whether processes can be bound to cores here, and whether there are two."""
    return sys.platform == "linux" and {SERVER_CORE, OTHER_CORE} <= os.sched_getaffinity(os.getpid())


@contextmanager
def on_core(core: int, *, pin: bool) -> Iterator[None]:
    """Start processes on one core: children inherit ours. Nothing where *pin* is false."""
    if not pin:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def describe() -> dict[str, str]:
    """Return what a reader needs to judge the figures."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "libraries": ", ".join(f"{name} {version(name)}" for name in _SHOWN),
    }


def busy_seconds(pid: int) -> float:
    """Return the CPU seconds that a process has used, all threads; 0 where there is no /proc."""
    return sum(_ticks(str(pid))[:2]) / os.sysconf("SC_CLK_TCK")


class Strangers:
    """What processes that are no part of the benchmark used meanwhile: above 0.1, distrust the figures."""

    def __init__(self) -> None:
        self._before, self._since = self._used(), time.perf_counter()

    def cores(self) -> float:
        """Return the mean number of cores that they kept busy so far; 0 where there is no /proc."""
        return max(self._used() - self._before, 0.0) / (time.perf_counter() - self._since)

    @staticmethod
    def _used() -> float:
        try:
            everybody = sum(int(field) for field in Path("/proc/stat").read_text().split()[1:4])
        except FileNotFoundError:
            return 0.0
        return (everybody - sum(sum(_ticks(pid)) for pid in _family())) / os.sysconf("SC_CLK_TCK")


def _family() -> set[str]:
    """Return our process and its descendants."""
    parents = {entry.name: _fields(entry.name)[1:2] for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    found: set[str] = set()
    new = {str(os.getpid())}
    while new:
        found |= new
        new = {pid for pid, parent in parents.items() if parent and parent[0] in new}
    return found


def family_of(name: str) -> list[int]:
    """Return the processes of that name that we have started, ourselves or through others."""
    return [int(pid) for pid in _family() if _name(pid) == name]


def busy_with(name: str) -> float:
    """Return the CPU seconds that those processes have used, and such of their children as have ended."""
    return sum(sum(_ticks(str(pid))) for pid in family_of(name)) / os.sysconf("SC_CLK_TCK")


def _name(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _ticks(pid: str) -> list[int]:
    """Return the clock ticks of a process in user and system mode, and those of its children that have ended."""
    return [int(field) for field in _fields(pid)[11:15]]


def _fields(pid: str) -> list[str]:
    """Return what /proc says of a process after its name; nothing when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
