from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from receiver.core.errors import Misconfigured
from receiver.local.child import Watch
from receiver.local.lock import DirectoryLock
from receiver.local.postgres import EmbeddedPostgres
from receiver.local.store import EmbeddedStore
from receiver.local.supervisor import ChildSpec, Program, Supervisor, backoff
from tests.local.watching import Parts, lives, until

NAMES = ("postgres", "store", "web", "worker")
WATCHES = pytest.mark.parametrize("watch", list(Watch))


@pytest.fixture
def home() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="rt-"))
    yield place
    shutil.rmtree(place)


def started(parts: Parts) -> dict[str, int]:
    """The pids of all four, in the order of their start."""
    return {name: parts.saw("child.started", name)["pid"] for name in NAMES}


def stop(parts: Parts, number: signal.Signals = signal.SIGTERM) -> int:
    parts.process.send_signal(number)
    return parts.process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_request_to_stop_ends_everything_in_order(number: signal.Signals, home: Path) -> None:
    with Parts("all", home) as parts:
        pids = started(parts)
        assert all(lives(pid) for pid in pids.values())
        assert stop(parts, number) == 0
        assert not any(lives(pid) for pid in pids.values())
        assert parts.said()["event"] == "children.stopping"
        stopped = [parts.said() for _ in NAMES]
    assert [(line["event"], line["name"]) for line in stopped] == [
        ("child.stopped", name) for name in ("web", "worker", "store", "postgres")
    ]
    web, worker, store, postgres = (line.get("returncode", line.get("signal")) for line in stopped)
    assert (web, worker, postgres) == ("SIGTERM", "SIGTERM", 0)
    assert store in {0, 143}  # rclone ended in good order in both cases
    assert not (home / "postgres" / "data" / "postmaster.pid").exists()


@pytest.mark.parametrize("name", NAMES)
def test_killed_child_is_started_again_and_the_others_stay(name: str, home: Path) -> None:
    with Parts("all", home) as parts:
        pids = started(parts)
        os.kill(pids[name], signal.SIGKILL)
        died = parts.saw("child.died", name)
        assert (died["pid"], died["signal"]) == (pids[name], "SIGKILL")
        again = parts.saw("child.started", name)["pid"]
        assert again != pids[name]
        assert lives(again)
        assert all(lives(pid) for other, pid in pids.items() if other != name)
        assert stop(parts) == 0
        assert not lives(again)


@WATCHES
def test_kill_of_the_supervisor_ends_everything(watch: Watch, home: Path) -> None:
    with Parts("all", home, watch) as parts:
        pids = started(parts)
        parts.kill()
        until(lambda: not any(lives(pid) for pid in pids.values()))


def test_second_request_kills_a_child_that_does_not_stop(home: Path) -> None:
    with Parts("stubborn", home) as parts:
        said = [parts.said() for _ in range(4)]  # two log lines, two children that are deaf from now on
        pids = [line["pid"] for line in said if line]
        assert len(pids) == 2
        parts.process.send_signal(signal.SIGTERM)
        until(lambda: parts.said().get("event") == "children.stopping")
        assert stop(parts) == 0
        assert {parts.saw("child.stopped", name)["signal"] for name in ("web", "worker")} == {"SIGKILL"}
        assert not any(lives(pid) for pid in pids)


def test_request_while_starting_ends_everything(home: Path) -> None:
    with Parts("all", home) as parts:
        until(lambda: any((home / "postgres").glob("initdb-*")))
        assert stop(parts) == 0
    assert not any((home / "postgres").glob("initdb-*"))


def test_service_that_cannot_start_stops_the_others_and_is_reported(home: Path) -> None:
    store = EmbeddedStore(home / "store")
    (home / "postgres").mkdir()
    lock = DirectoryLock(home / "postgres")
    lock.acquire()
    supervisor = Supervisor([store, EmbeddedPostgres(home / "postgres")], [])
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Misconfigured, match="another receiver runs on"):
        supervisor.run()
    lock.release()
    assert store.process
    assert not store.alive()
    assert signal.getsignal(signal.SIGTERM) is before


def test_service_that_runs_already_is_taken_over(home: Path) -> None:
    store = EmbeddedStore(home)
    store.start()
    assert store.process
    pid = store.process.pid
    # The child stops its supervisor, which is this process.
    ends_us = ChildSpec("web", ["/bin/sh", "-c", 'kill -TERM "$US"; sleep 60'], {"US": str(os.getpid())})
    assert Supervisor([store], [ends_us]).run() == 0
    assert store.process.pid == pid
    assert not store.alive()


def test_program_that_says_that_it_can_never_run_ends_all(home: Path) -> None:
    store = EmbeddedStore(home)
    lasting = ChildSpec("worker", ["/bin/sh", "-c", f"echo $$ > {home}/pid; exec sleep 600"])
    hopeless = ChildSpec("web", ["/bin/sh", "-c", f"until [ -s {home}/pid ]; do :; done; exit 78"], hopeless=78)
    with pytest.raises(Misconfigured, match="web cannot run as it is set up"):
        Supervisor([store], [lasting, hopeless]).run()
    assert not store.alive()
    assert not lives(int((home / "pid").read_text()))


def test_program_that_has_run_is_tried_again_whatever_it_says(home: Path) -> None:
    # Killed the first time; the second time it says that it cannot run; the third time it stops its supervisor.
    story = f"""
    echo >> {home}/starts
    case $(wc -l < {home}/starts) in
        1) kill -KILL $$ ;;
        2) exit 78 ;;
        *) kill -TERM "$US"; sleep 60 ;;
    esac
    """
    spec = ChildSpec("web", ["/bin/sh", "-c", story], {"US": str(os.getpid())}, hopeless=78)
    assert Supervisor([], [spec]).run() == 0
    assert len((home / "starts").read_text().splitlines()) == 3


def test_program_that_fails_otherwise_at_first_may_still_say_that_it_can_never_run(home: Path) -> None:
    story = f"[ -e {home}/failed ] && exit 78; touch {home}/failed; exit 1"
    with pytest.raises(Misconfigured, match="web cannot run as it is set up"):
        Supervisor([], [ChildSpec("web", ["/bin/sh", "-c", story], hopeless=78)]).run()


def test_program_that_fails_otherwise_is_started_again(home: Path) -> None:
    story = f'[ -e {home}/failed ] && kill -TERM "$US" && sleep 60; touch {home}/failed; exit 1'
    spec = ChildSpec("web", ["/bin/sh", "-c", story], {"US": str(os.getpid())}, hopeless=78)
    assert Supervisor([], [spec]).run() == 0


def test_child_gets_our_environment_and_its_own(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "1")
    program = Program(ChildSpec("web", ["/bin/sh", "-c", f'echo "$OURS $ITS" > {home}/out'], {"ITS": "2"}))
    program.start()
    until(lambda: not program.alive())
    assert (home / "out").read_text() == "1 2\n"


def test_environment_of_a_child_shows_in_no_repr() -> None:
    assert "planted" not in repr(ChildSpec("web", ["/bin/true"], {"KEY": "planted"}))


def test_pause_before_a_restart_grows_to_its_limit() -> None:
    assert [backoff(n) / timedelta(seconds=1) for n in (0, 1, 2, 3, 6, 7, 1000)] == [0, 0.1, 0.2, 0.4, 3.2, 5, 5]


def test_importing_the_supervisor_starts_no_thread() -> None:
    code = "import threading, receiver.local.supervisor; raise SystemExit(threading.active_count() - 1)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
