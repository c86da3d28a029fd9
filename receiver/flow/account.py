"""How the accounts stand, and a person's pause of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final
from urllib.parse import urlsplit

import structlog

from receiver import telemetry
from receiver.core.errors import NotFound
from receiver.core.model import Account, AccountId
from receiver.core.tokens import key_id
from receiver.flow import reconcile, spending
from receiver.flow.services import Deal, Services
from receiver.store import accounts, db, jobs, spend, tasks, weather
from receiver.store.accounts import ConsoleTest, Pause
from receiver.store.db import Connection
from receiver.store.spend import Day, Spent
from receiver.store.weather import Weather

log = structlog.get_logger(__name__)

__all__ = ["ConsoleTest", "Day", "Standing", "Weather", "all_of", "one", "pause", "resume"]

#: Days (UTC) whose cost is told, today among them.
DAYS: Final = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """An account as configured, and what the database says of it."""

    account: Account
    pause: Pause
    #: Tasks that hold a slot at the provider, and tasks that wait for one.
    in_flight: int
    waiting: int
    #: Since midnight (UTC).
    spent: Spent
    #: The newest first, today among them.
    days: Sequence[Day]
    weather: Weather
    test: ConsoleTest | None

    @property
    def host(self) -> str:
        """Return where its API is."""
        return urlsplit(self.account.base_url).netloc.rpartition("@")[2]

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return the key ids of its webhook secrets, which reveal nothing of them."""
        return tuple(key_id(secret) for secret in self.account.webhook_secrets)


async def all_of(services: Services) -> list[Standing]:
    """Return the standing of every configured account."""
    return await _standings(services, list(services.deals.values()))


async def one(services: Services, account: AccountId) -> Standing:
    """
    Return the standing of *account*.

    Raises:
        NotFound: There is no such account.
    """
    (found,) = await _standings(services, [_known(services, account)])
    return found


async def pause(services: Services, account: AccountId) -> Standing:
    """
    Let submits of *account* wait until `resume`; queries and archiving go on.

    Raises:
        NotFound: There is no such account.
    """
    _known(services, account)
    async with services.database.transaction() as conn:
        await accounts.lock(conn, account)
        if await accounts.pause_by_hand(conn, account):
            reason = "paused_by_operator"
            db.on_commit(partial(log.warning, "account.paused", account=account, reason=reason))
            db.on_commit(telemetry.ACCOUNTS_PAUSED.labels(account=account, reason=reason).inc)
    return await one(services, account)


async def resume(services: Services, account: AccountId) -> Standing:
    """
    Let submits of *account* go on.

    Raises:
        NotFound: There is no such account.
    """
    await reconcile.resume(services, _known(services, account))
    return await one(services, account)


def _known(services: Services, account: AccountId) -> Deal:
    deal = services.deals.get(account)
    if deal is None:
        raise NotFound("no such account")
    return deal


async def _standings(services: Services, deals: Sequence[Deal]) -> list[Standing]:
    async with services.database.connection() as conn:
        found = await weather.of(conn, [deal.account.id for deal in deals], services.clock())
        return [await _standing(services, conn, deal.account, found[deal.account.id]) for deal in deals]


async def _standing(services: Services, conn: Connection, account: Account, told: Weather) -> Standing:
    midnight = spending.start_of_day(services.clock())
    return Standing(
        account=account,
        pause=await accounts.get(conn, account.id),
        in_flight=await tasks.in_flight(conn, account.id),
        waiting=await jobs.held_of(conn, account.id),
        spent=await spend.of_account(conn, account.id, midnight),
        days=await spend.by_day(conn, account.id, [midnight - timedelta(days=back) for back in range(DAYS)]),
        weather=told,
        test=await accounts.last_test(conn, account.id),
    )
