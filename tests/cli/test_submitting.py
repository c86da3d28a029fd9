"""Submitting to the end, and whole files, against a running service."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from receiver.cli import orders
from tests.cli import asking
from tests.cli.asking import Said
from tests.cli.rig import Demo

#: The first test waits for the whole service to start.
pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

ORDER = ("sandbox", "text-to-audio", "prompt=rain", "duration:=3.0")
TASK: dict[str, Any] = {"account": "sandbox", "kind": "text-to-audio", "input": {"prompt": "hail", "duration": 3.0}}


def ask(kept: Demo, *arguments: str) -> Said:
    return asking.ask(kept, "tasks", *arguments)


def write(place: Path, *lines: Mapping[str, Any] | str) -> str:
    place.write_text("".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in lines))
    return str(place)


def sent(said: Said) -> list[list[str]]:
    return [line.split("\t") for line in said.stdout.splitlines()]


def test_a_wait_ends_with_the_task(kept: Demo) -> None:
    done = ask(kept, "submit", *ORDER, "--wait")
    assert (done.returncode, done.stderr) == (0, "")
    task, state, *rest = done.stdout.rstrip("\n").split("\t")
    assert (task.isdigit(), state, rest) == (True, "archived", ["-", "-", "2/2"])
    told = json.loads(ask(kept, "submit", *ORDER, "--wait", "--json").stdout)
    assert (told["state"], len(told["assets"])) == ("archived", 2)


def test_a_task_that_does_not_get_archived_is_status_1(kept: Demo) -> None:
    assert asking.ask(kept, "accounts", "pause", "sandbox").returncode == 0
    try:
        late = ask(kept, "submit", *ORDER, "--wait", "--timeout", "1", "--idempotency-key", "late")
        assert (late.returncode, late.stdout) == (1, "")
        assert late.stderr.startswith("receiver: not_ended: task ")
        task = ask(kept, "submit", *ORDER, "--idempotency-key", "late").stdout.strip()
        ask(kept, "cancel", task)
        ended = ask(kept, "submit", *ORDER, "--wait", "--idempotency-key", "late")
        assert (ended.returncode, ended.stdout) == (1, f"{task}\tcancelled\tcancelled_by_owner\t-\t-\n")
    finally:
        assert asking.ask(kept, "accounts", "resume", "sandbox").returncode == 0


def test_a_terminal_is_told_the_end(kept: Demo) -> None:
    shown = asking.ask_on_terminal(kept, "tasks", "submit", *ORDER, "--wait")
    assert "archived" in shown.splitlines()[-1]
    assert "2/2 files" in shown.splitlines()[-1]


def test_a_file_is_submitted_line_by_line_and_once(kept: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "CHUNK", 2)
    file = write(tmp_path / "five.jsonl", TASK, "", *({**TASK, "reference": f"line-{n}"} for n in range(3)), TASK)
    first = ask(kept, "submit", "--file", file)
    assert (first.returncode, first.stderr) == (0, "5 tasks are accepted\n")
    assert [(line[0], line[2]) for line in sent(first)] == [(n, "new") for n in ("1", "3", "4", "5", "6")]
    assert len({line[1] for line in sent(first)}) == 5

    told = json.loads(ask(kept, "submit", "--file", file, "--json", "--wait").stdout)
    assert [(str(each["line"]), each["id"], each["existed"]) for each in told["tasks"]] == [
        (line[0], line[1], True) for line in sent(first)
    ]
    assert told["states"] == {"archived": 5}
    again = ask(kept, "submit", "--file", file, "--run", "2")
    assert not {line[1] for line in sent(again)} & {line[1] for line in sent(first)}
    assert ask(kept, "list", "--reference", "line-1").stdout.count("\n") == 2


def test_arguments_hold_for_lines_that_lack_them(kept: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = '{"input": {"prompt": "fog", "duration": 3.0}}\n{"reference": "own"}\n'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbf" + lines.encode())))
    done = ask(kept, "submit", *ORDER, "--reference", "given", "--file", "-")
    assert done.returncode == 0, done.stderr
    found = [json.loads(ask(kept, "show", line[1], "--json").stdout) for line in sent(done)]
    assert [(task["input"]["prompt"], task["reference"]) for task in found] == [("fog", "given"), ("rain", "own")]


def test_a_line_that_is_refused_is_named_and_a_mended_file_goes_on(
    kept: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "CHUNK", 2)
    good = [{**TASK, "reference": f"mended-{n}"} for n in range(3)]
    bad = {**TASK, "input": {"prompt": "x" * 201, "duration": 3.0}}
    file = tmp_path / "mended.jsonl"
    done = ask(kept, "submit", "--file", write(file, *good[:2], "", good[2], bad))
    assert done.returncode == 1
    assert [line[0] for line in sent(done)] == ["1", "2"]
    accepted, problem, line = done.stderr.splitlines()
    assert accepted == "2 tasks are accepted; the same command goes on after them"
    assert problem.startswith("receiver: invalid_input: ")
    assert line.startswith("  line 5: input.prompt: ")

    after = ask(kept, "submit", "--file", write(file, *good))
    assert [line[2] for line in sent(after)] == ["existed", "existed", "new"]
    assert after.stderr == "3 tasks are accepted, 2 of them by an earlier run of the same lines\n"


def test_a_file_that_cannot_be_read_submits_nothing(kept: Demo, tmp_path: Path) -> None:
    before = ask(kept, "list", "--reference", "nothing").stdout
    file = write(tmp_path / "broken.jsonl", {**TASK, "reference": "nothing"}, "{", {"knd": 1})
    done = ask(kept, "submit", "--file", file)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("receiver: invalid_file: nothing was submitted; ")
    assert [line.split(":")[0] for line in done.stderr.splitlines()[1:]] == ["  line 2", "  line 3"]
    assert ask(kept, "list", "--reference", "nothing").stdout == before
    (tmp_path / "empty.jsonl").write_bytes(b"\n")
    (tmp_path / "latin.jsonl").write_bytes(b"\xff")
    for name in ("empty", "latin", "absent"):
        assert ask(kept, "submit", "--file", str(tmp_path / f"{name}.jsonl")).returncode == 2


def test_tasks_are_watched_to_their_ends(kept: Demo) -> None:
    one, two = (ask(kept, "submit", *ORDER).stdout.strip() for _ in range(2))
    done = ask(kept, "watch", one, two, one)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    for task in (one, two):
        mine = [line for line in lines if line[0] == task]
        assert mine[-1][1:] == ["archived", "-", "-", "2/2"]
        assert len(mine) == len({tuple(line) for line in mine})
    told = [json.loads(line) for line in ask(kept, "watch", one, two, "--json").stdout.splitlines()]
    assert [(task["id"], task["state"]) for task in told] == [(one, "archived"), (two, "archived")]
    assert "archived" in asking.ask_on_terminal(kept, "tasks", "watch", one)


def test_a_watch_that_does_not_end_archived_is_status_1(kept: Demo) -> None:
    assert ask(kept, "watch", "12").stderr == "receiver: not_found: no such task\n"
    assert asking.ask(kept, "accounts", "pause", "sandbox").returncode == 0
    try:
        task = ask(kept, "submit", *ORDER).stdout.strip()
        ask(kept, "cancel", task)
        watched = ask(kept, "watch", task)
    finally:
        assert asking.ask(kept, "accounts", "resume", "sandbox").returncode == 0
    assert (watched.returncode, watched.stdout) == (1, f"{task}\tcancelled\tcancelled_by_owner\t-\t-\n")
