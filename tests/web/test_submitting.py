"""POST /v1/tasks: what is taken, what is refused and how, and that a key makes one task."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.flow.rig import Stage
from tests.web.door import BODY, Door, insisting, judge_problem, play


def with_input(**given: Any) -> dict[str, Any]:
    return BODY | {"input": BODY["input"] | given}


def test_a_task_is_accepted_with_its_address(stage: Stage) -> None:
    async def story(door: Door) -> None:
        answer = await door.post(BODY | {"reference": "ours", "labels": {"show": "12"}})
        assert answer.status_code == 202
        task = answer.json()
        assert answer.headers["location"] == f"/v1/tasks/{task['id']}"
        assert (task["state"], task["reference"], task["labels"]) == ("accepted", "ours", {"show": "12"})
        assert task["slack_seconds"] == pytest.approx(86400, abs=60)
        again = (await door.get(answer.headers["location"])).json()
        assert [event["type"] for event in again.pop("events")] == ["task.accepted"]
        del again["slack_seconds"], task["slack_seconds"]
        assert again == task

    play(stage, story)


NO_JSON = [
    b"",
    b"{",
    b"\xff\xfe",
    b'{"a":1,"a":2}',
    b'{"a":NaN}',
    b"[" * 100_000,
    b"[]",
    b'"x"',
    b"1" * 5000,
]


def test_what_is_no_json_object_is_refused(stage: Stage) -> None:
    async def story(door: Door) -> None:
        for raw in NO_JSON:
            answer = await door.client.post("/v1/tasks", content=raw)
            judge_problem(door, answer, 400, "malformed_body")

    play(stage, story)


WRONG: dict[str, tuple[object, list[str]]] = {
    "nothing": ({}, ["kind", "input"]),
    "wrong types": ({"account": 1, "kind": [], "input": "x"}, ["account", "kind", "input"]),
    "unknown key": (BODY | {"promt": 1}, ["promt"]),
    "unknown account": (BODY | {"account": "nobody"}, ["account"]),
    "account of another world": (BODY | {"account": "\0"}, ["account"]),
    "unknown kind": (BODY | {"kind": "text-to-magic"}, ["kind"]),
    "201 characters": (with_input(prompt="x" * 201), ["input.prompt"]),
    "201 characters of many bytes": (with_input(prompt="雨" * 201), ["input.prompt"]),
    "no prompt": (BODY | {"input": {"duration": 3}}, ["input.prompt"]),
    "blank prompt": (with_input(prompt=" "), ["input.prompt"]),
    "a prompt of nulls": (with_input(prompt="\0"), ["input.prompt"]),
    "half a pair": (with_input(prompt="\ud800"), ["input.prompt"]),
    "too short": (with_input(duration=2.9), ["input.duration"]),
    "too long": (with_input(duration=10.1), ["input.duration"]),
    "too exact": (with_input(duration=3.14), ["input.duration"]),
    "text as number": (with_input(duration="3"), ["input.duration"]),
    "true as number": (with_input(duration=True), ["input.duration"]),
    "two at once": (with_input(prompt="", duration=99), ["input.prompt", "input.duration"]),
    "a field of ours": (with_input(callback_url="https://evil.example"), ["input.callback_url"]),
    "long reference": (BODY | {"reference": "x" * 256}, ["reference"]),
    "odd reference": (BODY | {"reference": "a\0b"}, ["reference"]),
    "labels that are no text": (BODY | {"labels": {"a": 1}}, ["labels.a"]),
    "odd label": (BODY | {"labels": {"a": "\0"}}, ["labels.a"]),
    "labels of which no filter can ask": (
        BODY | {"labels": {"": "", "a:b": "", "n" * 64: ""}},
        ["labels.", "labels.a:b", "labels." + "n" * 40],
    ),
    "a long value": (BODY | {"labels": {"a": "x" * 256, "b": "x" * 255, "n" * 63: ""}}, ["labels.a"]),
    "many labels": (BODY | {"labels": {str(n): "" for n in range(33)}}, ["labels"]),
}


def test_every_wrong_field_is_named(stage: Stage) -> None:
    async def story(door: Door) -> None:
        for body, fields in WRONG.values():
            answer = await door.client.post("/v1/tasks", content=json.dumps(body).encode())
            problem = judge_problem(door, answer, 422, "invalid_input", *fields)
            assert all(error["message"] for error in problem["errors"])
            assert await door.rig.sql("SELECT id FROM task") == []

    play(stage, story)


ODD_TEXTS = [
    b'{"account":"studio","kind":"text-to-audio","input":{"prompt":"x","duration":3},"\\ud800":1}',
    b'{"account":"studio","kind":"text-to-audio","input":{"prompt":"x","duration":3},"labels":{"\\ud800":"1"}}',
    b'{"account":"studio","kind":"text-to-audio","input":{"prompt":"x","duration":3},"labels":{"\\u0000":"1"}}',
    b'{"account":"\\ud800","kind":"text-to-audio","input":{"prompt":"x","duration":3}}',
    b'{"account":"studio","kind":"\\ud800","input":{"prompt":"x","duration":3}}',
    b'{"account":"studio","kind":"text-to-audio","input":{"\\ud800":"x","duration":3,"prompt":"x"}}',
    b'{"account":"studio","kind":"text-to-audio","input":{"prompt":"x","duration":1e400}}',
    b'{"account":"studio","kind":"text-to-audio","input":{"prompt":"x","duration":3},"reference":"\\ud800"}',
]


def test_a_body_of_wrong_fields_is_answered_by_a_hundred_of_them(stage: Stage) -> None:
    async def story(door: Door) -> None:
        wrong = {f"f{n}": 1 for n in range(20_000)}
        for body, prefix in ((BODY | wrong, ""), (BODY | {"input": BODY["input"] | wrong}, "input.")):
            fields = [*(f"{prefix}f{n}" for n in range(100)), "*"]
            problem = judge_problem(door, await door.post(body), 422, "invalid_input", *fields)
            assert problem["errors"][-1]["message"] == "19900 more fields are wrong"
            assert len(problem["detail"]) < 10_000

    play(stage, story)


def test_what_is_wrong_is_said_without_words_of_python(stage: Stage) -> None:
    async def story(door: Door) -> None:
        body = {"account": 1, "input": [], "labels": "x", "promt": 1}
        problem = (await door.post(body)).json()
        assert {each["field"]: each["message"] for each in problem["errors"]} == {
            "account": "must be a text",
            "kind": "is required",
            "input": "must be an object",
            "labels": "must be an object",
            "promt": "no such field",
        }
        odd = await door.client.post("/v1/tasks", content=b'{"\\ud800": 1}')
        assert odd.json()["errors"] == [{"field": "body", "message": "must be a text; half a surrogate pair is none"}]

    play(stage, story)


def test_text_that_no_answer_can_carry_is_refused_and_breaks_nothing(stage: Stage) -> None:
    async def story(door: Door) -> None:
        for raw in ODD_TEXTS:
            answer = await door.client.post("/v1/tasks", content=raw)
            assert answer.status_code in {400, 422}, answer.text
            assert answer.json()["request_id"]
            assert door.rig.logged("request.refused")[-1]["request_id"] == answer.json()["request_id"]

    play(stage, story)


def test_a_body_that_is_too_large_is_refused(stage: Stage) -> None:
    async def story(door: Door) -> None:
        answer = await door.post(BODY | {"reference": "x" * 300_000})
        judge_problem(door, answer, 413, "body_too_large")

    play(stage, story)


NO_KEYS = ["", "Bearer", "Bearer ", "Bearer wrong", "Basic dGVhbTp4", "Bearer \xe9", "bearer\t"]


def test_without_a_known_key_nothing_is_answered(stage: Stage) -> None:
    async def story(door: Door) -> None:
        for header in NO_KEYS:
            for method, path in (
                ("POST", "/v1/tasks"),
                ("GET", "/v1/tasks"),
                ("GET", "/v1/ledger"),
                ("GET", "/v1/assets/1"),
            ):
                answer = await door.client.request(method, path, headers=[(b"Authorization", header.encode("latin-1"))])
                judge_problem(door, answer, 401, "unauthorized")
                assert answer.headers["www-authenticate"] == "Bearer"

    play(stage, story)


def test_a_revoked_key_is_unknown(stage: Stage) -> None:
    async def story(door: Door) -> None:
        assert (await door.get("/v1/tasks")).status_code == 200
        await door.rig.sql("UPDATE api_key SET revoked_at = now()")
        judge_problem(door, await door.get("/v1/tasks"), 401, "unauthorized")

    play(stage, story)


def test_the_same_key_and_request_give_the_same_task(stage: Stage) -> None:
    async def story(door: Door) -> None:
        first = await door.post(key="k")
        respelled = await door.client.post(
            "/v1/tasks",
            content=b'{"input": {"duration": 3.0, "prompt": "rain on a tin roof"},'
            b' "kind": "text-to-audio", "account":"studio"}',
            headers={"Idempotency-Key": "k"},
        )
        assert (first.status_code, respelled.status_code) == (202, 202)
        assert first.json()["id"] == respelled.json()["id"]
        assert len(await door.rig.sql("SELECT id FROM task")) == 1

    play(stage, story)


@pytest.mark.parametrize(
    "other", [with_input(prompt="snow"), BODY | {"reference": "r"}, BODY | {"labels": {"a": "b"}}], ids=str
)
def test_the_same_key_with_another_request_is_refused(stage: Stage, other: dict[str, Any]) -> None:
    async def story(door: Door) -> None:
        assert (await door.post(key="k")).status_code == 202
        judge_problem(door, await door.post(other, key="k"), 422, "idempotency_mismatch")

    play(stage, story)


def test_a_key_belongs_to_its_owner(stage: Stage) -> None:
    async def story(door: Door) -> None:
        mine = await door.post(key="k")
        async with await door.new_key("others", "another-key") as client:
            theirs = await client.post("/v1/tasks", json=with_input(prompt="snow"), headers={"Idempotency-Key": "k"})
        assert (mine.status_code, theirs.status_code) == (202, 202)
        assert mine.json()["id"] != theirs.json()["id"]

    play(stage, story)


def test_twenty_posts_at_once_with_one_key_make_one_task(stage: Stage) -> None:
    async def story(door: Door) -> None:
        answers = await asyncio.gather(*(insisting(lambda: door.post(key="k")) for _ in range(20)))
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.json()["id"] for answer in answers}) == 1

    play(stage, story)


def test_posts_without_a_key_make_a_task_each(stage: Stage) -> None:
    async def story(door: Door) -> None:
        answers = await asyncio.gather(*(insisting(door.post) for _ in range(20)))
        assert len({answer.json()["id"] for answer in answers}) == 20

    play(stage, story)


ODD_KEYS = ["", "x" * 256, "tab\there", "\xe9"]


def test_an_idempotency_key_is_plain_text(stage: Stage) -> None:
    async def story(door: Door) -> None:
        for key in ODD_KEYS:
            answer = await door.client.post(
                "/v1/tasks", json=BODY, headers=[(b"Idempotency-Key", key.encode("latin-1"))]
            )
            judge_problem(door, answer, 422, "invalid_input", "Idempotency-Key")
        twice = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
        answer = await door.client.post("/v1/tasks", json=BODY, headers=twice)
        judge_problem(door, answer, 422, "invalid_input", "Idempotency-Key")

    play(stage, story)


def test_a_day_s_limit_turns_new_tasks_away_and_still_knows_the_old_ones(stage: Stage) -> None:
    async def story(door: Door) -> None:
        async with await door.new_key("frugal", "frugal-key", daily_tasks=1) as client:
            first = await client.post("/v1/tasks", json=BODY, headers={"Idempotency-Key": "k"})
            second = await client.post("/v1/tasks", json=BODY)
            again = await client.post("/v1/tasks", json=BODY, headers={"Idempotency-Key": "k"})
        judge_problem(door, second, 429, "spend_limit")
        assert 0 < int(second.headers["retry-after"]) <= 86400
        assert again.status_code == 202, again.text
        assert again.json()["id"] == first.json()["id"]

    play(stage, story)


def test_a_limit_is_not_passed_by_posts_at_once(stage: Stage) -> None:
    async def story(door: Door) -> None:
        async with await door.new_key("frugal", "frugal-key", daily_tasks=3) as client:
            posts = [insisting(lambda: client.post("/v1/tasks", json=BODY)) for _ in range(12)]
            answers = await asyncio.gather(*posts)
        assert sorted(answer.status_code for answer in answers) == [202] * 3 + [429] * 9

    play(stage, story)
