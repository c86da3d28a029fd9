"""What a person may do to a task, in every state, and that what they do is followed to its end and paid once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest

from receiver.core.errors import (
    AlreadyKnown,
    AlreadySent,
    Conflict,
    InvalidInput,
    MayChargeTwice,
    NotFound,
    NotRetryable,
    ReceiverError,
)
from receiver.core.model import ENDS, AccountId, CreateId, JobKind, State, TaskId
from receiver.flow import act
from receiver.flow.act import Adoption
from receiver.flow.services import Services
from tests.flow.rig import ACCOUNT, KEY, OWNER, Rig, Stage
from tests.flow.world import CUT, Reply, created, envelope, sound, unknown

JUNK: Final = Reply(200, b"<html>no sound here</html>" * 40)
Act = Callable[[Services, str, TaskId], Awaitable[None]]


async def accepted(rig: Rig) -> TaskId:
    return await rig.accept()


async def submitting(rig: Rig) -> TaskId:
    rig.world.creates = [CUT, created()]
    task = await rig.accept()
    await rig.work(JobKind.SUBMIT)
    return task


async def processing(rig: Rig) -> TaskId:
    task = await rig.submitted()
    rig.world.queries = [rig.world.report("processing", task)]
    await rig.work(JobKind.QUERY)
    return task


async def archived(rig: Rig) -> TaskId:
    task = await rig.succeeded()
    await rig.work(JobKind.ARCHIVE)
    return task


async def invalid(rig: Rig, *formats: str) -> TaskId:
    """Return a task of which the files of these formats are no sound."""
    task = await rig.succeeded()
    for each in formats:
        rig.world.media[f"/media/c1.{each}"] = [JUNK]
    for _ in range(3):
        await rig.work(JobKind.ARCHIVE)
    return task


async def partial(rig: Rig) -> TaskId:
    return await invalid(rig, "wav")


async def failed(rig: Rig) -> TaskId:
    task = await rig.submitted()
    rig.world.queries = [rig.world.report("failed", task)]
    await rig.work(JobKind.QUERY)
    return task


async def rejected(rig: Rig) -> TaskId:
    rig.world.creates = [envelope(1201, "no such luck", status=400), created()]
    task = await rig.accept()
    await rig.work(JobKind.SUBMIT)
    return task


async def never_sent(rig: Rig) -> TaskId:
    task = await rig.accept()
    await rig.overdue(task)
    await rig.work(JobKind.SUBMIT)
    return task


async def cancelled(rig: Rig) -> TaskId:
    task = await rig.accept()
    await act.cancel(rig.services, OWNER, task)
    return task


REACH: Final[dict[State, Callable[[Rig], Awaitable[TaskId]]]] = {
    State.ACCEPTED: accepted,
    State.SUBMITTING: submitting,
    State.SUBMITTED: lambda rig: rig.submitted(),
    State.PROCESSING: processing,
    State.SUCCEEDED: lambda rig: rig.succeeded(),
    State.ARCHIVED: archived,
    State.PARTIAL: partial,
    State.FAILED: failed,
    State.REJECTED: rejected,
    State.EXPIRED: never_sent,
    State.CANCELLED: cancelled,
}
#: What each act leads to; an error where it is refused.
EXPECTED: Final[Mapping[str, tuple[Act, Mapping[State, State | type[ReceiverError]]]]] = {
    "cancel": (
        act.cancel,
        dict.fromkeys(State, AlreadySent) | dict.fromkeys((State.ACCEPTED, State.CANCELLED), State.CANCELLED),
    ),
    "refresh": (
        act.refresh,
        {state: state for state in State} | dict.fromkeys((State.ACCEPTED, State.CANCELLED, State.EXPIRED), Conflict),
    ),
    "retry": (
        act.retry,
        dict.fromkeys(State, NotRetryable)
        | {
            State.PARTIAL: State.SUCCEEDED,
            State.REJECTED: State.ACCEPTED,
            State.EXPIRED: State.ACCEPTED,
        },
    ),
}


async def finish(rig: Rig, task: TaskId) -> State:
    """Let all jobs run, each pause being over, until the task has ended."""
    for _ in range(20):
        for kind in (JobKind.SUBMIT, JobKind.QUERY, JobKind.ARCHIVE):
            await rig.forget_spacing(task)
            await rig.pass_time(task, "21 s", "last_sent_at")
            if (job := await rig.claim(kind)) is not None:
                await rig.handle(job)
        if (state := (await rig.state(task))[0]) in ENDS and not await rig.jobs_of(task):
            return state
    raise AssertionError(await rig.task(task))


async def kill_job(rig: Rig, subject: int, kind: JobKind) -> None:
    """Let a job die, as after five lost leases in a row."""
    rig.faults.discard("job.dead")
    await rig.sql("UPDATE job SET lost = 5 WHERE kind = %(kind)s AND subject = %(subject)s", kind=kind, subject=subject)
    await rig.work(kind)
    text = "SELECT state FROM job WHERE kind = %(kind)s AND subject = %(subject)s"
    assert await rig.sql(text, kind=kind, subject=subject) == [{"state": "dead"}]


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("name", EXPECTED)
def test_each_act_in_each_state_does_what_it_may_and_nothing_else(stage: Stage, name: str, state: State) -> None:
    async def story(rig: Rig) -> None:
        task = await REACH[state](rig)
        assert (await rig.state(task))[0] is state
        made, told = len(rig.world.made()), await rig.story(task)
        carry_out, expected = EXPECTED[name][0], EXPECTED[name][1][state]
        if isinstance(expected, State):
            await carry_out(rig.services, OWNER, task)
            assert (await rig.state(task))[0] is expected
            assert len(await rig.story(task)) == len(told) + ((name, state) != ("cancel", State.CANCELLED))
        else:
            with pytest.raises(expected):
                await carry_out(rig.services, OWNER, task)
            assert (await rig.state(task))[0] is state
            assert await rig.story(task) == told
        assert len(rig.world.made()) == made

    stage.play(story)


@pytest.mark.parametrize("name", EXPECTED)
def test_no_act_finds_the_task_of_another_owner_or_one_that_is_not_there(stage: Stage, name: str) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.accept()
        for owner, wanted in (("another", task), (OWNER, TaskId(task + 1)), (OWNER, TaskId(1))):
            with pytest.raises(NotFound):
                await EXPECTED[name][0](rig.services, owner, wanted)
        assert await rig.story(task) == ["task.accepted"]

    stage.play(story)


@pytest.mark.parametrize("name", EXPECTED)
def test_an_act_on_a_task_whose_account_was_removed_is_refused(stage: Stage, name: str) -> None:
    async def story(rig: Rig) -> None:
        task = await rejected(rig)
        with pytest.raises(Conflict, match="no longer configured"):
            await EXPECTED[name][0](replace(rig.services, deals={}), OWNER, task)

    stage.play(story)


def test_a_cancelled_task_is_never_sent(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.accept()
        job = await rig.claim(JobKind.SUBMIT)
        assert job is not None
        await act.cancel(rig.services, OWNER, task)
        await rig.handle(job)
        assert await rig.state(task) == (State.CANCELLED, "cancelled_by_owner")
        assert (rig.world.seen, await rig.jobs_of(task)) == ([], {})

    stage.play(story)


def test_of_a_cancel_and_a_send_at_the_same_moment_one_wins_and_never_both(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.world.creates = [created(f"p{n}") for n in range(20)]

        async def race(nth: int) -> State:
            task = await rig.accept()
            job = await rig.claim(JobKind.SUBMIT)
            assert job is not None
            assert job.subject == task
            sending = asyncio.create_task(rig.handle(job))
            for _ in range(nth * 3):
                await asyncio.sleep(0)
            try:
                await act.cancel(rig.services, OWNER, task)
            except AlreadySent:
                assert (await rig.state(task))[0] in {State.SUBMITTING, State.SUBMITTED}
            await sending
            sent = sum(each.json["external_task_id"] == str(task) for each in rig.world.made())
            state = (await rig.state(task))[0]
            assert (state, sent) in {(State.CANCELLED, 0), (State.SUBMITTED, 1)}
            return state

        for nth in range(12):
            await race(nth)

    stage.play(story, concurrency=50)


def test_a_rejected_task_that_is_retried_is_asked_after_and_then_sent_once_more(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rejected(rig)
        rig.world.media["/media/c1.mp3"] = [Reply(200, sound("mp3"))]
        rig.world.media["/media/c1.wav"] = [Reply(200, sound("wav"))]
        rig.world.queries = [unknown(), rig.world.report("succeed", task, clips=("c1",))]
        await act.retry(rig.services, OWNER, task)
        assert await finish(rig, task) is State.ARCHIVED
        assert [each.json["external_task_id"] for each in rig.world.made()] == [str(task)] * 2
        assert [each.method for each in rig.world.seen[:3]] == ["POST", "GET", "POST"]
        assert "task.retried" in await rig.story(task)

    stage.play(story)


def test_a_refused_create_that_is_retried_is_sent_at_once_after_the_question(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rejected(rig)
        rig.world.queries = [unknown()]
        await act.retry(rig.services, OWNER, task)
        assert await rig.work(JobKind.SUBMIT) is not None
        assert [each.method for each in rig.world.seen] == ["POST", "GET", "POST"]
        assert (await rig.state(task))[0] is State.SUBMITTED

    stage.play(story)


def test_a_create_that_was_never_settled_may_still_arrive_after_a_retry(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.world.creates = [CUT, created()]
        rig.world.queries = [unknown()]
        task = await rig.accept()
        await rig.work(JobKind.SUBMIT)
        await rig.overdue(task)
        await rig.work(JobKind.SUBMIT)
        assert await rig.state(task) == (State.EXPIRED, "create_unknown")
        await rig.sql("UPDATE task SET last_sent_at = now()")
        await rig.forget_spacing(task)
        await act.retry(rig.services, OWNER, task)
        settled = await rig.work(JobKind.SUBMIT)
        assert settled is not None
        assert settled.delay is not None
        assert settled.delay > timedelta(seconds=10)
        assert len(rig.world.made()) == 1
        await rig.forget_spacing(task)
        await rig.pass_time(task, "21 s", "last_sent_at")
        await rig.work(JobKind.SUBMIT)
        assert ((await rig.state(task))[0], len(rig.world.made())) == (State.SUBMITTED, 2)

    stage.play(story)


def test_a_rejected_task_that_the_provider_has_after_all_is_not_sent_again(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rejected(rig)
        rig.world.offers(c1_mp3=sound("mp3"), c1_wav=sound("wav"))
        rig.world.queries = [rig.world.report("succeed", task, clips=("c1",))]
        await act.retry(rig.services, OWNER, task)
        assert await finish(rig, task) is State.ARCHIVED
        assert len(rig.world.made()) == 1

    stage.play(story)


def test_without_enforced_ids_a_second_send_must_be_agreed_to(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.with_profile(create_id=CreateId.NONE)
        task = await rejected(rig)
        with pytest.raises(MayChargeTwice):
            await act.retry(rig.services, OWNER, task)
        assert (await rig.state(task))[0] is State.REJECTED
        rig.world.offers(c1_mp3=sound("mp3"), c1_wav=sound("wav"))
        rig.world.queries = [rig.world.report("succeed", task, clips=("c1",))]
        await act.retry(rig.services, OWNER, task, may_charge_twice=True)
        assert await finish(rig, task) is State.ARCHIVED
        assert len(rig.world.made()) == 2

    stage.play(story)


def test_a_task_that_was_never_sent_is_retried_without_a_question(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.with_profile(create_id=CreateId.NONE)
        task = await never_sent(rig)
        assert await rig.state(task) == (State.EXPIRED, "never_submitted")
        rig.world.creates = [created()]
        rig.world.offers(c1_mp3=sound("mp3"), c1_wav=sound("wav"))
        rig.world.queries = [rig.world.report("succeed", task, clips=("c1",))]
        await act.retry(rig.services, OWNER, task)
        assert await finish(rig, task) is State.ARCHIVED
        assert [each.method for each in rig.world.seen[:2]] == ["POST", "GET"]
        assert len(rig.world.made()) == 1

    stage.play(story)


async def never_finished(rig: Rig) -> TaskId:
    task = await processing(rig)
    await rig.overdue(task)
    await rig.work(JobKind.QUERY)
    assert await rig.state(task) == (State.EXPIRED, "never_finished")
    return task


def test_a_task_that_never_finished_is_followed_again_and_not_made_again(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await never_finished(rig)
        rig.world.offers(c1_mp3=sound("mp3"), c1_wav=sound("wav"))
        processing, done = (rig.world.report(word, task, clips=("c1",)) for word in ("processing", "succeed"))
        rig.world.queries = [processing, done]
        await act.retry(rig.services, OWNER, task)
        assert await finish(rig, task) is State.ARCHIVED
        assert len(rig.world.made()) == 1

    stage.play(story)


def test_a_second_task_that_was_agreed_to_is_the_one_that_is_followed(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.with_profile(create_id=CreateId.NONE)
        task = await never_finished(rig)
        rig.world.creates = [created("p2")]
        rig.world.offers(c1_mp3=sound("mp3"), c1_wav=sound("wav"))
        rig.world.queries = [rig.world.report("succeed", task, clips=("c1",), task_id="p2")]
        await act.retry(rig.services, OWNER, task, may_charge_twice=True)
        assert await finish(rig, task) is State.ARCHIVED
        found = await rig.task(task)
        assert (found.provider_task_id, found.attention) == ("p2", None)
        assert rig.world.asked()[-1].path.endswith("/p2")
        assert "task.created_twice" not in await rig.story(task)

    stage.play(story)


def test_media_whose_links_died_are_fetched_again_by_fresh_links(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.succeeded()
        rig.world.media["/media/c1.mp3"] = rig.world.media["/media/c1.wav"] = [Reply(404)]
        rig.world.queries = [unknown()]
        await rig.work(JobKind.ARCHIVE)
        await rig.overdue(task)
        await rig.work(JobKind.QUERY)
        assert (await rig.state(task))[0] is State.EXPIRED
        rig.world.offers(d1_mp3=sound("mp3"), d1_wav=sound("wav"))
        fresh = rig.world.record("succeed", task, clips=("c1",))
        for audio in fresh["task_result"]["audios"]:
            audio |= {"url_mp3": rig.world.link("d1.mp3"), "url_wav": rig.world.link("d1.wav")}
        rig.world.queries = [envelope(0, data=fresh)]
        await act.retry(rig.services, OWNER, task)
        assert await finish(rig, task) is State.ARCHIVED
        assert len(rig.world.made()) == 1

    stage.play(story)


@pytest.mark.parametrize(
    ("formats", "end"), [(("wav",), State.PARTIAL), (("mp3",), State.PARTIAL), (("mp3", "wav"), State.FAILED)]
)
def test_files_that_were_no_sound_are_fetched_again(stage: Stage, formats: tuple[str, ...], end: State) -> None:
    async def story(rig: Rig) -> None:
        task = await invalid(rig, *formats)
        assert (await rig.state(task))[0] is end
        before = Counter(asset.state for asset in await rig.assets(task))
        rig.world.offers(c1_mp3=sound("mp3"), c1_wav=sound("wav"))
        await act.retry(rig.services, OWNER, task)
        fetched = len(rig.world.fetched())
        assert await finish(rig, task) is State.ARCHIVED
        assert len(rig.world.fetched()) - fetched == len(formats), before
        assert len(rig.world.made()) == 1

    stage.play(story)


def test_files_that_are_still_no_sound_end_the_task_as_before(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await partial(rig)
        await act.retry(rig.services, OWNER, task)
        assert await finish(rig, task) is State.PARTIAL

    stage.play(story)


def test_media_of_a_provider_that_cannot_be_asked_are_retried_by_their_old_links(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await partial(rig)
        rig.with_profile(query=False)
        asked = len(rig.world.asked())
        rig.world.offers(c1_wav=sound("wav"))
        await act.retry(rig.services, OWNER, task)
        assert not (await rig.task(task)).query_wanted
        assert await finish(rig, task) is State.ARCHIVED
        assert len(rig.world.asked()) == asked

    stage.play(story)


@pytest.mark.parametrize("kind", [JobKind.SUBMIT, JobKind.QUERY, JobKind.ARCHIVE])
def test_a_dead_job_runs_again_and_the_task_goes_on_to_its_end(stage: Stage, kind: JobKind) -> None:
    async def story(rig: Rig) -> None:
        ways = {JobKind.SUBMIT: accepted, JobKind.QUERY: processing, JobKind.ARCHIVE: REACH[State.SUCCEEDED]}
        task = await ways[kind](rig)
        rig.world.creates = [created()]
        rig.world.offers(c1_mp3=sound("mp3"), c1_wav=sound("wav"))
        rig.world.queries = [rig.world.report("succeed", task, clips=("c1",))]
        await kill_job(rig, task, kind)
        assert (await rig.task(task)).attention == "job_dead"
        await act.retry(rig.services, OWNER, task)
        assert (await rig.task(task)).attention is None
        assert await finish(rig, task) is State.ARCHIVED
        assert len(rig.world.made()) == 1

    stage.play(story)


def test_a_dead_job_runs_again_also_when_something_else_called_for_a_person_since(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.succeeded()
        await kill_job(rig, task, JobKind.ARCHIVE)
        await rig.sql("UPDATE task SET attention = 'cross_wired' WHERE id = %(t)s", t=task)
        await act.retry(rig.services, OWNER, task)
        assert await finish(rig, task) is State.ARCHIVED

    stage.play(story)


@pytest.mark.parametrize("ended", [False, True])
def test_a_callback_whose_job_died_is_read_after_a_retry(stage: Stage, *, ended: bool) -> None:
    async def story(rig: Rig) -> None:
        task = await (archived if ended else processing)(rig)
        rig.world.offers(c2_mp3=sound("mp3", 2), c2_wav=sound("wav", 2))
        news = ("c1", "c2") if ended else ("c2",)
        rig.world.queries = [rig.world.report("succeed", task, clips=news)]
        await rig.call_back(task, rig.world.record("succeed", task, clips=news))
        (callback,) = await rig.sql("SELECT id FROM inbox")
        await kill_job(rig, callback["id"], JobKind.ADVANCE)
        assert (await rig.task(task)).attention == "job_dead"
        await act.retry(rig.services, OWNER, task)
        await rig.work(JobKind.ADVANCE)
        assert (await rig.state(task))[0] is State.SUCCEEDED
        assert await finish(rig, task) is State.ARCHIVED

    stage.play(story)


async def create_unknown(rig: Rig) -> TaskId:
    rig.with_profile(create_id=CreateId.NONE)
    task = await submitting(rig)
    rig.world.queries = [unknown()]
    await rig.work(JobKind.SUBMIT)
    assert (await rig.task(task)).attention == "create_unknown"
    return task


def test_a_create_that_no_answer_settled_is_sent_again_only_when_that_is_agreed_to(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await create_unknown(rig)
        with pytest.raises(MayChargeTwice):
            await act.retry(rig.services, OWNER, task)
        assert len(rig.world.made()) == 1
        await act.retry(rig.services, OWNER, task, may_charge_twice=True)
        with pytest.raises(NotRetryable):
            await act.retry(rig.services, OWNER, task, may_charge_twice=True)
        rig.world.offers(c1_mp3=sound("mp3"), c1_wav=sound("wav"))
        rig.world.queries = [rig.world.report("succeed", task, clips=("c1",))]
        assert await finish(rig, task) is State.ARCHIVED
        assert len(rig.world.made()) == 2
        assert (await rig.task(task)).attention is None

    stage.play(story)


def test_a_retry_during_the_question_after_the_create_is_heeded(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await create_unknown(rig)

        async def agree(_: object) -> None:
            await act.retry(rig.services, OWNER, task, may_charge_twice=True)

        rig.world.queries = [replace(unknown(), first=agree)]
        await rig.forget_spacing(task)
        await rig.work(JobKind.SUBMIT)
        found = await rig.task(task)
        assert (found.unsure, found.attention) == (False, None)
        assert (await rig.jobs_of(task))["submit"]["state"] == "ready"
        rig.world.queries = []
        await rig.work(JobKind.SUBMIT)
        assert (await rig.state(task))[0] is State.SUBMITTED
        assert len(rig.world.made()) == 2

    stage.play(story)


def test_a_create_that_is_under_way_cannot_be_sent_beside_itself(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.with_profile(create_id=CreateId.NONE)
        refused: list[bool] = []

        async def hurry(_: object) -> None:
            task = TaskId((await rig.sql("SELECT id FROM task"))[0]["id"])
            with pytest.raises(NotRetryable):
                await act.retry(rig.services, OWNER, task, may_charge_twice=True)
            refused.append(True)

        rig.world.creates = [replace(created(), first=hurry)]
        await rig.submitted()
        assert refused == [True]
        assert len(rig.world.made()) == 1

    stage.play(story)


def test_a_callback_settles_an_unknown_create_and_nobody_is_called_any_more(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await create_unknown(rig)
        assert await rig.told(task, rig.world.record("processing", task)) == "moved"
        found = await rig.task(task)
        assert (found.state, found.attention, found.provider_task_id) == (State.PROCESSING, None, "p1")

    stage.play(story)


def test_an_archived_task_that_grew_is_reopened_by_a_refresh(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await archived(rig)
        rig.world.offers(c2_mp3=sound("mp3", 2), c2_wav=sound("wav", 2))
        rig.world.queries = [rig.world.report("succeed", task, clips=("c1", "c2"))]
        await act.refresh(rig.services, OWNER, task)
        assert await finish(rig, task) is State.ARCHIVED
        found = await rig.task(task)
        assert (found.revision, len(found.assets)) == (2, 4)
        told = await rig.story(task)
        assert told.index("task.refresh_asked") < told.index("task.reopened")
        assert told[-1] == "task.archived"

    stage.play(story)


def test_a_refresh_that_brings_nothing_new_leaves_an_end_as_it_is(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await archived(rig)
        before = await rig.task(task)
        await act.refresh(rig.services, OWNER, task)
        assert (await rig.jobs_of(task)).keys() == {"query"}
        assert await finish(rig, task) is State.ARCHIVED
        found = await rig.task(task)
        assert (found.revision, found.ended_at) == (1, before.ended_at)
        assert len(rig.world.asked()) == 2

    stage.play(story)


def test_a_provider_that_cannot_be_asked_cannot_be_refreshed(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await archived(rig)
        rig.with_profile(query=False)
        with pytest.raises(Conflict, match="no query route"):
            await act.refresh(rig.services, OWNER, task)

    stage.play(story)


def adoption(provider_task_id: str = "p1", **changes: Any) -> Adoption:
    found = Adoption(
        account=ACCOUNT, kind="text-to-audio", provider_task_id=provider_task_id, labels={"from": "before"}
    )
    return replace(found, **changes)


def test_a_task_that_was_made_elsewhere_is_archived(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.world.offers(c1_mp3=sound("mp3"), c1_wav=sound("wav"))
        rig.world.queries = [rig.world.report("succeed", "their-own-id", clips=("c1",))]
        task = await act.adopt(rig.services, KEY, adoption(reference="scene-12"))
        assert await finish(rig, task) is State.ARCHIVED
        found = await rig.task(task)
        assert (found.adopted, found.sends, found.reference, found.labels) == (True, 0, "scene-12", {"from": "before"})
        assert rig.world.made() == []
        assert rig.world.asked()[0].path.endswith("/p1")
        assert (await rig.story(task))[0] == "task.accepted"

    stage.play(story)


def test_a_task_is_adopted_once(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await act.adopt(rig.services, KEY, adoption())
        with pytest.raises(AlreadyKnown, match=str(task)):
            await act.adopt(rig.services, KEY, adoption())
        with pytest.raises(AlreadyKnown) as theirs:
            await act.adopt(rig.services, replace(KEY, owner="another"), adoption())
        assert str(task) not in str(theirs.value)

    stage.play(story)


def test_of_many_adoptions_at_once_one_is_taken(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        many = [act.adopt(rig.services, KEY, adoption()) for _ in range(8)]
        told = await asyncio.gather(*many, return_exceptions=True)
        assert sum(isinstance(each, int) for each in told) == 1
        assert sum(isinstance(each, AlreadyKnown) for each in told) == 7
        assert len(await rig.sql("SELECT id FROM task")) == 1

    stage.play(story)


def test_our_own_task_cannot_be_adopted_by_either_id(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        for each in ("p1", str(task)):
            with pytest.raises(AlreadyKnown):
                await act.adopt(rig.services, KEY, adoption(each))

    stage.play(story)


def test_a_full_account_still_adopts_and_its_own_tasks_wait_for_room(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        first = await rig.submitted()
        adopted = await act.adopt(rig.services, KEY, adoption("p9"))
        waiting = await rig.accept()
        await rig.work(JobKind.SUBMIT)
        assert (await rig.jobs_of(waiting))["submit"]["held"]
        rig.world.creates = [created("p2")]
        rig.world.queries = [rig.world.report("failed", first)]
        await rig.forget_spacing(first)
        job = await rig.claim(JobKind.QUERY)
        while job is not None and job.subject != first:
            job = await rig.claim(JobKind.QUERY)
        assert job is not None
        await rig.handle(job)
        assert (await rig.jobs_of(waiting))["submit"]["held"], "the adopted task still fills the only slot"
        rig.world.queries = [rig.world.report("failed", "theirs", task_id="p9")]
        await rig.sql("UPDATE job SET state = 'ready', lease_until = NULL, lease_token = NULL WHERE state = 'leased'")
        await rig.work(JobKind.QUERY)
        assert (await rig.state(adopted))[0] is State.FAILED
        assert not (await rig.jobs_of(waiting))["submit"]["held"]
        await rig.work(JobKind.SUBMIT)
        assert (await rig.state(waiting))[0] is State.SUBMITTED

    stage.play(story, concurrency=1)


def test_an_adopted_task_is_never_sent(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.world.queries = [unknown()]
        task = await act.adopt(rig.services, KEY, adoption())
        await rig.overdue(task)
        await rig.work(JobKind.QUERY)
        assert await rig.state(task) == (State.EXPIRED, "never_finished")
        with pytest.raises(NotRetryable, match="elsewhere"):
            await act.retry(rig.services, OWNER, task, may_charge_twice=True)
        with pytest.raises(AlreadySent):
            await act.cancel(rig.services, OWNER, task)
        rig.world.offers(c1_mp3=sound("mp3"), c1_wav=sound("wav"))
        rig.world.queries = [rig.world.report("succeed", "theirs", clips=("c1",))]
        await act.refresh(rig.services, OWNER, task)
        assert await finish(rig, task) is State.ARCHIVED
        assert rig.world.made() == []

    stage.play(story)


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("account", {"account": AccountId("nobody")}),
        ("kind", {"kind": "poem"}),
        ("provider_task_id", {"provider_task_id": ""}),
        ("provider_task_id", {"provider_task_id": "x" * 257}),
        ("provider_task_id", {"provider_task_id": "a\nb"}),
    ],
)
def test_an_adoption_that_cannot_be_is_refused_by_field(stage: Stage, field: str, changes: dict[str, Any]) -> None:
    async def story(rig: Rig) -> None:
        with pytest.raises(InvalidInput) as refused:
            await act.adopt(rig.services, KEY, adoption(**changes))
        assert [each.field for each in refused.value.errors] == [field]

    stage.play(story)


def test_nothing_is_adopted_from_a_provider_that_cannot_be_asked(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.with_profile(query=False)
        with pytest.raises(InvalidInput, match="no query route"):
            await act.adopt(rig.services, KEY, adoption())

    stage.play(story)


@pytest.mark.parametrize("odd", ["../../v1/other", "p1?x=1", "p 1", "p1#x", "ä"])
def test_an_odd_provider_id_stays_one_segment_of_the_path(stage: Stage, odd: str) -> None:
    async def story(rig: Rig) -> None:
        rig.world.queries = [unknown()]
        await act.adopt(rig.services, KEY, adoption(odd))
        await rig.work(JobKind.QUERY)
        (request,) = rig.world.asked()
        assert request.path.rpartition("/")[0] == "/v1/audio/text-to-audio"
        assert "?" not in request.path

    stage.play(story)
