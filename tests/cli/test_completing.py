"""Completion, asked for as the shells do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.cli.rig import Demo, environment, until

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

#: Where the package is installed, as a person calls it.
RECEIVER = str(Path(sys.executable).parent / "receiver")


def offered(line: str, env: Mapping[str, str] | None = None) -> list[str]:
    words = line.split(" ")
    asked = {"_RECEIVER_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(
        [RECEIVER], env=environment({**asked, **(env or {})}), capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("receiver ta", ["tasks"]),
        ("receiver tasks wa", ["watch"]),
        ("receiver tasks list --att", ["--attention"]),
        ("receiver tasks list --state a", ["accepted", "archived"]),
        ("receiver tasks list --kind text-to-a", ["text-to-audio"]),
    ],
)
def test_commands_options_states_and_kinds_are_completed(line: str, words: list[str]) -> None:
    assert offered(line) == words


def test_accounts_are_those_of_the_service_and_none_when_it_is_away(kept: Demo) -> None:
    there = {"RECEIVER_URL": kept.url, "RECEIVER_API_KEY": kept.key}
    # Nobody waits longer than a second for a word, and a busy machine may.
    until(lambda: offered("receiver tasks submit sand", there) == ["sandbox"])
    for wrong in ({"RECEIVER_API_KEY": "rk_other"}, {"RECEIVER_API_KEY": ""}, {"RECEIVER_URL": "http://127.0.0.1:1"}):
        assert offered("receiver tasks submit sand", {**there, **wrong}) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_is_shown(shell: str) -> None:
    asked = {"_RECEIVER_COMPLETE": f"source_{shell}"}
    done = subprocess.run([RECEIVER], env=environment(asked), capture_output=True, text=True, check=True)
    assert "_RECEIVER_COMPLETE" in done.stdout


def test_completion_installs_itself_for_the_shell_that_calls(tmp_path: Path) -> None:
    env = environment({"HOME": str(tmp_path)})
    for option in ("--show-completion", "--install-completion"):
        command = ["bash", "-c", f"'{RECEIVER}' {option}; exit $?"]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert "receiver" in (tmp_path / ".bashrc").read_text()
