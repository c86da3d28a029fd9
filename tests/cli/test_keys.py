from __future__ import annotations

import hashlib
import json
import subprocess

import psycopg
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


def keys(database_url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    variables = environment({"RECEIVER_DATABASE_URL": database_url})
    return subprocess.run(
        [*RECEIVER, "keys", *arguments], env=variables, capture_output=True, text=True, check=False, timeout=60
    )


def test_a_key_is_listed_without_itself_and_opens_nothing_once_revoked(database_url: str) -> None:
    key = keys(database_url, "create", "--owner", "radio", "--daily-tasks", "7").stdout.strip()
    listed = keys(database_url, "list", "--json").stdout
    (line,) = json.loads(listed)["keys"]
    assert (line["owner"], line["daily_tasks"], line["daily_units"], line["revoked_at"]) == ("radio", 7, None, None)
    assert key not in listed
    assert keys(database_url, "revoke", line["id"]).returncode == 0
    with psycopg.connect(database_url) as conn:
        row = conn.execute("SELECT revoked_at IS NOT NULL, hash FROM api_key").fetchone()
    assert row == (True, hashlib.sha256(key.encode()).digest())
    again = keys(database_url, "revoke", line["id"])
    assert (again.returncode, "not_found" in again.stderr) == (1, True)
