"""Acts on tasks and accounts, and the ledger, as a person or a script sees them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.cli.asking import Said, ask, ask_on_terminal
from tests.cli.rig import Demo, until

#: The first test waits for the whole service to start.
pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

ORDER = ("sandbox", "text-to-audio", "prompt=rain", "duration:=3.0")
API = "/v1/audio/text-to-audio"


@contextmanager
def paused(kept: Demo) -> Iterator[None]:
    """Let submits wait meanwhile."""
    assert ask(kept, "accounts", "pause", "sandbox").returncode == 0
    try:
        yield
    finally:
        assert ask(kept, "accounts", "resume", "sandbox").returncode == 0


@contextmanager
def at_the_sandbox(kept: Demo) -> Iterator[httpx.Client]:
    """Speak to the provider itself, with its own key."""
    environ = Path(f"/proc/{kept.pid_of('sandbox')}/environ").read_bytes().split(b"\0")
    key = next(each.partition(b"=")[2].decode() for each in environ if each.startswith(b"SANDBOX_API_KEY="))
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=kept.sandbox_url, headers=headers, trust_env=False, timeout=60) as client:
        yield client


def submitted(kept: Demo) -> str:
    return ask(kept, "tasks", "submit", *ORDER).stdout.strip()


def state_of(kept: Demo, task: str) -> str:
    return str(json.loads(ask(kept, "tasks", "show", task, "--json").stdout)["state"])


def columns(said: Said) -> list[list[str]]:
    assert (said.returncode, said.stderr) == (0, "")
    return [line.split("\t") for line in said.stdout.splitlines()]


def test_a_task_that_waits_is_cancelled_and_its_story_told(kept: Demo) -> None:
    with paused(kept):
        task = submitted(kept)
        assert columns(ask(kept, "tasks", "cancel", task)) == [[task, "cancelled", "cancelled_by_owner", "-"]]
    assert [line[1] for line in columns(ask(kept, "tasks", "events", task))] == ["task.accepted", "task.cancelled"]
    told = json.loads(ask(kept, "tasks", "events", task, "--json").stdout)
    assert [each["type"] for each in told["events"]] == ["task.accepted", "task.cancelled"]
    shown = ask_on_terminal(kept, "tasks", "events", task)
    assert "task.cancelled" in shown
    assert "cancelled_by_owner" in ask_on_terminal(kept, "tasks", "cancel", task)
    for act in ("retry", "refresh"):
        refused = ask(kept, "tasks", act, task)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr.split(":")[1] in {" not_retryable", " conflict"}


def test_a_rejected_task_is_retried_under_its_id(kept: Demo) -> None:
    with at_the_sandbox(kept) as sandbox:
        with paused(kept):
            task = submitted(kept)
            sandbox.post("/control/answer", json={"what": "create", "code": 1201, "task": task}).raise_for_status()
        until(lambda: state_of(kept, task) == "rejected")
    refused = ask(kept, "tasks", "cancel", task)
    assert (refused.returncode, refused.stderr.split(":")[1]) == (1, " already_sent")
    with paused(kept):
        told = json.loads(ask(kept, "tasks", "retry", task, "--may-charge-twice", "--json").stdout)
        assert (told["id"], told["state"], told["reason"]) == (task, "accepted", None)
    events = json.loads(ask(kept, "tasks", "events", task, "--json").stdout)["events"]
    (retried,) = (each for each in events if each["type"] == "task.retried")
    assert retried["data"]["may_charge_twice"] is True


def test_a_task_that_was_made_at_the_provider_itself_is_adopted_and_archived(kept: Demo) -> None:
    with at_the_sandbox(kept) as sandbox:
        made = sandbox.post(API, json={"prompt": "hail", "duration": 3.0}).raise_for_status().json()["data"]["task_id"]
        adopted = ask(kept, "tasks", "adopt", "sandbox", "text-to-audio", made, "--reference", "old", "--label", "a=b")
        assert (adopted.returncode, adopted.stderr) == (0, "")
        task = adopted.stdout.strip()
        until(lambda: state_of(kept, task) == "archived")
        ledger = sandbox.get("/control/ledger").raise_for_status().json()
    (entry,) = (each for each in ledger["tasks"] if each["task_id"] == made)
    found = json.loads(ask(kept, "tasks", "show", task, "--json").stdout)
    assert {each["sha256"] for each in found["assets"]} == {each["sha256"] for each in entry["audios"]}
    assert (found["reference"], found["labels"], found["sent_at"]) == ("old", {"a": "b"}, None)
    again = ask(kept, "tasks", "adopt", "sandbox", "text-to-audio", made)
    assert (again.returncode, again.stderr) == (1, f"receiver: already_known: this is task {task}\n")


def test_a_task_that_the_provider_may_have_is_asked_after(kept: Demo) -> None:
    task = ask(kept, "tasks", "adopt", "sandbox", "text-to-audio", "no-such-task").stdout.strip()
    assert columns(ask(kept, "tasks", "refresh", task))[0][:2] == [task, "submitted"]
    assert "task.refresh_asked" in [line[1] for line in columns(ask(kept, "tasks", "events", task))]
    assert "submitted" in ask_on_terminal(kept, "tasks", "refresh", task)


def test_accounts_are_listed_paused_and_resumed(kept: Demo) -> None:
    (line,) = columns(ask(kept, "accounts", "list"))
    assert line[:3] == ["sandbox", "sandbox", "-"]
    assert columns(ask(kept, "accounts", "pause", "sandbox"))[0][2] == "paused_by_operator"
    assert "paused_by_operator" in ask_on_terminal(kept, "accounts", "list")
    told = json.loads(ask(kept, "accounts", "list", "--json").stdout)["accounts"]
    assert [each["paused"] for each in told] == [True]
    assert columns(ask(kept, "accounts", "resume", "sandbox"))[0][2] == "-"
    assert "go on" in ask_on_terminal(kept, "accounts", "list")


def test_the_ledger_adds_up_and_lists_what_is_not_archived(kept: Demo) -> None:
    with paused(kept):
        task = submitted(kept)
        lines = columns(ask(kept, "ledger"))
        told = json.loads(ask(kept, "ledger", "--json").stdout)
        shown = ask_on_terminal(kept, "ledger")
        ask(kept, "tasks", "cancel", task)
    states = {line[1]: int(line[2]) for line in lines if line[0] == "state"}
    assert ["accepted", str(sum(states.values()))] in lines
    assert sum(int(line[5]) for line in lines if line[0] == "line") == sum(states.values())
    (mine,) = (line for line in lines if line[0] == "not_archived" and line[1] == task)
    assert mine[2:5] == ["accepted", "-", "-"]
    assert ["not_archived_total", str(sum(states.values()) - states["archived"])] in lines
    assert task in {each["id"] for each in told["not_archived"]}
    assert task in shown
    assert "not archived" in shown


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("tasks", "cancel", "12"), "receiver: not_found: no such task\n"),
        (("tasks", "retry", "../ledger"), "receiver: not_found: "),
        (("tasks", "events", "x"), "receiver: not_found: no such task\n"),
        (
            ("tasks", "adopt", "nobody", "text-to-audio", "p1"),
            "receiver: invalid_input: The request is not valid\n  account: ",
        ),
        (("tasks", "adopt", "sandbox", "poem", "p1"), "receiver: invalid_input: The request is not valid\n  kind: "),
        (("accounts", "pause", "nobody"), "receiver: not_found: no such account\n"),
        (("accounts", "resume", "../tasks"), "receiver: not_found: "),
    ],
)
def test_a_refusal_is_status_1(kept: Demo, arguments: tuple[str, ...], complaint: str) -> None:
    done = ask(kept, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(complaint)


@pytest.mark.parametrize(
    "arguments",
    [
        ("tasks", "cancel"),
        ("tasks", "cancel", "1", "--may-charge-twice"),
        ("tasks", "adopt", "sandbox", "text-to-audio"),
        ("tasks", "adopt", "sandbox", "text-to-audio", "p1", "--label", "x"),
        ("accounts", "pause"),
        ("ledger", "1"),
    ],
)
def test_wrong_usage_is_status_2(kept: Demo, arguments: tuple[str, ...]) -> None:
    done = ask(kept, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
