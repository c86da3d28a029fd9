from __future__ import annotations

import subprocess

import pytest

from tests.cli.rig import RECEIVER, environment


@pytest.mark.parametrize(
    "wrong",
    [
        ("--daily-units", "nan"),
        ("--daily-units", "inf"),
        ("--daily-units", "-1"),
        ("--daily-tasks", "x"),
        ("--owner", " "),
    ],
)
def test_a_key_with_a_limit_that_is_no_number_is_not_made(wrong: tuple[str, ...]) -> None:
    done = subprocess.run(
        [*RECEIVER, "keys", "create", *wrong], env=environment(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
