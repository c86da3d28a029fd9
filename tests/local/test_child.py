from __future__ import annotations

import os
import signal
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from receiver.local import child
from receiver.local.child import Launch, Watch
from tests.local.watching import PATIENCE, until

ENOUGH = timedelta(seconds=PATIENCE)
WATCHES = pytest.mark.parametrize("watch", list(Watch))


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


@WATCHES
def test_status_of_the_program_is_the_status_of_the_child(watch: Watch) -> None:
    assert child.start(python("raise SystemExit(7)"), Launch(watch=watch)).wait(ENOUGH) == 7


@WATCHES
def test_signal_reaches_the_program_itself(watch: Watch, tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out:
        code = "import os,signal; print(os.getpid(), flush=True); signal.pause()"
        running = child.start(python(code), Launch(output=out, watch=watch))
    until((tmp_path / "out").read_text)
    assert int((tmp_path / "out").read_text()) == running.pid
    assert running.end((signal.SIGTERM, ENOUGH)) == -signal.SIGTERM


def test_program_that_ignores_the_request_is_killed(tmp_path: Path) -> None:
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); signal.pause()"
    with (tmp_path / "out").open("wb") as out:
        running = child.start(python(code), Launch(output=out))
    until((tmp_path / "out").read_text)
    assert running.end((signal.SIGTERM, timedelta(milliseconds=10))) == -signal.SIGKILL


def test_child_starts_with_the_usual_signals_and_a_private_umask(tmp_path: Path) -> None:
    code = (
        "import signal,os,re;t=open('/proc/self/status').read();"
        "print(re.search('SigBlk:\\t0*\\n',t) is not None, oct(os.umask(0)), os.getsid(0) == os.getpid())"
    )
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        with (tmp_path / "out").open("wb") as out:
            child.start(python(code), Launch(output=out)).wait(ENOUGH)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert (tmp_path / "out").read_text().split() == ["True", "0o77", "True"]


@WATCHES
def test_broken_pipe_ends_a_child_as_usual(watch: Watch) -> None:
    code = "dd if=/dev/zero bs=1 count=1 | true; kill -PIPE $$"
    assert child.start(["/bin/sh", "-c", code], Launch(watch=watch)).wait(ENOUGH) == -signal.SIGPIPE


def test_absent_program_is_named_in_the_output(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out:
        assert child.start(["/absent/program"], Launch(output=out)).wait(ENOUGH) == 1
    assert (tmp_path / "out").read_text() == "cannot start /absent/program: No such file or directory\n"


def test_child_of_another_thread_is_refused() -> None:
    refused: list[str] = []

    def attempt() -> None:
        with pytest.raises(RuntimeError, match="main thread") as caught:
            child.start(python(""))
        refused.append(str(caught.value))

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    assert refused


def test_watcher_leaves_with_the_program(tmp_path: Path) -> None:
    mark = str(tmp_path / "mark")

    def marked() -> list[str]:
        lines = []
        for entry in Path("/proc").iterdir():
            try:
                lines += [entry.name] if entry.name.isdigit() and mark in (entry / "cmdline").read_text() else []
            except OSError:
                continue
        return lines

    running = child.start(python("import signal; signal.pause()", mark), Launch(watch=Watch.PIPE))
    until(lambda: len(marked()) == 2)
    os.kill(running.pid, signal.SIGKILL)
    assert running.wait(ENOUGH) == -signal.SIGKILL
    until(lambda: not marked())


def test_large_log_is_set_aside(tmp_path: Path) -> None:
    file = tmp_path / "server.log"
    file.write_text("12345")
    child.open_log(file, limit=4).close()
    assert (file.read_text(), (tmp_path / "server.log.1").read_text()) == ("", "12345")
    assert file.stat().st_mode & 0o777 == 0o600
