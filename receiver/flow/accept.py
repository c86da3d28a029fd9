"""Take a job over: checked, durable, and the same for the same idempotency key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from receiver.core import deadlines, ids
from receiver.core.errors import IdempotencyMismatch, SpendLimit, StoreUnavailable
from receiver.core.model import AccountId, JobKind, TaskId
from receiver.dialects import spec
from receiver.flow import spending
from receiver.flow.services import Deal, Services
from receiver.store import events, jobs, tasks
from receiver.store.events import Event
from receiver.store.jobs import Wanted
from receiver.store.keys import Key
from receiver.store.tasks import NewTask

log = structlog.get_logger(__name__)

#: A clash of ids needs two draws of the same number within a millisecond.
_DRAWS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a submitter asks for, as it came."""

    account: AccountId
    kind: str
    input: Mapping[str, object]
    reference: str | None = None
    labels: Mapping[str, str]
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The task that stands for an order; *repeated* when an earlier request made it."""

    id: TaskId
    repeated: bool


async def accept(services: Services, key: Key, order: Order) -> Accepted:
    """
    Check *order* against its provider's profile and make it durable.

    Raises:
        InvalidInput: Each wrong field is named.
        SpendLimit: The account or the key has cost enough today.
        IdempotencyMismatch: The key stands for another request.
        StoreUnavailable: Nothing was accepted.
    """
    deal = services.deal(order.account)
    checked = spec.check_input(deal.profile, order.kind, order.input)
    digest = _digest(order, checked)
    for _ in range(_DRAWS):
        draw = int(services.random() * ids.SPREAD)
        new = NewTask(
            id=ids.task_id(services.clock(), draw),
            owner=key.owner,
            account=order.account,
            kind=order.kind,
            input=checked,
            reference=order.reference,
            labels=order.labels,
            idempotency_key=order.idempotency_key,
            request_hash=digest,
            api_key=key.id,
        )
        try:
            if await _insert(services, deal, key, new):
                log.info("task.accepted", task_id=new.id, account=new.account, kind=new.kind)
                return Accepted(new.id, repeated=False)
        except SpendLimit:
            # A repeat costs nothing: it is answered also when nothing new may be accepted.
            if (known := await _earlier(services, new)) is None:
                raise
            return known
        if (known := await _earlier(services, new)) is not None:
            return known
    raise StoreUnavailable("no free task id")


async def _insert(services: Services, deal: Deal, key: Key, new: NewTask) -> bool:
    async with services.database.transaction() as conn:
        await spending.guard(conn, deal.account, key, services.clock())
        submit_by = (await tasks.add(conn, [new], submit_within=deadlines.SUBMIT_WITHIN)).get(new.id)
        if submit_by is None:
            return False
        story = {"account": new.account, "kind": new.kind, "reference": new.reference}
        await events.add(conn, [Event(new.id, "task.accepted", story)])
        wish = Wanted(kind=JobKind.SUBMIT, subject=new.id, account=new.account, deliver_by=submit_by)
        await jobs.want(conn, [wish])
        return True


async def _earlier(services: Services, new: NewTask) -> Accepted | None:
    if new.idempotency_key is None:
        return None
    async with services.database.connection() as conn:
        found = await tasks.earlier(conn, new.owner, new.idempotency_key)
    if found is None:
        return None
    if found.request_hash != new.request_hash:
        raise IdempotencyMismatch(f"this key was used for task {found.id} with another request; take a new key")
    return Accepted(found.id, repeated=True)


def _digest(order: Order, checked: Mapping[str, object]) -> bytes:
    """Hash what the order means, so that spacing and the order of keys do not matter."""
    meaning = [order.account, order.kind, dict(checked), order.reference, dict(order.labels)]
    return hashlib.sha256(json.dumps(meaning, sort_keys=True, ensure_ascii=True).encode()).digest()
