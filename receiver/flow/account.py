"""How the accounts stand, and a person's pause of one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import structlog

from receiver.core.errors import NotFound
from receiver.core.model import Account, AccountId
from receiver.flow import reconcile, spending
from receiver.flow.services import Deal, Services
from receiver.store import accounts, db, jobs, spend, tasks
from receiver.store.accounts import Pause
from receiver.store.db import Connection
from receiver.store.spend import Spent

log = structlog.get_logger(__name__)


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


async def all_of(services: Services) -> list[Standing]:
    """Return the standing of every configured account."""
    async with services.database.connection() as conn:
        return [await _standing(services, conn, deal) for deal in services.deals.values()]


async def pause(services: Services, account: AccountId) -> Standing:
    """
    Let submits of *account* wait until `resume`; queries and archiving go on.

    Raises:
        NotFound: There is no such account.
    """
    deal = _known(services, account)
    async with services.database.transaction() as conn:
        await accounts.lock(conn, account)
        if await accounts.pause_by_hand(conn, account):
            db.on_commit(partial(log.warning, "account.paused", account=account, reason="paused_by_operator"))
        return await _standing(services, conn, deal)


async def resume(services: Services, account: AccountId) -> Standing:
    """
    Let submits of *account* go on.

    Raises:
        NotFound: There is no such account.
    """
    deal = _known(services, account)
    await reconcile.resume(services, deal)
    async with services.database.connection() as conn:
        return await _standing(services, conn, deal)


def _known(services: Services, account: AccountId) -> Deal:
    deal = services.deals.get(account)
    if deal is None:
        raise NotFound("no such account")
    return deal


async def _standing(services: Services, conn: Connection, deal: Deal) -> Standing:
    account = deal.account
    return Standing(
        account=account,
        pause=await accounts.get(conn, account.id),
        in_flight=await tasks.in_flight(conn, account.id),
        waiting=await jobs.held_of(conn, account.id),
        spent=await spend.of_account(conn, account.id, spending.start_of_day(services.clock())),
    )
