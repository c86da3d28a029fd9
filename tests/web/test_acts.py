"""The acts over HTTP: who may, what a body may hold, and what the answer is."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import httpx
import pytest

from receiver.core.model import CreateId, JobKind, State
from receiver.store.keys import Key
from tests.flow.rig import KEY, Rig, Stage
from tests.flow.world import created, envelope, sound
from tests.web.client import ORDER, add_key, client_of, play

ADOPTION = {"account": "studio", "kind": "text-to-audio", "provider_task_id": "p9"}


async def rejected(rig: Rig, client: httpx.AsyncClient) -> str:
    rig.world.creates = [envelope(1201, "no", status=400), created()]
    task = (await client.post("/v1/tasks", json=ORDER)).json()["id"]
    await rig.work(JobKind.SUBMIT)
    return str(task)


def test_a_cancel_answers_with_the_cancelled_task(stage: Stage) -> None:
    async def story(_: Rig, client: httpx.AsyncClient) -> None:
        task = (await client.post("/v1/tasks", json=ORDER)).json()["id"]
        for _nth in range(2):
            answer = await client.post(f"/v1/tasks/{task}/cancel")
            assert (answer.status_code, answer.headers["location"]) == (200, f"/v1/tasks/{task}")
            assert {
                "state": "cancelled",
                "reason": "cancelled_by_owner",
                "due_at": None,
            }.items() <= answer.json().items()
        told = (await client.get(f"/v1/tasks/{task}/events")).json()
        assert [each["type"] for each in told["events"]] == ["task.accepted", "task.cancelled"]

    play(stage, story)


def test_a_task_that_was_sent_cannot_be_cancelled(stage: Stage) -> None:
    async def story(rig: Rig, client: httpx.AsyncClient) -> None:
        task = await rig.submitted()
        answer = await client.post(f"/v1/tasks/{task}/cancel")
        assert (answer.status_code, answer.json()["code"]) == (409, "already_sent")
        assert answer.headers["content-type"] == "application/problem+json"

    play(stage, story)


@pytest.mark.parametrize("body", [None, b"", b"{}", b'{"may_charge_twice": false}', b'{"may_charge_twice": true}'])
def test_a_retry_takes_no_body_or_its_one_field(stage: Stage, body: bytes | None) -> None:
    async def story(rig: Rig, client: httpx.AsyncClient) -> None:
        task = await rejected(rig, client)
        answer = await client.post(f"/v1/tasks/{task}/retry", content=body)
        assert (answer.status_code, answer.json()["state"]) == (202, "accepted")

    play(stage, story)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "malformed_body"),
        (b"[]", 400, "malformed_body"),
        (b"null", 400, "malformed_body"),
        (b"\xff", 400, "malformed_body"),
        (b'{"may_charge_twice": true, "may_charge_twice": false}', 400, "malformed_body"),
        (b'{"may_charge_twice": "yes"}', 422, "invalid_input"),
        (b'{"may_charge_twice": 1}', 422, "invalid_input"),
        (b'{"may_charge_twice": null}', 422, "invalid_input"),
        (b'{"may_charge": true}', 422, "invalid_input"),
        (b" " * (256 * 1024 + 1), 413, "body_too_large"),
    ],
)
def test_a_retry_with_another_body_does_nothing(stage: Stage, body: bytes, status: int, code: str) -> None:
    async def story(rig: Rig, client: httpx.AsyncClient) -> None:
        task = await rejected(rig, client)
        answer = await client.post(f"/v1/tasks/{task}/retry", content=body)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert (await client.get(f"/v1/tasks/{task}")).json()["state"] == "rejected"

    play(stage, story)


def test_a_second_charge_must_be_agreed_to(stage: Stage) -> None:
    async def story(rig: Rig, client: httpx.AsyncClient) -> None:
        rig.with_profile(create_id=CreateId.NONE)
        async with client_of(rig, replace(KEY, id="later")) as later:
            task = await rejected(rig, later)
            answer = await later.post(f"/v1/tasks/{task}/retry")
            assert (answer.status_code, answer.json()["code"]) == (409, "may_charge_twice")
            answer = await later.post(f"/v1/tasks/{task}/retry", json={"may_charge_twice": True})
            assert (answer.status_code, answer.json()["state"]) == (202, "accepted")
        (event,) = (await client.get(f"/v1/tasks/{task}/events")).json()["events"][-1:]
        assert (event["type"], event["data"]["may_charge_twice"]) == ("task.retried", True)

    play(stage, story)


def test_a_retry_of_what_cannot_be_tried_again_says_what_to_do_instead(stage: Stage) -> None:
    async def story(rig: Rig, client: httpx.AsyncClient) -> None:
        task = await rig.submitted()
        rig.world.queries = [rig.world.report("failed", task)]
        await rig.work(JobKind.QUERY)
        answer = await client.post(f"/v1/tasks/{task}/retry")
        assert (answer.status_code, answer.json()["code"]) == (409, "not_retryable")
        assert "submit a new task" in answer.json()["detail"]

    play(stage, story)


def test_a_refresh_is_taken_and_the_provider_asked(stage: Stage) -> None:
    async def story(rig: Rig, client: httpx.AsyncClient) -> None:
        task = await rig.submitted()
        answer = await client.post(f"/v1/tasks/{task}/refresh")
        assert (answer.status_code, answer.json()["state"]) == (202, "submitted")
        rig.world.queries = [rig.world.report("processing", task)]
        await rig.work(JobKind.QUERY)
        assert (await rig.state(task))[0] is State.PROCESSING

    play(stage, story)


def test_a_task_that_was_never_sent_cannot_be_refreshed(stage: Stage) -> None:
    async def story(_: Rig, client: httpx.AsyncClient) -> None:
        task = (await client.post("/v1/tasks", json=ORDER)).json()["id"]
        answer = await client.post(f"/v1/tasks/{task}/refresh")
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict")

    play(stage, story)


@pytest.mark.parametrize("act", ["cancel", "retry", "refresh", "events"])
def test_another_owners_task_and_an_odd_id_are_not_found(stage: Stage, act: str) -> None:
    async def story(rig: Rig, client: httpx.AsyncClient) -> None:
        task = await rejected(rig, client)
        method = "GET" if act == "events" else "POST"
        async with client_of(rig, replace(KEY, id="other", owner="another")) as stranger:
            answer = await stranger.request(method, f"/v1/tasks/{task}/{act}")
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        for odd in ("0", "-1", "1", "x", "1e3", "9" * 19, "9" * 40, "%00", "%D9%A1", f"{task}%20", f"0{task}"):
            answer = await client.request(method, f"/v1/tasks/{odd}/{act}")
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), odd
        assert (await client.get(f"/v1/tasks/{task}")).json()["state"] == "rejected"

    play(stage, story)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/tasks/1/cancel"),
        ("POST", "/v1/tasks/1/retry"),
        ("POST", "/v1/tasks/1/refresh"),
        ("POST", "/v1/tasks:adopt"),
        ("GET", "/v1/tasks/1/events"),
        ("GET", "/v1/accounts"),
        ("POST", "/v1/accounts/studio/pause"),
        ("POST", "/v1/accounts/studio/resume"),
        ("GET", "/v1/ledger"),
    ],
)
def test_without_a_known_key_nothing_is_told(stage: Stage, method: str, path: str) -> None:
    async def story(rig: Rig, client: httpx.AsyncClient) -> None:
        for header in ("", "Bearer ", "Bearer rk_unknown", "Basic rk_key", "rk_key"):
            answer = await client.request(method, path, headers={"Authorization": header})
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert [row["paused_at"] for row in await rig.sql("SELECT paused_at FROM account")] == [None]

    play(stage, story)


def test_an_adopted_task_is_archived_and_adopted_once(stage: Stage) -> None:
    async def story(rig: Rig, client: httpx.AsyncClient) -> None:
        extra = {"reference": "scene-12", "labels": {"from": "before"}}
        answer = await client.post("/v1/tasks:adopt", json=ADOPTION | extra)
        task = answer.json()
        assert (answer.status_code, answer.headers["location"]) == (202, f"/v1/tasks/{task['id']}")
        assert (task["state"], task["provider_task_id"], task["sent_at"]) == ("submitted", "p9", None)
        assert {name: task[name] for name in extra} == extra
        again = await client.post("/v1/tasks:adopt", json=ADOPTION)
        assert (again.status_code, again.json()["code"]) == (409, "already_known")
        assert task["id"] in again.json()["detail"]

        rig.world.offers(c1_mp3=sound("mp3"), c1_wav=sound("wav"))
        rig.world.queries = [rig.world.report("succeed", "theirs", clips=("c1",), task_id="p9")]
        await rig.work(JobKind.QUERY)
        await rig.work(JobKind.ARCHIVE)
        shown = (await client.get(f"/v1/tasks/{task['id']}")).json()
        assert (shown["state"], len(shown["assets"])) == ("archived", 2)
        content = await client.get(f"/v1/assets/{shown['assets'][0]['id']}/content")
        assert content.content == sound("mp3")
        assert rig.world.made() == []

    play(stage, story)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"account": "nobody"}, "account"),
        ({"account": ""}, "account"),
        ({"account": None}, "account"),
        ({"kind": "poem"}, "kind"),
        ({"kind": "a\0"}, "kind"),
        ({"provider_task_id": ""}, "provider_task_id"),
        ({"provider_task_id": 9}, "provider_task_id"),
        ({"provider_task_id": "p\0"}, "provider_task_id"),
        ({"provider_task_id": "\ud800"}, "provider_task_id"),
        ({"provider_task_id": "p" * 257}, "provider_task_id"),
        ({"reference": "\0"}, "reference"),
        ({"reference": "r" * 256}, "reference"),
        ({"labels": {"a": 1}}, "labels.a"),
        ({"labels": {"a": "\0"}}, "labels.a"),
        ({"labels": {str(n): "" for n in range(33)}}, "labels"),
        ({"input": {}}, "input"),
    ],
)
def test_an_adoption_names_each_wrong_field(stage: Stage, changes: dict[str, Any], field: str) -> None:
    async def story(rig: Rig, client: httpx.AsyncClient) -> None:
        answer = await client.post("/v1/tasks:adopt", content=json.dumps(ADOPTION | changes))
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
        assert [each["field"] for each in answer.json()["errors"]] == [field]
        assert await rig.sql("SELECT id FROM task") == []

    play(stage, story)


def test_an_adoption_without_a_body_is_no_json(stage: Stage) -> None:
    async def story(_: Rig, client: httpx.AsyncClient) -> None:
        answer = await client.post("/v1/tasks:adopt")
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed_body")

    play(stage, story)


def test_a_spent_day_is_429_until_midnight_and_a_repeat_is_answered_all_the_same(stage: Stage) -> None:
    async def story(rig: Rig, client: httpx.AsyncClient) -> None:
        once = {"Idempotency-Key": "scene-12"}
        first = await client.post("/v1/tasks", json=ORDER, headers=once)
        assert first.status_code == 202
        for path, body in (("/v1/tasks", ORDER), ("/v1/tasks:adopt", ADOPTION)):
            now = rig.services.clock()
            refused = await client.post(path, json=body)
            assert (refused.status_code, refused.json()["code"]) == (429, "spend_limit")
            left = 86_400 - (now.hour * 3600 + now.minute * 60 + now.second)
            assert left - 60 <= int(refused.headers["retry-after"]) <= left
        again = await client.post("/v1/tasks", json=ORDER, headers=once)
        assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])

    play(stage, story, daily_tasks=1)


def test_the_limit_of_a_key_is_its_own(stage: Stage) -> None:
    async def story(rig: Rig, client: httpx.AsyncClient) -> None:
        frugal = Key(id="frugal", owner=KEY.owner, daily_tasks=1, daily_units=Decimal(1))
        headers = await add_key(rig, frugal)
        assert (await client.post("/v1/tasks", json=ORDER, headers=headers)).status_code == 202
        refused = await client.post("/v1/tasks", json=ORDER, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (429, "spend_limit")
        assert (await client.post("/v1/tasks", json=ORDER)).status_code == 202

    play(stage, story)


def test_the_ledger_lists_all_that_is_not_archived_newest_first(stage: Stage) -> None:
    async def story(rig: Rig, client: httpx.AsyncClient) -> None:
        done = await rig.succeeded()
        await rig.work(JobKind.ARCHIVE)
        dropped = await rejected(rig, client)
        waiting = (await client.post("/v1/tasks", json=ORDER)).json()
        told = (await client.get("/v1/ledger")).json()
        assert (told["accepted"], told["states"]["archived"], told["not_archived_total"]) == (3, 1, 2)
        assert told["not_archived"] == [
            {"id": waiting["id"], "state": "accepted", "reason": None, "attention": None, "due_at": waiting["due_at"]},
            {"id": dropped, "state": "rejected", "reason": "provider_refused", "attention": None, "due_at": None},
        ]
        assert str(done) not in {each["id"] for each in told["not_archived"]}
        async with client_of(rig, replace(KEY, id="other", owner="another")) as stranger:
            told = (await stranger.get("/v1/ledger")).json()
        assert (told["accepted"], told["not_archived_total"], told["not_archived"]) == (0, 0, [])

    play(stage, story)


def test_the_ledger_lists_the_newest_thousand_and_counts_all(stage: Stage) -> None:
    async def story(rig: Rig, client: httpx.AsyncClient) -> None:
        await client.post("/v1/tasks", json=ORDER)
        columns = (
            "owner, account, kind, input, labels, request_hash, state, reason, submit_by, ended_at, due_at, created_at"
        )
        await rig.sql(
            f"INSERT INTO task (id, {columns}) SELECT n, owner, account, kind, input, labels, request_hash,"  # noqa: S608
            " CASE n %% 2 WHEN 0 THEN 'rejected' ELSE 'failed' END, 'made_up', submit_by, now(), NULL, created_at"
            " FROM task, generate_series(1, 1200) AS n"
        )
        await rig.sql("INSERT INTO event (task_id, type) SELECT n, 'task.accepted' FROM generate_series(1, 1200) AS n")
        told = (await client.get("/v1/ledger")).json()
        assert (told["accepted"], told["not_archived_total"], len(told["not_archived"])) == (1201, 1201, 1000)
        numbers = [int(each["id"]) for each in told["not_archived"]]
        assert numbers[1:] == list(range(1200, 201, -1))

    play(stage, story)
