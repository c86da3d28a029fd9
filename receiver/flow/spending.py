"""The day's limits of an account and of a key: tasks accepted, and units that the provider has charged."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from receiver.core.errors import SpendLimit
from receiver.core.model import Account
from receiver.store import accounts, keys, spend
from receiver.store.db import Connection
from receiver.store.keys import Key
from receiver.store.spend import Spent


async def guard(conn: Connection, account: Account, key: Key, now: datetime) -> None:
    """
    Refuse one more task once a limit is reached; the caller accepts it in the same transaction.

    Only what has a limit is locked and counted. Units count when their task ends,
    so tasks under way may pass the limit of units by what they cost.

    Raises:
        SpendLimit: Says which limit, and when it opens again.
    """
    midnight = start_of_day(now)
    opens_in = midnight + timedelta(days=1) - now
    if key.daily_tasks is not None or key.daily_units is not None:
        await keys.lock(conn, key.id)
        spent = await spend.of_key(conn, key.id, midnight)
        _check(f"key {key.id}", spent, key.daily_tasks, key.daily_units, opens_in)
    if account.daily_tasks is not None or account.daily_units is not None:
        await accounts.lock(conn, account.id)
        spent = await spend.of_account(conn, account.id, midnight)
        _check(f"account {account.id}", spent, account.daily_tasks, account.daily_units, opens_in)


def start_of_day(now: datetime) -> datetime:
    """Return the midnight (UTC) from which the day's limits count."""
    return now.replace(hour=0, minute=0, second=0, microsecond=0)


def _check(whose: str, spent: Spent, tasks: int | None, units: Decimal | None, opens_in: timedelta) -> None:
    if tasks is not None and spent.tasks >= tasks:
        raise SpendLimit(f"{whose}: {spent.tasks} tasks of {tasks} today (UTC)", opens_in=opens_in)
    if units is not None and spent.units >= units:
        raise SpendLimit(f"{whose}: {spent.units} units of {units} today (UTC)", opens_in=opens_in)
