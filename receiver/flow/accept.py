"""Take a job over: checked, durable, and the same for the same idempotency key."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from receiver import telemetry
from receiver.core import deadlines, ids
from receiver.core.errors import (
    FieldError,
    IdempotencyMismatch,
    InvalidInput,
    LimitTooSmall,
    SpendLimit,
    StoreUnavailable,
)
from receiver.core.model import AccountId, TaskId
from receiver.dialects import spec
from receiver.dialects.inputs import Value
from receiver.flow import spending
from receiver.flow.services import Deal, Services
from receiver.store import tasks
from receiver.store.keys import Key
from receiver.store.tasks import Locked, NewTask

log = structlog.get_logger(__name__)

#: A clash of ids needs two draws of the same number within a millisecond.
_DRAWS: Final = 5
#: Orders that are checked in one go.
_BREATH: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a submitter asks for, as it came."""

    #: None: the one that offers the kind, or the default among several.
    account: AccountId | None
    kind: str
    input: Mapping[str, object]
    reference: str | None = None
    labels: Mapping[str, str]
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The task that stands for an order; `made` is None when an earlier request made it."""

    id: TaskId
    made: Locked | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checked:
    """An order that its provider would take."""

    order: Order
    deal: Deal
    input: Mapping[str, Value]
    digest: bytes


class _Clash(Exception):
    """An id or an idempotency key is taken."""


async def accept(services: Services, key: Key, order: Order) -> Accepted:
    """
    Check *order* against its provider's profile and make it durable.

    Raises:
        InvalidInput: Each wrong field is named.
        LimitTooSmall: The account or the key takes nothing at all.
        SpendLimit: The account or the key has cost enough today.
        IdempotencyMismatch: The key stands for another request.
        StoreUnavailable: Nothing was accepted.
    """
    (accepted,) = await _accept(services, key, [_check(services, order)])
    if accepted.made is not None:
        log.info("task.accepted", task_id=accepted.id, account=accepted.made.task.account, kind=order.kind)
    return accepted


async def accept_all(services: Services, key: Key, orders: Sequence[Order]) -> list[Accepted]:
    """
    Check *orders* and make them durable in one transaction; the answers are in their order.

    Raises:
        InvalidInput: Each wrong field is named, as `tasks.<n>.<field>`, counted from 0; nothing was accepted.
        LimitTooSmall: All that is new among them is more than an account or the key takes in a whole day.
        SpendLimit: All that is new among them would pass the day's limit of an account or of the key.
        IdempotencyMismatch: A key stands for another request; nothing was accepted.
        StoreUnavailable: Nothing was accepted.
    """
    checked, errors = [], _repeated_keys(orders)
    for n, order in enumerate(orders):
        try:
            checked.append(_check(services, order))
        except InvalidInput as exc:
            errors += [FieldError(f"tasks.{n}.{each.field}", each.message) for each in exc.errors]
        if n % _BREATH == 0:
            # Callbacks are answered meanwhile.
            await asyncio.sleep(0)
    if errors:
        raise InvalidInput(errors)
    accepted = await _accept(services, key, checked)
    log.info("tasks.accepted", tasks=len(accepted), new=sum(each.made is not None for each in accepted))
    return accepted


def _check(services: Services, order: Order) -> _Checked:
    deal = services.deal_for(order.account, order.kind)
    checked = spec.check_input(deal.profile, order.kind, order.input)
    return _Checked(order=order, deal=deal, input=checked, digest=_digest(order, checked))


def _repeated_keys(orders: Sequence[Order]) -> list[FieldError]:
    first: dict[str, int] = {}
    errors = []
    for n, order in enumerate(orders):
        if order.idempotency_key is not None and first.setdefault(order.idempotency_key, n) != n:
            message = f"stands at tasks.{first[order.idempotency_key]} already; each task needs a key of its own"
            errors.append(FieldError(f"tasks.{n}.idempotency_key", message))
    return errors


async def _accept(services: Services, key: Key, checked: Sequence[_Checked]) -> list[Accepted]:
    """Insert what is new in the hope that all is; only where something is not, ask what was there before."""
    known: dict[str | None, Accepted] = {}
    for _ in range(_DRAWS):
        new = [each for each in checked if each.order.idempotency_key not in known]
        try:
            made = iter(await _insert(services, key, new) if new else ())
        except (_Clash, LimitTooSmall, SpendLimit) as exc:
            earlier = await _earlier(services, key.owner, new)
            # A repeat costs nothing: it is answered also when nothing new may be accepted.
            if not isinstance(exc, _Clash) and not earlier:
                raise
            known |= earlier
        else:
            return [known.get(each.order.idempotency_key) or next(made) for each in checked]
    raise StoreUnavailable("no free task id")


async def _insert(services: Services, key: Key, checked: Sequence[_Checked]) -> list[Accepted]:
    """
    Make tasks of *checked*, all or none, and return them in that order.

    Raises:
        _Clash: An id or an idempotency key is taken.
        LimitTooSmall: They would pass a limit of any day.
        SpendLimit: They would pass a limit.
    """
    now, payers = services.clock(), [each.deal.account for each in checked]
    new = [_new(each, key, task) for each, task in zip(checked, _draw(services, now, len(checked)), strict=True)]
    if len(new) == 1 and spending.is_free(key, payers):
        async with services.database.connection() as conn:
            made = await tasks.add(conn, new, submit_within=deadlines.SUBMIT_WITHIN)
    else:
        async with services.database.transaction() as conn:
            await spending.guard(conn, key, payers, now)
            made = await tasks.add(conn, new, submit_within=deadlines.SUBMIT_WITHIN)
            if len(made) < len(new):
                raise _Clash
    if not made:
        raise _Clash
    for each in made:
        telemetry.TASKS_ACCEPTED.labels(account=each.task.account, kind=each.task.kind).inc()
    return [Accepted(each.task.id, each) for each in made]


def _draw(services: Services, now: datetime, count: int) -> list[TaskId]:
    """Draw ids for tasks that come at once; they rise in the order of the tasks."""
    draws: set[int] = set()
    while len(draws) < count:
        draws.add(int(services.random() * ids.SPREAD))
    return [ids.task_id(now, draw) for draw in sorted(draws)]


def _new(checked: _Checked, key: Key, task: TaskId) -> NewTask:
    order = checked.order
    return NewTask(
        id=task,
        owner=key.owner,
        account=checked.deal.account.id,
        kind=order.kind,
        input=checked.input,
        reference=order.reference,
        labels=order.labels,
        idempotency_key=order.idempotency_key,
        request_hash=checked.digest,
        api_key=key.id,
    )


async def _earlier(services: Services, owner: str, checked: Sequence[_Checked]) -> dict[str | None, Accepted]:
    """Return the tasks that the keys of *checked* made before, by key."""
    digests = {each.order.idempotency_key: each.digest for each in checked}
    asked = [each for each in digests if each is not None]
    if not asked:
        return {}
    async with services.database.connection() as conn:
        found = await tasks.earlier(conn, owner, asked)
    for key, task in found.items():
        if task.request_hash != digests[key]:
            which = "this key" if len(checked) == 1 else f"the key {key!r}"
            raise IdempotencyMismatch(f"{which} was used for task {task.id} with another request; take a new key")
    return {key: Accepted(task.id, None) for key, task in found.items()}


def _digest(order: Order, checked: Mapping[str, object]) -> bytes:
    """Hash what the order means, so that spacing and the order of keys do not matter."""
    meaning = [order.account, order.kind, dict(checked), order.reference, dict(order.labels)]
    return hashlib.sha256(json.dumps(meaning, sort_keys=True, ensure_ascii=True).encode()).digest()
