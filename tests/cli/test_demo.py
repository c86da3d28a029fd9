from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.rig import RECEIVER, Demo, environment, processes_of, until

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

#: What the person who starts a demo may have set for a service of their own.
FOREIGN = {
    "RECEIVER_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nowhere",
    "RECEIVER_PORT": "none",
    "KLING_API_KEY": "a-real-key",
    "COMETAPI_KEY": "another",
}
#: With the tasks of each when 24 are ordered, two of every kind.
PROVIDERS = {
    "cometapi": 4,
    "deerapi": 4,
    "kkiai": 4,
    "kling": 4,
    "kling-text2video": 4,
    "kling-videos": 2,
    "new-api": 2,
}


def test_every_account_of_24_tasks_agrees_and_nothing_is_left_behind(demo_directory: Path) -> None:
    done = subprocess.run(
        [*RECEIVER, "demo", "--json", "--data-dir", str(demo_directory)],
        capture_output=True,
        text=True,
        check=False,
        env=environment(FOREIGN),
    )
    assert done.returncode == 0, done.stderr
    assert processes_of(demo_directory) == {}
    told = json.loads(done.stdout)

    assert (told["accepted"], told["archived"], told["charges"]) == (24, 24, 24)
    assert {told[name] for name in ("partial", "failed", "rejected", "expired", "cancelled", "open")} == {0}
    assert told["callbacks"]["received"] + told["callbacks"]["lost"] == 72
    assert told["callbacks"]["duplicates"] > 0
    assert told["callbacks"]["lost"] > 0
    assert told["seconds"] > 0

    formats = Counter(asset["format"] for asset in told["assets"])
    assert formats == {"mp3": 24, "wav": 24, "mp4": 8}
    assert all(asset["verified"] is True for asset in told["assets"])
    [run] = demo_directory.iterdir()
    files = [path for path in (run / "store" / "objects").rglob("*") if path.suffix in {".mp3", ".wav", ".mp4"}]
    on_disk = {hashlib.sha256(path.read_bytes()).hexdigest(): path.stat().st_size for path in files}
    assert {asset["sha256"]: asset["bytes"] for asset in told["assets"]} == on_disk

    assert "a-real-key" not in done.stderr
    assert "whsec_" not in done.stderr
    assert "rk_" not in done.stderr + (run / "service.log").read_text()


def test_every_provider_archives_all_its_tasks_and_charges_for_each_once(demo_directory: Path) -> None:
    done = subprocess.run(
        [*RECEIVER, "demo", "--all-providers", "--json", "--tasks", "24", "--data-dir", str(demo_directory)],
        capture_output=True,
        text=True,
        check=False,
        env=environment(FOREIGN),
    )
    assert done.returncode == 0, done.stderr
    assert processes_of(demo_directory) == {}
    told = json.loads(done.stdout)

    assert (told["accepted"], told["archived"], told["charges"]) == (24, 24, 24)
    assert told["profiles"] == {
        name: {"accepted": number, "archived": number, "charges": number, "attention": 0}
        for name, number in PROVIDERS.items()
    }
    assert told["callbacks"]["duplicates"] > 0
    assert told["callbacks"]["lost"] > 0
    assert Counter(asset["format"] for asset in told["assets"]) == {"mp3": 16, "wav": 16, "mp4": 16, "m4a": 8}
    assert all(asset["verified"] is True for asset in told["assets"])

    changed = {name for name in re.findall(r"^ RECEIVER_(\w+)", done.stderr, re.MULTILINE) if "ACCOUNTS__" not in name}
    assert changed == {"DATA_DIR", "PORT", "WORKER_PORT", "PUBLIC_URL"}
    assert "a-real-key" not in done.stderr
    assert "whsec_" not in done.stderr


def test_a_demo_that_is_asked_to_stop_early_stops_all_and_says_so(
    start: Callable[..., Demo], demo_directory: Path
) -> None:
    demo = start("--tasks", "200")
    demo.read_until("tasks accepted")

    assert demo.end(signal.SIGINT) == 1

    assert "receiver: interrupted: stopped before the end\n" in demo.lines
    assert processes_of(demo_directory) == {}


def test_a_demo_that_is_killed_takes_all_its_processes_along(start: Callable[..., Demo], demo_directory: Path) -> None:
    demo = start("--tasks", "200")
    demo.read_until("tasks accepted")
    assert len(processes_of(demo_directory)) > 5

    demo.end(signal.SIGKILL)

    until(lambda: processes_of(demo_directory) == {})


def test_a_demo_ends_when_the_service_dies(start: Callable[..., Demo], demo_directory: Path) -> None:
    demo = start("--tasks", "200")
    demo.read_until("tasks accepted")

    os.kill(demo.pid_of("serve"), signal.SIGKILL)

    assert demo.read_to_the_end() == 1
    assert any(line.startswith("receiver: part_failed: the service ended with status -9") for line in demo.lines)
    assert processes_of(demo_directory) == {}


def test_a_demo_goes_on_while_the_web_is_killed(start: Callable[..., Demo], demo_directory: Path) -> None:
    demo = start("--tasks", "6")
    demo.read_until("tasks accepted")

    os.kill(demo.pid_of("web"), signal.SIGKILL)

    assert demo.read_to_the_end() == 0, demo.lines
    assert any("ok    6 archived, 0 open" in line for line in demo.lines)
    assert processes_of(demo_directory) == {}


def test_a_directory_that_cannot_be_made_is_named(demo_directory: Path) -> None:
    file = demo_directory / "file"
    file.touch()
    done = subprocess.run(
        [*RECEIVER, "demo", "--data-dir", str(file)], capture_output=True, text=True, check=False, env=environment()
    )
    assert done.returncode == 1
    assert done.stderr == f"receiver: misconfigured: no directory can be made below {file}: Not a directory\n"
