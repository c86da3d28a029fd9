"""What belongs to no command."""

from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from tests.cli.rig import RECEIVER, environment


def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RECEIVER, *arguments], env=environment(more), capture_output=True, text=True, check=False, timeout=60
    )


def test_the_version_is_that_of_the_package() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"receiver {metadata.version('receiver')}\n")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("receiver sec", {"secrets"}),
        ("receiver secrets r", {"retire", "rotate"}),
        ("receiver doctor --j", {"--json"}),
        ("receiver keys ", {"create", "list", "revoke"}),
    ],
)
def test_a_shell_is_told_what_can_follow(typed: str, offered: set[str]) -> None:
    words = typed.split(" ")
    done = run(_RECEIVER_COMPLETE="complete_bash", COMP_WORDS=typed, COMP_CWORD=str(len(words) - 1))
    assert set(done.stdout.split()) == offered


def test_the_shells_script_is_shown() -> None:
    done = run("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert done.returncode == 0
    assert "_RECEIVER_COMPLETE=complete_bash" in done.stdout


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_told_in_a_line(unbuffered: str) -> None:
    command, env = [*RECEIVER, "--version"], environment({"PYTHONUNBUFFERED": unbuffered})
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, env=env, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (1, "receiver: cannot_write: No space left on device\n")


def test_the_port_that_cannot_be_known_is_not_asked() -> None:
    done = run("health", "worker", RECEIVER_WORKER_PORT="0")
    assert (done.returncode, done.stdout) == (1, "")
    assert "the port of worker is 0" in done.stderr


def test_a_list_makes_no_database(tmp_path: Path) -> None:
    done = run("keys", "list", RECEIVER_DATA_DIR=str(tmp_path / "none"))
    assert (done.returncode, "there is no database" in done.stderr) == (1, True)
    assert not (tmp_path / "none").exists()


#: Take most of a second to import, and few commands need them.
HEAVY = {"psycopg", "boto3", "starlette", "uvicorn", "jinja2", "structlog"}


@pytest.mark.parametrize(
    ("command", "spared"),
    [
        (("--version",), {*HEAVY, "pydantic", "httpx", "rich"}),
        (("health",), {*HEAVY, "httpx", "rich"}),
        (("tasks", "list"), HEAVY),
    ],
)
def test_a_command_imports_what_it_needs(command: tuple[str, ...], spared: set[str]) -> None:
    told = run(*command, PYTHONPROFILEIMPORTTIME="1", RECEIVER_URL="http://127.0.0.1:9", RECEIVER_PORT="9").stderr
    imported = {line.rpartition("|")[2].strip() for line in told.splitlines() if line.startswith("import time:")}
    assert "receiver.cli.main" in imported
    assert imported & spared == set()


def test_completing_the_name_of_a_command_imports_no_other() -> None:
    asked = {"_RECEIVER_COMPLETE": "complete_bash", "COMP_WORDS": "receiver hea", "COMP_CWORD": "1"}
    done = run(**asked, PYTHONPROFILEIMPORTTIME="1")
    assert done.stdout.split() == ["health"]
    assert "psycopg" not in done.stderr


def test_a_command_that_is_misspelt_is_guessed() -> None:
    done = run("taks")
    assert (done.returncode, done.stdout) == (2, "")
    assert "tasks" in done.stderr
