"""What the database itself refuses, whoever writes."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

TASK = """
INSERT INTO task (id, owner, account, kind, input, request_hash, state, submit_by, due_at, reason, ended_at, sends,
                  first_sent_at, idempotency_key)
VALUES (%(id)s, 'o', 'a', 'k', %(input)s, %(hash)s, %(state)s, now(), %(due_at)s, %(reason)s, %(ended_at)s, %(sends)s,
        %(first_sent_at)s, %(key)s)
"""
GOOD = {
    "id": 1,
    "input": "{}",
    "hash": b"h" * 32,
    "state": "accepted",
    "due_at": "2026-01-01Z",
    "reason": None,
    "ended_at": None,
    "sends": 0,
    "first_sent_at": None,
    "key": None,
}
ENDED = {"due_at": None, "ended_at": "2026-01-01Z"}
ASSET = """
INSERT INTO asset (task_id, clip, position, format, state, url, trust, gone_at, key, size, sha256, media_type, verified,
                   stored_at, error)
VALUES (1, %(clip)s, 0, 'mp3', %(state)s, 'u', %(trust)s, now(), %(key)s, %(size)s, %(sha256)s, 'audio/mpeg',
        %(verified)s, now(), %(error)s)
"""
STORED = {
    "clip": "c",
    "state": "stored",
    "trust": "signed",
    "key": "k",
    "size": 9,
    "sha256": b"s" * 32,
    "verified": "readback",
    "error": None,
}


@pytest.fixture
def conn(database_url: str) -> psycopg.Connection[tuple[object, ...]]:
    conn = psycopg.connect(database_url, autocommit=True)
    conn.execute("INSERT INTO account (id, dialect) VALUES ('a', 'd')")
    return conn


def insert(conn: psycopg.Connection[tuple[object, ...]], sql: str, values: dict[str, object]) -> None:
    with conn:
        conn.execute(sql.encode(), values)


@pytest.mark.parametrize(
    "change",
    [
        {"state": "done"},
        {"id": 0},
        {"id": -1},
        {"hash": b"h"},
        {"input": "[]"},
        {"due_at": None},
        {"ended_at": "2026-01-01Z"},
        {"state": "archived"},
        {"state": "archived", "due_at": None},
        {"state": "failed", **ENDED},
        {"state": "submitting"},
        {"sends": 1},
        {"sends": -1, "first_sent_at": "2026-01-01Z"},
        {"first_sent_at": "2026-01-01Z"},
    ],
    ids=str,
)
def test_a_task_that_cannot_be_is_refused(
    conn: psycopg.Connection[tuple[object, ...]], change: dict[str, object]
) -> None:
    with pytest.raises(errors.CheckViolation):
        insert(conn, TASK, GOOD | change)


@pytest.mark.parametrize(
    "change", [{}, {"state": "archived", **ENDED}, {"state": "failed", "reason": "r", **ENDED}], ids=str
)
def test_a_task_that_can_be_is_taken(conn: psycopg.Connection[tuple[object, ...]], change: dict[str, object]) -> None:
    insert(conn, TASK, GOOD | change)


def test_an_idempotency_key_stands_for_one_task(conn: psycopg.Connection[tuple[object, ...]]) -> None:
    with conn:
        conn.execute(TASK.encode(), GOOD | {"key": "k"})
        with pytest.raises(errors.UniqueViolation):
            conn.execute(TASK.encode(), GOOD | {"key": "k", "id": 2})
        conn.execute(TASK.encode(), GOOD | {"id": 3})
        conn.execute(TASK.encode(), GOOD | {"id": 4})


def test_an_account_with_tasks_cannot_be_removed(conn: psycopg.Connection[tuple[object, ...]]) -> None:
    with conn:
        conn.execute(TASK.encode(), GOOD)
        with pytest.raises(errors.ForeignKeyViolation):
            conn.execute("DELETE FROM account")


@pytest.mark.parametrize(
    "change",
    [
        {"key": None},
        {"size": None},
        {"size": 0},
        {"sha256": None},
        {"sha256": b"s"},
        {"verified": None},
        {"verified": "hope"},
        {"state": "gone"},
        {"state": "pending"},
        {"state": "expired", "key": None},
        {"trust": "none"},
    ],
    ids=str,
)
def test_an_asset_that_cannot_be_is_refused(
    conn: psycopg.Connection[tuple[object, ...]], change: dict[str, object]
) -> None:
    conn.execute(TASK.encode(), GOOD)
    with pytest.raises(errors.CheckViolation):
        insert(conn, ASSET, STORED | change)


def test_an_object_belongs_to_one_asset_and_a_clip_has_one_of_each_format(
    conn: psycopg.Connection[tuple[object, ...]],
) -> None:
    with conn:
        conn.execute(TASK.encode(), GOOD)
        conn.execute(ASSET.encode(), STORED)
        for change in ({"clip": "d"}, {"key": "l"}):
            with pytest.raises(errors.UniqueViolation):
                conn.execute(ASSET.encode(), STORED | change)


def test_an_event_is_never_changed_and_a_task_is_accepted_once(conn: psycopg.Connection[tuple[object, ...]]) -> None:
    accepted = "INSERT INTO event (task_id, type) VALUES (1, 'task.accepted')"
    with conn:
        conn.execute(accepted)
        with pytest.raises(errors.RestrictViolation):
            conn.execute("UPDATE event SET type = 'x'")
        with pytest.raises(errors.UniqueViolation):
            conn.execute(accepted)


@pytest.mark.parametrize(
    "values",
    [
        "'dance', 1, 'ready', false, NULL, NULL",
        "'query', 1, 'asleep', false, NULL, NULL",
        "'query', 1, 'leased', false, NULL, NULL",
        "'query', 1, 'ready', false, now(), NULL",
        "'query', 1, 'waiting', true, NULL, NULL",
        "'submit', 1, 'ready', true, NULL, NULL",
    ],
)
def test_a_job_that_cannot_be_is_refused(conn: psycopg.Connection[tuple[object, ...]], values: str) -> None:
    columns = "account, run_at, deliver_by, kind, subject, state, held, lease_until, lease_token"
    sql = f"INSERT INTO job ({columns}) VALUES ('a', now(), now(), {values})"  # noqa: S608 - our own
    with pytest.raises(errors.CheckViolation), conn:
        conn.execute(sql.encode())


@pytest.mark.parametrize("name", ["", "A", "-a", "a b", "ä", "x" * 64])
def test_an_account_has_a_plain_name(conn: psycopg.Connection[tuple[object, ...]], name: str) -> None:
    with pytest.raises(errors.CheckViolation), conn:
        conn.execute("INSERT INTO account (id, dialect) VALUES (%(n)s, 'd')", {"n": name})
