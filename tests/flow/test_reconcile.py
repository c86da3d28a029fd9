"""Asking the provider: when no callback comes, when a link dies, and what happens at the deadline."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from receiver.core.model import AssetState, JobKind, State, TaskId
from receiver.flow.pace import PATIENCE
from tests.flow.rig import Rig, Stage
from tests.flow.world import HTML, Reply, envelope, sound, unknown

BUSY = envelope(1302, "slow down", status=429)
REFUSED = envelope(1000, "who", status=401)


async def only_mp3(rig: Rig) -> TaskId:
    """Return a task whose wav was promised and not offered, with its mp3 stored."""
    task = await rig.submitted()
    rig.world.media["/media/c1.mp3"] = [Reply(200, sound("mp3"))]
    record = rig.world.record("succeed", task, clips=("c1",))
    del record["task_result"]["audios"][0]["url_wav"]
    rig.world.queries = [envelope(0, data=record)]
    await rig.work(JobKind.QUERY)
    await rig.work(JobKind.ARCHIVE)
    assert (await rig.state(task))[0] is State.SUCCEEDED
    await rig.forget_spacing(task)
    return task


def test_polling_alone_archives(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        rig.world.queries = [
            unknown(),
            rig.world.report("submitted", task),
            rig.world.report("processing", task),
            rig.world.report("succeed", task, clips=("c1",)),
        ]
        rig.world.offers(c1_mp3=sound("mp3"), c1_wav=sound("wav"))
        for _ in range(4):
            await rig.work(JobKind.QUERY)
            await rig.forget_spacing(task)
        await rig.work(JobKind.ARCHIVE)
        assert await rig.state(task) == (State.ARCHIVED, None)
        assert await rig.jobs_of(task) == {}

    stage.play(story)


def test_a_task_is_asked_after_at_most_once_in_five_seconds(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        rig.world.queries = [rig.world.report("processing", task)]
        for _ in range(4):
            await rig.just_asked(task)
            await rig.work(JobKind.QUERY)
        assert len(rig.world.asked()) == 1
        await rig.forget_spacing(task)
        await rig.work(JobKind.QUERY)
        assert len(rig.world.asked()) == 2

    stage.play(story)


def test_polls_back_off(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        rig.world.queries = [rig.world.report("processing", task)]
        delays = []
        for _ in range(6):
            await rig.forget_spacing(task)
            settled = await rig.work(JobKind.QUERY)
            assert settled is not None
            assert settled.delay is not None
            delays.append(settled.delay)
        assert delays[5] > delays[0] * 3

    stage.play(story)


def test_a_success_without_media_is_asked_again_and_then_a_person_is_called(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        rig.world.queries = [rig.world.report("succeed", task)]
        for attention in (None, None, "no_media"):
            await rig.work(JobKind.QUERY)
            await rig.forget_spacing(task)
            found = await rig.task(task)
            assert (found.state, found.attention) == (State.PROCESSING, attention)
        await rig.overdue(task)
        await rig.work(JobKind.QUERY)
        assert await rig.state(task) == (State.EXPIRED, "media_missing")

    stage.play(story)


def test_a_missing_format_costs_one_more_question(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await only_mp3(rig)
        await rig.work(JobKind.QUERY)
        assert await rig.state(task) == (State.ARCHIVED, None)
        assert len(rig.world.asked()) == 2

    stage.play(story)


def test_a_missing_format_that_comes_later_is_stored_too(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await only_mp3(rig)
        rig.world.offers(c1_wav=sound("wav"))
        rig.world.queries = [rig.world.report("succeed", task, clips=("c1",))]
        await rig.work(JobKind.QUERY)
        assert (await rig.state(task))[0] is State.SUCCEEDED
        await rig.work(JobKind.ARCHIVE)
        assert await rig.state(task) == (State.ARCHIVED, None)
        assert [asset.format for asset in await rig.assets(task)] == ["mp3", "wav"]

    stage.play(story)


@pytest.mark.parametrize("answer", ["unknown", "processing", "succeed"])
def test_a_missing_format_is_given_up_after_any_answer(stage: Stage, answer: str) -> None:
    async def story(rig: Rig) -> None:
        task = await only_mp3(rig)
        rig.world.queries = [unknown() if answer == "unknown" else rig.world.report(answer, task)]
        await rig.work(JobKind.QUERY)
        assert await rig.state(task) == (State.ARCHIVED, None)

    stage.play(story)


def test_a_missing_format_is_given_up_when_the_provider_is_gone_for_good(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await only_mp3(rig)
        rig.world.queries = [HTML]
        for _ in range(2):
            await rig.overdue(task)
            await rig.work(JobKind.QUERY)
        assert await rig.state(task) == (State.ARCHIVED, None)

    stage.play(story)


@pytest.mark.parametrize("answer", [HTML, BUSY, REFUSED], ids=["html", "busy", "401"])
def test_a_provider_that_gives_no_answer_at_the_deadline_gets_one_grace(stage: Stage, answer: Reply) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        rig.world.queries = [answer]
        await rig.overdue(task)
        await rig.work(JobKind.QUERY)
        found = await rig.task(task)
        assert (found.state, found.grace_given) == (State.SUBMITTED, True)
        assert found.due_at is not None
        assert found.due_at > datetime.now(UTC) + timedelta(hours=23)
        await rig.overdue(task)
        await rig.work(JobKind.QUERY)
        assert await rig.state(task) == (State.EXPIRED, "provider_unreachable")
        assert await rig.jobs_of(task) == {}

    stage.play(story)


def test_a_provider_in_grace_is_left_alone_after_some_failures(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        rig.world.queries = [HTML]
        await rig.overdue(task)
        for _ in range(12):
            settled = await rig.work(JobKind.QUERY)
            assert settled is not None
            assert settled.error == "provider_unreachable"
            await rig.stay_at_rest()
        assert len(rig.world.asked()) == PATIENCE

    stage.play(story)


@pytest.mark.parametrize("answer", ["submitted", "processing", "unknown"])
def test_any_answer_at_the_deadline_that_is_no_end_expires_the_task(stage: Stage, answer: str) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        rig.world.queries = [unknown() if answer == "unknown" else rig.world.report(answer, task)]
        await rig.overdue(task)
        await rig.work(JobKind.QUERY)
        assert await rig.state(task) == (State.EXPIRED, "never_finished")

    stage.play(story)


def test_media_at_the_deadline_are_archived(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        rig.world.queries = [rig.world.report("succeed", task, clips=("c1",))]
        rig.world.offers(c1_mp3=sound("mp3"), c1_wav=sound("wav"))
        await rig.overdue(task)
        await rig.work(JobKind.QUERY)
        await rig.work(JobKind.ARCHIVE)
        assert await rig.state(task) == (State.ARCHIVED, None)

    stage.play(story)


def test_a_signed_failure_after_media_is_not_believed_until_the_provider_confirms_it(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.succeeded()
        await rig.forget_spacing(task)
        assert await rig.told(task, rig.world.record("failed", task, task_status_msg="risk control")) == "asked"
        assert (await rig.state(task))[0] is State.SUCCEEDED
        rig.world.queries = [rig.world.report("failed", task, task_status_msg="risk control")]
        await rig.work(JobKind.QUERY)
        found = await rig.task(task)
        assert (found.state, found.reason, found.detail) == (State.FAILED, "provider_failed", "risk control")
        assert {asset.state for asset in found.assets} == {AssetState.INVALID}
        assert await rig.jobs_of(task) == {}

    stage.play(story)


def test_a_confirmed_success_wins_over_a_failure(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.succeeded()
        answers = rig.world.queries
        await rig.forget_spacing(task)
        rig.world.queries = [rig.world.report("failed", task)]
        assert await rig.told(task, rig.world.record("failed", task)) == "asked"
        await rig.work(JobKind.QUERY)
        assert (await rig.state(task))[0] is State.FAILED

        rig.world.queries = answers
        await rig.forget_spacing(task)
        assert await rig.told(task, rig.world.record("succeed", task, clips=("c1",))) == "asked"
        await rig.work(JobKind.QUERY)
        await rig.work(JobKind.ARCHIVE)
        assert await rig.state(task) == (State.ARCHIVED, None)
        assert "task.rescued" in await rig.story(task)

    stage.play(story)


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_dead_link_is_asked_for_again_and_the_fresh_one_is_stored(stage: Stage, status: int) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.succeeded()
        good = dict(rig.world.media)
        for path in rig.world.media:
            rig.world.media[path] = [Reply(status)]
        await rig.work(JobKind.ARCHIVE)
        assert (await rig.state(task))[0] is State.SUCCEEDED
        assert {asset.error for asset in await rig.assets(task)} == {"link_dead"}

        record = rig.world.record("succeed", task, clips=("c1",))
        for name in ("url_mp3", "url_wav"):
            record["task_result"]["audios"][0][name] += "&fresh=1"
        rig.world.queries, rig.world.media = [envelope(0, data=record)], good
        await rig.forget_spacing(task)
        await rig.work(JobKind.QUERY)
        await rig.work(JobKind.ARCHIVE)
        assert await rig.state(task) == (State.ARCHIVED, None)
        assert all("fresh=1" in request.path for request in rig.world.fetched()[2:])

    stage.play(story)


def test_a_lapsed_link_is_not_tried(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.succeeded()
        await rig.sql("UPDATE asset SET link_expires_at = now() - interval '1 s'")
        await rig.work(JobKind.ARCHIVE)
        assert rig.world.fetched() == []
        assert {asset.error for asset in await rig.assets(task)} == {"link_lapsed"}
        assert (await rig.task(task)).query_wanted
        await rig.forget_spacing(task)
        await rig.work(JobKind.QUERY)
        await rig.work(JobKind.ARCHIVE)
        assert await rig.state(task) == (State.ARCHIVED, None)

    stage.play(story)


def test_links_that_stay_dead_are_asked_after_with_growing_pauses(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.succeeded()
        for path in rig.world.media:
            rig.world.media[path] = [Reply(404)]
        for _ in range(12):
            await rig.work(JobKind.ARCHIVE)
            await rig.forget_spacing(task)
            if (await rig.task(task)).query_wanted:
                await rig.work(JobKind.QUERY)
            # What is due within seconds is done again at once; only real pauses stop the chase.
            due = await rig.sql("SELECT id FROM job WHERE kind = 'archive' AND run_at < now() + interval '10 s'")
            if not due:
                break
        else:
            pytest.fail("a dead link is chased for ever")

    stage.play(story)


def test_media_whose_window_has_passed_are_expired_after_a_last_question_and_download(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.succeeded()
        for path in rig.world.media:
            rig.world.media[path] = [Reply(404)]
        await rig.overdue(task)
        await rig.work(JobKind.ARCHIVE)
        assert (await rig.state(task))[0] is State.SUCCEEDED
        await rig.work(JobKind.QUERY)
        await rig.work(JobKind.ARCHIVE)
        assert await rig.state(task) == (State.EXPIRED, "media_expired")
        assert await rig.jobs_of(task) == {}

    stage.play(story)


def test_media_of_a_task_that_the_provider_no_longer_knows_are_expired_at_their_deadline(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.succeeded()
        rig.world.queries = [unknown()]
        await rig.overdue(task)
        await rig.work(JobKind.QUERY)
        assert await rig.state(task) == (State.EXPIRED, "media_expired")

    stage.play(story)


def test_a_host_of_media_that_stays_down_gets_one_grace(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.succeeded()
        for path in rig.world.media:
            rig.world.media[path] = [Reply(500)]
        for passed in range(2):
            await rig.overdue(task)
            await rig.work(JobKind.QUERY)
            assert (await rig.task(task)).grace_given == bool(passed)
            await rig.work(JobKind.ARCHIVE)
        assert await rig.state(task) == (State.EXPIRED, "media_expired")
        assert {asset.error for asset in await rig.assets(task)} == {"provider_unreachable"}

    stage.play(story)


def test_a_hint_about_an_ended_task_does_not_hammer_a_dead_provider(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        await rig.told(task, rig.world.record("failed", task))
        assert await rig.told(task, rig.world.record("succeed", task, clips=("c1",)), sign="no") == "asked"
        rig.world.queries = [HTML]
        for _ in range(12):
            await rig.work(JobKind.QUERY)
            await rig.stay_at_rest()
        assert len(rig.world.asked()) == PATIENCE

    stage.play(story)


def test_an_answer_about_another_task_changes_nothing_but_calls_a_person(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        rig.world.queries = [rig.world.report("succeed", 4711, clips=("c1",))]
        await rig.work(JobKind.QUERY)
        found = await rig.task(task)
        assert (found.state, found.attention, found.assets) == (State.SUBMITTED, "cross_wired", ())
        await rig.overdue(task)
        await rig.work(JobKind.QUERY)
        assert await rig.state(task) == (State.EXPIRED, "never_finished")

    stage.play(story)
