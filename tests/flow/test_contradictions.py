"""
What the service does where the documents are silent or contradict each other (providers.md 8).

What is said and read on the wire is tried in `tests/dialects/test_contradictions.py`.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from receiver.core.errors import SignatureRejected
from receiver.core.ids import task_id
from receiver.core.model import JobKind, State
from tests.flow.rig import Rig, Stage
from tests.flow.world import Seen, created


@pytest.mark.parametrize("mode", ["required", "opportunistic"])
def test_d03_both_modes_refuse_a_bad_signature_and_one_also_none(stage: Stage, mode: str) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        with pytest.raises(SignatureRejected):
            await rig.call_back(task, rig.world.record("failed", task), sign="bad")
        if mode == "required":
            with pytest.raises(SignatureRejected):
                await rig.call_back(task, rig.world.record("failed", task), sign="no")
        else:
            assert await rig.call_back(task, rig.world.record("failed", task), sign="no")
        assert (await rig.state(task))[0] is State.SUBMITTED

    stage.play(story, signature_mode=mode)


def test_d04_an_unsigned_callback_is_a_hint_and_our_own_query_decides(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        forged = rig.world.record("succeed", task, clips=("evil",))
        assert await rig.told(task, forged, sign="no") == "asked"
        assert (await rig.task(task)).assets == ()
        rig.world.queries = [rig.world.report("processing", task)]
        await rig.work(JobKind.QUERY)
        assert (await rig.state(task))[0] is State.PROCESSING
        assert rig.world.fetched() == []

    stage.play(story)


def test_d19_a_lower_status_after_a_higher_has_no_effect_and_the_first_end_sticks(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        assert await rig.told(task, rig.world.record("failed", task, task_status_msg="risk")) == "moved"
        assert await rig.told(task, rig.world.record("processing", task)) == "noted"
        assert await rig.told(task, rig.world.record("submitted", task)) == "noted"
        assert (await rig.state(task))[0] is State.FAILED
        # A contradiction asks; what the provider confirms wins, with an event.
        assert await rig.told(task, rig.world.record("succeed", task, clips=("c1",)), sign="no") == "asked"
        assert (await rig.state(task))[0] is State.FAILED
        rig.world.queries = [rig.world.report("succeed", task, clips=("c1",))]
        await rig.work(JobKind.QUERY)
        assert (await rig.state(task))[0] is State.SUCCEEDED
        assert "task.rescued" in await rig.story(task)

    stage.play(story)


def test_d20_a_repeat_is_known_by_its_bytes_and_one_with_more_media_is_none(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        empty = rig.world.record("succeed", task)
        assert await rig.told(task, empty) == "moved"
        assert not await rig.call_back(task, empty)
        assert (await rig.state(task))[0] is not State.SUCCEEDED
        # The same webhook-id, filled: the bytes differ, so it is looked at.
        assert await rig.told(task, rig.world.record("succeed", task, clips=("c1",))) == "moved"
        found = await rig.task(task)
        assert (found.state, len(found.assets)) == (State.SUCCEEDED, 2)

    stage.play(story)


def test_d21_a_callback_is_durable_before_it_is_answered_and_never_interpreted(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        for body in (b"\xff\x00 not json", b"{}"):
            assert await rig.call_back(task, body)
        rows = await rig.sql("SELECT outcome FROM inbox WHERE task_id = %(t)s", t=task)
        assert [row["outcome"] for row in rows] == [None, None]
        assert len(await rig.sql("SELECT id FROM job WHERE kind = 'advance'")) == 2
        assert (await rig.state(task))[0] is State.SUBMITTED
        assert rig.world.asked() == []

    stage.play(story)


def test_d21_polling_alone_carries_a_task_whose_callbacks_never_come(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.succeeded("c1")
        await rig.work(JobKind.ARCHIVE)
        assert (await rig.state(task))[0] is State.ARCHIVED
        assert await rig.sql("SELECT id FROM inbox") == []

    stage.play(story)


def test_d22_a_callback_may_beat_the_reply_to_its_own_create(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.accept()

        async def first(_: Seen) -> None:
            assert await rig.told(task, rig.world.record("processing", task)) == "moved"
            assert (await rig.state(task))[0] is State.PROCESSING

        rig.world.creates = [replace(created(), first=first)]
        await rig.work(JobKind.SUBMIT)
        found = await rig.task(task)
        assert (found.state, found.provider_task_id, found.unsure) == (State.PROCESSING, "p1", False)
        assert len(rig.world.made()) == 1

    stage.play(story)


def test_d22_a_callback_for_a_task_that_nobody_knows_is_taken_and_kept_apart(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        nobody = task_id(rig.services.clock(), 7)
        assert await rig.told(nobody, rig.world.record("succeed", nobody, clips=("c1",))) == "orphan"
        assert await rig.sql("SELECT id FROM task") == []

    stage.play(story)


def test_every_contradiction_of_what_the_service_does_has_a_test_named_after_it() -> None:
    assert {int(name[6:8]) for name in globals() if name.startswith("test_d")} >= {3, 4, 19, 20, 21, 22}
