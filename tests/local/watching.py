"""What the tests of the embedded parts share: start `parts.py`, and see which processes live."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

PARTS = Path(__file__).with_name("parts.py")
#: Seconds; far above what any fact takes.
PATIENCE = 40.0


def until(fact: Callable[[], object], patience: float = PATIENCE) -> None:
    """Wait for a fact."""
    deadline = time.monotonic() + patience
    while not fact():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def lives(pid: int) -> bool:
    """A zombie does not live."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def environment() -> dict[str, str]:
    root = str(PARTS.parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([root, *filter(None, sys.path)])}


class Parts:
    """`parts.py` as a process of its own."""

    def __init__(self, what: str, directory: Path, watch: str = "kernel") -> None:
        argv = [sys.executable, str(PARTS), what, str(directory), watch]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, env=environment())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()

    def said(self) -> dict[str, Any]:
        """The next thing it says."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, "it ended without a word"
        found = json.loads(line)
        assert isinstance(found, dict)
        return found

    def saw(self, event: str, name: str) -> dict[str, Any]:
        """The next log line of that event about that child."""
        while True:
            line = self.said()
            if (line.get("event"), line.get("name")) == (event, name):
                return line

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
