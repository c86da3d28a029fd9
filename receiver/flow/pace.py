"""
How fast an account may be spoken to, as rows that all processes share.

Answers that settle nothing, several in a row, open its circuit: nothing is sent
for a while, then one request tries. A provider that says when to come back is
believed. A limit of requests per minute is kept where the profile states one. A
refusal for too many tasks in flight lowers the account's limit for a while.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Final

import structlog

from receiver.core import schedule
from receiver.dialects.answers import Busy, CreateAnswer, ListAnswer, QueryAnswer, Unsure
from receiver.flow.services import Deal, Services
from receiver.store import accounts, db, jobs, pace, tasks
from receiver.store.accounts import Pause
from receiver.store.db import Connection
from receiver.store.pace import Pace

log = structlog.get_logger(__name__)

__all__ = ["Pace", "heard", "release_held", "room", "spread", "standing", "unheard", "wait"]

#: Answers in a row that settled nothing, after which the circuit opens.
PATIENCE: Final = 5
#: How long it stays open at first, doubling to the longest.
_FIRST: Final = timedelta(seconds=2)
_LONGEST: Final = timedelta(seconds=30)
#: How long the request that tries may take before another may.
_TRIAL: Final = timedelta(seconds=30)
#: Over how long those who waited for a circuit come back.
_SPREAD: Final = timedelta(seconds=5)
#: What of a minute's budget may be spent at once.
_BURST: Final = timedelta(seconds=5)
#: Where a provider says that we are too fast, and not when to come back.
_PAUSE: Final = timedelta(seconds=2)
#: How long a limit stays lowered after a refusal for too many tasks (providers.md 2.8).
_LOWERED: Final = timedelta(minutes=5)


async def standing(conn: Connection, deal: Deal) -> Pace:
    """Return what slows the account now."""
    return await pace.standing(conn, deal.account.id, patience=PATIENCE)


async def wait(conn: Connection, deal: Deal) -> timedelta:
    """Return how long no request may be sent for the account; zero counts this one as sent."""
    left = await pace.wait(conn, deal.account.id, patience=PATIENCE, trial=_TRIAL)
    budget = deal.profile.requests_per_minute
    if left > timedelta() or budget is None:
        return left
    return await pace.spend(conn, deal.account.id, every=timedelta(minutes=1) / budget, burst=_BURST)


def spread(left: timedelta, jitter: float) -> timedelta:
    """Return *left* and up to as much again, at most some seconds, so that those who wait do not come all at once."""
    return left + min(left, _SPREAD) * jitter


async def room(conn: Connection, deal: Deal) -> int | None:
    """
    Return how many more tasks may be given to the provider now, None when nothing may be sent at all.

    The caller holds the account's lock.
    """
    now = await standing(conn, deal)
    if now.is_open:
        return None
    limit = deal.account.concurrency if now.lowered_to is None else min(deal.account.concurrency, now.lowered_to)
    free = max(limit - await tasks.in_flight(conn, deal.account.id), 0)
    return min(free, 1) if now.failures >= PATIENCE else free


async def release_held(conn: Connection, deal: Deal) -> int:
    """
    Give free slots of the account to held submit jobs; while it is paused, let one job a minute try it.

    Nothing tries it where a person or a question ends the pause. Takes the account's lock.
    """
    standing = await accounts.lock(conn, deal.account.id)
    if standing.paused_at is not None and not _is_to_be_tried(standing, deal):
        return 0
    free = await room(conn, deal)
    if free is None:
        return 0
    if standing.paused_at is not None:
        return await accounts.release_probe(conn, deal.account.id, has_room=free > 0)
    return await jobs.release_held(conn, deal.account.id, free)


def _is_to_be_tried(standing: Pause, deal: Deal) -> bool:
    """Return whether a create shall find out now if a paused account is taken again."""
    is_asked = standing.paused_reason == "authentication" and deal.profile.query
    return standing.probe_due and not (standing.by_hand or is_asked)


async def heard(services: Services, deal: Deal, answer: CreateAnswer | QueryAnswer | ListAnswer) -> None:
    """Note what *answer* says of the provider's state, whatever it says of a task."""
    match answer:
        case Unsure():
            await unheard(services, deal, answer.retry_after)
        case Busy(concurrency=True):
            await _lower(services, deal)
        case Busy():
            await _slow_down(services, deal, answer.retry_after)
        case _:
            await _close(services, deal)


async def unheard(services: Services, deal: Deal, retry_after: timedelta | None = None) -> None:
    """Note that the provider gave no answer, or one that settles nothing; it may have said when to come back."""
    account = deal.account.id
    async with services.database.transaction() as conn:
        failures = await pace.failed(conn, account, patience=PATIENCE, first=_FIRST, longest=_LONGEST)
        if retry_after is not None:
            await pace.rest(conn, account, min(retry_after, schedule.LONGEST_PAUSE), "unreachable")
        if failures == PATIENCE:
            db.on_commit(partial(log.warning, "circuit.opened", account=account))


async def _close(services: Services, deal: Deal) -> None:
    async with services.database.connection() as conn:
        ended = await pace.answered(conn, deal.account.id)
    if ended >= PATIENCE:
        log.info("circuit.closed", account=deal.account.id, failures=ended)


async def _slow_down(services: Services, deal: Deal, retry_after: timedelta | None) -> None:
    wait = min(retry_after or _PAUSE, schedule.LONGEST_PAUSE)
    async with services.database.connection() as conn:
        await pace.rest(conn, deal.account.id, wait, "too_fast")
    log.info("account.slowed", account=deal.account.id, seconds=wait.total_seconds())


async def _lower(services: Services, deal: Deal) -> None:
    """Take what the provider has of ours for its limit, for a while; what was refused counts as ours alone."""
    account = deal.account.id
    async with services.database.transaction() as conn:
        limit = max(min(await tasks.at_work(conn, account), deal.account.concurrency - 1), 1)
        await pace.lower(conn, account, limit, _LOWERED)
        db.on_commit(partial(log.warning, "account.limit_lowered", account=account, limit=limit))
