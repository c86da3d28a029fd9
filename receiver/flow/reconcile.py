"""Ask the provider: because a callback may be lost, because something contradicts, because a link has died."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import assert_never

import structlog

from receiver import telemetry
from receiver.core import lifecycle, schedule
from receiver.core.errors import ProviderUnreachable
from receiver.core.lifecycle import Seen
from receiver.core.model import ENDS, AssetState, Report, State, Task, TaskId, Trust
from receiver.dialects import answers, auth, wire
from receiver.dialects.answers import AccountRefused, Busy, QueryAnswer, UnknownTask, Unsure
from receiver.flow import advance, change, pace, refusals
from receiver.flow.draft import Draft
from receiver.flow.outcome import Done, Later, Outcome, Retry
from receiver.flow.services import Deal, Services
from receiver.store import accounts, assets, db, jobs, tasks
from receiver.store.db import Connection
from receiver.store.events import Event
from receiver.store.jobs import Job
from receiver.store.tasks import Locked

log = structlog.get_logger(__name__)

#: One question to a provider, from connect to the last byte.
_QUERY_TIMEOUT = timedelta(seconds=15)


async def query(services: Services, job: Job) -> Outcome:
    """
    Handle a `query` job: ask after one task, apply the answer, and say when to ask again.

    Raises:
        StoreUnavailable: Nothing was recorded.
    """
    async with services.database.connection() as conn:
        found = await tasks.get(conn, advance.task_of(job))
    if found is None or found.task.state in change.BEFORE_SENT:
        return Done()
    pause = _not_yet(found)
    if pause is not None:
        return Later(pause) if found.task.state not in ENDS or found.task.query_wanted else Done()
    deal = services.deal_of(found.task)
    answer = await ask_provider(services, deal, found.task)
    match answer:
        case Report() | UnknownTask():
            return await _answered(services, deal, found.task.id, answer)
        case AccountRefused():
            return await account_refused(services, deal, found.task.id, answer)
        case Busy() | Unsure():
            await unanswered(services, deal, found.task.id)
            return refused(answer)
        case _:  # pragma: no cover
            assert_never(answer)


async def ask_provider(services: Services, deal: Deal, task: Task) -> QueryAnswer:
    """
    Ask after *task* by the provider's id; while that is unknown, by one that a callback names, and by turns by ours.

    Never raises for the network.
    """
    if not deal.profile.query:
        return Unsure("the profile has no query route")
    async with services.database.connection() as conn:
        left = await pace.wait(conn, deal)
    if left > timedelta():
        return Unsure("not asked", pace.spread(left, services.random()))
    try:
        hinted = task.hinted_id if task.query_wanted or task.polls % 2 == 0 else None
        answer = await _question(services, deal, task.kind, task.provider_task_id or hinted, ours=str(task.id))
    except ProviderUnreachable as exc:
        telemetry.QUERIES.labels(account=task.account, outcome="unreachable").inc()
        await pace.unheard(services, deal)
        return Unsure(exc.code)
    telemetry.QUERIES.labels(account=task.account, outcome=type(answer).__name__.lower()).inc()
    await pace.heard(services, deal, answer)
    return answer


async def account_refused(services: Services, deal: Deal, task: TaskId, answer: AccountRefused) -> Retry:
    """Stop the account's submits where queries fail too, and ask after *task* again in a minute."""
    await _pause(services, deal, answer)
    await unanswered(services, deal, task)
    return Retry("account_refused", schedule.LONGEST_PAUSE / 10)


def refused(answer: Busy | Unsure) -> Retry:
    """Return that a question is asked again, when the provider said or by the usual back-off."""
    wait = None if answer.retry_after is None else min(answer.retry_after, schedule.LONGEST_PAUSE)
    return Retry("provider_busy" if isinstance(answer, Busy) else "provider_unreachable", wait)


async def unanswered(services: Services, deal: Deal, task: TaskId) -> None:
    """At the deadline of *task*, with no answer to be had: put it off once by a day, then expire the task."""
    async with services.database.transaction() as conn:
        locked = await tasks.lock(conn, task)
        if locked is None or locked.task.due_at is None or locked.now < locked.task.due_at:
            return
        if not locked.task.grace_given:
            after = replace(locked.task, grace_given=True)
            await change.commit(
                conn, deal, locked, after, [Event(task, "task.grace_given", {"why": "provider_unreachable"})]
            )
        elif locked.task.state is State.SUCCEEDED:
            await expire_pending(conn, deal, locked, "provider_unreachable")
        else:
            await expire(conn, deal, locked, Seen.NEVER_SETTLED, "provider_unreachable")


async def expire(conn: Connection, deal: Deal, locked: Locked, seen: Seen, reason: str) -> None:
    """End a task that has no media as expired; the caller holds its lock."""
    decision = lifecycle.follow(locked.task, seen)
    after = replace(locked.task, state=decision.state, reason=reason, detail=None)
    await change.commit(conn, deal, locked, after, [Event(after.id, "task.expired", {"reason": reason})])


async def expire_pending(conn: Connection, deal: Deal, locked: Locked, error: str) -> None:
    """Give up the pending assets of a task; the caller holds its lock."""
    kept = [asset for asset in locked.task.assets if asset.state is not AssetState.PENDING]
    given_up = [asset for asset in locked.task.assets if asset.state is AssetState.PENDING]
    saved = await assets.saved(conn, [replace(asset, state=AssetState.EXPIRED, error=error) for asset in given_up])
    story = [Event(each.task_id, "asset.expired", {"asset": str(each.id), "error": error}) for each in given_up]
    # Nobody answers for what is missing any more, so nothing is waited for.
    after = replace(locked.task, assets=(*kept, *saved), query_wanted=False, asked_again=True)
    await change.commit(conn, deal, locked, after, story)


async def probe_paused(services: Services) -> None:
    """
    Ask once a minute for each account whose key was refused whether it is taken again; if so, let its submits go on.

    A question says nothing of a balance: such a pause is tried by a held task (`pace.release_held`).
    """
    askable = [account for account, deal in services.deals.items() if deal.profile.query]
    async with services.database.connection() as conn:
        due = await accounts.due_for_probe(conn, askable)
    for account in due:
        deal = services.deals[account]
        if await _is_welcome(services, deal):
            await resume(services, deal, by_probe=True)


async def resume(services: Services, deal: Deal, *, by_probe: bool = False) -> bool:
    """
    End the pause of an account and give its free slots to held jobs; False when nothing was ended.

    *by_probe*: a person may have paused it while the provider was asked, and that stays.
    """
    async with services.database.transaction() as conn:
        standing = await accounts.lock(conn, deal.account.id)
        if by_probe and standing.by_hand:
            return False
        if not await accounts.resume(conn, deal.account.id):
            return False
        await pace.release_held(conn, deal)
    log.info("account.resumed", account=deal.account.id)
    return True


async def _is_welcome(services: Services, deal: Deal) -> bool:
    """Ask after a task that cannot exist: any parsed answer but a refusal of the account will do."""
    kind = next(iter(deal.profile.kinds))
    try:
        return isinstance(await _question(services, deal, kind, "1", ours="1"), (Report, UnknownTask))
    except ProviderUnreachable:
        return False


async def _question(services: Services, deal: Deal, kind: str, theirs: str | None, *, ours: str) -> QueryAnswer:
    """Ask after the task that the provider calls *theirs*, or, while that is unknown, after the one we call *ours*."""
    raw = await services.provider.send(
        deal.account,
        wire.query_request(deal.profile, kind, id=theirs or ours, ours=theirs is None),
        authorization=auth.bearer(deal.account.credentials, now=services.clock()),
        timeout=_QUERY_TIMEOUT,
    )
    answer = answers.read_query(
        deal.profile,
        kind,
        status=raw.status,
        content_type=raw.content_type,
        body=raw.body,
        retry_after=raw.retry_after,
    )
    refusals.tell(deal, raw, answer)
    return answer


def _not_yet(found: Locked) -> timedelta | None:
    """Return how long the provider need not be asked; None when it must be asked now."""
    task, now = found.task, found.now
    overdue = task.due_at is not None and now >= task.due_at
    if task.state in {State.SUCCEEDED, *ENDS} and not task.query_wanted and not overdue:
        return (task.due_at - now) if task.due_at is not None else timedelta()
    pause = change.spacing(found, task)
    return pause or None


async def _answered(services: Services, deal: Deal, task_id: TaskId, answer: Report | UnknownTask) -> Outcome:
    async with services.database.transaction() as conn:
        locked = await tasks.lock(conn, task_id)
        if locked is None:
            return Done()
        await take_answer(conn, deal, locked, answer)
    async with services.database.connection() as conn:
        found = await tasks.get(conn, task_id)
        awaited = deal.account.id in await jobs.held_accounts(conn)
    return Done() if found is None else next_poll(services, deal, found, awaited=awaited)


async def take_answer(conn: Connection, deal: Deal, locked: Locked, answer: Report | UnknownTask) -> None:
    """Apply the provider's answer about a task; the caller holds its lock."""
    task = locked.task
    asked = replace(
        task,
        polls=task.polls + 1,
        last_polled_at=locked.now,
        query_wanted=False,
        asked_again=task.asked_again or bool(task.assets),
    )
    if isinstance(answer, Report):
        changes = Draft(conn)
        outcome = await advance.hear(changes, deal, Locked(asked, locked.now), answer, Trust.CONFIRMED)
        await changes.write()
    else:
        outcome = "unknown"
        await change.commit(conn, deal, locked, asked)
    db.on_commit(partial(log.info, "query.answered", task_id=task.id, account=task.account, outcome=outcome))
    await _judge_deadline(conn, deal, task.id, unknown=isinstance(answer, UnknownTask))


async def _judge_deadline(conn: Connection, deal: Deal, task_id: TaskId, *, unknown: bool) -> None:
    """After a last answer, end what is past its due time."""
    locked = await tasks.lock(conn, task_id)
    if locked is None or locked.task.due_at is None or locked.now < locked.task.due_at:
        return
    if locked.task.state is State.SUCCEEDED:
        if unknown:
            await expire_pending(conn, deal, locked, "link_gone")
        else:
            # A last download decides, and not only when its next try would have come.
            await change.commit(conn, deal, locked, locked.task, fetch=True)
    else:
        reason = "media_missing" if locked.task.no_media else "never_finished"
        await expire(conn, deal, locked, Seen.NEVER_SETTLED, reason)


def next_poll(services: Services, deal: Deal, found: Locked, *, awaited: bool) -> Later | Done:
    """Return when a task is asked after again; *awaited*: others of its account wait for a slot."""
    task = found.task
    if task.due_at is None:
        return Done()
    if task.state is State.SUCCEEDED and not task.query_wanted:
        # Past the window the archive job's own verdict ends it; until then it is asked again now and then.
        return Later(max(task.due_at - found.now, schedule.BUSY_PAUSE))
    pause = schedule.next_poll(
        task.polls,
        usual=deal.profile.usual,
        remaining=task.due_at - found.now,
        jitter=services.random(),
        slots_awaited=awaited,
    )
    return Later(pause)


async def _pause(services: Services, deal: Deal, answer: AccountRefused) -> None:
    """Stop submits when the provider no longer takes our credentials; queries and archiving go on."""
    if not answer.authentication:
        return
    async with services.database.transaction() as conn:
        await change.pause(conn, deal, "authentication", f"{answer.code}: {answer.message}")
