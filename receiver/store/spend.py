"""What an account and a key have cost today, counted from the tasks themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Final

from receiver.core import ids
from receiver.core.model import AccountId
from receiver.store.db import Connection, every, one


@dataclass(frozen=True, slots=True)
class Spent:
    """Tasks accepted and units charged since a moment; units count when their task ends."""

    tasks: int
    units: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """What an account has cost on one day (UTC): tasks accepted on it, and units of the tasks that ended on it."""

    day: date
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


BY_DAY: Final = """
-- store.spend.by_day: the same for each of the last days
SELECT day,
       (SELECT count(*) FROM task WHERE account = %(account)s AND id >= x.first AND id < x.next) AS tasks,
       (SELECT coalesce(sum(units::numeric), 0) FROM task
         WHERE account = %(account)s AND ended_at >= x.day AND ended_at < x.day + interval '1 day'
           AND units IS NOT NULL) AS units
  FROM unnest(%(days)s::timestamptz[], %(firsts)s::bigint[], %(nexts)s::bigint[]) AS x (day, first, next)
 ORDER BY x.day DESC
"""


async def of_account(conn: Connection, account: AccountId, since: datetime) -> Spent:
    """Return what *account* has cost since; exact while the caller holds the account's lock."""
    params = {"account": account, "since": since, "first": ids.task_id(since, 0)}
    return Spent(**(await one(conn, OF_ACCOUNT, params) or {}))


async def of_key(conn: Connection, key: str, since: datetime) -> Spent:
    """Return what a key has cost since; exact while the caller holds the key's lock."""
    return Spent(**(await one(conn, OF_KEY, {"key": key, "since": since, "first": ids.task_id(since, 0)}) or {}))


async def by_day(conn: Connection, account: AccountId, midnights: Sequence[datetime]) -> list[Day]:
    """Return what *account* has cost on each day that begins at one of *midnights* (UTC), the newest first."""
    bounds = [(ids.task_id(at, 0), ids.task_id(at + timedelta(days=1), 0)) for at in midnights]
    params = {
        "account": account,
        "days": list(midnights),
        "firsts": [first for first, _ in bounds],
        "nexts": [after for _, after in bounds],
    }
    days = {at.timestamp(): at.date() for at in midnights}
    return [Day(**{**row, "day": days[row["day"].timestamp()]}) for row in await every(conn, BY_DAY, params)]
