"""An account without balance: one held task a minute tries it, and a create that is accepted ends the pause."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

import pytest

from receiver.core.model import JobKind, State, TaskId
from receiver.flow import account, act, pace, sweep
from tests.flow.rig import ACCOUNT, OWNER, Rig, Stage
from tests.flow.world import Reply, Seen, created, envelope, unknown

EMPTY = envelope(1102, "no money", status=429)
A_MINUTE_PASSES = """
UPDATE account SET paused_at = paused_at - interval '61 s', probed_at = probed_at - interval '61 s'
"""


async def emptied(rig: Rig, number: int) -> list[TaskId]:
    """Return held tasks of an account without balance; the first of them was refused."""
    rig.world.creates = [EMPTY]
    tasks = []
    for _ in range(number):
        tasks.append(await rig.accept())
        await rig.work(JobKind.SUBMIT)
    assert await held(rig) == number
    assert len(rig.world.made()) == 1
    return tasks


async def held(rig: Rig) -> int:
    return (await account.one(rig.services, ACCOUNT)).waiting


async def paused(rig: Rig) -> str | None:
    return (await account.one(rig.services, ACCOUNT)).pause.paused_reason


async def released(rig: Rig) -> int:
    """Do the sweep's pass over the account and return how many held jobs it let go."""
    async with rig.services.database.transaction() as conn:
        return await pace.release_held(conn, rig.services.deals[ACCOUNT])


async def minute(rig: Rig) -> None:
    """Let a minute pass, and the sweeps of it."""
    await rig.sql(A_MINUTE_PASSES)
    for _ in range(3):
        await sweep.seldom(rig.services)


def sent(rig: Rig) -> list[TaskId]:
    return [TaskId(int(each.json["external_task_id"])) for each in rig.world.made()]


async def lapse(rig: Rig) -> None:
    """Let the lease of a killed worker run out."""
    await rig.sql("UPDATE job SET lease_until = now() - interval '1 s' WHERE state = 'leased'")


async def states(rig: Rig, tasks: Iterable[TaskId]) -> list[State]:
    return [(await rig.state(task))[0] for task in tasks]


def test_each_minute_one_task_the_same_tries_and_nothing_else_is_told(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        tasks = await emptied(rig, 4)
        since = (await account.one(rig.services, ACCOUNT)).pause.paused_at
        assert since is not None
        for n in range(1, 4):
            await minute(rig)
            assert await held(rig) == 3
            assert await rig.work(JobKind.SUBMIT) is None
            assert await rig.claim(JobKind.SUBMIT) is None
            assert sent(rig) == [tasks[0]] * (n + 1)
            assert await held(rig) == 4
        assert rig.world.asked() == []
        standing = (await account.one(rig.services, ACCOUNT)).pause
        assert (standing.paused_reason, standing.paused_at) == ("account_refused", since - timedelta(seconds=3 * 61))
        assert len(rig.logged("account.paused")) == 1
        assert rig.logged("account.resumed") == []
        assert await states(rig, tasks) == [State.SUBMITTING, *[State.ACCEPTED] * 3]
        assert (await rig.task(tasks[0])).attention is None

    stage.play(story)


def test_within_the_minute_nothing_tries(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        await emptied(rig, 2)
        assert await released(rig) == 0
        await rig.sql(A_MINUTE_PASSES)
        assert await released(rig) == 1
        assert await released(rig) == 0
        await rig.work(JobKind.SUBMIT)
        assert await released(rig) == 0

    stage.play(story)


def test_an_accepted_create_ends_the_pause_and_lets_the_others_go_in_their_order(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        tasks = await emptied(rig, 4)
        rig.world.creates = [created(f"p{n}") for n in range(4)]
        await minute(rig)
        await rig.work(JobKind.SUBMIT)
        assert (await paused(rig), len(rig.logged("account.resumed"))) == (None, 1)
        await rig.work(JobKind.SUBMIT)
        assert await rig.claim(JobKind.SUBMIT) is None
        assert sent(rig) == [tasks[0], *tasks[:2]]
        assert await states(rig, tasks) == [State.SUBMITTED] * 2 + [State.ACCEPTED] * 2
        assert await rig.sql("SELECT probe_task FROM account") == [{"probe_task": None}]

    stage.play(story, concurrency=2)


def test_of_many_sweeps_at_once_one_lets_one_task_go(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        await emptied(rig, 5)
        await rig.sql(A_MINUTE_PASSES)
        assert sum(await asyncio.gather(*(released(rig) for _ in range(8)))) == 1
        assert await held(rig) == 4

    stage.play(story)


def test_a_task_that_is_not_the_one_that_tries_is_held_again(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        tasks = await emptied(rig, 2)
        await rig.sql("UPDATE job SET held = false, state = 'ready' WHERE subject = %(t)s", t=tasks[1])
        await rig.work(JobKind.SUBMIT)
        assert (await held(rig), sent(rig)) == (2, [tasks[0]])

    stage.play(story)


def test_a_worker_that_is_killed_before_the_create_loses_nothing(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        tasks = await emptied(rig, 2)
        rig.world.creates = [created()]
        await minute(rig)
        assert await rig.claim(JobKind.SUBMIT) is not None
        await lapse(rig)
        await rig.work(JobKind.SUBMIT)
        assert (sent(rig), await paused(rig)) == ([tasks[0]] * 2, None)

    stage.play(story)


@pytest.mark.parametrize("made", [False, True])
def test_a_worker_that_is_killed_during_the_create_loses_nothing(stage: Stage, *, made: bool) -> None:
    """The create has arrived or not; the next one, after a question, ends the pause."""

    async def story(rig: Rig) -> None:
        tasks = await emptied(rig, 2)
        arrived = asyncio.Event()

        async def arrive(_: Seen) -> None:
            arrived.set()
            await asyncio.Event().wait()

        rig.world.creates = [replace(created(), first=arrive), created("p2")]
        await minute(rig)
        job = await rig.claim(JobKind.SUBMIT)
        assert job is not None
        killed = asyncio.create_task(rig.handle(job))
        await arrived.wait()
        killed.cancel()
        await asyncio.wait({killed})
        await lapse(rig)

        rig.world.queries = [rig.world.report("processing", tasks[0]) if made else unknown()]
        await rig.pass_time(tasks[0], "21 s", "last_sent_at")
        await rig.work(JobKind.SUBMIT)
        assert (await states(rig, tasks[:1])) == [State.PROCESSING if made else State.SUBMITTED]
        if made:
            assert await paused(rig) == "account_refused"
            await minute(rig)
            await rig.work(JobKind.SUBMIT)
        assert sent(rig) == [*[tasks[0]] * 2, tasks[1] if made else tasks[0]]
        assert await paused(rig) is None

    stage.play(story)


def test_after_a_cancelled_one_the_next_tries(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        tasks = await emptied(rig, 3)
        await rig.overdue(tasks[0])
        await rig.work(JobKind.SUBMIT)
        assert await rig.state(tasks[0]) == (State.EXPIRED, "never_submitted")
        rig.world.creates = [created()]
        await minute(rig)
        await act.cancel(rig.services, OWNER, tasks[1])
        assert await rig.claim(JobKind.SUBMIT) is None
        await minute(rig)
        await rig.work(JobKind.SUBMIT)
        assert (sent(rig)[-1], await paused(rig)) == (tasks[2], None)

    stage.play(story)


def test_a_task_that_comes_long_after_the_others_are_gone_tries_at_once(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        (first,) = await emptied(rig, 1)
        await rig.overdue(first)
        await rig.work(JobKind.SUBMIT)
        await minute(rig)
        rig.world.creates = [created()]
        task = await rig.accept()
        assert await rig.work(JobKind.SUBMIT) is None
        assert await held(rig) == 1
        await sweep.seldom(rig.services)
        await rig.work(JobKind.SUBMIT)
        assert (await states(rig, [task]), await paused(rig)) == ([State.SUBMITTED], None)

    stage.play(story)


def test_one_that_has_its_slot_tries_before_one_that_finds_none(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        running = await rig.submitted()
        rig.world.seen.clear()
        tasks = await emptied(rig, 2)
        await rig.sql("UPDATE job SET deliver_by = now() WHERE subject = %(t)s", t=tasks[1])
        await minute(rig)
        await rig.work(JobKind.SUBMIT)
        assert sent(rig) == [tasks[0]] * 2
        assert (await rig.state(running))[0] is State.SUBMITTED

    stage.play(story, concurrency=2)


def test_nothing_tries_while_others_have_all_slots(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        running = await rig.submitted()
        await rig.sql("UPDATE account SET paused_reason = 'account_refused', paused_at = now()")
        await rig.accept()
        assert await rig.work(JobKind.SUBMIT) is None
        await minute(rig)
        assert await held(rig) == 1
        assert await rig.told(running, rig.world.record("failed", running)) == "moved"
        assert await held(rig) == 0, "the minute was not spent in vain"
        await rig.work(JobKind.SUBMIT)
        assert await paused(rig) is None

    stage.play(story, concurrency=1)


@pytest.mark.parametrize("sent_before", [False, True])
def test_one_that_must_be_asked_after_first_keeps_no_other_from_trying(stage: Stage, *, sent_before: bool) -> None:
    async def story(rig: Rig) -> None:
        tasks = await emptied(rig, 2)
        await rig.sql("UPDATE task SET unsure = true WHERE id = %(t)s", t=tasks[0])
        if sent_before:
            as_sent = "state = 'submitting', sends = 1, first_sent_at = now(), last_sent_at = now(), settle_by = due_at"
            await rig.sql(f"UPDATE task SET {as_sent} WHERE id = %(t)s", t=tasks[1])  # noqa: S608 - our own
        rig.world.creates = [created()]
        await minute(rig)
        job = await rig.claim(JobKind.SUBMIT)
        assert job is not None
        assert job.subject == tasks[1]
        await rig.handle(job)
        assert await paused(rig) is None

    stage.play(story)


def test_nothing_tries_while_the_circuit_is_open(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        await emptied(rig, 1)
        await rig.sql(
            "INSERT INTO pace (account, open_until, open_reason) VALUES (%(a)s, now() + interval '1 hour', 'too_fast')",
            a=ACCOUNT,
        )
        await minute(rig)
        assert await held(rig) == 1
        await rig.pass_rest()
        await sweep.seldom(rig.services)
        assert await held(rig) == 0

    stage.play(story)


def test_a_create_that_is_busy_or_unread_neither_ends_the_pause_nor_keeps_the_task(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        (task,) = await emptied(rig, 1)
        rig.world.creates = [envelope(1302, "slow down", status=429), Reply(502, b"<html>"), created()]
        rig.world.queries = [unknown()]
        await minute(rig)
        for error in ("provider_busy", "provider_unreachable"):
            settled = await rig.work(JobKind.SUBMIT)
            assert settled is not None
            assert (settled.error, await paused(rig)) == (error, "account_refused")
            await rig.pass_rest()
        await rig.pass_time(task, "21 s", "last_sent_at")
        await rig.work(JobKind.SUBMIT)
        assert (await states(rig, [task]), await paused(rig)) == ([State.SUBMITTED], None)

    stage.play(story)


def test_a_pause_by_hand_stops_the_one_that_was_to_try(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        tasks = await emptied(rig, 2)
        await minute(rig)
        await account.pause(rig.services, ACCOUNT)
        assert await rig.work(JobKind.SUBMIT) is None
        await minute(rig)
        assert (await held(rig), sent(rig)) == (2, [tasks[0]])

    stage.play(story)


def test_a_pause_by_hand_during_the_create_that_tries_outlasts_it(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        (task,) = await emptied(rig, 1)

        async def pause(_: Seen) -> None:
            await account.pause(rig.services, ACCOUNT)

        rig.world.creates = [replace(created(), first=pause)]
        await minute(rig)
        await rig.work(JobKind.SUBMIT)
        assert (await states(rig, [task]), await paused(rig)) == ([State.SUBMITTED], "paused_by_operator")

    stage.play(story)


def test_where_nothing_can_be_asked_a_task_also_tries_a_key_that_was_refused(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.with_profile(query=False)
        rig.world.creates = [Reply(401, {"message": "who"}), created()]
        task = await rig.accept()
        await rig.work(JobKind.SUBMIT)
        assert await paused(rig) == "authentication"
        await minute(rig)
        await rig.work(JobKind.SUBMIT)
        assert (await states(rig, [task]), await paused(rig)) == ([State.SUBMITTED], None)

    stage.play(story)
