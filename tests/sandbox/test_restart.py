import sqlite3
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import httpx

from tests.sandbox.rig import ENDS, KEY, Inbox, Sandbox, wait_for

LIFE = ["submitted", "processing", "succeed"]


def all_ended(sandbox: Sandbox) -> bool:
    return all(task["status"] in ENDS for task in sandbox.ledger()["tasks"])


def test_tasks_under_way_finish_after_a_kill(start: Callable[..., Sandbox]) -> None:
    first = start("--run-seconds", "2")
    made = {f"task-{number}": first.make(external_task_id=f"task-{number}") for number in range(8)}
    wait_for(lambda: {"processing", "succeed"} & {task["status"] for task in first.ledger()["tasks"]})
    assert not all_ended(first)
    first.kill()
    second = start("--run-seconds", "2")
    wait_for(lambda: all_ended(second))
    ledger = second.ledger()
    assert {task["external_task_id"]: task["task_id"] for task in ledger["tasks"]} == made
    assert [(task["status"], task["charged"], task["creates"]) for task in ledger["tasks"]] == [
        ("succeed", "0.25", 1)
    ] * 8
    assert ledger["charges"] == 8
    assert ledger["requests"]["create"] == 8
    for task in ledger["tasks"]:
        content = httpx.get(second.clip(task["task_id"])["url_mp3"], trust_env=False).content
        assert sha256(content).hexdigest() == task["audios"][0]["sha256"]
    assert second.create(external_task_id="task-0").json()["code"] == 1201
    assert second.make(external_task_id="task-9") not in made.values()


def test_callbacks_that_were_due_are_sent_once_after_a_kill(start: Callable[..., Sandbox], inbox: Inbox) -> None:
    inbox.answering.clear()
    first = start("--run-seconds", "0.2")
    task_id = first.make(callback_url=inbox.url)
    first.ended(task_id)
    wait_for(lambda: inbox.statuses() == ["submitted"])
    first.kill()
    inbox.answering.set()
    second = start()
    outcomes = [(one["status"], one["outcome"]) for one in second.told(task_id, 3)]
    assert outcomes == list(zip(LIFE, ["unknown", "200", "200"], strict=True))
    assert inbox.statuses() == LIFE


def test_links_outlive_a_restart(start: Callable[..., Sandbox]) -> None:
    first = start("--run-seconds", "0.1")
    link = first.clip(first.make())["url_wav"]
    first.stop()
    second = start()
    moved = link.replace(first.url, second.url)
    assert httpx.get(moved, trust_env=False).status_code == 200


def test_counts_outlive_a_clean_stop(start: Callable[..., Sandbox]) -> None:
    first = start()
    for _ in range(3):
        first.client.get("/v1/audio/text-to-audio")
    first.stop()
    assert start().ledger()["requests"]["list"] == 3


def test_a_stop_is_clean_with_tasks_under_way(start: Callable[..., Sandbox]) -> None:
    sandbox = start("--run-seconds", "600")
    sandbox.make()
    sandbox.stop()


def test_a_second_process_on_the_same_state_is_refused(start: Callable[..., Sandbox], tmp_path: Path) -> None:
    start()
    command = [sys.executable, "-m", "receiver.sandbox", "--state-dir", str(tmp_path / "state"), "--api-key", KEY]
    second = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert second.returncode != 0
    assert second.stdout == ""
    assert "another sandbox works in" in second.stderr


def test_the_state_of_another_version_is_refused(start: Callable[..., Sandbox], tmp_path: Path) -> None:
    start().stop()
    with sqlite3.connect(tmp_path / "state" / "sandbox.sqlite3") as connection:
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    command = [sys.executable, "-m", "receiver.sandbox", "--state-dir", str(tmp_path / "state"), "--api-key", KEY]
    second = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert second.returncode != 0
    assert "is of another version of the sandbox" in second.stderr
