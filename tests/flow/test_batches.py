"""Callbacks that are advanced together: the same as one by one, and none of them harms another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import psycopg
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from receiver.core.model import JobKind, State, TaskId
from receiver.flow import advance
from receiver.flow.outcome import Outcome
from receiver.flow.services import Services
from receiver.jobs.settling import Settler
from receiver.jobs.worker import HANDLERS
from receiver.store import jobs
from receiver.store.jobs import Job, Settled
from tests.flow.rig import Rig, Row, Stage

#: What is told of one of two tasks: how, signed or not.
Tale = tuple[int, str, str]
TALES: Final = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from(["submitted", "processing", "failed", "empty", "c1", "c2", "both", "other", "crossed", "odd"]),
        st.sampled_from(["good", "good", "no"]),
    ),
    min_size=2,
    max_size=9,
)
CLIPS: Final = {"empty": (), "c1": ("c1",), "c2": ("c2",), "both": ("c1", "c2"), "other": ("#0",)}
AT_PROVIDER: Final = """
UPDATE task SET state = 'submitted', provider_task_id = %(p)s, first_sent_at = now(), last_sent_at = now(), sends = 1,
                settle_by = now() + interval '1 hour', due_at = now() + interval '1 hour' WHERE id = %(t)s
"""
BREAK: Final = """
CREATE FUNCTION break() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'no such value' USING ERRCODE = 'numeric_value_out_of_range'; END $$;
CREATE TRIGGER break BEFORE UPDATE ON task FOR EACH ROW WHEN (OLD.reference = 'bad') EXECUTE FUNCTION break()
"""


async def sent(rig: Rig, *, told_id: bool = True) -> TaskId:
    """Return a task that the provider has; by which id we know only where *told_id*."""
    task = await rig.accept()
    await rig.sql(AT_PROVIDER, t=task, p=f"p{task}" if told_id else None)
    await rig.sql(
        "UPDATE job SET kind = 'query', state = 'waiting', run_at = now() + '1 hour' WHERE subject = %(t)s", t=task
    )
    return task


async def post(rig: Rig, tasks: Sequence[TaskId], tale: Tale, number: int) -> None:
    place, what, sign = tale
    task = tasks[place]
    clips = CLIPS.get(what)
    status = what if clips is None else "succeed"
    status = {"crossed": "processing", "odd": "dreaming"}.get(status, status)
    named = tasks[1 - place] if what == "crossed" else task
    body = rig.world.record(status, named, clips=clips or (), task_id=f"p{named}", n=number)
    await rig.call_back(task, body, sign=sign)


async def batch(rig: Rig) -> list[Job]:
    async with rig.services.database.connection() as conn:
        return await jobs.claim(conn, JobKind.ADVANCE, 500)


async def settle(rig: Rig, settled: Sequence[Settled]) -> None:
    async with rig.services.database.connection() as conn:
        await jobs.settle(conn, rig.worker.id, settled)


async def standing(rig: Rig, tasks: Sequence[TaskId]) -> list[Any]:
    """Return all that is known of *tasks*, without what differs from task to task."""
    found: list[Any] = []
    for task in tasks:
        now = await rig.task(task)
        kept = {"state", "reason", "detail", "attention", "revision", "no_media", "query_wanted", "units", "trust"}
        found.append({name: getattr(now, name) for name in kept})
        found.append((now.provider_task_id is None, now.hinted_id is None, now.due_at is None, now.ended_at is None))
        found.append([(a.clip, a.position, a.format, a.state, a.url, a.trust, a.error) for a in now.assets])
        found.append(await told_of(rig, task))
        wanted = await rig.sql("SELECT kind, state, held FROM job WHERE subject = %(t)s ORDER BY kind", t=task)
        read = await rig.sql("SELECT outcome, told FROM inbox WHERE task_id = %(t)s ORDER BY id", t=task)
        found += [wanted, read]
    return found


async def told_of(rig: Rig, task: TaskId) -> list[Row]:
    return await rig.sql("SELECT type, data - 'callback' AS data FROM event WHERE task_id = %(t)s ORDER BY id", t=task)


def test_callbacks_do_together_what_they_do_one_by_one(stage: Stage) -> None:
    async def compare(rig: Rig, tales: list[Tale], *, told_id: bool) -> None:
        apart = [await sent(rig, told_id=told_id) for _ in range(2)]
        for number, tale in enumerate(tales):
            await post(rig, apart, tale, number)
            await rig.work(JobKind.ADVANCE)
        together = [await sent(rig, told_id=told_id) for _ in range(2)]
        for number, tale in enumerate(tales):
            await post(rig, together, tale, number)
        mine = await batch(rig)
        assert len(mine) == len(tales)
        await settle(rig, await rig.worker.outcomes(mine))
        assert await standing(rig, together) == await standing(rig, apart)
        assert await rig.jobs_of(mine[0].subject) == {}

    with asyncio.Runner() as runner:
        opened: AbstractAsyncContextManager[Rig] = stage.rig(signature_mode="opportunistic")
        rig = runner.run(opened.__aenter__())

        @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
        @given(tales=TALES, told_id=st.booleans())
        @example(
            tales=[(0, "c1", "no"), (1, "crossed", "good"), (0, "failed", "good"), (0, "both", "good")], told_id=False
        )
        @example(tales=[(0, "c1", "good"), (0, "failed", "good"), (0, "odd", "no"), (0, "empty", "good")], told_id=True)
        def same(*, tales: list[Tale], told_id: bool) -> None:
            runner.run(compare(rig, tales, told_id=told_id))

        try:
            same()
        finally:
            runner.run(opened.__aexit__(None, None, None))


def test_a_callback_that_the_database_refuses_harms_none_of_its_batch(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.faults -= {"job.crashed"}
        tasks = [await sent(rig) for _ in range(9)]
        bad = tasks[4]
        await rig.sql("UPDATE task SET reference = 'bad' WHERE id = %(t)s", t=bad)
        await rig.sql(BREAK)
        for number in range(len(tasks)):
            await post(rig, [tasks[number], bad], (0, "failed", "good"), number)
        settled = await rig.worker.outcomes(await batch(rig))
        assert [each.error for each in settled if each.error] == ["DataRefused"]
        assert len(settled) == len(tasks)
        await settle(rig, settled)
        states = {task: (await rig.state(task))[0] for task in tasks}
        assert states == {task: State.SUBMITTED if task == bad else State.FAILED for task in tasks}
        assert [(await rig.story(task)).count("task.failed") for task in tasks] == [int(task != bad) for task in tasks]
        assert len(rig.logged("callback.advanced")) == len(tasks) - 1

    stage.play(story)


def test_a_task_that_is_locked_keeps_only_its_own_callbacks_waiting(stage: Stage, database_url: str) -> None:
    async def story(rig: Rig) -> None:
        tasks = [await sent(rig) for _ in range(3)]
        for number, task in enumerate([*tasks, tasks[1]]):
            await post(rig, [task, task], (0, "failed", "good"), number)
        async with await psycopg.AsyncConnection.connect(database_url) as other:
            await other.execute("SELECT FROM task WHERE id = %s FOR UPDATE", [tasks[1]])
            settled = await rig.worker.outcomes(await batch(rig))
            await settle(rig, settled)
        assert [each.delay is None for each in settled] == [True, False, True, False]
        assert [(await rig.state(task))[0] for task in tasks] == [State.FAILED, State.SUBMITTED, State.FAILED]
        await rig.work(JobKind.ADVANCE)
        await rig.work(JobKind.ADVANCE)
        assert (await rig.state(tasks[1]))[0] is State.FAILED
        assert await rig.claim(JobKind.ADVANCE) is None

    stage.play(story)


def test_a_batch_that_runs_twice_at_once_has_one_effect(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        tasks = [await sent(rig) for _ in range(5)]
        for number, task in enumerate(tasks):
            await post(rig, [task, task], (0, "both", "good"), number)
        mine = await batch(rig)
        await asyncio.gather(rig.worker.outcomes(mine), rig.worker.outcomes(mine))
        await settle(rig, await rig.worker.outcomes(mine))
        for task in tasks:
            assert (await rig.story(task)).count("task.succeeded") == 1
            assert len(await rig.assets(task)) == 4
        assert await rig.sql("SELECT id FROM job WHERE kind = 'advance'") == []

    stage.play(story)


def test_what_was_lost_once_is_tried_alone_after_the_others(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.faults -= {"job.crashed"}
        seen: list[list[int]] = []

        async def watched(services: Services, mine: Sequence[Job]) -> Sequence[Outcome]:
            seen.append([job.subject for job in mine])
            return await advance.advance(services, mine)

        tasks = [await sent(rig) for _ in range(6)]
        for number, task in enumerate(tasks):
            await post(rig, [task, task], (0, "failed", "good"), number)
        lost = "UPDATE job SET state = 'leased', lease_token = gen_random_uuid(), lease_until = now() - interval '1 s'"
        rows = await rig.sql("SELECT subject FROM job WHERE kind = 'advance' ORDER BY subject")
        first, second, *others = [row["subject"] for row in rows]
        await rig.sql(f"{lost} WHERE kind = 'advance' AND subject = ANY(%(s)s)", s=[first, second])
        rig.worker.handlers = {**HANDLERS, JobKind.ADVANCE: watched}
        settler = Settler(rig.services.database, rig.worker.id)
        writing = asyncio.create_task(settler.run())
        async with asyncio.TaskGroup() as group:
            assert await rig.worker._claim_all(group, settler) >= 5
        async with asyncio.TaskGroup() as group:
            assert await rig.worker._claim_all(group, settler) >= 1
        writing.cancel()
        assert seen[0] == others
        assert sorted(seen[1:]) == [[first], [second]]
        assert {(await rig.state(task))[0] for task in tasks} == {State.FAILED}

    stage.play(story)
