"""Commands that speak to a running service."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest import mock

import pytest

from receiver.cli.main import main
from tests.cli.rig import RECEIVER, Demo, environment


@dataclass(frozen=True, kw_only=True)
class Said:
    """What came of a command."""

    returncode: int
    stdout: str
    stderr: str


def ask(kept: Demo, *arguments: str, env: Mapping[str, str] | None = None) -> Said:
    """Run `receiver`, in this process because a fresh one takes a second to start."""
    told = environment({"RECEIVER_URL": kept.url, "RECEIVER_API_KEY": kept.key, **(env or {})})
    stdout, stderr = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, told, clear=True),
        mock.patch.object(sys, "argv", ["receiver", *arguments]),
        redirect_stdout(stdout),
        redirect_stderr(stderr),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    assert isinstance(ended.value.code, int)
    return Said(returncode=ended.value.code, stdout=stdout.getvalue(), stderr=stderr.getvalue())


def own_task(kept: Demo, kind: str = "text-to-audio") -> str:
    """The id of a task that the demo made and archived itself: the oldest, whatever other tests have added since."""
    return ask(kept, "tasks", "list", "--all", "--kind", kind).stdout.splitlines()[-1].split("\t")[0]


def ask_on_terminal(kept: Demo, *arguments: str) -> str:
    """Run `receiver` with its stdout on a terminal."""
    ours, theirs = pty.openpty()
    env = environment({"RECEIVER_URL": kept.url, "RECEIVER_API_KEY": kept.key, "TERM": "xterm"})
    process = subprocess.Popen([*RECEIVER, *arguments], stdout=theirs, env=env)
    os.close(theirs)
    written = b""
    try:
        while chunk := os.read(ours, 65536):
            written += chunk
    except OSError:
        """Linux says so when the other side has closed."""
    os.close(ours)
    assert process.wait() == 0
    return written.decode()
