"""Callbacks and accounts of a running service, from the command line."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import httpx
import pytest

from receiver.core.model import AccountId, Secret
from receiver.core.tokens import TokenKeys
from tests.cli.asking import ask, ask_on_terminal
from tests.cli.rig import Demo, until

#: The first test waits for the whole service to start.
pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]


def first(kept: Demo) -> str:
    """The id of a callback that was read, about one of the three tasks that the demo made and archived itself."""
    tasks = [line.split("\t")[0] for line in ask(kept, "tasks", "list", "--all").stdout.splitlines()[-3:]]

    def read() -> list[str]:
        """A third of them come late or never, and any of them may just be read."""
        told = [ask(kept, "callbacks", "list", "--task", task, "--json").stdout for task in tasks]
        return [each["id"] for page in told for each in json.loads(page)["callbacks"] if each["outcome"]]

    until(read)
    return read()[0]


def task_of(kept: Demo, callback: str) -> str:
    return str(json.loads(ask(kept, "callbacks", "show", callback, "--json").stdout)["task"])


def test_callbacks_are_listed_shown_and_replayed(kept: Demo) -> None:
    callback = first(kept)
    shown = json.loads(ask(kept, "callbacks", "show", callback, "--json").stdout)
    assert (shown["id"], shown["account"], shown["body_encoding"]) == (callback, "sandbox", "utf-8")
    lines = dict(line.split("\t", 1) for line in ask(kept, "callbacks", "show", callback).stdout.splitlines())
    assert (lines["task"], lines["outcome"]) == (shown["task"], shown["outcome"])
    assert "task_status" in lines["body"]

    mine = ask(kept, "callbacks", "list", "--task", shown["task"], "--account", "sandbox").stdout.splitlines()
    assert callback in [line.split("\t")[0] for line in mine]
    assert ask(kept, "callbacks", "list", "--outcome", "orphan").stdout == ""
    assert ask(kept, "callbacks", "list", "--before", "2020-01-01T00:00:00Z").stdout == ""
    since = ("--task", shown["task"], "--after", "2020-01-01T00:00:00Z")
    assert callback in ask(kept, "callbacks", "list", *since).stdout

    before = json.loads(ask(kept, "tasks", "show", shown["task"], "--json").stdout)
    done = ask(kept, "callbacks", "replay", callback, "--json")
    assert (done.returncode, json.loads(done.stdout)["outcome"]) == (0, None)
    until(lambda: json.loads(ask(kept, "callbacks", "show", callback, "--json").stdout)["outcome"])
    after = json.loads(ask(kept, "tasks", "show", shown["task"], "--json").stdout)
    assert after["state"] == before["state"]
    assert "callback.replayed" in [event["type"] for event in after["events"]]


def test_a_list_of_callbacks_goes_on_at_its_cursor(kept: Demo) -> None:
    first(kept)
    # Late callbacks may still come, at the head of the list.
    fixed = ("callbacks", "list", "--before", datetime.now(UTC).isoformat())
    page = json.loads(ask(kept, *fixed, "--limit", "1", "--json").stdout)
    if page["next_cursor"] is None:
        assert len(json.loads(ask(kept, *fixed, "--json").stdout)["callbacks"]) == 1
        return
    told = ask(kept, *fixed, "--limit", "1")
    assert told.stderr == f"there are more: --cursor {page['next_cursor']}\n"
    second = json.loads(ask(kept, *fixed, "--cursor", page["next_cursor"], "--limit", "1", "--json").stdout)
    assert int(second["callbacks"][0]["id"]) < int(page["callbacks"][0]["id"])


def test_on_a_terminal_callbacks_and_accounts_are_tables(kept: Demo) -> None:
    callback = first(kept)
    assert callback in ask_on_terminal(kept, "callbacks", "list", "--task", task_of(kept, callback))
    assert "task_status" in ask_on_terminal(kept, "callbacks", "show", callback)
    assert "sandbox" in ask_on_terminal(kept, "accounts", "list")
    assert "concurrency" in ask_on_terminal(kept, "accounts", "show", "sandbox")


def test_what_is_refused_is_said(kept: Demo) -> None:
    for arguments, code in (
        (("callbacks", "show", "1x"), "not_found"),
        (("callbacks", "replay", "999999999"), "not_found"),
        (("callbacks", "list", "--outcome", "lost"), "invalid_input"),
        (("callbacks", "list", "--after", "now"), "invalid_input"),
        (("accounts", "show", "nobody"), "not_found"),
    ):
        done = ask(kept, *arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"receiver: {code}: ")


def test_the_url_of_a_consoles_test_reaches_the_service_and_the_account_tells_of_it(kept: Demo) -> None:
    (file,) = kept.directory.glob("*/callback-secret")
    secret = file.read_text().split()[0]
    account = {"RECEIVER_ACCOUNTS__SANDBOX__DIALECT": "sandbox", "RECEIVER_ACCOUNTS__SANDBOX__API_KEY": "x" * 20}
    env = {**account, "RECEIVER_PUBLIC_URL": f"{kept.url}/", "RECEIVER_DATA_DIR": str(file.parent)}
    done = ask(kept, "callbacks", "test-url", "--account", "sandbox", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    token = TokenKeys((Secret(secret),)).console_token(AccountId("sandbox"))
    assert done.stdout == f"{kept.url}/callbacks/sandbox/test/{token}\n"

    answer = httpx.post(done.stdout.strip(), content=b'{"id":"1","status":"submitted","outputs":[],"message":""}')
    told = json.loads(ask(kept, "accounts", "show", "sandbox", "--json").stdout)
    mode = told["signature_mode"]
    assert answer.status_code == (401 if mode == "required" else 200)
    assert told["console_test"]["verdict"] == "absent"
    lines = dict(line.split("\t", 1) for line in ask(kept, "accounts", "show", "sandbox").stdout.splitlines())
    assert lines["console_test"].endswith("the signature was absent")
    assert lines["host"].startswith("127.0.0.1:")


def test_a_test_url_needs_an_account_and_a_public_address(kept: Demo) -> None:
    account = {"RECEIVER_ACCOUNTS__SANDBOX__DIALECT": "sandbox", "RECEIVER_ACCOUNTS__SANDBOX__API_KEY": "x" * 20}
    for env, code in (
        (account, "misconfigured"),
        ({**account, "RECEIVER_PUBLIC_URL": "https://hooks.example.com"}, "misconfigured"),
        ({"RECEIVER_PUBLIC_URL": "https://hooks.example.com", "RECEIVER_CALLBACK_SECRETS": "x" * 40}, "not_found"),
    ):
        done = ask(kept, "callbacks", "test-url", "--account", "sandbox", env={**env, "RECEIVER_DATA_DIR": "/nowhere"})
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"receiver: {code}: ")
