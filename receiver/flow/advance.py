"""Let what a provider says, by callback or by answer, change its task."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Final

import structlog

from receiver import telemetry
from receiver.core import lifecycle
from receiver.core.errors import CallbackUnreadable
from receiver.core.lifecycle import Decision, Seen
from receiver.core.model import ENDS, CallbackId, JobKind, Report, State, Task, TaskId, Trust
from receiver.dialects import wire
from receiver.flow import change
from receiver.flow.change import Heard
from receiver.flow.draft import Draft
from receiver.flow.outcome import Done, Later, Outcome
from receiver.flow.services import Deal, Services
from receiver.store import db, events, inbox, tasks
from receiver.store.db import Connection
from receiver.store.events import Event
from receiver.store.inbox import Callback, Read
from receiver.store.jobs import Job
from receiver.store.tasks import Locked
from receiver.telemetry import logs

log = structlog.get_logger(__name__)


#: How long to wait, once more each time, for a task that another transaction has locked: most last milliseconds.
_PAUSES: Final = (0.01, 0.04, 0.0)
#: And when it is still locked then: nobody waits for it, its callbacks come back.
_LOCKED: Final = timedelta(seconds=0.5)


async def advance(services: Services, mine: Sequence[Job]) -> list[Outcome]:
    """
    Handle `advance` jobs: read their kept callbacks and apply them together; doing so twice has no second effect.

    Raises:
        StoreUnavailable: Nothing was recorded, or it is recorded already.
    """
    left = {CallbackId(job.subject): job for job in mine}
    for pause in _PAUSES:
        left = await _read(services, left)
        if not left:
            break
        await asyncio.sleep(pause)
    return [Later(_LOCKED) if job.subject in left else Done() for job in mine]


async def _read(services: Services, wanted: Mapping[CallbackId, Job]) -> dict[CallbackId, Job]:
    """Apply in one transaction those callbacks whose tasks are known here and nobody else's now; return the others."""
    async with services.database.transaction() as conn:
        callbacks = [each for each in await inbox.of(conn, wanted) if each.outcome is None]
        locked, busy = await tasks.lock_free(conn, {each.task_id for each in callbacks})
        # Its worker has other settings: an older or a newer one.
        busy |= {task for task, each in locked.items() if each.task.state not in ENDS and not services.knows(each.task)}
        changes, read = Draft(conn), []
        for callback in callbacks:
            if callback.task_id not in busy:
                names = {"job_id": str(wanted[callback.id].id), "account": callback.account}
                with logs.within({"callback_id": str(callback.id), **names}):
                    found = await _interpret(changes, services, locked.get(callback.task_id), callback)
                    line = partial(log.info, "callback.advanced", task_id=callback.task_id, outcome=found.outcome)
                    db.on_commit(line)
                read.append(found)
        await changes.write()
        await inbox.processed(conn, read)
        for outcome, times in Counter(each.outcome for each in read).items():
            db.on_commit(partial(telemetry.CALLBACKS_ADVANCED.labels(outcome=outcome).inc, times))
    return {each.id: wanted[each.id] for each in callbacks if each.task_id in busy}


async def hear(changes: Draft, deal: Deal, locked: Locked, report: Report, trust: Trust) -> str:
    """
    Add to *changes* what *report* does to a locked task, which may carry notes of the caller that are not written yet.

    Returns what became of it: "moved", "noted" (without effect), "hinted" (the
    next poll comes sooner), "asked" (only the provider's own answer can settle
    it) or "cross_wired".
    """
    task = locked.task
    if report.media:
        report = replace(report, media=lifecycle.align(task, deal.wanted(task.kind, report, trust)))
    trusted = lifecycle.is_trusted(trust, has_query=deal.profile.query)
    if _contradicts_ids(task, report) or (trusted and await _is_anothers(changes, task, report)):
        return _cross_wired(changes, deal, locked, trust)
    decision = lifecycle.report_on(task, report, trust, now=locked.now, has_query=deal.profile.query)
    if decision.ask:
        hinted = Locked(await _with_hint(changes, task, report), locked.now)
        return _hinted(changes, deal, hinted, trust, decision)
    if not trusted or (trust is not Trust.CONFIRMED and not _teaches(task, report, decision)):
        return "noted"
    written = change.apply_report(changes, deal, locked, Heard(report, trust, decision))
    return "noted" if decision.event is None and written.state is task.state and not decision.media else "moved"


def _hinted(changes: Draft, deal: Deal, locked: Locked, trust: Trust, decision: Decision) -> str:
    """Ask about what would change something; that a task runs is no news worth a question of its own."""
    if locked.task.state is State.SUBMITTED and decision.seen is Seen.PROCESSING:
        change.hasten(changes, deal, locked)
        return "hinted"
    _ask(changes, deal, locked, Event(locked.task.id, "task.hinted", {"trust": trust, "seen": decision.seen}))
    return "asked"


async def _with_hint(changes: Draft, task: Task, report: Report) -> Task:
    """Note by which id the provider can be asked, while no reply of its own has told; never by another task's."""
    hinted = report.provider_task_id
    if hinted is None or task.provider_task_id is not None:
        return task
    owner = await changes.at_provider(task.account, hinted)
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
    changes = Draft(conn)
    _ask(changes, deal, locked, event)
    await changes.write()


def _ask(changes: Draft, deal: Deal, locked: Locked, event: Event) -> None:
    told = [] if locked.task.query_wanted else [event]
    change.draft(changes, deal, locked, replace(locked.task, query_wanted=deal.profile.query), told)


async def give_up(services: Services, job: Job, error: str) -> None:
    """Call a person to the task of a job that will not run again by itself; its deadline stays."""
    async with services.database.transaction() as conn:
        subject = task_of(job)
        if job.kind is JobKind.ADVANCE:
            subject = next((each.task_id for each in await inbox.of(conn, [CallbackId(job.subject)])), subject)
        locked = await tasks.lock(conn, subject)
        if locked is None or locked.task.attention == "job_dead":
            return
        # Not by `commit`: it would want the jobs that the task needs, and so wake the dead one.
        await tasks.move(conn, [replace(locked.task, attention="job_dead")])
        await events.add(conn, [Event(subject, "task.job_dead", {"kind": job.kind, "error": error})])


async def _interpret(changes: Draft, services: Services, locked: Locked | None, callback: Callback) -> Read:
    """Add to *changes* what a callback does to its task, and return what became of it."""
    if locked is None or locked.task.account != callback.account or not services.knows(locked.task):
        return Read(callback.id, inbox.Outcome.ORPHAN)
    deal, locked = services.deals[locked.task.account], changes.latest(locked)
    try:
        report = wire.read_callback(deal.profile, locked.task.kind, callback.body)
    except CallbackUnreadable as exc:
        db.on_commit(partial(log.warning, "callback.unreadable", task_id=callback.task_id, error=exc.code))
        if locked.task.state not in ENDS:
            _ask(changes, deal, locked, Event(locked.task.id, "callback.unreadable", {"callback": str(callback.id)}))
        return Read(callback.id, inbox.Outcome.UNREADABLE)
    trust = Trust.SIGNED if callback.verified else Trust.TOKEN
    outcome = inbox.Outcome(await hear(changes, deal, locked, report, trust))
    return Read(callback.id, outcome, None if outcome is inbox.Outcome.CROSS_WIRED else report.status)


def _contradicts_ids(task: Task, report: Report) -> bool:
    """Return whether the ids in *report* belong to another task than its URL, or than the one asked for."""
    if report.external_task_id is not None and not task.adopted:
        return report.external_task_id != str(task.id)
    known = task.provider_task_id
    return known is not None and report.provider_task_id is not None and report.provider_task_id != known


async def _is_anothers(changes: Draft, task: Task, report: Report) -> bool:
    """Return whether the only id in a report that is to name our task for the first time names another one of ours."""
    made = report.provider_task_id
    if report.external_task_id is not None or made is None or task.provider_task_id is not None:
        return False
    return await changes.is_anothers(task, made)


def _cross_wired(changes: Draft, deal: Deal, locked: Locked, trust: Trust) -> str:
    """Note a report about another task; a callback's makes us ask, an answer's would only repeat itself."""
    task = locked.task
    wanted = task.query_wanted or (deal.profile.query and trust is not Trust.CONFIRMED)
    after = replace(task, query_wanted=wanted, attention="cross_wired", hinted_id=None)
    change.draft(changes, deal, locked, after, [Event(task.id, "task.cross_wired", {"trust": trust})])
    return "cross_wired"


def task_of(job: Job) -> TaskId:
    """Return the task that a submit, query or archive job is about."""
    return TaskId(job.subject)
