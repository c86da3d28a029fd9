"""Read the gauges at the moment of a scrape: those of this process always, those of the database where web serves."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import timedelta
from typing import Final

import structlog

from receiver import telemetry
from receiver.core.errors import StoreUnavailable
from receiver.core.model import ENDS, OPEN, JobKind
from receiver.flow.services import Services
from receiver.store import gauges, spend, weather
from receiver.store.db import Connection
from receiver.telemetry import Readings

log = structlog.get_logger(__name__)

#: Scrapes within this time share one reading of the queues.
_FRESH: Final = timedelta(seconds=5)
#: What looks back over a day changes slowly and costs more.
_FRESH_DAY: Final = timedelta(minutes=1)
#: All statements of one reading together; a scrape waits 10 s.
_PATIENCE: Final = timedelta(seconds=5)
_STATES: Final = ("waiting", "ready", "leased", "held", "dead")


class WorkerGauges:
    """What a worker's scrape shows: its pool and its spool."""

    def __init__(self, services: Services) -> None:
        self._services = services
        _begin_at_zero(services)

    async def read(self) -> list[Readings]:
        """Return the values of this moment."""
        found = Readings()
        _read_pool(self._services, found)
        found.add(telemetry.SPOOL_BYTES, self._services.downloader.used)
        if self._services.downloader.quota is not None:
            found.add(telemetry.SPOOL_QUOTA, self._services.downloader.quota)
        return [found]


class WebGauges:
    """What a web's scrape shows: its pool, and the whole deployment as the database tells it."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._reading = asyncio.Lock()
        self._queues: tuple[float, Readings] | None = None
        self._days: tuple[float, Readings] | None = None
        _begin_at_zero(services)

    async def read(self) -> list[Readings]:
        """Return the values of this moment; without the database those of this process alone."""
        own = Readings()
        _read_pool(self._services, own)
        async with self._reading:
            try:
                async with self._services.database.connection() as conn, asyncio.timeout(_PATIENCE.total_seconds()):
                    return [own, await self._read_queues(conn), await self._read_days(conn)]
            except StoreUnavailable as exc:
                log.warning("gauges.not_read", error=exc.code)
        away = Readings()
        away.add(telemetry.DATABASE_UP, 0)
        return [own, away]

    async def _read_queues(self, conn: Connection) -> Readings:
        now = asyncio.get_running_loop().time()
        if self._queues is None or now - self._queues[0] >= _FRESH.total_seconds():
            self._queues = (now, await _queues(conn, self._services))
        return self._queues[1]

    async def _read_days(self, conn: Connection) -> Readings:
        now = asyncio.get_running_loop().time()
        if self._days is None or now - self._days[0] >= _FRESH_DAY.total_seconds():
            self._days = (now, await _days(conn, self._services))
        return self._days[1]


def _begin_at_zero(services: Services) -> None:
    """Show the counters that alerts watch before they have counted: a series that begins at 1 shows no increase."""
    for account in services.deals:
        for state in ENDS:
            telemetry.TASKS_ENDED.labels(account=account, state=state)
    for kind in JobKind:
        telemetry.GAPS.labels(kind=kind)
        telemetry.LEASES_LOST.labels(kind=kind)


def _read_pool(services: Services, found: Readings) -> None:
    usage = services.database.usage()
    found.add(telemetry.DATABASE_CONNECTIONS, usage.in_use, "in_use")
    found.add(telemetry.DATABASE_CONNECTIONS, usage.idle, "idle")
    found.add(telemetry.DATABASE_CONNECTIONS_LIMIT, usage.limit)
    found.add(telemetry.DATABASE_WAITING, usage.waiting)


async def _queues(conn: Connection, services: Services) -> Readings:
    found = Readings()
    found.add(telemetry.DATABASE_UP, 1)
    found.add(telemetry.WORKERS, await gauges.workers(conn))
    await _read_jobs(conn, found)
    await _read_tasks(conn, found)
    await _read_accounts(conn, services, found)
    return found


async def _read_jobs(conn: Connection, found: Readings) -> None:
    counts: dict[tuple[str, str], int] = {}
    ages: defaultdict[str, float] = defaultdict(float)
    slacks: defaultdict[str, list[float]] = defaultdict(list)
    for queue in await gauges.queues(conn):
        counts[queue.kind, queue.state] = queue.n
        if queue.due is not None:
            ages[queue.kind] = max(ages[queue.kind], queue.due.total_seconds())
        slacks[queue.kind].append(queue.slack.total_seconds())
    for kind, gauge in ((JobKind.ARCHIVE, telemetry.ARCHIVE_SLACK), (JobKind.SUBMIT, telemetry.SUBMIT_SLACK)):
        if slacks[kind]:
            found.add(gauge, min(slacks[kind]))
    for kind in JobKind:
        found.add(telemetry.QUEUE_AGE, ages[kind], kind)
        for state in _STATES:
            found.add(telemetry.QUEUE_JOBS, counts.get((kind, state), 0), kind, state)


async def _read_tasks(conn: Connection, found: Readings) -> None:
    counted = {each.state: each for each in await gauges.open_tasks(conn)}
    for state in sorted(OPEN):
        found.add(telemetry.TASKS_OPEN, counted[state].n if state in counted else 0, state)
    overdue = max((each.overdue.total_seconds() for each in counted.values()), default=0.0)
    found.add(telemetry.TASK_OVERDUE, max(overdue, 0.0))
    for reason, n in (await gauges.attention(conn)).items():
        found.add(telemetry.TASKS_ATTENTION, n, reason)


async def _read_accounts(conn: Connection, services: Services, found: Readings) -> None:
    in_use, pauses, paces = await gauges.slots_in_use(conn), await gauges.pauses(conn), await gauges.paces(conn)
    for account, deal in services.deals.items():
        pace = paces.get(account, gauges.Pace())
        slots = min(deal.account.concurrency, pace.lowered_to or deal.account.concurrency)
        found.add(telemetry.ACCOUNT_SLOTS, slots, account)
        found.add(telemetry.ACCOUNT_CIRCUIT, pace.open_reason is not None, account, pace.open_reason or "")
        found.add(telemetry.ACCOUNT_SLOTS_IN_USE, in_use.get(account, 0), account)
        found.add(telemetry.ACCOUNT_PAUSED, account in pauses, account, pauses.get(account, ""))


async def _days(conn: Connection, services: Services) -> Readings:
    found = Readings()
    now = services.clock()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    for account, deal in services.deals.items():
        spent = await spend.of_account(conn, account, midnight)
        found.add(telemetry.ACCOUNT_DAY_TASKS, spent.tasks, account)
        found.add(telemetry.ACCOUNT_DAY_UNITS, float(spent.units), account)
        if deal.account.daily_tasks is not None:
            found.add(telemetry.ACCOUNT_DAY_TASKS_LIMIT, deal.account.daily_tasks, account)
        if deal.account.daily_units is not None:
            found.add(telemetry.ACCOUNT_DAY_UNITS_LIMIT, float(deal.account.daily_units), account)
    for account, seen in (await weather.of(conn, list(services.deals), now)).items():
        for name in ("expected", "received", "repeated", "signed", "late", "lost"):
            found.add(telemetry.ACCOUNT_CALLBACKS, getattr(seen, name), account, name)
    return found
