"""GET /v1/tasks/{id}?wait=: the answer comes with the end, and nobody waits in vain."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import httpx
import pytest

from receiver.core.model import TaskId
from receiver.flow.waiting import Waiting
from receiver.web.app import build_app
from receiver.web.server import serve
from tests.flow.rig import Rig, Stage
from tests.web.door import SECRET, Door, add_key, judge_problem, play

FLASH = timedelta(milliseconds=20)


async def true(fact: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not fact():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def cancelled(door: Door, task: str) -> None:
    assert (await door.client.post(f"/v1/tasks/{task}/cancel")).status_code == 200


def waiting_of(door: Door) -> Waiting:
    app = door.client._transport.app  # type: ignore[attr-defined]
    while not hasattr(app, "state"):
        app = app._app
    found: Waiting = app.state.waiting
    return found


def test_the_answer_comes_when_the_task_ends(stage: Stage) -> None:
    async def story(door: Door) -> None:
        task = (await door.post()).json()["id"]
        asked = asyncio.create_task(door.get(f"/v1/tasks/{task}?wait=60"))
        await true(lambda: len(waiting_of(door)))
        await cancelled(door, task)
        told = (await asked).json()
        assert (told["state"], told["events"][-1]["type"]) == ("cancelled", "task.cancelled")
        assert len(waiting_of(door)) == 0

    play(stage, story)


def test_one_that_has_ended_is_told_at_once(stage: Stage) -> None:
    async def story(door: Door) -> None:
        task = (await door.post()).json()["id"]
        await cancelled(door, task)
        waiting_of(door).end_of = None  # type: ignore[method-assign, assignment]
        assert (await door.get(f"/v1/tasks/{task}?wait=60")).json()["state"] == "cancelled"

    play(stage, story)


def test_after_the_time_the_task_is_told_as_it_stands(stage: Stage) -> None:
    async def story(door: Door) -> None:
        task = (await door.post()).json()["id"]
        assert (await door.get(f"/v1/tasks/{task}?wait=1")).json()["state"] == "accepted"
        assert (await door.get(f"/v1/tasks/{task}?wait=0")).json()["state"] == "accepted"

    play(stage, story)


def test_a_wait_that_is_none_and_a_task_of_others_are_refused(stage: Stage) -> None:
    async def story(door: Door) -> None:
        task = (await door.post()).json()["id"]
        for wait in ("61", "-1", "x", "1.5", ""):
            judge_problem(door, await door.get(f"/v1/tasks/{task}?wait={wait}"), 422, "invalid_input", "wait")
        async with await door.new_key("others", "another-key") as client:
            judge_problem(door, await client.get(f"/v1/tasks/{task}?wait=60"), 404, "not_found")

    play(stage, story)


def with_tasks(stage: Stage, story: Callable[[Rig, list[TaskId]], Awaitable[None]], *, judged: bool = True) -> None:
    async def told(rig: Rig) -> None:
        await story(rig, [await rig.accept() for _ in range(3)])

    stage.play(told, judged=judged)


async def end(rig: Rig, task: TaskId) -> None:
    await rig.sql(
        "UPDATE task SET state = 'cancelled', reason = 'x', due_at = NULL, ended_at = now() WHERE id = %(id)s", id=task
    )
    await rig.sql("DELETE FROM job WHERE subject = %(id)s", id=task)


def test_all_who_wait_share_one_question(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(rig: Rig, tasks: list[TaskId]) -> None:
        waiting = Waiting(rig.services, pause=FLASH)
        questions: list[int] = []
        at_once: set[object] = set()
        ask = waiting._ended

        async def counted() -> list[TaskId]:
            questions.append(len(waiting._ends))
            at_once.add(question := object())
            assert at_once == {question}
            try:
                return await ask()
            finally:
                at_once.remove(question)

        monkeypatch.setattr(waiting, "_ended", counted)
        long = timedelta(seconds=30)
        everybody = [asyncio.create_task(waiting.end_of(task, within=long)) for task in tasks for _ in range(100)]
        await true(lambda: len(questions) >= 2)
        assert questions == [3] * len(questions)
        for task in tasks:
            await end(rig, task)
        await asyncio.gather(*everybody)
        await true(lambda: waiting._asking is None)

    with_tasks(stage, story)


def test_over_the_limit_nobody_waits_and_places_become_free(stage: Stage) -> None:
    async def story(rig: Rig, tasks: list[TaskId]) -> None:
        waiting = Waiting(rig.services, most=2, pause=FLASH)
        first = [asyncio.create_task(waiting.end_of(task, within=timedelta(minutes=1))) for task in tasks[:2]]
        await true(lambda: len(waiting) == 2)
        await waiting.end_of(tasks[2], within=timedelta(minutes=1))
        first[0].cancel()
        await true(lambda: len(waiting) == 1)
        third = asyncio.create_task(waiting.end_of(tasks[2], within=timedelta(minutes=1)))
        await true(lambda: len(waiting) == 2)
        waiting.close()
        await asyncio.gather(first[1], third)
        await waiting.end_of(tasks[2], within=timedelta(minutes=1))
        assert len(waiting) == 0

    with_tasks(stage, story)


def test_while_the_database_is_away_it_is_asked_on(stage: Stage) -> None:
    async def story(rig: Rig, tasks: list[TaskId]) -> None:
        waiting = Waiting(rig.services, pause=FLASH)
        asked = asyncio.create_task(waiting.end_of(tasks[0], within=timedelta(minutes=1)))
        await rig.services.database.close()
        await true(lambda: rig.logged("waiting.not_asked"))
        assert not asked.done()
        waiting.close()
        await asked

    with_tasks(stage, story, judged=False)


def test_a_fault_reaches_all_who_wait_and_the_next_may_try(stage: Stage) -> None:
    async def story(rig: Rig, tasks: list[TaskId]) -> None:
        waiting = Waiting(rig.services, pause=FLASH)
        await rig.sql("ALTER TABLE task RENAME COLUMN due_at TO due")
        with pytest.raises(Exception, match="due_at"):
            await asyncio.gather(*(waiting.end_of(task, within=timedelta(minutes=1)) for task in tasks))
        await rig.sql("ALTER TABLE task RENAME COLUMN due TO due_at")
        await end(rig, tasks[0])
        await waiting.end_of(tasks[0], within=timedelta(minutes=1))

    with_tasks(stage, story)


def test_a_caller_that_leaves_and_a_stop_end_the_wait(stage: Stage) -> None:
    async def told(rig: Rig) -> None:
        await add_key(rig, "team", SECRET)
        task, stop, app = await rig.accept(), asyncio.Event(), build_app(rig.services, rig.intake)
        waiting: Waiting = app.state.waiting
        serving = asyncio.create_task(
            serve(app, host="127.0.0.1", port=0, name="web", stop=stop, release=waiting.close)
        )
        try:
            await true(lambda: rig.logged("server.started"))
            port = rig.logged("server.started")[0]["port"]
            url, headers = f"http://127.0.0.1:{port}/v1/tasks/{task}?wait=60", {"Authorization": f"Bearer {SECRET}"}
            async with httpx.AsyncClient(headers=headers, timeout=30) as client:
                leaving = asyncio.create_task(client.get(url))
                await true(lambda: len(waiting) == 1)
                leaving.cancel()
                await true(lambda: len(waiting) == 0)
                await true(lambda: rig.logged("request.left"))
                staying = asyncio.create_task(client.get(url))
                await true(lambda: len(waiting) == 1)
                stop.set()
                answer = await staying
                assert (answer.status_code, answer.json()["state"]) == (200, "accepted")
        finally:
            stop.set()
            await serving

    stage.play(told)
