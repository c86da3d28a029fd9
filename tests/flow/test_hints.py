"""An unsigned callback names the provider's id of a task whose create was never answered: good to ask by, no more."""

from __future__ import annotations

from dataclasses import replace

from receiver.core.model import CreateId, JobKind, State, TaskId
from tests.flow.rig import Rig, Stage
from tests.flow.world import CUT, Seen, created, unknown


async def lost(rig: Rig) -> TaskId:
    """Return a task whose create got no reply, at a provider that drops our ids and refuses no repeat."""
    rig.with_profile(create_id=CreateId.NONE)
    rig.world.creates = [CUT]
    task = await rig.accept()
    await rig.work(JobKind.SUBMIT)
    assert (await rig.task(task)).unsure
    return task


def of_a_gateway(rig: Rig, status: str, made: str, *clips: str) -> dict[str, object]:
    record = rig.world.record(status, "", clips=clips, task_id=made)
    return record | {"task_info": {}}


def test_a_lost_create_is_found_by_the_id_that_a_callback_names(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await lost(rig)
        assert await rig.told(task, of_a_gateway(rig, "processing", "g1"), sign="no") == "asked"
        found = await rig.task(task)
        assert (found.state, found.provider_task_id, found.hinted_id) == (State.SUBMITTING, None, "g1")
        reply = rig.world.report("succeed", "", clips=("c1",), task_id="g1", task_info={})
        rig.world.queries = [reply]
        await rig.work(JobKind.SUBMIT)
        assert [each.path.rpartition("/")[2] for each in rig.world.asked()] == ["g1"]
        found = await rig.task(task)
        assert (found.state, found.provider_task_id, found.unsure) == (State.SUCCEEDED, "g1", False)
        assert len(rig.world.made()) == 1

    stage.play(story)


def test_an_id_that_nobody_knows_is_tried_by_turns_with_ours(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await lost(rig)
        await rig.told(task, of_a_gateway(rig, "processing", "g1"), sign="no")
        rig.world.queries = [unknown()]
        for _ in range(4):
            await rig.forget_spacing(task)
            await rig.work(JobKind.SUBMIT)
        assert [each.path.rpartition("/")[2] for each in rig.world.asked()] == ["g1", str(task), "g1", str(task)]
        assert (await rig.task(task)).attention == "create_unknown"
        assert len(rig.world.made()) == 1

    stage.play(story)


def test_a_hint_that_comes_after_questions_is_asked_by_at_once(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await lost(rig)
        rig.world.queries = [unknown()]
        await rig.work(JobKind.SUBMIT)
        assert (await rig.task(task)).polls == 1
        await rig.told(task, of_a_gateway(rig, "processing", "g1"), sign="no")
        await rig.forget_spacing(task)
        rig.world.queries = [rig.world.report("processing", "", task_id="g1", task_info={})]
        await rig.work(JobKind.SUBMIT)
        assert [each.path.rpartition("/")[2] for each in rig.world.asked()] == [str(task), "g1"]
        assert (await rig.state(task))[0] is State.PROCESSING

    stage.play(story)


def test_a_hint_that_comes_during_a_question_is_asked_by_next(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await lost(rig)

        async def meanwhile(_: Seen) -> None:
            await rig.told(task, of_a_gateway(rig, "processing", "g1"), sign="no")

        rig.world.queries = [replace(unknown(), first=meanwhile)]
        await rig.work(JobKind.SUBMIT)
        found = await rig.task(task)
        assert (found.polls, found.hinted_id, found.query_wanted) == (1, "g1", True)
        rig.world.queries = [rig.world.report("processing", "", task_id="g1", task_info={})]
        await rig.forget_spacing(task)
        await rig.work(JobKind.SUBMIT)
        assert [each.path.rpartition("/")[2] for each in rig.world.asked()] == [str(task), "g1"]
        assert (await rig.state(task))[0] is State.PROCESSING

    stage.play(story)


def test_the_id_of_another_task_is_no_hint(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.world.creates = [created("g1")]
        await rig.accept()
        await rig.work(JobKind.SUBMIT)
        task = await lost(rig)
        await rig.told(task, of_a_gateway(rig, "succeed", "g1", "c1"), sign="no")
        assert (await rig.task(task)).hinted_id is None

    stage.play(story)


def test_an_answer_that_names_another_task_takes_the_hint_back(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await lost(rig)
        await rig.told(task, of_a_gateway(rig, "processing", "g1"), sign="no")
        rig.world.queries = [rig.world.report("succeed", 4711, clips=("c1",), task_id="g1")]
        await rig.work(JobKind.SUBMIT)
        found = await rig.task(task)
        assert (found.hinted_id, found.attention, found.assets) == (None, "cross_wired", ())

    stage.play(story)
