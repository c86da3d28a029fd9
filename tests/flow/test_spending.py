"""A day's limits of an account and of a key: exact also at the same moment, and open again at midnight UTC."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from receiver.core.errors import IdempotencyMismatch, LimitTooSmall, SpendLimit
from receiver.core.model import JobKind, State, TaskId
from receiver.flow import act
from receiver.flow.accept import Accepted, Order, accept
from receiver.flow.act import Adoption
from receiver.store import keys
from receiver.store.keys import Key
from tests.flow.rig import ACCOUNT, KEY, OWNER, Rig, Stage
from tests.flow.world import created, envelope

RAIN = "rain on a tin roof"


async def order(rig: Rig, key: Key = KEY, *, prompt: str = RAIN, once: str | None = None) -> Accepted:
    wanted = Order(
        account=ACCOUNT,
        kind="text-to-audio",
        input={"prompt": prompt, "duration": 3.0},
        labels={},
        idempotency_key=once,
    )
    return await accept(rig.services, key, wanted)


async def limited(rig: Rig, tasks: int | None = None, units: str | None = None, name: str = "thrifty") -> Key:
    """Make a key with limits in the database."""
    key = Key(id=name, owner=OWNER, daily_tasks=tasks, daily_units=None if units is None else Decimal(units))
    async with rig.services.database.connection() as conn:
        await keys.add(conn, key, name.ljust(32, ".").encode())
    return key


async def ended(rig: Rig, task: TaskId, units: str) -> None:
    """Let the provider make the task, fail it, and charge for it."""
    rig.world.creates = [created(f"p{task}")]
    rig.world.queries = [rig.world.report("failed", task, task_id=f"p{task}", final_unit_deduction=units)]
    await rig.work(JobKind.SUBMIT)
    await rig.work(JobKind.QUERY)
    assert (await rig.task(task)).units == units


def test_of_20_orders_at_once_exactly_the_accounts_limit_is_accepted(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        told = await asyncio.gather(*(order(rig) for _ in range(20)), return_exceptions=True)
        assert sum(isinstance(each, Accepted) for each in told) == 7
        assert sum(isinstance(each, SpendLimit) for each in told) == 13
        assert len(await rig.sql("SELECT id FROM task")) == 7

    stage.play(story, daily_tasks=7)


def test_of_20_orders_at_once_exactly_the_keys_limit_is_accepted(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        key = await limited(rig, tasks=7)
        told = await asyncio.gather(*(order(rig, key) for _ in range(20)), return_exceptions=True)
        assert sum(isinstance(each, Accepted) for each in told) == 7
        assert sum(isinstance(each, SpendLimit) for each in told) == 13
        await order(rig)  # another key goes on

    stage.play(story)


def test_limits_of_account_and_key_hold_together_without_deadlock(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        key, other = await limited(rig, tasks=4), await limited(rig, tasks=20, name="other")
        orders = [order(rig, each) for _ in range(10) for each in (key, other)]
        told = await asyncio.gather(*orders, return_exceptions=True)
        assert sum(isinstance(each, Accepted) for each in told) == 9
        assert {type(each) for each in told} == {Accepted, SpendLimit}
        (mine,) = await rig.sql("SELECT count(*) AS n FROM task WHERE api_key = %(k)s", k=key.id)
        assert mine["n"] <= 4

    stage.play(story, daily_tasks=9)


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        ({"daily_tasks": 0}, "takes 0 tasks a day (UTC, `daily_tasks`), never 1; raise it"),
        ({"daily_units": "0"}, "takes 0 units a day (UTC, `daily_units`), so nothing at all; raise it"),
    ],
)
def test_a_limit_of_none_at_all_accepts_nothing(stage: Stage, limit: dict[str, Any], told: str) -> None:
    async def story(rig: Rig) -> None:
        with pytest.raises(LimitTooSmall) as refused:
            await order(rig)
        assert str(refused.value) == f"account studio {told}"
        assert await rig.sql("SELECT id FROM task") == []

    stage.play(story, **limit)


def test_a_limit_opens_again_at_midnight_utc(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        now = datetime(2027, 3, 1, 23, 59, 30, tzinfo=UTC)
        rig.services = replace(rig.services, clock=lambda: now)
        await order(rig)
        with pytest.raises(SpendLimit) as refused:
            await order(rig)
        assert refused.value.opens_in == timedelta(seconds=30)
        rig.services = replace(rig.services, clock=lambda: now + timedelta(seconds=30))
        await order(rig)
        with pytest.raises(SpendLimit) as refused:
            await order(rig)
        assert refused.value.opens_in == timedelta(days=1)

    stage.play(story, daily_tasks=1)


def test_a_repeat_is_answered_also_when_the_day_is_spent(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        first = await order(rig, once="scene-12")
        assert await order(rig, once="scene-12") == Accepted(first.id, made=None)
        with pytest.raises(IdempotencyMismatch):
            await order(rig, once="scene-12", prompt="hail")
        with pytest.raises(SpendLimit):
            await order(rig, once="scene-13")

    stage.play(story, daily_tasks=1)


def test_the_same_order_many_times_at_once_is_one_task_and_counts_once(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        told = await asyncio.gather(*(order(rig, once="scene-12") for _ in range(10)))
        assert len({each.id for each in told}) == 1
        assert sum(each.made is not None for each in told) == 1
        await order(rig)
        with pytest.raises(SpendLimit):
            await order(rig)

    stage.play(story, daily_tasks=2)


def test_units_count_when_their_task_has_ended(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        first, second = (await order(rig)).id, (await order(rig)).id
        await ended(rig, first, "1.5")
        third = await order(rig)
        await ended(rig, second, "0.5")
        with pytest.raises(SpendLimit, match=r"account studio: 2\.0 units of 2 today"):
            await order(rig)
        assert (await rig.state(third.id))[0] is State.ACCEPTED

    stage.play(story, daily_units="2")


def test_units_of_a_key_are_those_of_its_own_tasks(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        key = await limited(rig, units="1")
        await ended(rig, (await order(rig)).id, "5")
        await ended(rig, (await order(rig, key)).id, "1")
        with pytest.raises(SpendLimit, match="key thrifty: 1 units of 1 today"):
            await order(rig, key)
        await order(rig)

    stage.play(story)


def test_units_of_yesterday_do_not_count(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = (await order(rig)).id
        await ended(rig, task, "3")
        with pytest.raises(SpendLimit):
            await order(rig)
        await rig.pass_time(task, "1 day", "ended_at")
        await order(rig)

    stage.play(story, daily_units="3")


def test_a_cancelled_and_a_rejected_task_count_as_accepted_and_cost_no_units(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        await act.cancel(rig.services, OWNER, (await order(rig)).id)
        rig.world.creates = [envelope(1201, "no", status=400)]
        await order(rig)
        await rig.work(JobKind.SUBMIT)
        with pytest.raises(SpendLimit, match="2 tasks of 2"):
            await order(rig)

    stage.play(story, daily_tasks=2, daily_units="1")


def test_a_retry_is_not_a_new_task_and_an_adoption_is_one(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.world.creates = [envelope(1201, "no", status=400)]
        task = (await order(rig)).id
        await rig.work(JobKind.SUBMIT)
        await act.retry(rig.services, OWNER, task)
        adoption = Adoption(account=ACCOUNT, kind="text-to-audio", provider_task_id="p9", labels={})
        await act.adopt(rig.services, KEY, adoption)
        with pytest.raises(SpendLimit):
            await act.adopt(rig.services, KEY, replace(adoption, provider_task_id="p10"))
        with pytest.raises(SpendLimit):
            await order(rig)

    stage.play(story, daily_tasks=2)
