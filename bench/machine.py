"""The machine: what it is, and which core does what."""

from __future__ import annotations

import os
import platform
import sys
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
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
