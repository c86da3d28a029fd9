"""Callbacks: what is believed, what is kept, and that nothing that was answered 200 is ever lost."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from typing import cast

import psycopg
import pytest

from receiver.core.errors import DataRefused, SignatureRejected, StoreUnavailable, TokenUnknown
from receiver.core.ids import task_id
from receiver.core.model import JobKind, State, TaskId
from receiver.flow import callback, sweep
from receiver.flow.callback import Posted
from receiver.store import jobs
from receiver.store.inbox import Arrival, Key
from tests.flow.rig import ACCOUNT, Rig, Stage
from tests.flow.world import HTML, JsonMap


def new_shape(rig: Rig, status: str, task: object, *clips: str) -> JsonMap:
    outputs = [
        {
            "type": "audio",
            "id": clip,
            "mp3_url": rig.world.link(f"{clip}.mp3"),
            "wav_url": rig.world.link(f"{clip}.wav"),
        }
        for clip in clips
    ]
    return {"id": "p1", "status": status, "external_id": str(task), "outputs": outputs}


async def kept(rig: Rig, task: TaskId) -> int:
    return len(await rig.sql("SELECT id FROM inbox WHERE task_id = %(t)s", t=task))


@pytest.mark.parametrize("shape", ["legacy", "new"])
def test_a_signed_success_in_either_shape_moves_the_task(stage: Stage, shape: str) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        body = (
            rig.world.record("succeed", task, clips=("c1",))
            if shape == "legacy"
            else new_shape(rig, "succeeded", task, "c1")
        )
        assert await rig.told(task, body) == "moved"
        found = await rig.task(task)
        assert (found.state, found.trust) == (State.SUCCEEDED, "signed")
        assert [(asset.clip, asset.format) for asset in found.assets] == [("c1", "mp3"), ("c1", "wav")]
        assert rig.world.asked() == []

    stage.play(story)


@pytest.mark.parametrize("mode", ["required", "opportunistic", "none"])
@pytest.mark.parametrize("sign", ["good", "no", "bad", "stale", "odd"])
def test_signatures_count_as_the_account_says(stage: Stage, mode: str, sign: str) -> None:
    refused = mode != "none" and (sign == "bad" or (mode == "required" and sign == "no"))
    moved = mode != "none" and sign == "good"

    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        body = rig.world.record("failed", task)
        if refused:
            with pytest.raises(SignatureRejected):
                await rig.call_back(task, body, sign=sign)
            assert await kept(rig, task) == 0
        else:
            assert await rig.told(task, body, sign=sign) == ("moved" if moved else "asked")
        found = await rig.task(task)
        assert (found.state is State.FAILED, found.query_wanted) == (moved, not moved)

    stage.play(story, signature_mode=mode)


def test_without_a_secret_every_callback_is_only_a_hint(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        assert await rig.told(task, rig.world.record("failed", task)) == "asked"
        assert (await rig.state(task))[0] is State.SUBMITTED

    stage.play(story, webhook_secrets=())


@pytest.mark.parametrize("status", ["submitted", "processing", "succeed", "failed"])
def test_a_hint_never_moves_a_task(stage: Stage, status: str) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        clips = ("c1",) if status == "succeed" else ()
        outcome = await rig.told(task, rig.world.record(status, task, clips=clips), sign="no")
        assert outcome == {"submitted": "noted", "processing": "hinted"}.get(status, "asked")
        found = await rig.task(task)
        assert (found.state, found.assets) == (State.SUBMITTED, ())

    stage.play(story)


def test_many_hints_cost_one_question(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        rig.world.queries = [rig.world.report("processing", task)]
        for number in range(5):
            await rig.told(task, rig.world.record("failed", task, noise=number), sign="no")
            await rig.just_asked(task)
            await rig.work(JobKind.QUERY)
        assert len(rig.world.asked()) == 1
        assert (await rig.story(task)).count("task.hinted") <= 5
        await rig.forget_spacing(task)
        await rig.work(JobKind.QUERY)
        assert len(rig.world.asked()) == 2

    stage.play(story)


def test_a_hint_is_settled_by_the_provider_itself(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        await rig.told(task, rig.world.record("succeed", task, clips=("evil",)), sign="no")
        rig.world.queries = [rig.world.report("failed", task)]
        await rig.work(JobKind.QUERY)
        assert (await rig.state(task))[0] is State.FAILED
        assert rig.world.fetched() == []

    stage.play(story)


def test_hints_about_a_task_that_is_not_sent_yet_send_it_and_change_nothing(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.accept()
        assert await rig.told(task, rig.world.record("failed", task), sign="no") == "asked"
        assert (await rig.state(task))[0] is State.ACCEPTED
        assert set(await rig.jobs_of(task)) == {"submit"}

    stage.play(story)


def test_a_callback_with_the_ids_of_another_task_is_cross_wired(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task, other = await rig.submitted(), await rig.submitted()
        assert await rig.told(task, rig.world.record("failed", other)) == "cross_wired"
        found = await rig.task(task)
        assert (found.state, found.attention, found.query_wanted) == (State.SUBMITTED, "cross_wired", True)
        assert (await rig.state(other))[0] is State.SUBMITTED
        rig.world.queries = [rig.world.report("processing", task)]
        await rig.work(JobKind.QUERY)
        assert (await rig.state(task))[0] is State.PROCESSING

    stage.play(story)


def test_a_callback_that_names_no_id_of_ours_is_matched_by_the_providers(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        assert await rig.told(task, rig.world.record("failed", task, task_info={}, task_id="p2")) == "cross_wired"
        assert await rig.told(task, rig.world.record("failed", task, task_info={})) == "moved"

    stage.play(story)


@pytest.mark.parametrize(
    "body", [b"", b"\0", b"{", b"[]", b'{"a":1,"a":2}', b'{"task_status":"dreaming"}', b"\xff" * 9]
)
def test_an_unreadable_body_is_kept_and_asked_about_once(stage: Stage, body: bytes) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        assert await rig.told(task, body) == "unreadable"
        assert await kept(rig, task) == 1
        assert (await rig.task(task)).query_wanted
        assert (await rig.state(task))[0] is State.SUBMITTED

    stage.play(story)


def test_nul_and_lone_surrogates_in_a_callback_break_nothing(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        odd = "\0\ud800"
        body = rig.world.record("failed", task, task_status_msg=odd, created_at=odd, final_unit_deduction=odd)
        assert await rig.told(task, body) == "moved"
        other = await rig.submitted()
        body = rig.world.record("succeed", other, clips=("c1",), created_at=10**30)
        body["task_result"]["audios"][0]["id"] = odd
        body["task_result"]["audios"].append({"id": odd * 300, "url_mp3": f"http://{odd}/x"})
        assert await rig.told(other, body) == "moved"
        assert {asset.clip for asset in await rig.assets(other)} == {"0"}

    stage.play(story)


def test_a_callback_for_no_task_of_ours_is_an_orphan(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        nobody = task_id(rig.services.clock(), 7)
        assert await rig.told(nobody, rig.world.record("failed", nobody)) == "orphan"

    stage.play(story)


def test_only_a_url_of_ours_is_taken(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        good = rig.services.tokens.callback_token(ACCOUNT, task)
        other = rig.services.tokens.callback_token(ACCOUNT, TaskId(task + 1))
        wrong = [
            (ACCOUNT, str(task), other),
            (ACCOUNT, str(task + 1), good),
            ("else", str(task), good),
            (ACCOUNT, f"0{task}", good),
            (ACCOUNT, str(task), good[:-1]),
            (ACCOUNT, str(task), ""),
            (ACCOUNT, str(task), "\u2028"),
            (ACCOUNT, "test", good),
        ]
        for account, text, token in wrong:
            with pytest.raises(TokenUnknown):
                await rig.intake.take(Posted(account, text, token, b"{}", None, None, None))
        assert await rig.sql("SELECT id FROM inbox") == []
        console = rig.services.tokens.callback_token(ACCOUNT, cast("TaskId", "test"))
        assert await rig.intake.take(Posted(ACCOUNT, "test", console, b"{}", None, None, None))
        assert await rig.sql("SELECT id FROM inbox") == []

    stage.play(story)


def test_repeats_are_counted_and_have_no_effect(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        body = rig.world.record("failed", task)
        answers = await asyncio.gather(*(rig.call_back(task, body) for _ in range(50)))
        assert sorted(answers) == [False] * 49 + [True]
        assert not await rig.call_back(task, body)
        await rig.work(JobKind.ADVANCE)
        assert await rig.claim(JobKind.ADVANCE) is None
        await sweep.seldom(rig.services)
        (row,) = await rig.sql("SELECT repeats FROM inbox")
        assert row["repeats"] == 50
        assert await rig.sql("SELECT 1 AS one FROM inbox_repeat") == []
        assert (await rig.story(task)).count("task.failed") == 1

    stage.play(story)


def test_an_unsigned_copy_does_not_hide_the_signed_one(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        body = rig.world.record("failed", task)
        assert await rig.told(task, body, sign="no") == "asked"
        assert await rig.told(task, body) == "moved"
        assert (await rig.state(task))[0] is State.FAILED

    stage.play(story)


def test_an_advance_that_runs_twice_has_one_effect(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        await rig.call_back(task, rig.world.record("failed", task))
        job = await rig.claim(JobKind.ADVANCE)
        assert job is not None
        await asyncio.gather(rig.worker.outcomes([job]), rig.worker.outcomes([job]))
        async with rig.services.database.connection() as conn:
            await jobs.settle(conn, rig.worker.id, [])
        assert (await rig.story(task)).count("task.failed") == 1
        await rig.handle(job)

    stage.play(story)


def test_statuses_in_the_wrong_order_end_the_same(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        assert await rig.told(task, rig.world.record("succeed", task, clips=("c1",))) == "moved"
        assert await rig.told(task, rig.world.record("processing", task)) == "noted"
        assert await rig.told(task, rig.world.record("submitted", task)) == "noted"
        assert (await rig.state(task))[0] is State.SUCCEEDED

    stage.play(story)


def test_a_callback_about_a_cancelled_task_revives_it_and_calls_a_person(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.accept()
        await rig.sql(
            "UPDATE task SET state = 'cancelled', reason = 'x', due_at = NULL, ended_at = now() WHERE id = %(t)s",
            t=task,
        )
        await rig.sql("DELETE FROM job")
        assert await rig.told(task, rig.world.record("processing", task)) == "moved"
        found = await rig.task(task)
        assert (found.state, found.attention) == (State.PROCESSING, "cancelled_but_made")

    stage.play(story)


def test_an_archived_task_grows_when_the_provider_offers_more(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.succeeded()
        await rig.work(JobKind.ARCHIVE)
        assert (await rig.state(task))[0] is State.ARCHIVED
        rig.world.media["/media/c2.mp3"] = rig.world.media["/media/c1.mp3"]
        rig.world.media["/media/c2.wav"] = rig.world.media["/media/c1.wav"]
        assert await rig.told(task, rig.world.record("succeed", task, clips=("c1", "c2"))) == "moved"
        found = await rig.task(task)
        assert (found.state, found.revision) == (State.SUCCEEDED, 2)
        await rig.work(JobKind.ARCHIVE)
        assert (await rig.state(task))[0] is State.ARCHIVED
        assert len(rig.world.fetched()) == 4

    stage.play(story)


def test_a_bad_signature_asks_the_provider_and_not_a_dead_one_for_ever(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        rig.world.queries = [HTML]
        for _ in range(3):
            with pytest.raises(SignatureRejected):
                await rig.call_back(task, rig.world.record("failed", task), sign="bad")
        assert (await rig.story(task)).count("callback.refused") == 1
        assert [line["verdict"] for line in rig.logged("callback.refused")] == ["bad"]
        settled = await rig.work(JobKind.QUERY)
        assert settled is not None
        assert settled.error == "provider_unreachable"

    stage.play(story)


def test_a_full_queue_turns_callbacks_away(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(rig: Rig) -> None:
        monkeypatch.setattr(callback, "_QUEUE", 3)
        task = await rig.submitted()
        posts = [rig.call_back(task, rig.world.record("processing", task, n=n)) for n in range(5)]
        answers = await asyncio.gather(*posts, return_exceptions=True)
        assert [type(answer) for answer in answers].count(StoreUnavailable) == 2
        assert await kept(rig, task) == 3

    stage.play(story)


def test_a_value_that_the_database_refuses_costs_only_its_own_callback(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        bad = Arrival(Key(task, "\0", verified=False, digest=hashlib.sha256(b"bad").digest()), b"bad")
        good = Arrival(Key(task, ACCOUNT, verified=False, digest=hashlib.sha256(b"good").digest()), b"good")
        answers = await asyncio.gather(*(rig.intake._keep(arrival) for arrival in (good, bad)), return_exceptions=True)
        assert answers[0] is True
        assert isinstance(answers[1], DataRefused)
        assert await rig.call_back(task, rig.world.record("processing", task))
        assert await kept(rig, task) == 2

    stage.play(story)


def test_while_the_database_is_away_callbacks_are_turned_away_and_later_taken_again(
    stage: Stage, database_url: str
) -> None:
    server, _, options = database_url.partition("?")
    address, _, name = server.rpartition("/")
    gate = f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS '

    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        bodies = [rig.world.record("processing", task, n=n) for n in range(30)]
        answered = [await rig.call_back(task, body) for body in bodies[:10]]
        async with await psycopg.AsyncConnection.connect(f"{address}/postgres?{options}", autocommit=True) as admin:
            await admin.execute(f"{gate} false".encode())
            ended = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %(d)s"
            await admin.execute(ended, {"d": name})
            posts = [rig.call_back(task, body) for body in bodies[10:20]]
            failed = await asyncio.gather(*posts, return_exceptions=True)
            assert {type(each) for each in failed} == {StoreUnavailable}
            await admin.execute(f"{gate} true".encode())
        answered += [await rig.call_back(task, body) for body in bodies[10:]]
        assert answered == [True] * 30
        assert await kept(rig, task) == 30
        assert await rig.claim(JobKind.ADVANCE) is not None

    stage.play(story)


def test_a_slow_database_turns_callbacks_away_in_time(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        async with rig.services.database.transaction() as conn:
            await conn.execute("LOCK TABLE inbox IN ACCESS EXCLUSIVE MODE")
            with monkeypatch.context() as hasty:
                hasty.setattr(callback, "ANSWER_WITHIN", callback.ANSWER_WITHIN / 10)
                with pytest.raises(StoreUnavailable):
                    await rig.call_back(task, rig.world.record("processing", task))
        assert await rig.call_back(task, rig.world.record("processing", task, n=2))

    stage.play(story)


def test_a_callback_waits_for_no_lock_of_its_task(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        async with rig.services.database.transaction() as conn:
            await conn.execute("SELECT id FROM task WHERE id = %(t)s FOR UPDATE", {"t": task})
            assert await rig.call_back(task, rig.world.record("processing", task))

    stage.play(story)


def test_a_profile_without_a_query_route_believes_the_token(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.with_profile(query=False)
        task = await rig.submitted()
        body = rig.world.record("succeed", task, clips=("c1",))
        assert await rig.told(task, body, sign="no") == "moved"
        found = await rig.task(task)
        assert (found.state, found.trust) == (State.SUCCEEDED, "token")

    stage.play(story)


def test_an_account_that_is_gone_makes_an_orphan(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        assert await rig.told(task, rig.world.record("failed", task)) == "moved"
        await rig.call_back(task, rig.world.record("processing", task))
        job = await rig.claim(JobKind.ADVANCE)
        assert job is not None
        rig.worker.services = replace(rig.services, deals={})
        await rig.handle(job)
        rows = await rig.sql("SELECT outcome FROM inbox ORDER BY id")
        assert [row["outcome"] for row in rows] == ["moved", "orphan"]

    stage.play(story)


def test_a_database_that_turned_read_only_is_one_that_is_away(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        setting = "SELECT set_config('default_transaction_read_only', %(on)s, false)"
        assert await rig.call_back(task, rig.world.record("processing", task, n=1))
        assert rig.intake._conn is not None
        await rig.intake._conn.execute(setting, {"on": "on"})
        with pytest.raises(StoreUnavailable):
            await rig.call_back(task, rig.world.record("processing", task, n=2))
        assert await rig.call_back(task, rig.world.record("processing", task, n=2))

    stage.play(story)
