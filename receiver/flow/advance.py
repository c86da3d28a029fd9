"""Let what a provider says, by callback or by answer, change its task."""

from __future__ import annotations

from dataclasses import replace

import structlog

from receiver import telemetry
from receiver.core import lifecycle
from receiver.core.errors import CallbackUnreadable
from receiver.core.lifecycle import Decision, Seen
from receiver.core.model import ENDS, AccountId, CallbackId, JobKind, ProviderStatus, Report, State, Task, TaskId, Trust
from receiver.dialects import wire
from receiver.flow import change
from receiver.flow.change import Heard
from receiver.flow.outcome import Done, Outcome
from receiver.flow.services import Deal, Services
from receiver.store import events, inbox, tasks
from receiver.store.db import Connection
from receiver.store.events import Event
from receiver.store.inbox import Callback
from receiver.store.jobs import Job
from receiver.store.tasks import Locked

log = structlog.get_logger(__name__)


async def advance(services: Services, job: Job) -> Outcome:
    """
    Handle an `advance` job: read one kept callback and apply it; doing so twice has no second effect.

    Raises:
        StoreUnavailable: Nothing was recorded.
    """
    async with services.database.transaction() as conn:
        callback = await inbox.get(conn, CallbackId(job.subject))
        if callback is None or callback.outcome is not None:
            return Done()
        outcome, told = await _interpret(conn, services, callback)
        await inbox.processed(conn, callback.id, outcome, told)
    telemetry.CALLBACKS_ADVANCED.labels(outcome=outcome).inc()
    log.info("callback.advanced", callback_id=callback.id, task_id=callback.task_id, outcome=outcome)
    return Done()


async def hear(conn: Connection, deal: Deal, locked: Locked, report: Report, trust: Trust) -> str:
    """
    Apply *report* to a locked task, which may carry notes of the caller that are not written yet.

    Returns what became of it: "moved", "noted" (without effect), "hinted" (the
    next poll comes sooner), "asked" (only the provider's own answer can settle
    it) or "cross_wired".
    """
    task = locked.task
    report = replace(report, media=lifecycle.align(task, deal.wanted(task.kind, report, trust)))
    if _contradicts_ids(task, report):
        return await _cross_wired(conn, deal, locked, trust)
    decision = lifecycle.report_on(task, report, trust, now=locked.now, has_query=deal.profile.query)
    if decision.ask:
        return await _hinted(conn, deal, Locked(await _with_hint(conn, task, report), locked.now), trust, decision)
    trusted = lifecycle.is_trusted(trust, has_query=deal.profile.query)
    if not trusted or (trust is not Trust.CONFIRMED and not _teaches(task, report, decision)):
        return "noted"
    written = await change.apply_report(conn, deal, locked, Heard(report, trust, decision))
    return "noted" if decision.event is None and written.state is task.state and not decision.media else "moved"


async def _hinted(conn: Connection, deal: Deal, locked: Locked, trust: Trust, decision: Decision) -> str:
    """Ask about what would change something; that a task runs is no news worth a question of its own."""
    if locked.task.state is State.SUBMITTED and decision.seen is Seen.PROCESSING:
        await change.hasten(conn, deal, locked)
        return "hinted"
    await ask(conn, deal, locked, Event(locked.task.id, "task.hinted", {"trust": trust, "seen": decision.seen}))
    return "asked"


async def _with_hint(conn: Connection, task: Task, report: Report) -> Task:
    """Note by which id the provider can be asked, while no reply of its own has told; never by another task's."""
    hinted = report.provider_task_id
    if hinted is None or task.provider_task_id is not None:
        return task
    owner = await tasks.at_provider(conn, task.account, hinted)
    return task if owner not in {None, task.id} else replace(task, hinted_id=hinted)


def _teaches(task: Task, report: Report, decision: Decision) -> bool:
    """Return whether a callback says anything that is not written yet; most repeats and late statuses do not."""
    return (
        decision.event is not None
        or bool(decision.media)
        or (decision.seen is Seen.NO_MEDIA and task.state not in ENDS)
        or report.provider_task_id not in {None, task.provider_task_id}
        or report.units not in {None, task.units}
    )


async def ask(conn: Connection, deal: Deal, locked: Locked, event: Event) -> None:
    """Make the provider's own answer come soon: something was seen that it alone can settle."""
    told = [] if locked.task.query_wanted else [event]
    await change.commit(conn, deal, locked, replace(locked.task, query_wanted=deal.profile.query), told)


async def give_up(services: Services, job: Job, error: str) -> None:
    """Call a person to the task of a job that will not run again by itself; its deadline stays."""
    async with services.database.transaction() as conn:
        subject = task_of(job)
        if job.kind is JobKind.ADVANCE:
            callback = await inbox.get(conn, CallbackId(job.subject))
            subject = callback.task_id if callback is not None else subject
        locked = await tasks.lock(conn, subject)
        if locked is None or locked.task.attention == "job_dead":
            return
        # Not by `commit`: it would want the jobs that the task needs, and so wake the dead one.
        await tasks.move(conn, replace(locked.task, attention="job_dead"))
        await events.add(conn, [Event(subject, "task.job_dead", {"kind": job.kind, "error": error})])


async def _interpret(
    conn: Connection, services: Services, callback: Callback
) -> tuple[inbox.Outcome, ProviderStatus | None]:
    """Apply a callback; return what became of it, and the status that it gave its task."""
    locked = await tasks.lock(conn, callback.task_id)
    deal = services.deals.get(AccountId(callback.account))
    if locked is None or deal is None or locked.task.account != callback.account:
        return inbox.Outcome.ORPHAN, None
    try:
        report = wire.read_callback(deal.profile, locked.task.kind, callback.body)
    except CallbackUnreadable as exc:
        log.warning("callback.unreadable", callback_id=callback.id, task_id=callback.task_id, error=exc.code)
        if locked.task.state not in ENDS:
            await ask(conn, deal, locked, Event(locked.task.id, "callback.unreadable", {"callback": str(callback.id)}))
        return inbox.Outcome.UNREADABLE, None
    trust = Trust.SIGNED if callback.verified else Trust.TOKEN
    outcome = inbox.Outcome(await hear(conn, deal, locked, report, trust))
    return outcome, None if outcome is inbox.Outcome.CROSS_WIRED else report.status


def _contradicts_ids(task: Task, report: Report) -> bool:
    """Return whether the ids in *report* belong to another task than its URL, or than the one asked for."""
    if report.external_task_id is not None and not task.adopted:
        return report.external_task_id != str(task.id)
    known = task.provider_task_id
    return known is not None and report.provider_task_id is not None and report.provider_task_id != known


async def _cross_wired(conn: Connection, deal: Deal, locked: Locked, trust: Trust) -> str:
    """Note a report about another task; a callback's makes us ask, an answer's would only repeat itself."""
    task = locked.task
    wanted = task.query_wanted or (deal.profile.query and trust is not Trust.CONFIRMED)
    after = replace(task, query_wanted=wanted, attention="cross_wired", hinted_id=None)
    await change.commit(conn, deal, locked, after, [Event(task.id, "task.cross_wired", {"trust": trust})])
    return "cross_wired"


def task_of(job: Job) -> TaskId:
    """Return the task that a submit, query or archive job is about."""
    return TaskId(job.subject)
