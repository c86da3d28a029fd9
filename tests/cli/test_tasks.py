from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from datetime import timedelta

import pytest

from receiver.cli import looking
from receiver.cli.api import Problem
from receiver.core.errors import FieldError
from tests.cli import asking
from tests.cli.asking import Said, own_task
from tests.cli.rig import Demo, until

#: The first test waits for the whole service to start.
pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

TELLS = "  the service's log tells more of request {}"
ORDER = ("sandbox", "text-to-audio", "prompt=rain", "duration:=3.0")


def ask(kept: Demo, *arguments: str, env: Mapping[str, str] | None = None) -> Said:
    return asking.ask(kept, "tasks", *arguments, env=env)


def ask_on_terminal(kept: Demo, *arguments: str) -> str:
    return asking.ask_on_terminal(kept, "tasks", *arguments)


def test_submit_in_a_pipe_prints_the_id_alone_and_the_task_gets_archived(kept: Demo) -> None:
    done = ask(kept, "submit", *ORDER, "--reference", "mine", "--label", "a=b", "--label", "c=d=e")
    assert (done.returncode, done.stderr) == (0, "")
    task = done.stdout.strip()
    assert task.isdigit()

    until(lambda: "state\tarchived\n" in ask(kept, "show", task).stdout)
    told = json.loads(ask(kept, "show", task, "--json").stdout)
    assert told["input"] == {"prompt": "rain", "duration": 3.0}
    assert (told["reference"], told["labels"]) == ("mine", {"a": "b", "c": "d=e"})


def test_the_same_idempotency_key_gives_the_same_task(kept: Demo) -> None:
    key = ("--idempotency-key", "the same")
    assert ask(kept, "submit", *ORDER, *key).stdout == ask(kept, "submit", *ORDER, *key).stdout
    other = ask(kept, "submit", *ORDER[:2], "prompt=snow", "duration:=3.0", *key)
    assert (other.returncode, other.stdout) == (1, "")
    assert other.stderr.startswith("receiver: idempotency_mismatch: ")


def test_each_wrong_field_gets_a_line(kept: Demo) -> None:
    done = ask(kept, "submit", *ORDER[:2], "duration=3.0", "loud:=true")
    assert (done.returncode, done.stdout) == (1, "")
    first, *fields = done.stderr.splitlines()
    assert first == "receiver: invalid_input: The request is not valid"
    assert {line.split(":")[0] for line in fields} == {"  input.prompt", "  input.duration", "  input.loud"}


def test_show_in_a_pipe_tells_facts_files_and_story_in_columns(kept: Demo) -> None:
    lines = [line.split("\t") for line in ask(kept, "show", own_task(kept)).stdout.splitlines()]
    assert ["state", "archived"] in lines
    assert {line[3] for line in lines if line[0] == "asset"} == {"mp3", "wav"}
    story = [line[2] for line in lines if line[0] == "event"]
    assert story[0] == "task.accepted"
    assert "task.archived" in story


def test_json_is_what_the_api_answered(kept: Demo) -> None:
    page = json.loads(ask(kept, "list", "--limit", "1", "--json").stdout)
    assert set(page) == {"tasks", "next_cursor"}
    task = page["tasks"][0]["id"]
    assert json.loads(ask(kept, "show", task, "--json").stdout)["id"] == task
    submitted = json.loads(ask(kept, "submit", *ORDER, "--json").stdout)
    assert submitted["account"] == "sandbox"


def test_a_list_goes_on_at_its_cursor(kept: Demo) -> None:
    first = ask(kept, "list", "--limit", "1")
    assert first.stderr.startswith("there are more: --cursor ")
    cursor = first.stderr.split()[4].rstrip(",")
    second = ask(kept, "list", "--limit", "1", "--cursor", cursor)
    assert (first.stdout.count("\n"), second.stdout.count("\n")) == (1, 1)
    assert int(second.stdout.split("\t")[0]) < int(first.stdout.split("\t")[0])
    other = ask(kept, "list", "--limit", "1", "--cursor", cursor, "--state", "archived")
    assert (other.returncode, "  cursor: " in other.stderr) == (1, True)


def test_all_pages_are_one_list(kept: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "LARGEST_PAGE", 2)
    for _ in range(3):
        ask(kept, "submit", *ORDER)
    whole = ask(kept, "list", "--all")
    assert (whole.returncode, whole.stderr) == (0, "")
    ids = [line.split("\t")[0] for line in whole.stdout.splitlines()]
    assert len(ids) >= 5
    assert ids == sorted(set(ids), key=int, reverse=True)
    told = json.loads(ask(kept, "list", "--all", "--json").stdout)
    assert ([task["id"] for task in told["tasks"]], told["next_cursor"]) == (ids, None)
    none = json.loads(ask(kept, "list", "--all", "--json", "--account", "nobody").stdout)
    assert none == {"tasks": [], "next_cursor": None}


def test_each_filter_of_a_list_is_used(kept: Demo) -> None:
    given = ("--reference", "filtered", "--label", "a=c:d=e", "--label", "f=g")
    task = ask(kept, "submit", *ORDER, *given).stdout.strip()
    until(lambda: "state\tarchived\n" in ask(kept, "show", task).stdout)
    fitting = (
        *("--reference", "filtered", "--label", "f=g", "--state", "archived", "--state", "failed"),
        *("--account", "sandbox", "--kind", "text-to-audio", "--created-after", "2026-01-01T00:00:00+00:00"),
        *("--created-before", "2999-01-01T00:00:00Z"),
    )
    assert ask(kept, "list", *fitting).stdout.startswith(f"{task}\tarchived\t")
    for option, value in (
        *(("--label", "f=x"), ("--kind", "video-to-audio"), ("--created-before", "2026-01-01T00:00:00Z")),
        *(("--attention", "any"), ("--slack-below", "-1d"), ("--created-after", "2999-01-01T00:00:00Z")),
    ):
        assert ask(kept, "list", *fitting, option, value).stdout == "", option


def test_a_list_of_another_account_is_empty(kept: Demo) -> None:
    done = ask(kept, "list", "--account", "nobody")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_terminal_gets_tables(kept: Demo) -> None:
    task = own_task(kept)
    shown = ask_on_terminal(kept, "show", task)
    assert "sha-256" in shown
    assert "task.archived" in shown
    listed = ask_on_terminal(kept, "list", "--all")
    assert "reference" in listed
    assert task in listed


def test_what_was_submitted_cannot_steer_the_terminal(kept: Demo) -> None:
    task = ask(kept, "submit", *ORDER, "--reference", "\x1b[2Jgone [red]\n").stdout.strip()
    assert "reference\t\\x1b[2Jgone [red]\\n\n" in ask(kept, "show", task).stdout
    assert "\\x1b[2Jgone [red]\\n" in ask_on_terminal(kept, "show", task)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("show", "12"), "receiver: not_found: no such task\n"),
        (("show", ".."), "receiver: not_found: "),
        (("show", "../ledger"), "receiver: not_found: "),
        (("submit", "nobody", "text-to-audio"), "receiver: invalid_input: The request is not valid\n  account: "),
        (("list", "--state", "lost"), "receiver: invalid_input: The request is not valid\n  state: "),
        (("list", "--limit", "0"), "receiver: invalid_input: The request is not valid\n  limit: "),
    ],
)
def test_a_refusal_is_status_1(kept: Demo, arguments: tuple[str, ...], complaint: str) -> None:
    done = ask(kept, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(complaint)


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "--url", "nonsense"),
        ("list", "--url", "http://key@127.0.0.1"),
        ("list", "--limit", "many"),
        ("list", "--slack-below", "soon"),
        ("list", "--label", "x"),
        ("submit", "sandbox"),
        ("submit", *ORDER, "--timeout", "0"),
        ("submit", "--file", "/nowhere/at/all.jsonl"),
        ("submit", "--file", "tests/cli/rig.py", "--idempotency-key", "k"),
        ("watch",),
        ("submit", "sandbox", "text-to-audio", "prompt"),
        ("submit", "sandbox", "text-to-audio", "duration:=three"),
        ("submit", *ORDER, "--label", "x"),
        ("show",),
    ],
)
def test_wrong_usage_is_status_2(kept: Demo, arguments: tuple[str, ...]) -> None:
    done = ask(kept, *arguments)
    assert (done.returncode, done.stdout) == (2, "")


def test_an_unknown_key_and_no_key_are_told_apart(kept: Demo) -> None:
    unknown = ask(kept, "list", env={"RECEIVER_API_KEY": "rk_other"})
    assert (unknown.returncode, unknown.stderr.split(":")[1]) == (1, " unauthorized")
    assert unknown.stderr.endswith("  set RECEIVER_API_KEY to a key of this service\n")
    absent = ask(kept, "list", env={"RECEIVER_API_KEY": ""})
    assert absent.returncode == 1
    assert absent.stderr.startswith("receiver: misconfigured: RECEIVER_API_KEY is not set")


def test_a_service_that_is_not_there_is_named(kept: Demo) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        done = ask(kept, "list", "--url", url)
    assert done.returncode == 1
    assert done.stderr.startswith(f"receiver: service_unreachable: {url} does not answer")
    assert done.stderr.endswith("RECEIVER_URL or --url says where\n")


def test_another_server_is_not_taken_for_the_service(kept: Demo) -> None:
    done = ask(kept, "list", "--url", kept.sandbox_url)
    assert done.returncode == 1
    assert done.stderr.startswith("receiver: unexpected_answer: ")


def test_proxies_of_the_environment_are_not_used(kept: Demo) -> None:
    assert ask(kept, "list", env={"HTTP_PROXY": "http://127.0.0.1:1", "http_proxy": "http://127.0.0.1:1"}).stdout


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("0", 0), ("-5s", -5), ("30m", 1800), ("2h", 7200), ("1d", 86_400)]
)
def test_a_time_span_has_a_unit(text: str, seconds: int) -> None:
    assert looking.read_span(text) == seconds


@pytest.mark.parametrize(
    ("problem", "lines"),
    [
        (Problem(422, "x", "a: b", [FieldError("a", "b\x1b")], title="Bad"), ["receiver: x: Bad", "  a: b\\x1b"]),
        (Problem(500, "x", "see the log", (), request_id="r1"), ["receiver: x: see the log", TELLS.format("r1")]),
        (
            Problem(429, "spend_limit", "k: 3 of 3", (), retry_after=timedelta(hours=2)),
            ["receiver: spend_limit: k: 3 of 3", "  try again in 2h 00m"],
        ),
        (
            Problem(409, "may_charge_twice", "it may", ()),
            ["receiver: may_charge_twice: it may", "  if a second charge is accepted, add --may-charge-twice"],
        ),
        (Problem(404, "not_found", "no such task", ()), ["receiver: not_found: no such task"]),
    ],
)
def test_a_problem_says_what_is_wrong_and_what_to_do(problem: Problem, lines: list[str]) -> None:
    assert problem.shown().splitlines() == lines
