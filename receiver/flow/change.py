"""
The one way in which a task changes.

The caller locks the task, works out what it shall be, and hands it to `draft`,
which recomputes the state from the assets and notes task, assets, events and
the follow-up jobs, to be written in the same transaction; `commit` writes them
at once. Lock order: task, asset, account, job.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

import structlog

from receiver import telemetry
from receiver.core import deadlines, keeping, lifecycle, schedule
from receiver.core.lifecycle import Decision, Seen
from receiver.core.model import (
    ENDS,
    HOLDING_SLOT,
    Asset,
    AssetState,
    JobKind,
    Media,
    Report,
    State,
    Task,
    Trust,
)
from receiver.dialects import links
from receiver.flow.draft import Draft
from receiver.flow.services import Deal
from receiver.store import accounts, assets, db
from receiver.store.db import Connection
from receiver.store.events import Event
from receiver.store.jobs import Wanted
from receiver.store.tasks import Locked
from receiver.transfer import cut

log = structlog.get_logger(__name__)

#: States in which the submit job carries a task.
BEFORE_SENT = frozenset({State.ACCEPTED, State.SUBMITTING})
_REASONS = {
    State.PARTIAL: "media_incomplete",
    State.FAILED: "media_invalid",
    State.EXPIRED: "media_expired",
}
_UNCUT = f"the sound is still inside the mp4: install {cut.EXTRA} and refresh the task while its links live"


@dataclass(frozen=True, slots=True)
class Heard:
    """A report, how well it is vouched for, and what it was decided to do."""

    report: Report
    trust: Trust
    decision: Decision


async def commit(
    conn: Connection,
    deal: Deal,
    locked: Locked,
    after: Task,
    told: Sequence[Event] = (),
    *,
    fetch: bool = False,
    ask_after: timedelta = timedelta(),
) -> Task:
    """Write what `draft` notes, and return the task as written."""
    changes = Draft(conn)
    written = draft(changes, deal, locked, after, told, fetch=fetch, ask_after=ask_after)
    await changes.write()
    return written


def draft(
    changes: Draft,
    deal: Deal,
    locked: Locked,
    after: Task,
    told: Sequence[Event] = (),
    *,
    fetch: bool = False,
    ask_after: timedelta = timedelta(),
) -> Task:
    """
    Add to *changes* the task *after*, the events that led there, and its jobs; return the task as it will be written.

    The caller holds the task's row lock, has saved changed assets already, and
    tells of a change of state that it made itself. *fetch*: there are links to
    download from that no archive job has seen. *ask_after*: how long a wanted
    query may wait.
    """
    before, now = locked.task, locked.now
    settled = _settled(deal, after)
    story = list(told)
    if settled.state is not after.state:
        story.append(Event(after.id, f"task.{settled.state}", _why(settled)))
    if settled.attention == keeping.NOT_CUT != before.attention:
        story.append(Event(after.id, "asset.not_cut", {"needs": cut.EXTRA}))
    after = _calmed(_timed(deal, before, settled, now))
    changes.move(after, story)
    if before.state in HOLDING_SLOT and after.state not in HOLDING_SLOT:
        changes.free(deal)
    _follow_up(changes, deal, locked, after, fetch=fetch, ask_after=ask_after)
    tell = log.warning if _is_grave(before, after) else log.info
    for event in story:
        told_of = {"task_id": after.id, "account": after.account, **_why(after), **event.data}
        db.on_commit(partial(tell, event.type, **told_of))
    if before.state not in ENDS and after.state in ENDS:
        db.on_commit(partial(_count_end, before, after, locked.now))
    return after


def _is_grave(before: Task, after: Task) -> bool:
    """Say whether a person should see what happened: something to judge, or media that were not had in time."""
    lost = {State.EXPIRED, State.PARTIAL}
    return after.attention not in {None, before.attention} or (after.state in lost and before.state not in lost)


def apply_report(changes: Draft, deal: Deal, locked: Locked, heard: Heard) -> Task:
    """Add to *changes* what a trusted report brings: state, media, ids and cost."""
    report, trust, decision, after = heard.report, heard.trust, heard.decision, locked.task
    story: list[Event] = []
    if report.provider_task_id is not None and after.provider_task_id not in {None, report.provider_task_id}:
        story.append(Event(after.id, "task.created_twice", {"other_provider_task_id": report.provider_task_id}))
        after = replace(after, attention="created_twice")
    after = replace(
        after,
        state=decision.state,
        provider_task_id=after.provider_task_id or report.provider_task_id,
        unsure=after.unsure and decision.state in BEFORE_SENT,
        units=report.units or after.units,
        trust=trust,
        attention=decision.attention or after.attention,
    )
    if decision.event is not None:
        after = _with_verdict(after, report)
        story.append(Event(after.id, decision.event, {"trust": trust, **_why(after)}))
    if decision.event == "task.reopened":
        after = replace(after, revision=after.revision + 1)
    if decision.seen is Seen.NO_MEDIA and decision.state not in ENDS:
        after = _without_media(after, trust)
    after, wanted = _want_media(changes, deal, locked, heard, after)
    return draft(changes, deal, locked, after, [*story, *wanted], fetch=_is_fresh(locked.task, decision))


def _with_verdict(after: Task, report: Report) -> Task:
    """Keep the provider's reason for a failure; bytes that are stored already win over it."""
    if after.state is not State.FAILED:
        return replace(after, reason=None, detail=None) if _why(after) else after
    if any(asset.state is AssetState.STORED for asset in after.assets):
        return replace(after, state=State.SUCCEEDED, reason=None, detail=None)
    return replace(after, reason=lifecycle.PROVIDER_FAILED, detail=report.reason or None)


def _is_fresh(before: Task, decision: Decision) -> bool:
    """Return whether there is a link that no archive job has: one that just failed is not worth another try at once."""
    known = {asset.url for asset in before.assets if asset.state is AssetState.PENDING}
    return any(media.url not in known for media in decision.media)


def _without_media(after: Task, trust: Trust) -> Task:
    times = after.no_media + 1
    attention = "no_media" if times >= lifecycle.NO_MEDIA_PATIENCE else after.attention
    # Our own question goes on by the schedule; a callback that names nothing makes us ask at once.
    wanted = after.query_wanted or trust is not Trust.CONFIRMED
    return replace(after, no_media=times, attention=attention, query_wanted=wanted)


def _want_media(changes: Draft, deal: Deal, locked: Locked, heard: Heard, after: Task) -> tuple[Task, list[Event]]:
    """Save wanted assets and forget those that a confirmed answer no longer names, or that a failure voids."""
    known = {(asset.clip, asset.format): asset for asset in after.assets}
    story: list[Event] = []
    for each in heard.decision.media:
        old = known.get((each.clip, each.format))
        known[each.clip, each.format] = changes.save(_wanted(deal, locked, heard, each, old))
        if old is None:
            story.append(Event(after.id, "asset.wanted", {"clip": each.clip, "format": each.format}))
    pending = [asset for asset in known.values() if asset.state is AssetState.PENDING]
    if heard.decision.state is State.FAILED:
        for asset in pending:
            void = replace(asset, state=AssetState.INVALID, error=lifecycle.PROVIDER_FAILED)
            known[asset.clip, asset.format] = changes.save(void)
    elif heard.trust is Trust.CONFIRMED and heard.report.media:
        named = {(each.clip, each.format) for each in heard.report.media}
        gone = [asset for asset in pending if (asset.clip, asset.format) not in named]
        for asset in gone:
            changes.withdraw(asset)
            del known[asset.clip, asset.format]
            story.append(Event(after.id, "asset.withdrawn", {"clip": asset.clip, "format": asset.format}))
    ordered = tuple(sorted(known.values(), key=lambda asset: (asset.position, asset.clip, asset.format)))
    return after if ordered == after.assets else replace(after, assets=ordered), story


def _wanted(deal: Deal, locked: Locked, heard: Heard, media: Media, old: Asset | None) -> Asset:
    report = heard.report
    gone_at = deadlines.gone_at(deal.profile.window, report.created_at, report.updated_at, now=locked.now)
    return Asset(
        id=assets.NEW if old is None else old.id,
        task_id=locked.task.id,
        clip=media.clip,
        position=media.position if old is None else old.position,
        format=media.format,
        state=AssetState.PENDING,
        url=media.url,
        trust=heard.trust,
        link_expires_at=links.expires_at(media.url),
        invalid_fetches=0 if old is None else old.invalid_fetches,
        gone_at=old.gone_at if old is not None and old.state is AssetState.PENDING else gone_at,
    )


def _settled(deal: Deal, after: Task) -> Task:
    """Recompute the state from the assets; ask once more when a promised format is missing."""
    if after.state is not State.SUCCEEDED:
        return after
    all_stored = bool(after.assets) and all(a.state is AssetState.STORED for a in after.assets)
    lacks = all_stored and not after.asked_again and keeping.lacks_format(after.assets, deal.promised(after.kind))
    state = lifecycle.settle(after.state, after.assets, may_lack=lacks)
    if state is State.SUCCEEDED:
        return replace(after, query_wanted=True) if all_stored and not after.query_wanted else after
    errors = sorted({f"{a.format}: {a.error}" for a in after.assets if a.state is not AssetState.STORED})
    after = replace(after, state=state, reason=_REASONS.get(state), detail="; ".join(errors) or None)
    if state is State.ARCHIVED and keeping.is_uncut(after.assets):
        after = replace(after, attention=after.attention or keeping.NOT_CUT, detail=_UNCUT)
    return after


def _timed(deal: Deal, before: Task, after: Task, now: datetime) -> Task:
    """Fill in what follows from the state: when it ended, or when it is due."""
    settle_by = _settle_by(deal, before, after, now)
    if settle_by != after.settle_by:
        after = replace(after, settle_by=settle_by)
    grace_given = after.grace_given and after.state is before.state
    due_at = deadlines.due_at(after)
    if due_at is not None and grace_given:
        due_at += deadlines.GRACE
    ended_at = (before.ended_at or now) if after.state in ENDS else None
    return replace(after, grace_given=grace_given, due_at=due_at, ended_at=ended_at)


def _settle_by(deal: Deal, before: Task, after: Task, now: datetime) -> datetime | None:
    if after.state in {State.ACCEPTED, *ENDS}:
        return after.settle_by
    settle_by = after.settle_by or now + deal.profile.longest
    if before.state in BEFORE_SENT and after.state not in BEFORE_SENT and after.last_sent_at is not None:
        # Creates before the last one may have made nothing for hours; what was made shall have its longest run.
        return max(settle_by, after.last_sent_at + deal.profile.longest)
    return settle_by


def _calmed(after: Task) -> Task:
    """Call nobody any more to what has been settled meanwhile."""
    if after.attention is None:
        return after
    settled = {
        "create_unknown": not after.unsure,
        "no_media": bool(after.assets),
        keeping.NOT_CUT: not keeping.is_uncut(after.assets),
    }
    return replace(after, attention=None) if settled.get(after.attention) else after


def _count_end(before: Task, after: Task, now: datetime) -> None:
    """Count a task that has ended, how much time it had left, and what it cost; one that grew later costs nothing."""
    telemetry.TASKS_ENDED.labels(account=after.account, state=after.state).inc()
    slack = deadlines.slack(before, now)
    if slack is not None:
        left = max(slack.total_seconds(), 0)
        telemetry.TASK_SLACK.labels(account=after.account, state=after.state).observe(left)
    if after.units is not None and after.revision == 1:
        telemetry.UNITS.labels(account=after.account).inc(float(after.units))


def hasten(changes: Draft, deal: Deal, locked: Locked) -> None:
    """Bring the next poll of a sent task forward, to half of its usual run."""
    delay = max(spacing(locked, locked.task), deal.profile.usual / 2)
    changes.want(_wish(JobKind.QUERY, locked.task, delay=delay))


async def pause(conn: Connection, deal: Deal, reason: str, detail: str) -> None:
    """Stop the submits of an account that its provider refuses; takes the account's lock. The first reason stays."""
    account = deal.account.id
    await accounts.lock(conn, account)
    if await accounts.pause(conn, account, reason, detail):
        db.on_commit(partial(log.error, "account.paused", account=account, reason=reason, detail=detail))
        db.on_commit(telemetry.ACCOUNTS_PAUSED.labels(account=account, reason=reason).inc)


def _follow_up(changes: Draft, deal: Deal, locked: Locked, after: Task, *, fetch: bool, ask_after: timedelta) -> None:
    """Want the jobs that *after* needs and remove those that it does not."""
    before = locked.task
    if after.state in BEFORE_SENT:
        if before.state in ENDS or after.query_wanted:
            changes.want(_wish(JobKind.SUBMIT, after))
        return
    if after.state in ENDS:
        changes.remove(after.id, JobKind.SUBMIT, JobKind.ARCHIVE)
        if not after.query_wanted:
            changes.remove(after.id, JobKind.QUERY)
    elif before.state in BEFORE_SENT:
        changes.remove(after.id, JobKind.SUBMIT)
    if fetch and after.state is State.SUCCEEDED:
        changes.want(_wish(JobKind.ARCHIVE, after))
    if after.query_wanted:
        changes.want(_wish(JobKind.QUERY, after, delay=max(spacing(locked, after), ask_after)))
    elif after.state not in ENDS and (before.state in BEFORE_SENT or before.state in ENDS):
        changes.want(_wish(JobKind.QUERY, after, delay=deal.profile.usual))


def spacing(locked: Locked, after: Task) -> timedelta:
    """Return how long to wait so that a task is not asked after more than once in five seconds."""
    if after.last_polled_at is None:
        return timedelta()
    return max(after.last_polled_at + schedule.QUERY_SPACING - locked.now, timedelta())


def _wish(kind: JobKind, task: Task, *, delay: timedelta = timedelta()) -> Wanted:
    by = deadlines.deliver_by(task) if kind is JobKind.ARCHIVE else task.due_at
    return Wanted(
        kind=kind, subject=task.id, account=task.account, deliver_by=by or task.ended_at or task.created_at, delay=delay
    )


def _why(after: Task) -> dict[str, str]:
    return {name: value for name, value in (("reason", after.reason), ("detail", after.detail)) if value}
