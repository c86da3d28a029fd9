"""Many quiet tasks are asked after by a provider's list, page by page, and what it does not name is asked singly."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from receiver.core.model import JobKind, State, TaskId
from receiver.dialects.profile import Profile
from receiver.flow.list_reconcile import query
from receiver.store import accounts, turns
from receiver.store import tasks as task_rows
from tests.flow.rig import ACCOUNT, Rig, Stage
from tests.flow.world import API, HTML, Reply, created, envelope

KIND = "text-to-audio"


def page(*records: dict[str, Any]) -> Reply:
    return Reply(200, {"code": 0, "message": "SUCCEED", "request_id": "r", "data": list(records)})


async def sent(rig: Rig, number: int) -> list[TaskId]:
    """Return so many tasks that the provider has made, each by an id of its own."""
    rig.world.creates = [created(f"p{each}") for each in range(1, number + 1)]
    tasks = []
    for _ in range(number):
        tasks.append(await rig.accept())
        await rig.work(JobKind.SUBMIT)
    return tasks


def told(rig: Rig, task: TaskId, number: int, status: str, *clips: str) -> dict[str, Any]:
    return rig.world.record(status, task, clips=clips, task_id=f"p{number}")


def newest_first(rig: Rig, tasks: list[TaskId]) -> list[dict[str, Any]]:
    """What a list tells of tasks of ours that all run."""
    return [told(rig, task, n, "processing") for n, task in reversed(list(enumerate(tasks, 1)))]


def listed(rig: Rig) -> list[str]:
    return [each.path for each in rig.world.asked() if "pageNum" in each.path]


def singly(rig: Rig) -> list[str]:
    return [each.path.rpartition("/")[2] for each in rig.world.asked() if "pageNum" not in each.path]


async def waiting(rig: Rig) -> int:
    (row,) = await rig.sql(
        "SELECT count(*) AS n FROM job WHERE kind = 'query' AND state = 'waiting' AND run_at > now()"
    )
    return int(row["n"])


def small_pages(rig: Rig, size: int) -> None:
    profile: Profile = rig.services.deals[ACCOUNT].profile
    kinds = dict(profile.kinds) | {KIND: replace(profile.kinds[KIND], page_size=size)}
    rig.with_profile(kinds=kinds)


def test_one_page_answers_for_all_that_are_due(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        tasks = await sent(rig, 6)
        records = [told(rig, task, n, "processing") for n, task in enumerate(tasks, 1)]
        records[0] = told(rig, tasks[0], 1, "succeed", "c1")
        records[1] = told(rig, tasks[1], 2, "failed")
        rig.world.queries = [page(*reversed(records))]
        await rig.work(JobKind.QUERY)
        states = [(await rig.state(task))[0] for task in tasks]
        assert states == [State.SUCCEEDED, State.FAILED, *[State.PROCESSING] * 4]
        assert (len(listed(rig)), singly(rig)) == (1, [])
        jobs = [await rig.jobs_of(task) for task in tasks]
        assert [set(each) for each in jobs] == [{"archive", "query"}, set(), *[{"query"}] * 4]
        assert {each["query"]["state"] for each in jobs if "query" in each} == {"waiting"}

    stage.play(story, concurrency=10)


def test_pages_are_read_until_the_oldest_that_is_due_and_no_further(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        small_pages(rig, 2)
        tasks = await sent(rig, 5)
        old = int((time.time() - 3600) * 1000)
        strangers = [rig.world.record("succeed", 7, task_id=f"x{n}", created_at=old) for n in range(2)]
        newest = newest_first(rig, tasks)
        rig.world.queries = [page(*newest[:2]), page(*newest[2:4]), page(newest[4], strangers[0]), page(*strangers)]
        await rig.work(JobKind.QUERY)
        assert [path.partition("?")[2] for path in listed(rig)] == [f"pageNum={n}&pageSize=2" for n in (1, 2, 3)]
        assert singly(rig) == []

    stage.play(story, concurrency=10)


def test_what_a_whole_reading_does_not_name_is_asked_singly(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        tasks = await sent(rig, 5)
        named = [told(rig, task, n, "processing") for n, task in enumerate(tasks[2:], 3)]
        rig.world.queries = [page(*named), rig.world.report("processing", tasks[0])]
        await rig.work(JobKind.QUERY)
        assert (len(listed(rig)), singly(rig)) == (1, ["p1"])
        rig.world.queries = [rig.world.report("processing", tasks[1], task_id="p2")]
        job = await rig.claim_due(JobKind.QUERY)
        assert job is not None
        assert job.subject == tasks[1]
        await rig.handle(job)
        assert (len(listed(rig)), singly(rig)) == (1, ["p1", "p2"])

    stage.play(story, concurrency=10)


def test_few_polls_are_asked_singly(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        tasks = await sent(rig, 2)
        rig.world.queries = [rig.world.report("processing", tasks[0])]
        await rig.work(JobKind.QUERY)
        assert (listed(rig), singly(rig)) == ([], ["p1"])

    stage.play(story, concurrency=10)


def test_one_process_reads_a_list_at_a_time(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        await sent(rig, 6)
        async with rig.services.database.connection() as conn:
            assert await turns.take(conn, ACCOUNT, KIND, span=timedelta(minutes=1)) is not None
        settled = await rig.work(JobKind.QUERY)
        assert settled is not None
        # Nobody knows how long a reading goes on.
        assert settled.delay == timedelta(seconds=5)
        assert rig.world.asked() == []
        # The others wait with it, and cost no claim each.
        assert await waiting(rig) == 6
        assert await rig.claim_due(JobKind.QUERY) is None
        (last,) = await rig.sql("SELECT max(run_at) - now() AS left FROM job WHERE kind = 'query'")
        assert last["left"] <= timedelta(seconds=5)

    stage.play(story, concurrency=10)


def test_a_reading_ends_with_the_last_that_it_is_for(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        small_pages(rig, 3)
        tasks = await sent(rig, 6)
        newest = newest_first(rig, tasks)
        rig.world.queries = [page(*newest[:3]), page(*newest[3:]), page(*newest[3:])]
        await rig.work(JobKind.QUERY)
        assert [path.partition("?")[2] for path in listed(rig)] == [f"pageNum={n}&pageSize=3" for n in (1, 2)]

    stage.play(story, concurrency=10)


def test_a_reading_is_also_for_those_whose_time_has_come_and_whom_no_sweep_has_seen(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        small_pages(rig, 3)
        oldest, *others = tasks = await sent(rig, 6)
        await rig.sql("UPDATE job SET run_at = now() - interval '1 s' WHERE subject = %(t)s", t=oldest)
        await rig.sql("UPDATE job SET run_at = now(), state = 'ready' WHERE subject = ANY(%(t)s)", t=others)
        newest = newest_first(rig, tasks)
        rig.world.queries = [page(*newest[:3]), page(*newest[3:])]
        job = await rig.claim_due(JobKind.QUERY)
        assert job is not None
        await rig.handle(job)
        assert len(listed(rig)) == 2
        assert (await rig.state(oldest))[0] is State.PROCESSING

    stage.play(story, concurrency=10)


def test_what_was_read_before_a_page_that_fails_counts(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        small_pages(rig, 3)
        tasks = await sent(rig, 6)
        newest = newest_first(rig, tasks)
        rig.world.queries = [page(*newest[:3]), HTML]
        settled = await rig.work(JobKind.QUERY)
        assert settled is not None
        assert settled.error == "provider_unreachable"
        states = [(await rig.state(task))[0] for task in tasks]
        assert states == [State.SUBMITTED] * 3 + [State.PROCESSING] * 3

    stage.play(story, concurrency=10)


def test_what_becomes_due_after_a_reading_waits_for_the_next_one(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.with_profile(usual=timedelta(seconds=10))
        tasks = await sent(rig, 5)
        rig.world.queries = [page(*(told(rig, task, n, "processing") for n, task in enumerate(tasks, 1)))]
        await rig.work(JobKind.QUERY)
        rig.world.creates = [created("p9")]
        late = await rig.accept()
        await rig.work(JobKind.SUBMIT)
        await rig.sql("UPDATE job SET run_at = now(), state = 'ready' WHERE subject = %(t)s", t=late)
        job = await rig.claim_due(JobKind.QUERY)
        assert job is not None
        settled = await rig.handle(job)
        assert (job.subject, len(listed(rig)), singly(rig)) == (late, 1, [])
        assert settled is not None
        assert settled.delay is not None
        assert timedelta(seconds=15) < settled.delay <= timedelta(seconds=20)

    stage.play(story, concurrency=10)


def test_what_a_reading_misses_is_asked_singly_however_many_are_due(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        tasks = await sent(rig, 8)
        rig.world.queries = [page(*(told(rig, task, n, "processing") for n, task in enumerate(tasks[:6], 1)))]
        await rig.work(JobKind.QUERY)
        assert len(listed(rig)) == 1
        assert [(await rig.task(task)).query_wanted for task in tasks] == [False] * 6 + [True] * 2
        for task in tasks:
            await rig.forget_spacing(task)
        rig.world.queries = [
            rig.world.report("processing", task, task_id=f"p{n}") for n, task in ((7, tasks[6]), (8, tasks[7]))
        ]
        await rig.sql("UPDATE list_turn SET taken_until = now() - interval '1 s'")
        for _ in range(2):
            job = await rig.claim_due(JobKind.QUERY)
            assert job is not None
            await rig.handle(job)
        assert singly(rig) == ["p7", "p8"]
        assert [(await rig.state(task))[0] for task in tasks] == [State.PROCESSING] * 8

    stage.play(story, concurrency=10)


def test_a_wish_is_answered_by_a_question_of_its_own(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        tasks = await sent(rig, 6)
        assert await rig.told(tasks[0], told(rig, tasks[0], 1, "succeed"), sign="no") == "asked"
        rig.world.queries = [rig.world.report("processing", tasks[0])]
        job = await rig.claim(JobKind.QUERY)
        while job is not None and job.subject != tasks[0]:
            job = await rig.claim(JobKind.QUERY)
        assert job is not None
        await rig.handle(job)
        assert (listed(rig), singly(rig)) == ([], ["p1"])

    stage.play(story, concurrency=10)


def test_a_list_proves_that_an_unsure_create_arrived(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        await sent(rig, 5)
        rig.world.creates = [HTML]
        lost = await rig.accept()
        await rig.work(JobKind.SUBMIT)
        assert (await rig.task(lost)).unsure
        rig.world.queries = [page(told(rig, lost, 9, "processing"))]
        job = await rig.claim(JobKind.QUERY)
        assert job is not None
        # The leader is not on the page and is asked after itself.
        rig.world.queries.append(rig.world.report("processing", job.subject))
        await query(rig.services, job)
        found = await rig.task(lost)
        assert (found.state, found.unsure, found.provider_task_id) == (State.PROCESSING, False, "p9")
        assert set(await rig.jobs_of(lost)) == {"query"}

    stage.play(story, concurrency=10)


@pytest.mark.parametrize("broken", [HTML, envelope(1302, "slow down", status=429), envelope(0, data={"task_id": "p1"})])
def test_a_provider_that_answers_no_list_and_no_question_changes_nothing(stage: Stage, broken: Reply) -> None:
    async def story(rig: Rig) -> None:
        tasks = await sent(rig, 6)
        rig.world.queries = [broken, HTML]
        settled = await rig.work(JobKind.QUERY)
        assert settled is not None
        assert settled.error in {"provider_unreachable", "provider_busy"}
        assert {(await rig.state(task))[0] for task in tasks} == {State.SUBMITTED}
        assert {(await rig.task(task)).query_wanted for task in tasks} == {False}
        assert all(each.path.startswith(API) for each in rig.world.asked())

    stage.play(story, concurrency=10)


@pytest.mark.parametrize(
    "broken", [HTML, envelope(1000, "no such route for you", status=401), envelope(0, data={"task_id": "p1"})]
)
def test_a_list_that_cannot_be_read_keeps_no_task_from_being_asked_after(stage: Stage, broken: Reply) -> None:
    async def story(rig: Rig) -> None:
        leader, *others = await sent(rig, 6)
        rig.world.queries = [broken, rig.world.report("processing", leader)]
        settled = await rig.work(JobKind.QUERY)
        assert settled is not None
        assert settled.error is None
        assert (await rig.state(leader))[0] is State.PROCESSING
        assert [(await rig.task(task)).query_wanted for task in others] == [True] * 5
        assert rig.logged("account.paused") == []
        (row,) = await rig.sql("SELECT coalesce(max(failures), 0) AS failures FROM pace")
        assert row["failures"] == 0

    stage.play(story, concurrency=10)


def test_a_list_that_gives_the_same_page_for_ever_is_left(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        small_pages(rig, 2)
        leader, *others = await sent(rig, 6)
        strangers = page(*(rig.world.record("succeed", 7, task_id=f"x{n}") for n in range(2)))
        rig.world.queries = [strangers, strangers, rig.world.report("processing", leader)]
        await rig.work(JobKind.QUERY)
        assert (len(listed(rig)), singly(rig)) == (2, ["p1"])
        assert [(await rig.task(task)).query_wanted for task in others] == [True] * 5

    stage.play(story, concurrency=10)


def test_pages_of_strangers_without_times_are_not_read_for_ever(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        small_pages(rig, 1)
        leader, *_ = await sent(rig, 6)
        pages = [page(rig.world.record("succeed", 7, task_id=f"x{n}", created_at=None)) for n in range(10)]
        rig.world.queries = [*pages, rig.world.report("processing", leader)]
        await rig.work(JobKind.QUERY)
        assert (len(listed(rig)), singly(rig)) == (10, ["p1"])

    stage.play(story, concurrency=10)


async def until_blocked(rig: Rig) -> None:
    """Return when a statement in this database waits for a lock."""
    waits = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with asyncio.timeout(30):
        while not await rig.sql(waits):
            pass


def test_a_page_of_ended_tasks_waits_for_a_task_before_it_takes_the_account(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        tasks = await sent(rig, 6)
        rig.world.queries = [page(*(told(rig, task, n, "succeed", f"c{n}") for n, task in enumerate(tasks, 1)))]
        job = await rig.claim(JobKind.QUERY)
        assert job is not None
        # A callback about the last of them is being applied meanwhile, and gives its slot back.
        async with rig.services.database.transaction() as conn:
            await task_rows.lock(conn, tasks[-1])
            reading = asyncio.create_task(rig.handle(job))
            await until_blocked(rig)
            await conn.execute("SET LOCAL lock_timeout = '500ms'")
            await accounts.lock(conn, ACCOUNT)
        settled = await reading
        assert settled is not None
        assert settled.error is None
        assert {(await rig.state(task))[0] for task in tasks} == {State.SUCCEEDED}

    stage.play(story, concurrency=10)


def test_a_reading_that_the_database_breaks_off_gives_its_turn_back(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        tasks = await sent(rig, 6)
        rig.world.queries = [page(*(told(rig, task, n, "processing") for n, task in enumerate(tasks, 1)))]
        job = await rig.claim(JobKind.QUERY)
        assert job is not None
        async with rig.services.database.transaction() as conn:
            await task_rows.lock(conn, tasks[-1])
            reading = asyncio.create_task(rig.handle(job))
            await until_blocked(rig)
            ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            await rig.sql(f"{ended} AND wait_event_type = 'Lock'")
        settled = await reading
        assert settled is not None
        assert settled.error == "store_unavailable"
        (turn,) = await rig.sql("SELECT taken_until - now() AS left FROM list_turn")
        assert turn["left"] <= timedelta(seconds=5)
        # What it had claimed is due again, and not only when its lease is over.
        assert await rig.sql("SELECT id FROM job WHERE kind = 'query' AND state = 'leased'") == []

    stage.play(story, concurrency=10)
