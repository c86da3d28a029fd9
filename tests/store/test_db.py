from __future__ import annotations

import asyncio

import pytest

from receiver.store import db
from receiver.store.db import Database


def test_what_waits_for_a_commit_is_done_after_it_and_never_when_it_is_undone(database_url: str) -> None:
    done: list[str] = []

    async def story() -> None:
        database = Database(database_url, connections=4)
        await database.open()
        try:
            async with database.transaction():
                db.on_commit(lambda: done.append("kept"))
                assert done == []
            with pytest.raises(ZeroDivisionError):
                await undone(database)
        finally:
            await database.close()

    async def undone(database: Database) -> None:
        async with database.transaction():
            db.on_commit(lambda: done.append("undone"))
            raise ZeroDivisionError

    asyncio.run(story())
    assert done == ["kept"]


def test_outside_of_a_transaction_nothing_is_waited_for() -> None:
    done: list[str] = []
    db.on_commit(lambda: done.append("now"))
    assert done == ["now"]
