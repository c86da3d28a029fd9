"""What an account and a key have cost today, counted from the tasks themselves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from receiver.core import ids
from receiver.core.model import AccountId
from receiver.store.db import Connection, one


@dataclass(frozen=True, slots=True)
class Spent:
    """Tasks accepted and units charged since a moment; units count when their task ends."""

    tasks: int
    units: Decimal


OF_ACCOUNT: Final = """
-- store.spend.of_account: ids sort by time, so both are ranges of an index
SELECT (SELECT count(*) FROM task WHERE account = %(account)s AND id >= %(first)s) AS tasks,
       (SELECT coalesce(sum(units::numeric), 0) FROM task
         WHERE account = %(account)s AND ended_at >= %(since)s AND units IS NOT NULL) AS units
"""

OF_KEY: Final = """
-- store.spend.of_key: the same for one key
SELECT (SELECT count(*) FROM task WHERE api_key = %(key)s AND id >= %(first)s) AS tasks,
       (SELECT coalesce(sum(units::numeric), 0) FROM task
         WHERE api_key = %(key)s AND ended_at >= %(since)s AND units IS NOT NULL) AS units
"""


async def of_account(conn: Connection, account: AccountId, since: datetime) -> Spent:
    """Return what *account* has cost since; exact while the caller holds the account's lock."""
    params = {"account": account, "since": since, "first": ids.task_id(since, 0)}
    return Spent(**(await one(conn, OF_ACCOUNT, params) or {}))


async def of_key(conn: Connection, key: str, since: datetime) -> Spent:
    """Return what a key has cost since; exact while the caller holds the key's lock."""
    return Spent(**(await one(conn, OF_KEY, {"key": key, "since": since, "first": ids.task_id(since, 0)}) or {}))
