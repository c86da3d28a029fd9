from __future__ import annotations

import asyncio
from collections.abc import Sequence
from hashlib import sha256

from receiver.core.model import TaskId
from receiver.store import db, inbox
from receiver.store.db import every
from receiver.store.inbox import Arrival, Key


def arrival(task: int, body: bytes = b"{}", *, account: str = "a", verified: bool = True) -> Arrival:
    return Arrival(Key(TaskId(task), account, verified, sha256(body).digest()), body)


def kept(url: str, *batches: Sequence[Arrival]) -> tuple[list[list[bool]], list[int], int]:
    """Keep the batches in turn; return what was told, the repeats of each row once folded, and the number of jobs."""

    async def story() -> tuple[list[list[bool]], list[int], int]:
        conn = await db.connect(url)
        try:
            told = [await inbox.keep(conn, batch) for batch in batches]
            await inbox.fold(conn)
            rows = await every(conn, "SELECT repeats FROM inbox ORDER BY task_id, account, verified, digest")
            jobs = await every(conn, "SELECT subject FROM job WHERE kind = 'advance' AND state = 'ready'")
            return told, [row["repeats"] for row in rows], len(jobs)
        finally:
            await conn.close()

    return asyncio.run(story())


def test_each_new_callback_has_a_job(database_url: str) -> None:
    batch = [arrival(3), arrival(1), arrival(2)]
    assert kept(database_url, batch) == ([[True, True, True]], [0, 0, 0], 3)


def test_the_first_of_several_alike_in_one_batch_is_the_new_one(database_url: str) -> None:
    batch = [arrival(1), arrival(2), arrival(1), arrival(1)]
    assert kept(database_url, batch) == ([[True, True, False, False]], [2, 0], 2)


def test_a_repeat_in_a_later_batch_is_counted_once_for_each_time(database_url: str) -> None:
    later = [arrival(1), arrival(2), arrival(1)]
    assert kept(database_url, [arrival(1)], later, later) == ([[True], [False, True, False], [False] * 3], [4, 1], 2)


def test_another_account_task_body_or_an_unsigned_copy_is_no_repeat(database_url: str) -> None:
    batch = [arrival(1), arrival(1, account="b"), arrival(2), arrival(1, b"[]"), arrival(1, verified=False)]
    assert kept(database_url, batch[:1], batch) == ([[True], [False, True, True, True, True]], [0, 1, 0, 0, 0], 5)


def test_a_batch_of_repeats_alone_wakes_nobody_and_adds_no_job(database_url: str) -> None:
    assert kept(database_url, [arrival(1)], [arrival(1)] * 500) == ([[True], [False] * 500], [500], 1)


def test_any_bytes_are_kept_as_they_came(database_url: str) -> None:
    async def story() -> list[bytes]:
        conn = await db.connect(database_url)
        try:
            await inbox.keep(conn, [arrival(n, body) for n, body in enumerate(bodies, 1)])
            return [bytes(row["body"]) for row in await every(conn, "SELECT body FROM inbox ORDER BY task_id")]
        finally:
            await conn.close()

    bodies = [bytes(range(256)), b"", b"\0", b"\\x00'\"{}", "\ud800".encode("utf-8", "surrogatepass")]
    assert asyncio.run(story()) == bodies
