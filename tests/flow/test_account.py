"""Accounts that a person pauses and resumes, and what is told of them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from prometheus_client import REGISTRY

from receiver.core.errors import NotFound
from receiver.core.model import AccountId, JobKind, State, TaskId
from receiver.flow import account, reconcile, sweep
from tests.flow.rig import ACCOUNT, Rig, Stage
from tests.flow.world import Reply, Seen, created, envelope, sound, unknown

PROBE_IS_DUE = "UPDATE account SET paused_at = now() - interval '1 hour', probed_at = NULL"


def paused() -> float:
    """Return how often this process has counted a pause by hand."""
    labels = {"account": ACCOUNT, "reason": "paused_by_operator"}
    return REGISTRY.get_sample_value("receiver_accounts_paused_total", labels) or 0


async def held(rig: Rig, number: int) -> list[TaskId]:
    """Accept tasks and let their submit jobs find the account closed."""
    found = []
    for _ in range(number):
        found.append(await rig.accept())
        await rig.work(JobKind.SUBMIT)
        assert (await rig.jobs_of(found[-1]))["submit"]["held"]
    return found


def test_a_pause_by_hand_holds_submits_and_a_resume_releases_them_in_their_order(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        told = await account.pause(rig.services, ACCOUNT)
        assert (told.pause.by_hand, told.waiting) == (True, 0)
        tasks = await held(rig, 4)
        assert rig.world.seen == []
        assert (await account.all_of(rig.services))[0].waiting == 4

        rig.world.creates = [created(f"p{n}") for n in range(4)]
        told = await account.resume(rig.services, ACCOUNT)
        assert (told.pause.paused_at, told.waiting) == (None, 2)
        for _ in range(2):
            await rig.work(JobKind.SUBMIT)
        assert [each.json["external_task_id"] for each in rig.world.made()] == [str(task) for task in tasks[:2]]
        assert [(await rig.state(task))[0] for task in tasks] == [State.SUBMITTED] * 2 + [State.ACCEPTED] * 2
        assert (await account.all_of(rig.services))[0].in_flight == 2

    stage.play(story, concurrency=2)


def test_queries_and_archiving_go_on_while_an_account_is_paused_by_hand(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        await account.pause(rig.services, ACCOUNT)
        rig.world.offers(c1_mp3=sound("mp3"), c1_wav=sound("wav"))
        rig.world.queries = [rig.world.report("succeed", task, clips=("c1",))]
        await rig.work(JobKind.QUERY)
        await rig.work(JobKind.ARCHIVE)
        assert (await rig.state(task))[0] is State.ARCHIVED

    stage.play(story)


def test_no_probe_asks_after_an_account_that_was_paused_by_hand(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        await account.pause(rig.services, ACCOUNT)
        await held(rig, 1)
        await rig.sql(PROBE_IS_DUE)
        await sweep.seldom(rig.services)
        assert rig.world.seen == []
        standing = (await account.all_of(rig.services))[0]
        assert (standing.pause.by_hand, standing.waiting) == (True, 1)

    stage.play(story)


def test_a_pause_by_hand_replaces_one_that_a_probe_would_end(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.world.creates = [envelope(1000, "who", status=401)]
        await held(rig, 1)
        assert (await account.all_of(rig.services))[0].pause.paused_reason == "authentication"
        told = await account.pause(rig.services, ACCOUNT)
        assert (told.pause.by_hand, told.pause.paused_detail) == (True, None)
        await rig.sql(PROBE_IS_DUE)
        await reconcile.probe_paused(rig.services)
        assert len(rig.world.seen) == 1
        assert (await account.all_of(rig.services))[0].pause.by_hand

    stage.play(story)


def test_a_pause_by_hand_during_a_probe_outlasts_it(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.world.creates = [envelope(1000, "who", status=401)]
        await held(rig, 1)

        async def pause(_: Seen) -> None:
            await account.pause(rig.services, ACCOUNT)

        probe = unknown()
        probe.first = pause
        rig.world.queries = [probe]
        await rig.sql(PROBE_IS_DUE)
        await reconcile.probe_paused(rig.services)
        assert len(rig.world.asked()) == 1
        assert (await account.all_of(rig.services))[0].pause.by_hand

    stage.play(story)


def test_a_refusal_of_the_account_does_not_take_over_a_pause_by_hand(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        await account.pause(rig.services, ACCOUNT)
        rig.world.queries = [Reply(401, {"message": "who"})]
        await rig.work(JobKind.QUERY)
        assert (await account.all_of(rig.services))[0].pause.by_hand
        assert (await rig.state(task))[0] is State.SUBMITTED

    stage.play(story)


def test_pausing_and_resuming_twice_is_the_same_as_once(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        before = paused()
        first = await account.pause(rig.services, ACCOUNT)
        again = await account.pause(rig.services, ACCOUNT)
        assert first.pause == again.pause
        assert paused() - before == 1
        assert len(rig.logged("account.paused")) == 1
        for _ in range(2):
            assert (await account.resume(rig.services, ACCOUNT)).pause.paused_at is None
        assert len(rig.logged("account.resumed")) == 1

    stage.play(story)


@pytest.mark.parametrize("name", ["nobody", "", "STUDIO", "studio\0"])
def test_an_account_that_is_not_configured_is_not_found(stage: Stage, name: str) -> None:
    async def story(rig: Rig) -> None:
        for carry_out in (account.pause, account.resume):
            with pytest.raises(NotFound):
                await carry_out(rig.services, AccountId(name))

    stage.play(story)


def test_a_standing_tells_what_today_has_cost(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        rig.world.queries = [rig.world.report("failed", task, final_unit_deduction="1.25")]
        await rig.work(JobKind.QUERY)
        await rig.accept()
        (standing,) = await account.all_of(rig.services)
        assert (standing.spent.tasks, standing.spent.units) == (2, Decimal("1.25"))
        assert (standing.in_flight, standing.waiting) == (0, 0)

    stage.play(story, daily_tasks=3)
