"""Ask a provider after many tasks with few requests, where it has a list: newest first, page by page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import structlog

from receiver import telemetry
from receiver.core import ids, schedule
from receiver.core.errors import ProviderUnreachable
from receiver.core.model import ENDS, ProviderStatus, Report, State, TaskId
from receiver.dialects import auth, wire
from receiver.dialects.answers import AccountRefused, ListAnswer, ListPage, Unsure
from receiver.flow import advance, change, pace, reconcile
from receiver.flow.outcome import Done, Later, Outcome
from receiver.flow.services import Deal, Services
from receiver.store import jobs, tasks, turns
from receiver.store.db import Connection
from receiver.store.jobs import Job, Settled
from receiver.store.tasks import Locked
from receiver.store.turns import Named

log = structlog.get_logger(__name__)

#: From so many due polls on a page costs less than asking one by one.
_MANY: Final = 4
#: One page, from connect to the last byte; a reading of all pages; the rest after it.
_PAGE_TIMEOUT: Final = timedelta(seconds=30)
_TURN: Final = timedelta(minutes=2)
_REST: Final = schedule.QUERY_SPACING
#: The provider's clock and ours may differ, and it notes a task later than we send it.
_MARGIN: Final = timedelta(minutes=5)
#: Tasks of one transaction.
_CHUNK: Final = 50
_TERMINAL: Final = frozenset({ProviderStatus.SUCCEEDED, ProviderStatus.FAILED})


@dataclass(slots=True)
class _Reading:
    """One reading of a list: whose poll began it, and what it has found."""

    deal: Deal
    kind: str
    leader: TaskId
    seen: set[TaskId] = field(default_factory=set)
    #: What ended it early.
    trouble: ListAnswer | None = None


async def query(services: Services, job: Job) -> Outcome:
    """
    Handle a `query` job: by the list while many polls are due, else by a question of its own.

    What a complete reading does not name is asked singly. One process reads an
    account's list at a time.

    Raises:
        StoreUnavailable: What was not recorded is asked again.
    """
    async with services.database.connection() as conn:
        found = await tasks.get(conn, advance.task_of(job))
        if found is None or not await _is_for_the_list(services, conn, found):
            return await reconcile.query(services, job)
        deal, kind = services.deals[found.task.account], found.task.kind
        began = await turns.take(conn, deal.account.id, kind, span=_TURN)
        oldest = await turns.oldest(conn, deal.account.id, kind)
    if began is None:
        return Later(_REST * (1 + services.random()))
    reading = _Reading(deal, kind, found.task.id)
    until = min(filter(None, (oldest, found.task.first_sent_at)), default=None)
    whole = await _read(services, reading, until=until)
    async with services.database.connection() as conn:
        await turns.give(conn, deal.account.id, kind, began if whole else None, pause=_REST)
    log.info("list.read", account=deal.account.id, kind=kind, tasks=len(reading.seen), whole=whole)
    return await _outcome(services, reading, job)


async def _is_for_the_list(services: Services, conn: Connection, found: Locked) -> bool:
    """Return whether a poll may wait for a reading: nothing is wished for, and many others are due."""
    task = found.task
    spec = services.deals[task.account].profile.kinds[task.kind]
    overdue = task.due_at is not None and found.now >= task.due_at
    if spec.list_path is None or task.query_wanted or overdue or task.state in {*change.BEFORE_SENT, *ENDS}:
        return False
    return not change.spacing(found, task) and await turns.many_wait(conn, task.account, task.kind, many=_MANY)


async def _read(services: Services, reading: _Reading, *, until: datetime | None) -> bool:
    """Read pages until they are older than *until* or end; return whether nothing came between."""
    for number in range(1, wire.LAST_PAGE + 1):
        answer = await _page(services, reading, number)
        if not isinstance(answer, ListPage):
            reading.trouble = answer
            return False
        for chunk in _chunks(await _ours(services, reading, answer)):
            await _take(services, reading, chunk)
        last = min((each.created_at for each in answer.reports if each.created_at is not None), default=None)
        if answer.is_last or (until is not None and last is not None and last < until - _MARGIN):
            return True
    return True


async def _page(services: Services, reading: _Reading, number: int) -> ListAnswer:
    deal, spec = reading.deal, reading.deal.profile.kinds[reading.kind]
    async with services.database.connection() as conn:
        left = await pace.wait(conn, deal)
    if left > timedelta():
        return Unsure("not asked", pace.spread(left, services.random()))
    try:
        raw = await services.provider.send(
            deal.account,
            wire.list_request(deal.profile, reading.kind, page=number),
            authorization=auth.bearer(deal.account.credentials, now=services.clock()),
            timeout=_PAGE_TIMEOUT,
        )
    except ProviderUnreachable as exc:
        telemetry.QUERIES.labels(account=deal.account.id, outcome="unreachable").inc()
        await pace.unheard(services, deal)
        return Unsure(exc.code)
    answer = wire.read_list(
        deal.profile,
        reading.kind,
        status=raw.status,
        content_type=raw.content_type,
        body=raw.body,
        size=spec.page_size,
        retry_after=raw.retry_after,
    )
    telemetry.QUERIES.labels(account=deal.account.id, outcome=type(answer).__name__.lower()).inc()
    await pace.heard(services, deal, answer)
    return answer


async def _ours(services: Services, reading: _Reading, page: ListPage) -> dict[TaskId, tuple[Named, Report]]:
    """Return which of our open tasks the page tells of; a wish for a later answer is not fulfilled by it."""
    ours = {ids.parse_task_id(each.external_task_id or ""): each for each in page.reports}
    theirs = {each.provider_task_id: each for each in page.reports if each.provider_task_id is not None}
    async with services.database.connection() as conn:
        found = await turns.named(
            conn,
            reading.deal.account.id,
            reading.kind,
            ours=[number for number in ours if number is not None],
            theirs=list(theirs),
        )
    told: dict[TaskId, tuple[Named, Report]] = {}
    for each in found:
        report = theirs.get(each.provider_task_id or "") or (None if each.adopted else ours.get(each.id))
        if report is not None and not each.query_wanted and each.state is not State.SUCCEEDED:
            told[each.id] = (each, report)
    return told


async def _take(services: Services, reading: _Reading, told: Mapping[TaskId, tuple[Named, Report]]) -> None:
    """Apply what a page says of some tasks, in one transaction, and put their next polls off."""
    news = [task for task, (named, report) in told.items() if named.unsure or report.status in _TERMINAL]
    deal = reading.deal
    async with services.database.connection() as conn:
        claimed = await turns.claim(conn, list(told), news=news)
        awaited = deal.account.id in await jobs.held_accounts(conn)
    async with services.database.transaction() as conn:
        settled: list[Settled] = []
        for task in sorted({*claimed, *news, reading.leader} & told.keys()):
            outcome = await _apply(services, conn, reading, task, told[task][1], awaited=awaited)
            if (mine := claimed.get(task)) is not None:
                settled.append(Settled(job=mine, delay=outcome.delay if isinstance(outcome, Later) else None))
        await jobs.settle(conn, None, settled)


async def _apply(
    services: Services, conn: Connection, reading: _Reading, task: TaskId, report: Report, *, awaited: bool
) -> Later | Done:
    locked = await tasks.lock(conn, task)
    if locked is None or locked.task.state in ENDS:
        return Done()
    if locked.task.query_wanted:
        # The page may be older than the wish.
        return Later(timedelta())
    await reconcile.take_answer(conn, reading.deal, locked, report)
    reading.seen.add(task)
    found = await tasks.get(conn, task)
    return Done() if found is None else reconcile.next_poll(services, reading.deal, found, awaited=awaited)


async def _outcome(services: Services, reading: _Reading, job: Job) -> Outcome:
    """Return what becomes of the poll that began the reading."""
    if reading.leader in reading.seen:
        async with services.database.connection() as conn:
            found = await tasks.get(conn, reading.leader)
            awaited = reading.deal.account.id in await jobs.held_accounts(conn)
        return Done() if found is None else reconcile.next_poll(services, reading.deal, found, awaited=awaited)
    match reading.trouble:
        case None | ListPage():
            return await reconcile.query(services, job)
        case AccountRefused():
            return await reconcile.account_refused(services, reading.deal, reading.leader, reading.trouble)
        case trouble:
            return reconcile.refused(trouble)


def _chunks(
    told: Mapping[TaskId, tuple[Named, Report]],
) -> Iterator[dict[TaskId, tuple[Named, Report]]]:
    ordered = sorted(told)
    for start in range(0, len(ordered), _CHUNK):
        yield {task: told[task] for task in ordered[start : start + _CHUNK]}
