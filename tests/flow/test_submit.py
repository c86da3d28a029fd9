"""Sending a task: what is committed before, what each answer leads to, and that nothing is ever paid twice."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from receiver.core.model import CreateId, JobKind, State, TaskId
from receiver.flow import reconcile, submit, sweep
from tests.flow.rig import ACCOUNT, API_KEY, Rig, Stage
from tests.flow.world import CUT, HTML, Reply, Seen, created, envelope, unknown

SECOND = timedelta(seconds=1)
UNSURE = {
    "cut": CUT,
    "half": Reply(200, {"code": 0, "data": {"task_id": "p1", "task_status": "submitted"}}, cut="half"),
    "html_502": HTML,
    "html_200": Reply(200, b"<html>ok</html>", {"Content-Type": "text/html"}),
    "json_500": envelope(5000, "internal", status=500),
    "no_id": envelope(0, "SUCCEED", data={}),
    "no_json": Reply(200, b"{", {"Content-Type": "application/json"}),
    "unlisted": envelope(4711, "what", status=400),
    "redirect": Reply(302, b"", {"Location": "https://example.com/"}),
}


async def unsure(rig: Rig, reply: Reply = CUT) -> TaskId:
    """Return a task whose first create got *reply*."""
    rig.world.creates = [reply, created()]
    task = await rig.accept()
    await rig.work(JobKind.SUBMIT)
    found = await rig.task(task)
    assert (found.state, found.unsure, found.sends) == (State.SUBMITTING, True, 1)
    return task


async def no_longer_under_way(rig: Rig, task: TaskId) -> None:
    """Let the earlier create be older than two of its time-outs."""
    await rig.pass_time(task, "21 s", "last_sent_at")
    await rig.forget_spacing(task)


def test_submitting_is_committed_before_the_provider_is_called(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        found: list[State] = []

        async def look(request: Seen) -> None:
            found.append((await rig.state(TaskId(int(request.json["external_task_id"]))))[0])

        rig.world.creates = [replace(created(), first=look)]
        await rig.submitted()
        assert found == [State.SUBMITTING]

    stage.play(story)


def test_the_create_names_our_id_our_callback_and_carries_the_key(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        (request,) = rig.world.made()
        token = rig.services.tokens.callback_token(ACCOUNT, task)
        assert request.json == {
            "prompt": "rain on a tin roof",
            "duration": 3,
            "external_task_id": str(task),
            "callback_url": f"https://hooks.example.com/callbacks/studio/{task}/{token}",
        }
        assert request.headers["authorization"] == f"Bearer {API_KEY}"

    stage.play(story)


def test_without_a_public_url_no_callback_is_asked_for(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        await rig.submitted()
        assert "callback_url" not in rig.world.made()[0].json

    stage.play(story, settings={"public_url": None})


@pytest.mark.parametrize(
    ("code", "status"), [(1200, 400), (1201, 400), (1203, 404), (1300, 400), (1301, 400), (1301, 200)]
)
def test_a_task_level_code_rejects_the_task(stage: Stage, code: int, status: int) -> None:
    async def story(rig: Rig) -> None:
        rig.world.creates = [envelope(code, "no such luck", status=status)]
        task = await rig.accept()
        await rig.work(JobKind.SUBMIT)
        found = await rig.task(task)
        assert (found.state, found.reason, found.detail) == (
            State.REJECTED,
            "provider_refused",
            f"{code}: no such luck",
        )
        assert len(rig.world.seen) == 1
        assert await rig.jobs_of(task) == {}

    stage.play(story)


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1004, 1100, 1101, 1102, 1103, 1304])
def test_an_account_level_code_pauses_the_account_and_holds_the_job(stage: Stage, code: int) -> None:
    async def story(rig: Rig) -> None:
        rig.world.creates = [envelope(code, "not you", status=429 if code < 1200 else 403), created()]
        task = await rig.accept()
        await rig.work(JobKind.SUBMIT)
        found = await rig.task(task)
        assert (found.state, found.unsure) == (State.SUBMITTING, False)
        (account,) = await rig.sql("SELECT paused_reason FROM account")
        assert account["paused_reason"] == ("authentication" if code < 1100 else "account_refused")
        assert (await rig.jobs_of(task))["submit"]["held"]
        assert len(rig.world.seen) == 1

        assert await reconcile.resume(rig.services, rig.services.deals[ACCOUNT])
        await rig.work(JobKind.SUBMIT)
        assert (await rig.state(task))[0] is State.SUBMITTED
        assert [each.path for each in rig.world.asked()] == []

    stage.play(story)


def test_a_bare_401_pauses_the_account(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.world.creates = [Reply(401, {"message": "who"})]
        await rig.accept()
        await rig.work(JobKind.SUBMIT)
        (account,) = await rig.sql("SELECT paused_reason FROM account")
        assert account["paused_reason"] == "authentication"

    stage.play(story)


def test_the_end_of_a_pause_frees_tasks_that_filled_the_account(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.world.creates = [envelope(1000, "who", status=401), created()]
        first, second = await rig.accept(), await rig.accept()
        await rig.work(JobKind.SUBMIT)
        await rig.work(JobKind.SUBMIT)
        assert await rig.claim(JobKind.SUBMIT) is None

        rig.world.queries = [unknown()]
        await rig.sql("UPDATE account SET paused_at = now() - interval '2 min'")
        await reconcile.probe_paused(rig.services)
        await rig.work(JobKind.SUBMIT)
        assert [(await rig.state(task))[0] for task in (first, second)] == [State.SUBMITTED, State.ACCEPTED]

    stage.play(story, concurrency=1)


def test_a_probe_of_a_still_refused_account_changes_nothing(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.world.creates = [envelope(1000, "who", status=401)]
        rig.world.queries = [envelope(1000, "who", status=401)]
        await rig.accept()
        await rig.work(JobKind.SUBMIT)
        await rig.sql("UPDATE account SET paused_at = now() - interval '2 min'")
        await reconcile.probe_paused(rig.services)
        await reconcile.probe_paused(rig.services)
        assert (await rig.sql("SELECT paused_at FROM account"))[0]["paused_at"] is not None
        assert len(rig.world.asked()) == 1
        assert await rig.claim(JobKind.SUBMIT) is None

    stage.play(story)


@pytest.mark.parametrize("code", [1302, 1303])
def test_a_busy_provider_is_tried_again_without_a_question(stage: Stage, code: int) -> None:
    async def story(rig: Rig) -> None:
        rig.world.creates = [envelope(code, "slow down", status=429), created()]
        task = await rig.accept()
        settled = await rig.work(JobKind.SUBMIT)
        assert settled is not None
        assert (settled.error, (await rig.state(task))[0]) == ("provider_busy", State.SUBMITTING)
        await rig.pass_rest()
        await rig.work(JobKind.SUBMIT)
        assert (await rig.state(task))[0] is State.SUBMITTED
        assert [each.method for each in rig.world.seen] == ["POST", "POST"]

    stage.play(story)


def test_no_wish_of_the_provider_makes_a_task_wait_longer_than_ten_minutes(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        busy = envelope(1302, "slow down", status=429)
        rig.world.creates = [
            replace(busy, headers={"Retry-After": "9999999"}),
            replace(busy, headers={"Retry-After": "7"}),
        ]
        await rig.accept()
        delays = []
        for _ in range(2):
            settled = await rig.work(JobKind.SUBMIT)
            assert settled is not None
            delays.append(settled.delay)
            await rig.pass_rest()
        assert delays == [timedelta(minutes=10), timedelta(seconds=7)]

    stage.play(story)


@pytest.mark.parametrize("what", UNSURE)
def test_an_unsure_create_is_asked_after_before_anything_is_sent_again(stage: Stage, what: str) -> None:
    async def story(rig: Rig) -> None:
        task = await unsure(rig, UNSURE[what])
        rig.world.queries = [rig.world.report("processing", task)]
        await rig.work(JobKind.SUBMIT)
        found = await rig.task(task)
        assert (found.state, found.unsure, found.provider_task_id) == (State.PROCESSING, False, "p1")
        assert len(rig.world.made()) == 1
        assert rig.world.asked()[0].path.endswith(f"/{task}")

    stage.play(story)


@pytest.mark.parametrize("what", ["cut", "html_502"])
def test_an_unsure_create_is_sent_again_only_after_twice_its_time_out_and_with_the_same_bytes(
    stage: Stage, what: str
) -> None:
    async def story(rig: Rig) -> None:
        task = await unsure(rig, UNSURE[what])
        rig.world.queries = [unknown()]
        for passed in ("0 s", "10 s", "5 s"):
            await rig.pass_time(task, passed, "last_sent_at")
            await rig.forget_spacing(task)
            await rig.work(JobKind.SUBMIT)
            assert len(rig.world.made()) == 1
        await rig.pass_time(task, "6 s", "last_sent_at")
        await rig.forget_spacing(task)
        await rig.work(JobKind.SUBMIT)
        assert (await rig.state(task))[0] is State.SUBMITTED
        first, second = rig.world.made()
        assert first.body == second.body

    stage.play(story)


def test_an_unsure_create_is_asked_after_at_most_once_in_five_seconds(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await unsure(rig)
        rig.world.queries = [unknown()]
        for _ in range(4):
            await rig.just_asked(task)
            await rig.work(JobKind.SUBMIT)
        assert len(rig.world.asked()) == 1

    stage.play(story)


def test_a_worker_that_died_before_sending_leaves_a_task_that_is_asked_after(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.accept()
        job = await rig.claim(JobKind.SUBMIT, lease=-SECOND)
        assert job is not None
        await submit._begin(rig.services, job)

        rig.world.queries, rig.world.creates = [unknown()], [created()]
        await rig.work(JobKind.SUBMIT)
        assert [each.method for each in rig.world.seen] == ["GET"]
        await no_longer_under_way(rig, task)
        await rig.work(JobKind.SUBMIT)
        assert [each.method for each in rig.world.seen] == ["GET", "GET", "POST"]

    stage.play(story)


def test_a_create_that_times_out_is_unsure(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.with_profile(create_timeout=timedelta(seconds=1))
        released = asyncio.Event()

        async def hang(_: Seen) -> None:
            await released.wait()

        rig.world.creates = [replace(created(), first=hang)]
        task = await rig.accept()
        await rig.work(JobKind.SUBMIT)
        assert (await rig.task(task)).unsure
        released.set()

    stage.play(story)


def test_a_refused_connection_made_nothing_and_needs_no_question(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        async with rig.world.refusing():
            task = await rig.accept()
            await rig.work(JobKind.SUBMIT)
        found = await rig.task(task)
        assert (found.state, found.unsure, found.sends) == (State.SUBMITTING, False, 1)
        rig.world.creates = [created()]
        await rig.work(JobKind.SUBMIT)
        assert (await rig.state(task))[0] is State.SUBMITTED
        assert [each.method for each in rig.world.seen] == ["POST"]

    stage.play(story)


@pytest.mark.parametrize("sends", [1, 2])
def test_already_exists_means_made(stage: Stage, sends: int) -> None:
    async def story(rig: Rig) -> None:
        exists = envelope(1201, "External task id already exists", status=400)
        if sends == 1:
            rig.world.creates = [exists]
            task = await rig.accept()
        else:
            task = await unsure(rig)
            rig.world.creates, rig.world.queries = [exists], [unknown()]
            await no_longer_under_way(rig, task)
        await rig.work(JobKind.SUBMIT)
        assert (await rig.state(task))[0] is State.SUBMITTED

    stage.play(story)


def test_a_refusal_of_a_second_send_is_followed_by_a_question(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await unsure(rig)
        rig.world.creates = [envelope(1201, "prompt is bad", status=400)]
        rig.world.queries = [unknown(), rig.world.report("processing", task)]
        await no_longer_under_way(rig, task)
        await rig.work(JobKind.SUBMIT)
        assert [each.method for each in rig.world.seen] == ["POST", "GET", "POST", "GET"]
        assert (await rig.state(task))[0] is State.PROCESSING

    stage.play(story)


def test_a_refusal_of_a_second_send_rejects_when_the_provider_knows_nothing(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await unsure(rig)
        rig.world.creates, rig.world.queries = [envelope(1201, "prompt is bad", status=400)], [unknown()]
        await no_longer_under_way(rig, task)
        await rig.work(JobKind.SUBMIT)
        assert await rig.state(task) == (State.REJECTED, "provider_refused")

    stage.play(story)


def test_a_refusal_of_a_second_send_is_not_believed_while_the_question_fails(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await unsure(rig)
        rig.world.creates, rig.world.queries = [envelope(1201, "prompt is bad", status=400)], [unknown(), HTML]
        await no_longer_under_way(rig, task)
        await rig.work(JobKind.SUBMIT)
        assert (await rig.state(task))[0] is State.SUBMITTING

    stage.play(story)


def test_an_answer_about_another_task_settles_no_create(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await unsure(rig)
        rig.world.queries = [rig.world.report("processing", 4711)]
        await rig.work(JobKind.SUBMIT)
        found = await rig.task(task)
        assert (found.state, found.attention) == (State.SUBMITTING, "cross_wired")
        assert "submit" in await rig.jobs_of(task)

    stage.play(story)


def test_an_unsure_create_without_enforced_ids_is_never_sent_twice(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.with_profile(create_id=CreateId.NONE)
        task = await unsure(rig)
        rig.world.queries = [unknown()]
        for _ in range(3):
            await no_longer_under_way(rig, task)
            await rig.work(JobKind.SUBMIT)
        assert len(rig.world.made()) == 1
        assert (await rig.task(task)).attention == "create_unknown"
        assert (await rig.story(task)).count("task.create_unknown") == 1
        await rig.overdue(task)
        await rig.work(JobKind.SUBMIT)
        assert await rig.state(task) == (State.EXPIRED, "create_unknown")
        assert len(rig.world.made()) == 1

    stage.play(story)


@pytest.mark.parametrize("answer", [HTML, envelope(1302, "slow", status=429)], ids=["html", "busy"])
def test_an_unsure_create_whose_question_is_never_answered_calls_a_person(stage: Stage, answer: Reply) -> None:
    async def story(rig: Rig) -> None:
        rig.with_profile(create_id=CreateId.NONE)
        task = await unsure(rig)
        rig.world.queries = [answer]
        await rig.work(JobKind.SUBMIT)
        assert (await rig.task(task)).attention is None
        for _ in range(2):
            await no_longer_under_way(rig, task)
            await rig.sql("DELETE FROM pace")
            await rig.work(JobKind.SUBMIT)
        assert (await rig.task(task)).attention == "create_unknown"
        assert (await rig.story(task)).count("task.create_unknown") == 1
        rig.world.queries = [rig.world.report("processing", task)]
        await rig.sql("DELETE FROM pace")
        await no_longer_under_way(rig, task)
        await rig.work(JobKind.SUBMIT)
        assert ((await rig.state(task))[0], (await rig.task(task)).attention) == (State.PROCESSING, None)
        assert len(rig.world.made()) == 1

    stage.play(story)


def test_an_unsure_create_that_nothing_can_settle_calls_a_person(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.with_profile(create_id=CreateId.NONE, query=False)
        task = await unsure(rig)
        await rig.work(JobKind.SUBMIT)
        assert (await rig.task(task)).attention == "create_unknown"
        await rig.overdue(task)
        await rig.work(JobKind.SUBMIT)
        assert await rig.state(task) == (State.EXPIRED, "create_unknown")
        assert len(rig.world.made()) == 1

    stage.play(story)


def test_enforced_ids_without_a_query_route_are_sent_again_after_twice_the_time_out(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.with_profile(query=False)
        task = await unsure(rig)
        await rig.work(JobKind.SUBMIT)
        assert len(rig.world.made()) == 1
        await no_longer_under_way(rig, task)
        await rig.work(JobKind.SUBMIT)
        assert len(rig.world.made()) == 2
        assert (await rig.state(task))[0] is State.SUBMITTED

    stage.play(story)


def test_a_task_that_was_not_sent_in_time_expires(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.accept()
        await rig.overdue(task)
        await rig.work(JobKind.SUBMIT)
        assert await rig.state(task) == (State.EXPIRED, "never_submitted")
        assert rig.world.seen == []

    stage.play(story)


def test_a_held_task_expires_too(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        await rig.sql("UPDATE account SET paused_at = now(), paused_reason = 'operator'")
        task = await rig.accept()
        assert await rig.work(JobKind.SUBMIT) is None
        await rig.overdue(task)
        await rig.work(JobKind.SUBMIT)
        assert await rig.state(task) == (State.EXPIRED, "never_submitted")

    stage.play(story)


def test_an_unsure_create_at_its_deadline_is_asked_after_once_more(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await unsure(rig)
        rig.world.queries = [unknown()]
        await rig.overdue(task)
        await rig.work(JobKind.SUBMIT)
        assert await rig.state(task) == (State.EXPIRED, "create_unknown")
        assert [each.method for each in rig.world.seen] == ["POST", "GET"]

    stage.play(story)


@pytest.mark.parametrize(
    "answer", [HTML, envelope(1302, "slow", status=429), envelope(1000, "who", status=401)], ids=["html", "busy", "401"]
)
def test_an_unsure_create_whose_provider_gives_no_answer_at_the_deadline_gets_one_grace(
    stage: Stage, answer: Reply
) -> None:
    async def story(rig: Rig) -> None:
        task = await unsure(rig)
        rig.world.queries = [answer]
        await rig.overdue(task)
        await rig.work(JobKind.SUBMIT)
        assert (await rig.task(task)).grace_given
        assert (await rig.state(task))[0] is State.SUBMITTING
        await rig.overdue(task)
        await rig.work(JobKind.SUBMIT)
        assert await rig.state(task) == (State.EXPIRED, "provider_unreachable")

    stage.play(story)


def test_a_callback_that_beats_the_create_reply_is_not_undone_by_it(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        async def call_back(request: Seen) -> None:
            task = TaskId(int(request.json["external_task_id"]))
            await rig.told(task, rig.world.record("processing", task))

        rig.world.creates = [replace(created(), first=call_back)]
        task = await rig.accept()
        await rig.work(JobKind.SUBMIT)
        found = await rig.task(task)
        assert (found.state, found.provider_task_id, found.unsure) == (State.PROCESSING, "p1", False)
        assert set(await rig.jobs_of(task)) == {"query"}

    stage.play(story)


def test_a_callback_settles_an_unsure_create(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await unsure(rig)
        assert await rig.told(task, rig.world.record("submitted", task)) == "moved"
        found = await rig.task(task)
        assert (found.state, found.unsure) == (State.SUBMITTED, False)
        assert set(await rig.jobs_of(task)) == {"query"}

    stage.play(story)


def test_a_second_provider_task_is_kept_and_called_out(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        async def call_back(request: Seen) -> None:
            task = TaskId(int(request.json["external_task_id"]))
            await rig.told(task, rig.world.record("processing", task, task_id="p0"))

        rig.world.creates = [replace(created("p1"), first=call_back)]
        task = await rig.accept()
        await rig.work(JobKind.SUBMIT)
        found = await rig.task(task)
        assert (found.provider_task_id, found.attention) == ("p0", "created_twice")
        assert "task.created_twice" in await rig.story(task)

    stage.play(story)


def test_racing_workers_never_take_more_than_the_slots_of_an_account(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.world.creates = [created()]
        tasks = [await rig.accept() for _ in range(12)]
        claimed = [job for _ in tasks if (job := await rig.claim(JobKind.SUBMIT)) is not None]
        await asyncio.gather(*(rig.handle(job) for job in claimed))
        states = [(await rig.state(task))[0] for task in tasks]
        assert states.count(State.SUBMITTED) == 3
        assert states.count(State.ACCEPTED) == 9
        held = await rig.sql("SELECT count(*) AS n FROM job WHERE held")
        assert held[0]["n"] == 9

    stage.play(story, concurrency=3)


def test_held_tasks_are_sent_in_their_order_as_slots_are_freed(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.world.creates = [created()]
        tasks = [await rig.accept() for _ in range(4)]
        for _ in tasks:
            await rig.work(JobKind.SUBMIT)
        for ended, next_one in pairwise(tasks):
            assert await rig.claim(JobKind.SUBMIT) is None
            assert await rig.told(ended, rig.world.record("failed", ended)) == "moved"
            job = await rig.claim(JobKind.SUBMIT)
            assert job is not None
            assert job.subject == next_one
            await rig.handle(job)
        sent = [json.loads(each.body)["external_task_id"] for each in rig.world.made()]
        assert sent == [str(task) for task in tasks]

    stage.play(story, concurrency=1)


def test_held_jobs_are_released_by_the_sweep_when_the_limit_was_raised(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.world.creates = [created()]
        for _ in range(2):
            await rig.accept()
            await rig.work(JobKind.SUBMIT)
        deal = rig.services.deals[ACCOUNT]
        raised = replace(deal, account=replace(deal.account, concurrency=2))
        await sweep.seldom(replace(rig.services, deals={ACCOUNT: raised}))
        assert await rig.claim(JobKind.SUBMIT) is not None

    stage.play(story, concurrency=1)


def test_words_of_the_provider_carry_no_token_into_task_or_log(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        async def echo(request: Seen) -> None:
            rig.world.creates[0].body = {"code": 1201, "message": f"bad callback_url {request.json['callback_url']}"}

        rig.world.creates = [Reply(400, {}, first=echo)]
        task = await rig.accept()
        await rig.work(JobKind.SUBMIT)
        token = rig.services.tokens.callback_token(ACCOUNT, task)
        assert token not in str(await rig.task(task))
        assert token not in str(rig.logs)

    stage.play(story)
