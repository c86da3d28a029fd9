"""Circuits, budgets and lowered limits: what keeps an account from hammering its provider, as rows that all share."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from receiver.core.model import JobKind, State, TaskId
from receiver.dialects.answers import Busy, UnknownTask, Unsure
from receiver.flow import pace
from receiver.flow.pace import PATIENCE
from tests.flow.rig import ACCOUNT, Rig, Stage
from tests.flow.world import CUT, HTML, created, envelope

TOO_MANY = envelope(1303, "parallel task over resource pack limit", status=429)
BUSY = Busy("1302", "slow down", concurrency=False, retry_after=timedelta(seconds=40))
TOO_FAST = envelope(1302, "slow down", status=429)


async def released(rig: Rig) -> int:
    """Do the sweep's pass over the account and return how many held jobs it let go."""
    async with rig.services.database.transaction() as conn:
        return await pace.release_held(conn, rig.services.deals[ACCOUNT])


async def opened(rig: Rig) -> TaskId:
    """Return a task about which a dead provider was asked until the circuit opened."""
    task = await rig.submitted()
    rig.world.queries = [HTML]
    for _ in range(PATIENCE):
        await rig.work(JobKind.QUERY)
    assert [line["account"] for line in rig.logged("circuit.opened")] == [ACCOUNT]
    return task


async def opened_for_long(rig: Rig) -> TaskId:
    task = await opened(rig)
    await rig.stay_at_rest()
    return task


def test_an_open_circuit_sends_nothing_and_holds_creates(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await opened_for_long(rig)
        asked, made = len(rig.world.asked()), len(rig.world.made())
        waiting = await rig.accept()
        assert await rig.work(JobKind.SUBMIT) is None
        settled = await rig.work(JobKind.QUERY)
        assert settled is not None
        assert settled.delay is not None
        assert settled.delay > timedelta()
        assert await released(rig) == 0
        assert (len(rig.world.asked()), len(rig.world.made())) == (asked, made)
        assert (await rig.jobs_of(waiting))["submit"]["held"]
        assert (await rig.state(task))[0] is State.SUBMITTED

    stage.play(story)


def test_one_request_of_all_tries_a_circuit_and_its_answer_closes_it(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await opened_for_long(rig)
        first, second = await rig.accept(), await rig.accept()
        assert await rig.work(JobKind.SUBMIT) is None
        assert await rig.work(JobKind.SUBMIT) is None
        await rig.pass_rest()
        rig.world.creates = [created("p2"), created("p3")]
        rig.world.queries = [rig.world.report("processing", task)]
        assert await released(rig) == 1
        assert await rig.work(JobKind.SUBMIT) is not None
        assert [(await rig.state(each))[0] for each in (first, second)] == [State.SUBMITTED, State.ACCEPTED]
        assert rig.logged("circuit.closed")
        assert await released(rig) == 1
        await rig.work(JobKind.SUBMIT)
        assert (await rig.state(second))[0] is State.SUBMITTED

    stage.play(story)


def test_a_trial_that_fails_opens_the_circuit_for_longer(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        await opened(rig)
        spans = []
        for _ in range(3):
            spans.append((await rig.sql("SELECT open_until - now() AS span FROM pace"))[0]["span"])
            await rig.pass_rest()
            await rig.work(JobKind.QUERY)
        assert spans == sorted(spans)
        assert spans[2] > spans[0] * 2
        assert len(rig.world.asked()) == PATIENCE + 3

    stage.play(story)


def test_creates_without_an_answer_open_the_circuit_too(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.world.creates, rig.world.queries = [CUT], [CUT]
        for _ in range(PATIENCE):
            await rig.accept()
            await rig.work(JobKind.SUBMIT)
        assert rig.logged("circuit.opened")

    stage.play(story, concurrency=PATIENCE + 1)


def test_a_refusal_for_too_many_tasks_lowers_the_limit_for_a_while_and_keeps_the_order(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.world.creates = [created("p1"), created("p2"), TOO_MANY, created("p3"), created("p4")]
        tasks = [await rig.accept() for _ in range(4)]
        for _ in range(3):
            await rig.work(JobKind.SUBMIT)
        assert [line["limit"] for line in rig.logged("account.limit_lowered")] == [2]
        # The fourth would have had a slot of the account's own limit.
        refused = await rig.claim(JobKind.SUBMIT)
        assert refused is not None
        assert refused.subject == tasks[2]
        last = await rig.work(JobKind.SUBMIT)
        assert last is None
        assert (await rig.jobs_of(tasks[3]))["submit"]["held"]
        await rig.sql("UPDATE pace SET lowered_until = now()")
        await rig.handle(refused)
        assert await released(rig) == 1
        await rig.work(JobKind.SUBMIT)
        sent = [each.json["external_task_id"] for each in rig.world.made()]
        assert sent == [str(tasks[0]), str(tasks[1]), str(tasks[2]), str(tasks[2]), str(tasks[3])]

    stage.play(story, concurrency=4)


@pytest.mark.parametrize("wish", [None, "30"])
def test_a_provider_that_wants_fewer_requests_is_left_alone_by_all_tasks(stage: Stage, wish: str | None) -> None:
    async def story(rig: Rig) -> None:
        rig.world.creates = [replace(TOO_FAST, headers={} if wish is None else {"Retry-After": wish})]
        await rig.accept()
        await rig.work(JobKind.SUBMIT)
        left = (await rig.sql("SELECT open_until - now() AS span FROM pace"))[0]["span"]
        assert left > timedelta(seconds=0 if wish is None else 20)
        await rig.stay_at_rest()
        rig.world.creates = [created()]
        other = await rig.accept()
        await rig.work(JobKind.SUBMIT)
        assert len(rig.world.made()) == 1
        await rig.pass_rest()
        await released(rig)
        await rig.work(JobKind.SUBMIT)
        assert len(rig.world.made()) == 2
        assert (await rig.state(other))[0] in {State.ACCEPTED, State.SUBMITTED}

    stage.play(story)


def test_an_answer_to_another_request_ends_no_rest_that_the_provider_wanted(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        deal = rig.services.deals[ACCOUNT]
        await pace.unheard(rig.services, deal)
        await pace.heard(rig.services, deal, BUSY)
        await pace.heard(rig.services, deal, UnknownTask())
        async with rig.services.database.connection() as conn:
            assert await pace.wait(conn, deal) > timedelta(seconds=20)
            found = await pace.standing(conn, deal)
        assert (found.failures, found.is_open, found.open_reason) == (0, True, "too_fast")

    stage.play(story)


def test_the_last_reason_to_send_nothing_is_told(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        deal = rig.services.deals[ACCOUNT]
        await pace.heard(rig.services, deal, BUSY)
        await rig.pass_rest()
        await pace.heard(rig.services, deal, Unsure("http 503", timedelta(seconds=40)))
        async with rig.services.database.connection() as conn:
            found = await pace.standing(conn, deal)
        assert (found.is_open, found.open_reason) == (True, "unreachable")

    stage.play(story)


def test_the_budget_of_requests_per_minute_holds(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.with_profile(requests_per_minute=12)
        rig.world.creates = [created(f"p{number}") for number in range(1, 9)]
        for _ in range(6):
            await rig.accept()
            await rig.work(JobKind.SUBMIT)
        # One every five seconds, and the next one early.
        assert len(rig.world.made()) == 2
        held = await rig.sql("SELECT count(*) AS n FROM job WHERE held")
        assert held[0]["n"] == 4
        await rig.sql("UPDATE pace SET next_request_at = next_request_at - interval '5 s'")
        await released(rig)
        await rig.work(JobKind.SUBMIT)
        assert len(rig.world.made()) == 3

    stage.play(story, concurrency=8)
