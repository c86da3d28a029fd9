"""What a person may do to a task: cancel, try again, ask again, adopt. Each act is an event."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import structlog

from receiver import telemetry
from receiver.core import deadlines, ids, lifecycle
from receiver.core.errors import (
    AlreadyKnown,
    AlreadySent,
    Conflict,
    FieldError,
    InvalidInput,
    MayChargeTwice,
    MoveRefused,
    NotFound,
    NotRetryable,
    StoreUnavailable,
)
from receiver.core.lifecycle import Seen
from receiver.core.model import AccountId, AssetState, CreateId, JobKind, State, Task, TaskId
from receiver.flow import change, repeat, spending
from receiver.flow.services import Deal, Services
from receiver.store import assets, events, jobs, tasks
from receiver.store.db import Connection
from receiver.store.events import Event
from receiver.store.jobs import Wanted
from receiver.store.keys import Key
from receiver.store.tasks import Locked, NewTask

log = structlog.get_logger(__name__)

#: Characters of a provider's id (providers.md D26).
LONGEST_ID: Final = 256
_DRAWS: Final = 5
#: What to do instead, where nothing can be tried again.
_INSTEAD: Final = {
    State.ARCHIVED: "it is archived",
    State.CANCELLED: "it was cancelled; submit a new task",
    State.FAILED: "the provider failed it; submit a new task",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """A task that was made elsewhere and whose media shall be archived."""

    account: AccountId
    kind: str
    provider_task_id: str
    reference: str | None = None
    labels: Mapping[str, str]


async def cancel(services: Services, owner: str, task: TaskId) -> None:
    """
    Cancel a task that was never sent.

    Raises:
        NotFound: There is no such task.
        AlreadySent: The provider may have it.
    """
    async with services.database.transaction() as conn:
        locked, deal = await _lock(conn, services, owner, task)
        try:
            decision = lifecycle.follow(locked.task, Seen.CANCEL)
        except MoveRefused as exc:
            raise AlreadySent(f"the task is {locked.task.state}; only an accepted one can be cancelled") from exc
        if decision.event is not None and locked.task.sends:
            raise AlreadySent("an earlier send of this task may have reached the provider")
        if decision.event is not None:
            after = replace(locked.task, state=decision.state, reason="cancelled_by_owner")
            await change.commit(conn, deal, locked, after, [Event(task, decision.event)])


async def refresh(services: Services, owner: str, task: TaskId) -> None:
    """
    Ask the provider after a task now, whatever its state.

    Raises:
        NotFound: There is no such task.
        Conflict: It was never sent, or the provider cannot be asked.
    """
    async with services.database.transaction() as conn:
        locked, deal = await _lock(conn, services, owner, task)
        if not deal.profile.query:
            raise Conflict(f"{deal.profile.name} has no query route")
        if locked.task.sends == 0 and locked.task.provider_task_id is None:
            raise Conflict("the task was never sent, so the provider has nothing to say of it")
        after = replace(locked.task, query_wanted=True)
        await change.commit(conn, deal, locked, after, [Event(task, "task.refresh_asked")])


async def retry(services: Services, owner: str, task: TaskId, *, may_charge_twice: bool = False) -> None:
    """
    Try again what has failed: the send of a task, its media, or its dead jobs; the id stays.

    Raises:
        NotFound: There is no such task.
        NotRetryable: There is nothing to try again.
        MayChargeTwice: It must be said that a second charge is accepted.
    """
    async with services.database.transaction() as conn:
        locked, deal = await _lock(conn, services, owner, task)
        seen = _way(deal, locked.task)
        if seen is Seen.RETRY_MEDIA:
            await _retry_media(conn, deal, locked)
        elif seen is Seen.RETRY_SEND:
            await _retry_send(conn, deal, locked, may_charge_twice=may_charge_twice)
        else:
            after = replace(locked.task, attention=None)
            await change.commit(conn, deal, locked, after, [Event(task, "task.retried")])
        if not await jobs.revive(conn, task) and seen is None:
            raise NotRetryable(_why_not(locked.task))


async def adopt(services: Services, key: Key, adoption: Adoption) -> TaskId:
    """
    Take over a task that was made elsewhere: it is asked after, and its media are archived.

    Raises:
        InvalidInput: A field is wrong.
        AlreadyKnown: It is one of our tasks.
        LimitTooSmall: The key or the account takes nothing at all.
        SpendLimit: The key or the account has reached its limit.
    """
    deal = services.deal(adoption.account)
    _check_adoption(deal, adoption)
    for _ in range(_DRAWS):
        new = _adopted(services, key, adoption)
        async with services.database.transaction() as conn:
            await _check_unknown(conn, key.owner, adoption)
            await spending.guard(conn, key, [deal.account], services.clock())
            due_at = await tasks.adopt(conn, new, adoption.provider_task_id, longest=deal.profile.longest)
            if due_at is None:
                continue
            story = {"account": new.account, "kind": new.kind, "adopted": adoption.provider_task_id}
            await events.add(conn, [Event(new.id, "task.accepted", story)])
            wish = Wanted(kind=JobKind.QUERY, subject=new.id, account=new.account, deliver_by=due_at)
            await jobs.want(conn, [wish])
        telemetry.TASKS_ACCEPTED.labels(account=new.account, kind=new.kind).inc()
        log.info("task.adopted", task_id=new.id, account=new.account)
        return new.id
    raise StoreUnavailable("no free task id")


async def _lock(conn: Connection, services: Services, owner: str, task: TaskId) -> tuple[Locked, Deal]:
    locked = await tasks.lock(conn, task)
    if locked is None or locked.task.owner != owner:
        raise NotFound("no such task")
    deal = services.deals.get(locked.task.account)
    if deal is None:
        raise Conflict(f"the account {locked.task.account} is no longer configured")
    if not services.knows(locked.task):
        raise Conflict(f"{deal.profile.name} no longer offers {locked.task.kind}")
    return locked, deal


def _way(deal: Deal, task: Task) -> Seen | None:
    """Return what can be tried again; None when it can only be the task's dead jobs."""
    has_media = bool(task.assets)
    match task.state:
        case State.EXPIRED | State.PARTIAL if has_media:
            return Seen.RETRY_MEDIA
        case State.FAILED if has_media and task.reason == "media_invalid":
            return Seen.RETRY_MEDIA
        case State.REJECTED | State.EXPIRED if not task.adopted:
            return Seen.RETRY_SEND
        case State.SUBMITTING if task.unsure and (deal.profile.create_id is CreateId.NONE or _is_unknown(task)):
            # Without attention it is being sent at this moment; a dead job asks first, when it runs again.
            return Seen.RETRY_SEND if task.attention not in {None, "job_dead"} else None
        case _:
            return None


def _is_unknown(task: Task) -> bool:
    return task.attention == "create_unknown"


def _why_not(task: Task) -> str:
    if task.state is State.EXPIRED:
        return "it was made elsewhere, so it cannot be sent again; `refresh` asks after it"
    return _INSTEAD.get(task.state, f"the task is {task.state} and under way")


async def _retry_media(conn: Connection, deal: Deal, locked: Locked) -> None:
    """Fetch again what is expired or invalid, with a fresh link."""
    task = locked.task
    decision = lifecycle.follow(task, Seen.RETRY_MEDIA)
    stored = [asset for asset in task.assets if asset.state is AssetState.STORED]
    again = [
        replace(
            asset,
            state=AssetState.PENDING,
            error=None,
            invalid_fetches=0,
            gone_at=max(asset.gone_at, locked.now + deadlines.GRACE),
        )
        for asset in task.assets
        if asset.state is not AssetState.STORED
    ]
    after = replace(
        task,
        state=decision.state,
        assets=(*stored, *await assets.saved(conn, again)),
        reason=None,
        detail=None,
        attention=None,
        query_wanted=deal.profile.query,
    )
    await change.commit(conn, deal, locked, after, [Event(task.id, "task.retried")], fetch=True)


async def _retry_send(conn: Connection, deal: Deal, locked: Locked, *, may_charge_twice: bool) -> None:
    """Send again under the same id - after a question, where the provider may have it already."""
    task = locked.task
    refused = await repeat.is_refused(conn, deal, task)
    if task.sends and not refused and not may_charge_twice:
        known = deal.profile.create_id is CreateId.ENFORCED
        who = "the account that has the key now" if known else deal.profile.name
        raise MayChargeTwice(f"{who} does not refuse a repeated id, so this may be charged twice; say so to go on")
    decision = lifecycle.follow(task, Seen.RETRY_SEND)
    # A task that the provider made before is found by our id, if at all; one that is made now has its own.
    after = replace(
        task,
        state=decision.state,
        provider_task_id=None,
        no_media=0,
        submit_by=locked.now + deadlines.SUBMIT_WITHIN,
        settle_by=task.settle_by if decision.state is State.SUBMITTING else None,
        unsure=bool(task.sends) and refused,
        # A create that was answered cannot arrive any more, so nothing is waited for after the question.
        last_sent_at=task.last_sent_at if task.unsure else None,
        reason=None,
        detail=None,
        attention=None,
    )
    told = {"may_charge_twice": may_charge_twice, "provider_task_id": task.provider_task_id}
    after = await change.commit(conn, deal, locked, after, [Event(task.id, "task.retried", told)])
    # Also a job that is leased shall run once more.
    by = after.due_at or after.submit_by
    await jobs.want(conn, [Wanted(kind=JobKind.SUBMIT, subject=task.id, account=task.account, deliver_by=by)])


async def _check_unknown(conn: Connection, owner: str, adoption: Adoption) -> None:
    """Refuse a task that we have already, by the provider's id or by ours."""
    known = await tasks.at_provider(conn, adoption.account, adoption.provider_task_id)
    known = known or ids.parse_task_id(adoption.provider_task_id)
    found = None if known is None else await tasks.get(conn, known)
    if found is not None and found.task.account == adoption.account:
        theirs = found.task.owner != owner
        raise AlreadyKnown("it is archived for another owner" if theirs else f"this is task {found.task.id}")


def _check_adoption(deal: Deal, adoption: Adoption) -> None:
    errors = []
    if adoption.kind not in deal.profile.kinds:
        errors.append(FieldError("kind", f"must be one of {', '.join(deal.profile.kinds)}"))
    if not deal.profile.query:
        errors.append(FieldError("account", f"{deal.profile.name} has no query route, so nothing can be adopted"))
    made = adoption.provider_task_id
    if not (0 < len(made) <= LONGEST_ID and made.isprintable()):
        errors.append(FieldError("provider_task_id", f"must be 1 to {LONGEST_ID} printable characters"))
    if errors:
        raise InvalidInput(errors)


def _adopted(services: Services, key: Key, adoption: Adoption) -> NewTask:
    return NewTask(
        id=ids.task_id(services.clock(), int(services.random() * ids.SPREAD)),
        owner=key.owner,
        account=adoption.account,
        kind=adoption.kind,
        input={},
        reference=adoption.reference,
        labels=adoption.labels,
        idempotency_key=None,
        request_hash=hashlib.sha256(adoption.provider_task_id.encode()).digest(),
        api_key=key.id,
    )
