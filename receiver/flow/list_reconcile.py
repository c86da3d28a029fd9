"""Ask a provider after many tasks with few requests, where it has a list: newest first, page by page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from receiver import telemetry
from receiver.core import ids, schedule
from receiver.core.errors import ProviderUnreachable
from receiver.core.model import ENDS, ProviderStatus, Report, State, Task, TaskId
from receiver.dialects import auth, wire
from receiver.dialects.answers import Busy, ListAnswer, ListPage, Unsure
from receiver.flow import advance, change, pace, reconcile, refusals
from receiver.flow.outcome import Done, Later, Outcome, Retry
from receiver.flow.services import Deal, Services
from receiver.store import jobs, tasks, turns
from receiver.store.db import Connection
from receiver.store.jobs import Job, Settled
from receiver.store.tasks import Locked
from receiver.store.turns import Named

log = structlog.get_logger(__name__)

#: From so many due polls on a page costs less than asking one by one.
_MANY: Final = 4
#: One page, from connect to the last byte; a turn, kept while the reading goes on.
_PAGE_TIMEOUT: Final = timedelta(seconds=30)
_TURN: Final = timedelta(seconds=45)
#: From a reading to the next: twice the usual run, in these limits; a page costs the same for one task as for 500.
#: The shorter also after one that failed, while tasks wait for a slot, and for who comes while a reading goes on.
_REST: Final = schedule.BUSY_PAUSE
_SHORT_REST: Final = schedule.QUERY_SPACING
#: The provider's clock and ours may differ, and it notes a task later than we send it.
_MARGIN: Final = timedelta(minutes=5)
#: Pages that are read before what they say is applied: meanwhile new tasks would push the others onto later pages.
_AHEAD: Final = 10
#: Pages without a time that name nobody, after which no further one is read: nothing says where they end.
_BARREN: Final = 10
#: Tasks of one transaction, which keeps the account from sending meanwhile.
_CHUNK: Final = 10
_TERMINAL: Final = frozenset({ProviderStatus.SUCCEEDED, ProviderStatus.FAILED})
_RUNNING: Final = frozenset({State.SUBMITTED, State.PROCESSING})


@dataclass(slots=True)
class _Reading:
    """One reading of a list: whose poll began it, whom it is for, and what it has found."""

    deal: Deal
    kind: str
    leader: TaskId
    #: (UTC)
    began: datetime
    #: The tasks that it is for, and when each was sent (UTC).
    sought: Mapping[TaskId, datetime | None]
    #: Those of them that no page has named yet.
    missing: set[TaskId]
    #: Of which something was said.
    told: set[TaskId] = field(default_factory=set)
    pages: int = 0
    #: What ended it early; a pause where nothing may be sent now.
    trouble: ListAnswer | Later | None = None
    #: The provider ids of the page before.
    before: frozenset[str] = frozenset()
    #: Pages in a row that named none of the missing and told no time.
    barren: int = 0


async def query(services: Services, job: Job) -> Outcome:
    """
    Handle a `query` job: by the list while many polls are due, else by a question of its own.

    What a complete reading does not name is asked singly. One process reads an
    account's list at a time; a reading ends when all are found for whom it began.

    Raises:
        StoreUnavailable: What was not recorded is asked again.
    """
    async with services.database.connection() as conn:
        found = await tasks.get(conn, advance.task_of(job))
        begun = None
        if found is not None and _may_be_listed(services, found):
            begun = await _begin(conn, services.deal_of(found.task), found.task)
    match begun:
        case None:
            # No connection is held while the provider is asked.
            return await reconcile.query(services, job)
        case Later():
            return begun
        case reading:
            await _read_and_end(services, reading)
            return await _outcome(services, reading, job)


async def _read_and_end(services: Services, reading: _Reading) -> None:
    """Read, and let the next reading begin soon, also after one that the database or a stop broke off."""
    whole = False
    try:
        if await _read(services, reading):
            await _ask_singly(services, reading)
            whole = True
    finally:
        await _end(services, reading, whole=whole)


async def _end(services: Services, reading: _Reading, *, whole: bool) -> None:
    account = reading.deal.account.id
    async with services.database.connection() as conn:
        awaited = account in await jobs.held_accounts(conn)
        is_short = awaited or not whole
        pause = _SHORT_REST if is_short else max(_SHORT_REST, min(reading.deal.profile.usual * 2, _REST))
        await turns.give(conn, account, reading.kind, reading.began if whole else None, pause=pause)
    counts = {"pages": reading.pages, "tasks": len(reading.told), "missing": len(reading.missing), "whole": whole}
    log.info("list.read", account=account, kind=reading.kind, **counts)


def _may_be_listed(services: Services, found: Locked) -> bool:
    """Return whether there is a list, and nothing that is wished for or due before it can be read."""
    task = found.task
    spec = services.deal_of(task).profile.kinds[task.kind]
    overdue = task.due_at is not None and found.now >= task.due_at
    listed = spec.list_path is not None and task.state in _RUNNING
    return listed and not (task.query_wanted or overdue or change.spacing(found, task))


async def _begin(conn: Connection, deal: Deal, leader: Task) -> _Reading | Later | None:
    """Take the turn, or wait for its end with all others that are due; None where they are too few for a reading."""
    account, kind = deal.account.id, leader.kind
    left = await turns.left(conn, account, kind, most=_REST, soon=_SHORT_REST)
    if left <= timedelta() and not await turns.many_wait(conn, account, kind, beside=leader.id, many=_MANY):
        return None
    began = await turns.take(conn, account, kind, span=_TURN)
    if began is None:
        await turns.put_off(conn, account, kind, most=_REST, soon=_SHORT_REST)
        # They come back together, so that it shows how many they are.
        return Later(left)
    sought = await turns.sought(conn, account, kind)
    await turns.put_off(conn, account, kind, most=_REST, soon=_SHORT_REST)
    sought[leader.id] = leader.first_sent_at
    return _Reading(deal, kind, leader.id, began, sought, set(sought))


async def _read(services: Services, reading: _Reading) -> bool:
    """Read pages until all are found, or can be on no later page; return whether nothing came between."""
    until = min((sent for sent in reading.sought.values() if sent is not None), default=None)
    told: dict[TaskId, tuple[Named, Report]] = {}
    for number in range(1, wire.LAST_PAGE + 1):
        answer = await _page(services, reading, number)
        if not isinstance(answer, ListPage):
            reading.trouble = answer
            break
        reading.pages = number
        missing = len(reading.missing)
        told |= await _ours(services, reading, answer)
        if _is_read(reading, answer, until, named=len(reading.missing) < missing):
            break
        if number % _AHEAD == 0:
            await _take_all(services, reading, told)
            told.clear()
    await _take_all(services, reading, told)
    return reading.trouble is None


def _is_read(reading: _Reading, page: ListPage, until: datetime | None, *, named: bool) -> bool:
    """Return whether no later page can name one that the reading is for, or the pages lead nowhere."""
    last = min((each.created_at for each in page.reports if each.created_at is not None), default=None)
    older = until is not None and last is not None and last < until - _MARGIN
    ids = frozenset(each.provider_task_id for each in page.reports if each.provider_task_id is not None)
    # A provider that knows no page numbers gives the first one for ever.
    again = bool(ids) and ids == reading.before
    reading.before = ids
    reading.barren = 0 if named or last is not None else reading.barren + 1
    return not reading.missing or page.is_last or older or again or reading.barren >= _BARREN


async def _ask_singly(services: Services, reading: _Reading) -> None:
    """Wish for an answer about each task that should have been on a page and was on none."""
    missing = sorted(reading.missing - {reading.leader})
    for start in range(0, len(missing), _CHUNK):
        async with services.database.transaction() as conn:
            for task in missing[start : start + _CHUNK]:
                locked = await tasks.lock(conn, task)
                if locked is not None and locked.task.state in _RUNNING and not _asked_since(locked.task, reading):
                    await change.commit(conn, reading.deal, locked, replace(locked.task, query_wanted=True))


def _asked_since(task: Task, reading: _Reading) -> bool:
    return task.last_polled_at is not None and task.last_polled_at >= reading.began


async def _page(services: Services, reading: _Reading, number: int) -> ListAnswer | Later:
    deal, spec = reading.deal, reading.deal.profile.kinds[reading.kind]
    async with services.database.connection() as conn:
        await turns.keep(conn, deal.account.id, reading.kind, span=_TURN)
        left = await pace.wait(conn, deal)
    if left > timedelta():
        return Later(pace.spread(left, services.random()))
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
    refusals.tell(deal, raw, answer)
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
        reading.missing.discard(each.id)
        report = theirs.get(each.provider_task_id or "") or (None if each.adopted else ours.get(each.id))
        if report is not None and not each.query_wanted and each.state is not State.SUCCEEDED:
            told[each.id] = (each, report)
    return told


async def _take_all(services: Services, reading: _Reading, told: Mapping[TaskId, tuple[Named, Report]]) -> None:
    ordered = sorted(told)
    for start in range(0, len(ordered), _CHUNK):
        await _take(services, reading, {task: told[task] for task in ordered[start : start + _CHUNK]})


async def _take(services: Services, reading: _Reading, told: Mapping[TaskId, tuple[Named, Report]]) -> None:
    """Apply what a page says of some tasks, in one transaction, and put their next polls off."""
    news = [task for task, (named, report) in told.items() if named.unsure or report.status in _TERMINAL]
    waiting = [task for task in told if task in reading.sought]
    deal = reading.deal
    async with services.database.connection() as conn:
        await turns.keep(conn, deal.account.id, reading.kind, span=_TURN)
        awaited = deal.account.id in await jobs.held_accounts(conn)
    async with services.database.transaction() as conn:
        # All of them before the first that ends locks the account: a callback holds one task and waits for the account.
        locked = await tasks.lock_all(conn, list(told))
        claimed = await turns.claim(conn, list(told), waiting=[*news, *waiting])
        settled: list[Settled] = []
        for task in sorted({*claimed, *news, reading.leader} & told.keys()):
            outcome = await _apply(services, conn, reading, locked.get(task), told[task][1], awaited=awaited)
            if (mine := claimed.get(task)) is not None:
                settled.append(Settled(job=mine, delay=outcome.delay if isinstance(outcome, Later) else None))
        await jobs.settle(conn, None, settled)


async def _apply(
    services: Services, conn: Connection, reading: _Reading, locked: Locked | None, report: Report, *, awaited: bool
) -> Later | Done:
    if locked is None or locked.task.state in ENDS:
        return Done()
    if locked.task.query_wanted:
        # The page may be older than the wish.
        return Later(timedelta())
    await reconcile.take_answer(conn, reading.deal, locked, report)
    reading.told.add(locked.task.id)
    found = await tasks.get(conn, locked.task.id)
    return Done() if found is None else reconcile.next_poll(services, reading.deal, found, awaited=awaited)


async def _outcome(services: Services, reading: _Reading, job: Job) -> Outcome:
    """Return what becomes of the poll that began the reading."""
    if reading.leader in reading.told:
        async with services.database.connection() as conn:
            found = await tasks.get(conn, reading.leader)
            awaited = reading.deal.account.id in await jobs.held_accounts(conn)
        return Done() if found is None else reconcile.next_poll(services, reading.deal, found, awaited=awaited)
    match reading.trouble:
        case Later(delay):
            return Retry("provider_unreachable", delay)
        case Busy():
            return reconcile.refused(reading.trouble)
        case _:
            outcome = await reconcile.query(services, job)
    if reading.trouble is not None and not isinstance(outcome, Retry):
        # It answers, and only its list does not: that shall keep nobody waiting.
        await _ask_singly(services, reading)
    return outcome
