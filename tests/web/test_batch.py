"""POST /v1/tasks:batch: all or none, in order, and the same again for the same keys."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Any

import httpx
import pytest

from receiver.core.model import JobKind
from receiver.web import batch
from tests.flow.rig import Stage
from tests.flow.world import created
from tests.web.door import BODY, Door, insisting, judge_problem, play


def item(n: int, **changes: Any) -> dict[str, Any]:
    return BODY | {"reference": f"scene-{n}", "idempotency_key": f"k{n}"} | changes


async def send(door: Door, *items: dict[str, Any]) -> httpx.Response:
    return await door.client.post("/v1/tasks:batch", json={"tasks": items})


async def count(door: Door) -> int:
    rows = await door.rig.sql(
        "SELECT (SELECT count(*) FROM task) AS tasks, (SELECT count(*) FROM job) AS jobs,"
        " (SELECT count(*) FROM event WHERE type = 'task.accepted') AS events"
    )
    (told,) = rows
    assert told["tasks"] == told["jobs"] == told["events"]
    return int(told["tasks"])


def test_a_thousand_tasks_are_accepted_in_order_and_sent_in_that_order(stage: Stage) -> None:
    async def story(door: Door) -> None:
        answer = await send(door, *(item(n, labels={"n": str(n)}) for n in range(1000)))
        assert answer.status_code == 202, answer.text
        told = answer.json()["tasks"]
        assert [each["existed"] for each in told] == [False] * 1000
        assert [int(each["id"]) for each in told] == sorted({int(each["id"]) for each in told})
        assert await count(door) == 1000
        last = (await door.get(f"/v1/tasks/{told[-1]['id']}")).json()
        assert (last["state"], last["reference"], last["labels"]) == ("accepted", "scene-999", {"n": "999"})
        assert [event["data"]["reference"] for event in last["events"]] == ["scene-999"]
        door.rig.world.creates = [created()]
        await door.rig.work(JobKind.SUBMIT)
        assert (await door.get(f"/v1/tasks/{told[0]['id']}")).json()["state"] == "submitted"

    play(stage, story)


def test_what_exists_is_told_and_only_the_rest_is_made(stage: Stage) -> None:
    async def story(door: Door) -> None:
        single = (await door.post(BODY | {"reference": "scene-1"}, key="k1")).json()["id"]
        first = (await send(door, item(0), item(1), item(2))).json()["tasks"]
        assert [each["existed"] for each in first] == [False, True, False]
        assert first[1]["id"] == single
        again = (await send(door, item(2), item(1), item(0), item(3))).json()["tasks"]
        assert [each["existed"] for each in again] == [True, True, True, False]
        assert [each["id"] for each in again[:3]] == [each["id"] for each in reversed(first)]
        assert await count(door) == 4

    play(stage, story)


def test_batches_with_the_same_keys_at_once_make_each_task_once(stage: Stage) -> None:
    async def story(door: Door) -> None:
        items = [item(n) for n in range(60)]
        batches = [items[::-1] if n % 2 else items for n in range(8)]
        answers = await asyncio.gather(*(insisting(partial(send, door, *each)) for each in batches))
        assert {answer.status_code for answer in answers} == {202}
        told = [answer.json()["tasks"] for answer in answers]
        assert sum(not each["existed"] for tasks in told for each in tasks) == 60
        assert len({tuple(sorted(each["id"] for each in tasks)) for tasks in told}) == 1
        assert await count(door) == 60

    play(stage, story)


def test_items_without_keys_are_made_each_time(stage: Stage) -> None:
    async def story(door: Door) -> None:
        for _ in range(2):
            assert (await send(door, BODY, BODY)).status_code == 202
        assert await count(door) == 4

    play(stage, story)


WRONG: dict[str, tuple[list[Any], list[str]]] = {
    "nothing": ([], ["tasks"]),
    "too many": ([BODY] * 1001, ["tasks"]),
    "no object": ([BODY, 1], ["tasks.1"]),
    "inputs": (
        [BODY, item(1, input={"prompt": "x" * 201, "duration": 3}), BODY, item(3, input={})],
        ["tasks.1.input.prompt", "tasks.3.input.prompt", "tasks.3.input.duration"],
    ),
    "account": ([BODY, item(1, account="nobody")], ["tasks.1.account"]),
    "types": ([BODY | {"labels": {"a": 1}}, BODY | {"promt": 1}], ["tasks.0.labels.a", "tasks.1.promt"]),
    "odd text": ([BODY, BODY | {"reference": "\0"}], ["tasks.1.reference"]),
    "the same key": ([item(0), item(1), item(2, idempotency_key="k0")], ["tasks.2.idempotency_key"]),
    "odd keys": (
        [item(0, idempotency_key=""), item(1, idempotency_key="\xe9"), item(2, idempotency_key="x" * 256)],
        [f"tasks.{n}.idempotency_key" for n in range(3)],
    ),
}


def test_every_wrong_field_of_every_item_is_named_and_nothing_accepted(stage: Stage) -> None:
    async def story(door: Door) -> None:
        for items, fields in WRONG.values():
            judge_problem(door, await send(door, *items), 422, "invalid_input", *fields)
            assert await count(door) == 0

    play(stage, story)


@pytest.mark.parametrize("wrong", [{"account": "nobody"}, {"kind": 1}, {"reference": "\0"}], ids=str)
def test_a_mistake_of_all_items_is_named_a_hundred_times(stage: Stage, wrong: dict[str, Any]) -> None:
    async def story(door: Door) -> None:
        answer = await send(door, *(item(n, **wrong) for n in range(1000)))
        fields = [*(f"tasks.{n}.{next(iter(wrong))}" for n in range(100)), "*"]
        problem = judge_problem(door, answer, 422, "invalid_input", *fields)
        assert problem["errors"][-1]["message"] == "900 more fields are wrong"

    play(stage, story)


def test_a_key_of_another_request_refuses_the_whole_batch(stage: Stage) -> None:
    async def story(door: Door) -> None:
        task = (await send(door, item(0))).json()["tasks"][0]["id"]
        answer = await send(door, item(1), item(0, reference="another"))
        problem = judge_problem(door, answer, 422, "idempotency_mismatch")
        assert "'k0'" in problem["detail"]
        assert task in problem["detail"]
        assert await count(door) == 1

    play(stage, story)


def test_a_key_for_a_single_task_is_not_passed_over(stage: Stage) -> None:
    async def story(door: Door) -> None:
        answer = await door.client.post("/v1/tasks:batch", json={"tasks": [BODY]}, headers={"Idempotency-Key": "k"})
        judge_problem(door, answer, 422, "invalid_input", "Idempotency-Key")
        assert await count(door) == 0

    play(stage, story)


def test_a_day_s_limit_counts_the_whole_batch_but_not_what_exists(stage: Stage) -> None:
    async def story(door: Door) -> None:
        async with await door.new_key("frugal", "frugal-key", daily_tasks=3) as client:
            for items, existed in (
                ([0, 1], [False, False]),
                ([0, 1, 2], [True, True, False]),
                ([2, 1, 0], [True, True, True]),
            ):
                taken = await client.post("/v1/tasks:batch", json={"tasks": [item(n) for n in items]})
                assert [each["existed"] for each in taken.json()["tasks"]] == existed
            refused = await client.post("/v1/tasks:batch", json={"tasks": [item(2), item(3)]})
            problem = judge_problem(door, refused, 429, "spend_limit")
            assert "3 tasks of 3 today" in problem["detail"]
            assert 0 < int(refused.headers["retry-after"]) <= 86400

    play(stage, story)


def test_what_no_day_takes_is_no_matter_of_waiting(stage: Stage) -> None:
    async def story(door: Door) -> None:
        async with await door.new_key("frugal", "frugal-key", daily_tasks=3) as client:
            for _ in range(2):
                refused = await client.post("/v1/tasks:batch", json={"tasks": [item(n) for n in range(4)]})
                problem = judge_problem(door, refused, 422, "limit_too_small")
                assert problem["detail"].startswith("key key-frugal takes 3 tasks a day (UTC, `daily_tasks`), never 4;")
                assert problem["detail"].endswith("send fewer at once, or take a key with more")
                assert "retry-after" not in refused.headers
                assert await count(door) == 0
            await client.post("/v1/tasks:batch", json={"tasks": [item(0), item(1)]})
            refused = await client.post("/v1/tasks:batch", json={"tasks": [item(n) for n in range(4)]})
            judge_problem(door, refused, 429, "spend_limit")

    play(stage, story)


def test_an_account_s_limit_counts_the_whole_batch(stage: Stage) -> None:
    async def story(door: Door) -> None:
        problem = judge_problem(door, await send(door, BODY, BODY, BODY), 422, "limit_too_small")
        assert "account studio takes 2 tasks a day" in problem["detail"]
        assert (await send(door, BODY)).status_code == 202
        judge_problem(door, await send(door, BODY, BODY), 429, "spend_limit")
        assert (await send(door, BODY)).status_code == 202
        assert await count(door) == 2

    play(stage, story, daily_tasks=2)


def test_only_this_route_takes_a_large_body(stage: Stage) -> None:
    async def story(door: Door) -> None:
        spaces = b" " * 3_000_000
        large = b'{"tasks": [' + spaces + json.dumps(BODY).encode() + b"]}"
        assert (await door.client.post("/v1/tasks:batch", content=large)).status_code == 202
        judge_problem(door, await door.client.post("/v1/tasks", content=large), 413, "body_too_large")
        answer = await door.client.post("/v1/tasks:batch", content=b" " * (batch.MAX_BODY + 1))
        judge_problem(door, answer, 413, "body_too_large")

    play(stage, story)
