"""Take a job, and send it to its provider without ever paying twice."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, assert_never

import structlog

from receiver import telemetry
from receiver.core import lifecycle, schedule, tokens
from receiver.core.errors import MoveRefused, NotConfigured, ProviderUnreachable
from receiver.core.lifecycle import Seen
from receiver.core.model import Report, State, Task, Trust
from receiver.dialects import answers, auth, wire
from receiver.dialects.answers import (
    AccountRefused,
    AlreadyExists,
    Busy,
    CreateAnswer,
    Created,
    Refused,
    UnknownTask,
    Unsure,
)
from receiver.flow import advance, change, pace, reconcile, refusals, repeat
from receiver.flow.draft import Draft
from receiver.flow.outcome import Done, Held, Later, Outcome, Retry
from receiver.flow.services import Deal, Services
from receiver.store import accounts, jobs, tasks
from receiver.store.db import Connection
from receiver.store.events import Event
from receiver.store.jobs import Job
from receiver.store.tasks import Locked
from receiver.transfer.provider import WireAnswer

log = structlog.get_logger(__name__)

#: A create that is older than this many of its own time-outs can no longer arrive.
_SETTLED_AFTER: Final = 2
#: Between two questions about a create that may not be sent again.
_UNSURE_PAUSE: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class _Send:
    """A create that is committed as `submitting` and about to be sent."""

    task: Task
    #: An earlier create of this task was never settled, so a refusal does not prove that nothing was made.
    was_unsure: bool
    #: The account is paused, until a create is accepted.
    ends_pause: bool
    #: Holds a secret: never logged.
    callback_url: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Probe:
    """An earlier create may have arrived: the provider is asked before anything is sent."""

    task: Task
    #: Nothing is sent again without a person's word: a second create would not be refused.
    is_last: bool
    #: Until then the earlier create may still arrive, so nothing is sent.
    may_send_after: datetime
    now: datetime


async def send(services: Services, job: Job) -> Outcome:
    """
    Handle a `submit` job: send the create, or find out what became of an earlier one.

    `submitting` is committed before a connection is opened. A create whose fate
    is unknown is asked after by our id; the same id is sent again only after
    the earlier one can no longer arrive, and only where the provider enforces
    ids (providers.md 2.8).

    Raises:
        StoreUnavailable: What the provider answered may be unrecorded; the next
            try finds the task `submitting` and asks.
    """
    step = await _begin(services, job)
    if isinstance(step, _Probe):
        outcome = await _probe(services, job, step)
        if outcome is not None:
            return outcome
        step = await _begin(services, job, probed=True)
    if isinstance(step, _Send):
        return await _create(services, job, step)
    return Later(_UNSURE_PAUSE) if isinstance(step, _Probe) else step


async def _begin(services: Services, job: Job, *, probed: bool = False) -> _Send | _Probe | Outcome:
    """Take a slot and commit `submitting`, or say why nothing is sent now."""
    async with services.database.transaction() as conn:
        locked = await tasks.lock(conn, advance.task_of(job))
        if locked is None or locked.task.state not in change.BEFORE_SENT:
            return Done()
        deal = services.deal_of(locked.task)
        if await _is_overdue(conn, deal, locked, probed=probed):
            return Done()
        is_last = locked.task.unsure and not await repeat.is_refused(conn, deal, locked.task)
        if is_last or (locked.task.unsure and not probed):
            return _question(deal, locked, is_last=is_last)
        if not deal.takes(locked.task):
            raise NotConfigured(f"{deal.profile.name} no longer takes all that the task asks for")
        standing = await accounts.lock(conn, deal.account.id)
        if standing.stops(locked.task.id) or not await _has_room(conn, deal, locked):
            await jobs.hold(conn, job)
            return Held()
        url = services.callback_url(deal, locked.task)
        sent = await _take_slot(conn, deal, locked, url)
        return _Send(sent, locked.task.unsure, ends_pause=standing.paused_at is not None, callback_url=url)


def _question(deal: Deal, locked: Locked, *, is_last: bool) -> _Probe | Later:
    task, now = locked.task, locked.now
    if pause := change.spacing(locked, task):
        return Later(pause)
    if task.last_sent_at is None:
        return _Probe(task, is_last, now, now)
    return _Probe(task, is_last, task.last_sent_at + deal.profile.create_timeout * _SETTLED_AFTER, now)


async def _has_room(conn: Connection, deal: Deal, locked: Locked) -> bool:
    """Return whether the account has a slot for this create, and it is not too fast; the caller holds its lock."""
    has_slot = locked.task.state is State.SUBMITTING
    if not has_slot and not await pace.room(conn, deal):
        return False
    return await pace.wait(conn, deal) <= timedelta()


async def _take_slot(conn: Connection, deal: Deal, locked: Locked, url: str | None) -> Task:
    task, now = locked.task, locked.now
    decision = lifecycle.follow(task, Seen.SENDING)
    after = replace(
        task,
        state=decision.state,
        sends=task.sends + 1,
        unsure=True,
        first_sent_at=task.first_sent_at or now,
        last_sent_at=now,
        settle_by=task.settle_by or now + deal.profile.longest,
        query_wanted=False,
    )
    # Who waits for callbacks in vain, and which secret they need, is told by what was asked for at the time.
    told: dict[str, object] = {"send": after.sends, "callback": url is not None}
    told["contract"] = repeat.contract(deal.account)
    if url is not None:
        told["callback_key"] = tokens.maker_of(url.rpartition("/")[2])
    return await change.commit(conn, deal, locked, after, [Event(task.id, "task.sending", told)])


async def _is_overdue(conn: Connection, deal: Deal, locked: Locked, *, probed: bool) -> bool:
    """Expire a task that was not sent in time, or whose create was never settled; True when it did."""
    task, now = locked.task, locked.now
    if task.due_at is None or now < task.due_at:
        return False
    if task.state is State.ACCEPTED:
        # A person had it sent anew, and what became of the create before is not known.
        reason, seen = "create_unknown" if task.unsure else "never_submitted", Seen.NEVER_SENT
    elif not task.unsure:
        reason, seen = "never_submitted", Seen.NEVER_SETTLED
    elif probed:
        reason, seen = "create_unknown", Seen.NEVER_SETTLED
    else:
        return False
    await reconcile.expire(conn, deal, locked, seen, reason)
    return True


async def _probe(services: Services, job: Job, step: _Probe) -> Outcome | None:
    """Ask whether an earlier create arrived; None when it did not and may be sent again."""
    deal = services.deals[step.task.account]
    # Without a query route time alone says that the earlier create is settled.
    answer = await reconcile.ask_provider(services, deal, step.task) if deal.profile.query else UnknownTask()
    if isinstance(answer, Report):
        return await _hear(services, job, deal, answer)
    if not isinstance(answer, UnknownTask):
        await reconcile.unanswered(services, deal, step.task.id)
        if step.now >= step.may_send_after:
            await _note_unanswered(services, job, deal, step)
        if isinstance(answer, AccountRefused):
            return await _pause(services, job, deal, answer)
        return Retry("provider_unreachable", _bounded(answer.retry_after))
    await _note_unknown(services, job, deal, step)
    if step.task.due_at is not None and step.now >= step.task.due_at:
        return None
    if step.is_last:
        return Later(_UNSURE_PAUSE)
    wait = step.may_send_after - step.now
    return Later(wait) if wait > timedelta() else None


async def _note_unknown(services: Services, job: Job, deal: Deal, step: _Probe) -> None:
    """Count the question; by an id that was named meanwhile is asked at once."""
    async with services.database.transaction() as conn:
        locked = await tasks.lock(conn, advance.task_of(job))
        if locked is None or locked.task.state not in change.BEFORE_SENT:
            return
        task, story = _shown(step, locked.task)
        wanted = task.query_wanted and task.hinted_id != step.task.hinted_id
        after = replace(task, polls=task.polls + 1, last_polled_at=locked.now, query_wanted=wanted)
        await change.commit(conn, deal, locked, after, story)


async def _note_unanswered(services: Services, job: Job, deal: Deal, step: _Probe) -> None:
    """Show that a create is unknown, though nothing that can be read answers the question after it."""
    async with services.database.transaction() as conn:
        locked = await tasks.lock(conn, advance.task_of(job))
        if locked is None or locked.task.state not in change.BEFORE_SENT:
            return
        after, story = _shown(step, locked.task)
        if story:
            await change.commit(conn, deal, locked, after, story)


def _shown(step: _Probe, task: Task) -> tuple[Task, list[Event]]:
    """Return the task as a person must see it: only he, a callback or time can settle a create that is the last."""
    if not (task.unsure and step.is_last) or task.attention is not None:
        return task, []
    return replace(task, attention="create_unknown"), [Event(task.id, "task.create_unknown")]


async def _create(services: Services, job: Job, step: _Send) -> Outcome:
    """Send one create, at most once, and record what the answer says."""
    task = step.task
    deal = services.deals[task.account]
    request = wire.create_request(
        deal.profile,
        task.kind,
        task.input,
        external_task_id=str(task.id),
        callback_url=step.callback_url,
    )
    try:
        answer = await services.provider.send(
            deal.account,
            request,
            authorization=auth.bearer(deal.account.credentials, now=services.clock()),
            timeout=deal.profile.create_timeout,
        )
    except ProviderUnreachable as exc:
        telemetry.CREATES.labels(account=task.account, outcome="unreachable").inc()
        await pace.unheard(services, deal)
        if not exc.sent:
            await _not_made(services, job, step)
        return Retry(exc.code)
    return await _answered(services, job, step, answer)


async def _answered(services: Services, job: Job, step: _Send, raw: WireAnswer) -> Outcome:
    deal = services.deals[step.task.account]
    answer = answers.read_create(
        deal.profile, status=raw.status, content_type=raw.content_type, body=raw.body, retry_after=raw.retry_after
    )
    telemetry.CREATES.labels(account=step.task.account, outcome=type(answer).__name__.lower()).inc()
    log.info("create.answered", task_id=step.task.id, account=step.task.account, outcome=type(answer).__name__.lower())
    refusals.tell(deal, raw, answer)
    outcome = await _record(services, job, step, answer)
    await pace.heard(services, deal, answer)
    return outcome


async def _record(services: Services, job: Job, step: _Send, answer: CreateAnswer) -> Outcome:
    """Write down what the provider's answer says of the task."""
    deal = services.deals[step.task.account]
    match answer:
        case Created() | AlreadyExists():
            if not await _made(services, job, answer):
                return Retry("cross_wired")
            # That an id was used before tells nothing of the balance.
            if step.ends_pause and isinstance(answer, Created):
                await reconcile.resume(services, deal, by_probe=True)
            return Done()
        case Refused():
            return await _refused(services, job, step, answer)
        case AccountRefused():
            return await _pause(services, job, deal, answer, settles=None if step.was_unsure else step.task.sends)
        case Busy():
            await _not_made(services, job, step)
            return Retry("provider_busy", _bounded(answer.retry_after))
        case Unsure():
            return Retry("provider_unreachable", _bounded(answer.retry_after))
        case _:  # pragma: no cover
            assert_never(answer)


def _bounded(wait: timedelta | None) -> timedelta | None:
    return None if wait is None else min(wait, schedule.LONGEST_PAUSE)


async def _made(services: Services, job: Job, answer: Created | AlreadyExists) -> bool:
    """
    Record that the provider has the task; a callback may have told us more already.

    False where the reply names another task of ours, which says nothing of this one.
    """
    async with services.database.transaction() as conn:
        locked = await tasks.lock(conn, advance.task_of(job))
        if locked is None:
            return True
        task, deal = locked.task, services.deals[locked.task.account]
        made = answer.provider_task_id if isinstance(answer, Created) else None
        if await repeat.is_anothers(conn, task, made):
            told = [Event(task.id, "task.cross_wired", {"other_provider_task_id": made})]
            await change.commit(conn, deal, locked, replace(task, attention="cross_wired"), told)
            return False
        after = replace(task, unsure=False, provider_task_id=task.provider_task_id or made)
        story = []
        if made is not None and after.provider_task_id != made:
            story.append(Event(task.id, "task.created_twice", {"other_provider_task_id": made}))
            after = replace(after, attention="created_twice")
        try:
            decision = lifecycle.follow(task, Seen.CREATED)
        except MoveRefused as exc:
            story.append(Event(task.id, "task.move_refused", {"why": str(exc)}))
        else:
            after = replace(after, state=decision.state)
            if decision.event is not None:
                story.append(Event(task.id, decision.event, {"provider_task_id": made or "", "send": task.sends}))
        await change.commit(conn, deal, locked, after, story)
    return True


async def _refused(services: Services, job: Job, step: _Send, answer: Refused) -> Outcome:
    """Reject the task - after a question, when an earlier create may have made it."""
    deal = services.deals[step.task.account]
    if step.task.sends > 1 and deal.profile.query:
        found = await reconcile.ask_provider(services, deal, step.task)
        if isinstance(found, Report):
            return await _hear(services, job, deal, found)
        if not isinstance(found, UnknownTask):
            return Retry("provider_unreachable")
    async with services.database.transaction() as conn:
        locked = await tasks.lock(conn, advance.task_of(job))
        if locked is None:
            return Done()
        decision = lifecycle.follow(locked.task, Seen.REFUSED)
        if decision.event is None:
            return Done()
        if locked.task.sends != step.task.sends:
            # Another worker took this one for dead, and what became of its create is not known yet.
            return Retry("overtaken")
        detail = f"{answer.code}: {answer.message}" if answer.message else answer.code
        after = replace(locked.task, state=decision.state, reason="provider_refused", detail=detail, unsure=False)
        await change.commit(conn, deal, locked, after, [Event(after.id, decision.event, {"detail": detail})])
    return Done()


async def _not_made(services: Services, job: Job, step: _Send) -> None:
    """Record that this create made nothing, so that the next one needs no question."""
    if step.was_unsure:
        return
    async with services.database.transaction() as conn:
        locked = await tasks.lock(conn, advance.task_of(job))
        if locked is not None and locked.task.sends == step.task.sends:
            await change.commit(conn, services.deals[step.task.account], locked, replace(locked.task, unsure=False))


async def _pause(
    services: Services, job: Job, deal: Deal, answer: AccountRefused, *, settles: int | None = None
) -> Outcome:
    """Stop the account's submits; this one waits with the others. *settles*: the send which made nothing, it alone."""
    reason = "authentication" if answer.authentication else "account_refused"
    detail = f"{answer.code}: {answer.message}"
    async with services.database.transaction() as conn:
        locked = await tasks.lock(conn, advance.task_of(job))
        if locked is None or locked.task.state not in change.BEFORE_SENT:
            return Done()
        told = [Event(locked.task.id, "task.held", {"reason": reason, "detail": detail})]
        unsure = locked.task.unsure and settles != locked.task.sends
        await change.commit(conn, deal, locked, replace(locked.task, unsure=unsure), told)
        await change.pause(conn, deal, reason, detail)
        await jobs.hold(conn, job)
    return Held()


async def _hear(services: Services, job: Job, deal: Deal, report: Report) -> Outcome:
    """Apply an answer to a question about a create; one about another task settles nothing."""
    async with services.database.transaction() as conn:
        locked = await tasks.lock(conn, advance.task_of(job))
        if locked is None:
            return Done()
        after = replace(locked.task, polls=locked.task.polls + 1, last_polled_at=locked.now, query_wanted=False)
        changes = Draft(conn)
        outcome = await advance.hear(changes, deal, Locked(after, locked.now), report, Trust.CONFIRMED)
        await changes.write()
        heard = await tasks.lock(conn, locked.task.id)
        if heard is None or heard.task.state not in change.BEFORE_SENT:
            return Done()
        return Done() if await _is_overdue(conn, deal, heard, probed=True) else Retry(outcome)
