from __future__ import annotations

import json
import socket
from collections.abc import Mapping

import pytest
import typer

from receiver.cli import tasks
from tests.cli import asking
from tests.cli.asking import Said
from tests.cli.rig import Demo, until

#: The first test waits for the whole service to start.
pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

ORDER = ("sandbox", "text-to-audio", "prompt=rain", "duration:=3.0")


def ask(kept: Demo, *arguments: str, env: Mapping[str, str] | None = None) -> Said:
    return asking.ask(kept, "tasks", *arguments, env=env)


def ask_on_terminal(kept: Demo, *arguments: str) -> str:
    return asking.ask_on_terminal(kept, "tasks", *arguments)


def archived(kept: Demo) -> str:
    """The id of an archived task."""
    return ask(kept, "list", "--state", "archived", "--limit", "1").stdout.split("\t")[0]


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
    assert first.startswith("receiver: invalid_input: ")
    assert {line.split(":")[0] for line in fields} == {"  input.prompt", "  input.duration", "  input.loud"}


def test_show_in_a_pipe_tells_facts_files_and_story_in_columns(kept: Demo) -> None:
    lines = [line.split("\t") for line in ask(kept, "show", archived(kept)).stdout.splitlines()]
    assert ["state", "archived"] in lines
    assert {line[3] for line in lines if line[0] == "asset"} == {"mp3", "wav"}
    story = [line[2] for line in lines if line[0] == "event"]
    assert (story[0], story[-1]) == ("task.accepted", "task.archived")


def test_json_is_what_the_api_answered(kept: Demo) -> None:
    page = json.loads(ask(kept, "list", "--limit", "1", "--json").stdout)
    assert set(page) == {"tasks", "next_cursor"}
    task = page["tasks"][0]["id"]
    assert json.loads(ask(kept, "show", task, "--json").stdout)["id"] == task
    submitted = json.loads(ask(kept, "submit", *ORDER, "--json").stdout)
    assert submitted["account"] == "sandbox"


def test_a_list_goes_on_at_its_cursor(kept: Demo) -> None:
    first = ask(kept, "list", "--limit", "1")
    cursor = first.stderr.strip().rpartition(" ")[2]
    second = ask(kept, "list", "--limit", "1", "--cursor", cursor)
    assert first.stdout.startswith(cursor + "\t")
    assert second.stdout.count("\n") == 1
    assert int(second.stdout.split("\t")[0]) < int(cursor)


def test_a_list_of_another_account_is_empty(kept: Demo) -> None:
    done = ask(kept, "list", "--account", "nobody")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_terminal_gets_tables(kept: Demo) -> None:
    task = archived(kept)
    shown = ask_on_terminal(kept, "show", task)
    assert "sha-256" in shown
    assert "task.archived" in shown
    listed = ask_on_terminal(kept, "list")
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
        (("submit", "nobody", "text-to-audio"), "receiver: invalid_input: account: "),
        (("list", "--state", "lost"), "receiver: invalid_input: state: "),
        (("list", "--limit", "0"), "receiver: invalid_input: limit: "),
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


def test_another_server_is_not_taken_for_the_service(kept: Demo) -> None:
    done = ask(kept, "list", "--url", kept.sandbox_url)
    assert done.returncode == 1
    assert done.stderr.startswith("receiver: unexpected_answer: ")


def test_proxies_of_the_environment_are_not_used(kept: Demo) -> None:
    assert ask(kept, "list", env={"HTTP_PROXY": "http://127.0.0.1:1", "http_proxy": "http://127.0.0.1:1"}).stdout


def test_fields_are_text_or_json() -> None:
    given = ["a=1", "b:=1", "c=x=y:=z", 'd:={"e": [null]}', "f="]
    assert tasks.read_fields(given) == {"a": "1", "b": 1, "c": "x=y:=z", "d": {"e": [None]}, "f": ""}


@pytest.mark.parametrize("wrong", [["a"], ["=b"], [":=1"], ["a:=NaN"], ["a:="], ["a=1", "a=2"]])
def test_wrong_fields_are_refused(wrong: list[str]) -> None:
    with pytest.raises(typer.BadParameter):
        tasks.read_fields(wrong)


@pytest.mark.parametrize("wrong", [["a"], ["=b"], ["a=1", "a=2"]])
def test_wrong_labels_are_refused(wrong: list[str]) -> None:
    with pytest.raises(typer.BadParameter):
        tasks.read_labels(wrong)
