"""The callbacks that were kept, over HTTP."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import timedelta
from typing import Any, get_args

import httpx
import pytest

from receiver.core.model import JobKind, State, TaskId
from receiver.flow.inbox import Outcome, without_secrets
from receiver.web.inbox import Wanted
from tests.flow.rig import Stage
from tests.web.door import Door, judge_problem, play

NOBODYS = TaskId(4242)


async def listed(door: Door, query: str = "", client: httpx.AsyncClient | None = None) -> list[dict[str, Any]]:
    answer = await (client or door.client).get(f"/v1/callbacks?{query}")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["callbacks"]
    return found


async def outcomes(door: Door, query: str = "") -> list[str | None]:
    return [each["outcome"] for each in await listed(door, query)]


async def ids(door: Door, query: str = "") -> list[str]:
    return [each["id"] for each in await listed(door, query)]


async def some_of_each(door: Door) -> TaskId:
    """Keep a callback of every outcome, and one that nobody has read."""
    rig = door.rig
    task = await rig.submitted()
    told = [
        await rig.told(NOBODYS, b"{}"),
        await rig.told(task, b"<html>"),
        await rig.told(task, {"task_status": "processing", "task_info": {"external_task_id": "77"}}),
        await rig.told(task, {"task_status": "processing"}, sign="no"),
        await rig.told(task, {"task_status": "failed"}, sign="no"),
        await rig.told(task, {"task_status": "processing"}),
        await rig.told(task, {"task_status": "submitted"}),
    ]
    assert told == ["orphan", "unreadable", "cross_wired", "hinted", "asked", "moved", "noted"]
    assert set(told) == set(Outcome)
    await rig.call_back(task, b"last")
    return task


def test_every_outcome_can_be_asked_for() -> None:
    assert set(get_args(Wanted)) == {*Outcome, "unprocessed"}


def test_callbacks_are_listed_newest_first_and_by_every_filter(stage: Stage) -> None:
    async def story(door: Door) -> None:
        task = await some_of_each(door)
        newest_first = [None, "noted", "moved", "asked", "hinted", "cross_wired", "unreadable", "orphan"]
        assert await outcomes(door) == newest_first
        for outcome in Outcome:
            assert await outcomes(door, f"outcome={outcome}") == [outcome]
            assert await outcomes(door, f"outcome={outcome}&task={task}") == [outcome] * (outcome != "orphan")
        assert await outcomes(door, "outcome=unprocessed") == [None]
        assert await outcomes(door, f"outcome=unprocessed&task={task}") == [None]
        assert await outcomes(door, f"task={task}") == newest_first[:-1]
        assert await outcomes(door, f"task={NOBODYS}") == ["orphan"]
        assert len(await listed(door, "account=studio")) == 8
        assert await listed(door, "account=nobody") == []
        told = {each["outcome"]: (each["told"], each["trust"]) for each in await listed(door)}
        assert told["orphan"] == told["unreadable"] == told["cross_wired"] == (None, "signed")
        assert (told["asked"], told["moved"]) == (("failed", "token"), ("processing", "signed"))

    play(stage, story)


def test_callbacks_are_listed_by_time(stage: Stage) -> None:
    async def story(door: Door) -> None:
        await some_of_each(door)
        await door.rig.sql("UPDATE inbox SET received_at = received_at - interval '1 hour' WHERE outcome = 'moved'")
        then = door.rig.services.clock() - timedelta(minutes=30)
        moment = then.isoformat().replace("+00:00", "Z")
        assert await outcomes(door, f"received_before={moment}") == ["moved"]
        assert "moved" not in await outcomes(door, f"received_after={moment}")
        assert len(await listed(door, f"received_after={moment}")) == 7

    play(stage, story)


def test_pages_of_callbacks_follow_each_other_without_gap_or_repeat(stage: Stage) -> None:
    async def story(door: Door) -> None:
        await some_of_each(door)
        everything, found, cursor = await ids(door), [], ""
        while True:
            page = (await door.get(f"/v1/callbacks?limit=4{cursor}")).json()
            found += [each["id"] for each in page["callbacks"]]
            if page["next_cursor"] is None:
                break
            assert len(page["callbacks"]) == 4
            cursor = f"&cursor={page['next_cursor']}"
        assert found == everything == sorted(everything, key=int, reverse=True)

    play(stage, story)


WRONG_PARAMETERS = [
    ("outcome=lost", "outcome"),
    ("task=x", "task"),
    ("task=01", "task"),
    ("cursor=x", "cursor"),
    ("received_after=yesterday", "received_after"),
    ("received_after=2026-01-01T00:00:00", "received_after"),
    ("received_before=", "received_before"),
    ("limit=0", "limit"),
    ("limit=201", "limit"),
    ("state=moved", "state"),
    ("account=%00", "account"),
]


def test_a_list_of_callbacks_names_the_parameter_that_is_wrong(stage: Stage) -> None:
    async def story(door: Door) -> None:
        for query, field in WRONG_PARAMETERS:
            judge_problem(door, await door.get(f"/v1/callbacks?{query}"), 422, "invalid_input", field)

    play(stage, story)


def test_a_callback_is_shown_as_it_came_but_for_what_opens_doors(stage: Stage) -> None:
    async def story(door: Door) -> None:
        task = await door.rig.submitted()
        raw = json.dumps(door.rig.world.record("succeed", task, clips=("c1",))).encode()
        await door.rig.told(task, raw)
        assert not await door.rig.call_back(task, raw)
        (callback,) = await ids(door)
        shown = (await door.get(f"/v1/callbacks/{callback}")).json()
        assert (shown["bytes"], shown["sha256"]) == (len(raw), hashlib.sha256(raw).hexdigest())
        assert (shown["outcome"], shown["told"], shown["trust"], shown["repeats"]) == (
            "moved",
            "succeeded",
            "signed",
            1,
        )
        assert shown["received_at"] <= shown["processed_at"]
        assert (shown["body_encoding"], shown["body_cut"]) == ("utf-8", True)
        assert "hushhush" not in shown["body"]
        cut = json.loads(shown["body"])
        assert cut["task_result"]["audios"][0]["url_mp3"] == f"{door.rig.world.url}/media/c1.mp3?…"
        kept = await door.rig.sql("SELECT body FROM inbox")
        assert kept[0]["body"] == raw

    play(stage, story)


def test_a_body_that_is_no_text_is_shown_in_base64(stage: Stage) -> None:
    async def story(door: Door) -> None:
        task = await door.rig.submitted()
        await door.rig.told(task, b"\xff\xfehttps://host/a?ksSecret=hushhush")
        shown = (await door.get(f"/v1/callbacks/{(await ids(door))[0]}")).json()
        assert (shown["body_encoding"], shown["outcome"]) == ("base64", "unreadable")
        assert base64.b64decode(shown["body"]) == b"\xff\xfehttps://host/a?" + "…".encode()

    play(stage, story)


SIGNED = [
    '{"url":"https://host/a.mp3?X-Amz-Signature=hushhush&b=1"}',
    r'{"url":"https:\/\/host\/a.mp3?sig=hushhush\u0026b=hushhush"}',
    r'{"url":"https://host/a.mp3\u003fsig=hushhush"}',
    r'{"inner":"{\"url\":\"https://host/a.mp3?sig=hush\\u0026b=hushhush\"}"}',
    r'{"inner":"{\"url\":\"https://host/a.mp3\\u003Fsig=hushhush\"}"}',
    "url=https%3A%2F%2Fhost%2Fa.mp3%3Fsig%3Dhushhush",
    "see https://host/a.mp3?a='&sig=hushhush now",
    "<a href=https://host/a.mp3?sig=hushhush>",
    '{"callback_url":"https://we/callbacks/studio/1/0123abcd.' + "hushhush" * 5 + 'abc"}',
    '{"url":"https://we/a/12/0123abcd.' + "hushhush" * 5 + 'abc"}',
]


@pytest.mark.parametrize("text", SIGNED)
def test_what_is_signed_is_cut_however_it_is_written(text: str) -> None:
    shown = without_secrets(text.encode()).decode()
    assert "hush" not in shown
    assert "…" in shown
    if text.startswith("{"):
        json.loads(shown)


@pytest.mark.parametrize("text", ['{"message":"why? because","a":"b?"}', "", "?", '{"url":"https://host/a.mp3"}'])
def test_what_is_not_signed_is_shown_whole(text: str) -> None:
    assert without_secrets(text.encode()).decode() == text


def test_a_key_sees_callbacks_of_its_own_tasks_and_of_no_task(stage: Stage) -> None:
    async def story(door: Door) -> None:
        task = await some_of_each(door)
        ours = {each["id"] for each in await listed(door, f"task={task}")}
        (orphan,) = await ids(door, "outcome=orphan")
        async with await door.new_key("others", "another-key") as client:
            assert [each["id"] for each in await listed(door, "", client)] == [orphan]
            assert await listed(door, f"task={task}", client) == []
            assert (await client.get(f"/v1/callbacks/{orphan}")).status_code == 200
            for each in ours:
                judge_problem(door, await client.get(f"/v1/callbacks/{each}"), 404, "not_found")
                judge_problem(door, await client.post(f"/v1/callbacks/{each}/replay"), 404, "not_found")
        assert "callback.replayed" not in await door.rig.story(task)

    play(stage, story)


@pytest.mark.parametrize("text", ["0", "99", "x", "01", "9" * 30, "%00"])
def test_an_unknown_callback_is_not_found(stage: Stage, text: str) -> None:
    async def story(door: Door) -> None:
        judge_problem(door, await door.get(f"/v1/callbacks/{text}"), 404, "not_found")
        judge_problem(door, await door.client.post(f"/v1/callbacks/{text}/replay"), 404, "not_found")

    play(stage, story)


def test_a_replayed_callback_is_read_again_and_what_is_known_changes_nothing(stage: Stage) -> None:
    async def story(door: Door) -> None:
        task = await door.rig.succeeded()
        await door.rig.work(JobKind.ARCHIVE)
        await door.rig.told(task, door.rig.world.record("succeed", task, clips=("c1",)))
        before, (callback,) = await door.rig.task(task), await ids(door)
        for _ in range(2):
            answer = await door.client.post(f"/v1/callbacks/{callback}/replay")
            assert answer.status_code == 202, answer.text
            assert answer.headers["location"] == f"/v1/callbacks/{callback}"
            assert (answer.json()["outcome"], answer.json()["told"], answer.json()["processed_at"]) == (
                None,
                None,
                None,
            )
            await door.rig.work(JobKind.ADVANCE)
            assert await outcomes(door) == ["noted"]
        assert await door.rig.task(task) == before
        assert (await door.rig.story(task)).count("callback.replayed") == 2
        assert await door.rig.jobs_of(task) == {}

    play(stage, story)


def test_an_orphan_that_is_replayed_finds_its_task_when_there_is_one_meanwhile(stage: Stage) -> None:
    async def story(door: Door) -> None:
        task = await door.rig.submitted()
        await door.rig.sql("UPDATE task SET owner = 'x'")
        await door.rig.told(NOBODYS, door.rig.world.record("processing", task))
        # As after a restore of the database to an earlier moment, made good since.
        await door.rig.sql("UPDATE inbox SET task_id = %(task)s", task=task)
        await door.rig.sql("UPDATE task SET owner = 'team'")
        (callback,) = await ids(door, "outcome=orphan")
        assert (await door.client.post(f"/v1/callbacks/{callback}/replay")).status_code == 202
        await door.rig.work(JobKind.ADVANCE)
        assert await outcomes(door) == ["moved"]
        assert (await door.rig.state(task))[0] is State.PROCESSING

    play(stage, story)


def test_a_replay_during_the_reading_is_not_lost(stage: Stage) -> None:
    async def story(door: Door) -> None:
        task = await door.rig.submitted()
        await door.rig.call_back(task, {"task_status": "processing"})
        job = await door.rig.claim(JobKind.ADVANCE)
        assert job is not None
        (callback,) = await ids(door)
        assert (await door.client.post(f"/v1/callbacks/{callback}/replay")).status_code == 202
        await door.rig.handle(job)
        assert await outcomes(door) == ["moved"]
        await door.rig.work(JobKind.ADVANCE)
        assert await outcomes(door) == ["moved"]
        assert await door.rig.jobs_of(int(callback)) == {}

    play(stage, story)


def test_a_dead_callback_lives_again_by_a_replay(stage: Stage) -> None:
    async def story(door: Door) -> None:
        task = await door.rig.submitted()
        await door.rig.call_back(task, {"task_status": "processing"})
        await door.rig.sql("UPDATE job SET state = 'dead' WHERE kind = 'advance'")
        (callback,) = await ids(door, "outcome=unprocessed")
        await door.client.post(f"/v1/callbacks/{callback}/replay")
        await door.rig.work(JobKind.ADVANCE)
        assert await outcomes(door) == ["moved"]

    play(stage, story)
