"""The day's limits of an account and of a key: tasks accepted, and units that the provider has charged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

from receiver.core.errors import LimitTooSmall, SpendLimit
from receiver.core.model import Account
from receiver.store import accounts, keys, spend
from receiver.store.db import Connection
from receiver.store.keys import Key
from receiver.store.spend import Spent


async def guard(conn: Connection, key: Key, payers: Sequence[Account], now: datetime) -> None:
    """
    Refuse new tasks that would pass a limit; the caller accepts them in the same transaction.

    Only what has a limit is locked and counted. Units count when their task ends,
    so tasks under way may pass the limit of units by what they cost.

    Args:
        conn: Of the transaction.
        key: Who asks.
        payers: The account of each new task.
        now: The time (UTC).

    Raises:
        LimitTooSmall: They are more than a whole day takes, so no day will take them.
        SpendLimit: Says which limit, and when it opens again.
    """
    midnight = start_of_day(now)
    opens_in = midnight + timedelta(days=1) - now
    if _is_limited(key):
        await keys.lock(conn, key.id)
        spent = await spend.of_key(conn, key.id, midnight)
        _check(f"key {key.id}", spent, key, len(payers), opens_in)
    shares = Counter(account.id for account in payers)
    for account in sorted({each.id: each for each in payers}.values(), key=lambda each: each.id):
        if _is_limited(account):
            await accounts.lock(conn, account.id)
            spent = await spend.of_account(conn, account.id, midnight)
            _check(f"account {account.id}", spent, account, shares[account.id], opens_in)


def is_free(key: Key, payers: Sequence[Account]) -> bool:
    """Return whether nobody who pays has a limit, so that `guard` has nothing to do."""
    return not _is_limited(key) and not any(_is_limited(each) for each in payers)


def start_of_day(now: datetime) -> datetime:
    """Return the midnight (UTC) from which the day's limits count."""
    return now.replace(hour=0, minute=0, second=0, microsecond=0)


def _is_limited(payer: Account | Key) -> bool:
    return payer.daily_tasks is not None or payer.daily_units is not None


def _check(whose: str, spent: Spent, payer: Account | Key, new: int, opens_in: timedelta) -> None:
    limit, units = payer.daily_tasks, payer.daily_units
    more = "take a key with more" if isinstance(payer, Key) else "raise it"
    if limit is not None and new > limit:
        fewer = "send fewer at once, or " if limit else ""
        raise LimitTooSmall(f"{whose} takes {limit} tasks a day (UTC, `daily_tasks`), never {new}; {fewer}{more}")
    if units is not None and units <= 0:
        raise LimitTooSmall(f"{whose} takes {units} units a day (UTC, `daily_units`), so nothing at all; {more}")
    if limit is not None and spent.tasks + new > limit:
        also = f", and these are {new} more" if new > 1 else ""
        raise SpendLimit(f"{whose}: {spent.tasks} tasks of {limit} today (UTC){also}", opens_in=opens_in)
    if units is not None and spent.units >= units:
        raise SpendLimit(f"{whose}: {spent.units} units of {units} today (UTC)", opens_in=opens_in)
