"""What every worker does beside its jobs, skipping what another is at; there is no leader."""

from __future__ import annotations

import structlog

from receiver import telemetry
from receiver.core.model import AccountId, JobKind
from receiver.flow import pace, reconcile
from receiver.flow.services import Services
from receiver.store import inbox, jobs, ledger
from receiver.store.jobs import Wanted

log = structlog.get_logger(__name__)


async def often(services: Services) -> int:
    """Ready the jobs whose time has come; return how many. Every half second."""
    async with services.database.connection() as conn:
        return await jobs.ready_waiting(conn)


async def seldom(services: Services) -> None:
    """Look after due tasks, held jobs, repeats, paused accounts and the spool. Every five seconds."""
    services.downloader.tidy()
    async with services.database.connection() as conn:
        await jobs.ready_due(conn)
        await inbox.fold(conn)
        waiting = await jobs.held_accounts(conn)
    for account in waiting:
        await _release(services, account)
    await reconcile.probe_paused(services)


async def mend(services: Services) -> int:
    """
    Make jobs that must exist and do not; return how many. Every minute.

    Each change is one transaction, so a gap is a fault of ours: it is logged and
    counted. A surplus job is harmless, handlers look before they act.
    """
    async with services.database.transaction() as conn:
        gaps = await ledger.gaps(conn)
        now = services.clock()
        wishes = [
            Wanted(kind=JobKind(gap.kind), subject=gap.subject, account=gap.account, deliver_by=now) for gap in gaps
        ]
        await jobs.want(conn, wishes)
    for gap in gaps:
        log.error("job.mended", kind=gap.kind, subject=gap.subject)
        telemetry.GAPS.labels(kind=gap.kind).inc()
    return len(gaps)


async def _release(services: Services, account: AccountId) -> None:
    deal = services.deals.get(account)
    if deal is None:
        return
    async with services.database.transaction() as conn:
        await pace.release_held(conn, deal)
