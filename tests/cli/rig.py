"""The command line as real processes, and what they leave behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

RECEIVER = (sys.executable, "-m", "receiver")
#: Seconds; far above what any fact takes.
PATIENCE = 60.0
#: What the person who runs the tests may have set for a service of their own.
STRANGERS = ("RECEIVER_", "KLING_", "COMETAPI_", "DEERAPI_", "KKIAI_")


def until(fact: Callable[[], object], patience: float = PATIENCE) -> None:
    """Wait for a fact, with a question less and less often: each may look at every process of the machine."""
    deadline = time.monotonic() + patience
    pause = 0.01
    while not fact():
        assert time.monotonic() < deadline, "it never came true"
        threading.Event().wait(pause)
        pause = min(pause * 1.3, 0.2)


def environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment in which nothing is set that the product reads."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(STRANGERS)}
    return {**ours, "COLUMNS": "160", **(changes or {})}


def processes_of(directory: Path) -> dict[int, str]:
    """The running processes that were started for *directory*, by id, with their command lines."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                about = command + (entry / "environ").read_bytes().decode(errors="replace")
                if str(directory) in about + str((entry / "cwd").readlink()):
                    found[int(entry.name)] = command
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # it has just ended, or is none of ours
    return found


@dataclass(kw_only=True)
class Demo:
    """A demo that was started with `--keep`, and all that it has said."""

    process: subprocess.Popen[str]
    directory: Path
    lines: list[str] = field(default_factory=list)

    def read_until(self, text: str) -> None:
        """Read on until it says *text*."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if text in line:
                return
        raise AssertionError("".join(self.lines))

    def told(self, pattern: str) -> str:
        """What it has said of something."""
        match = re.search(pattern, "".join(self.lines))
        assert match is not None, self.lines
        return match[1]

    @property
    def url(self) -> str:
        return self.told(r"service +(http://\S+)")

    @property
    def sandbox_url(self) -> str:
        return self.told(r"sandbox +(http://\S+)")

    @property
    def key(self) -> str:
        return self.told(r"API key +(rk_\S+)")

    def pid_of(self, command: str) -> int:
        """The process that runs `receiver <command>`."""
        return next(pid for pid, line in processes_of(self.directory).items() if f"-m receiver {command}" in line)

    def end(self, number: signal.Signals) -> int:
        """Send a signal, read to the end and return the exit status."""
        self.process.send_signal(number)
        return self.read_to_the_end()

    def read_to_the_end(self) -> int:
        """Read the rest of what it says and return the exit status."""
        assert self.process.stdout is not None
        self.lines += self.process.stdout.readlines()
        self.process.stdout.close()
        return self.process.wait(PATIENCE)


def start_demo(directory: Path, *options: str, env: Mapping[str, str] | None = None) -> Iterator[Demo]:
    """Yield a demo that has just been started; kill it at the end, should it still run."""
    process = subprocess.Popen(
        [*RECEIVER, "demo", "--data-dir", str(directory), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(env),
    )
    demo = Demo(process=process, directory=directory)
    try:
        yield demo
    finally:
        if process.poll() is None:
            demo.end(signal.SIGKILL)
