"""One worker: crashes, a clean stop, and what the sweeps mend."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from receiver.core.model import JobKind, State
from receiver.flow import sweep
from receiver.flow.outcome import Outcome
from receiver.flow.services import Services
from receiver.jobs.worker import HANDLERS, Worker, single
from receiver.store.jobs import Job
from tests.flow.rig import Rig, Stage
from tests.flow.world import created
from tests.sandbox.rig import KEY, Sandbox, start_sandbox


async def crash(_: Services, job: Job) -> Outcome:
    raise RuntimeError(f"on purpose {job.subject}")


async def until(fact: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(40):
        while True:
            if await fact():
                return
            await asyncio.sleep(0.05)


async def until_ended(rig: Rig, number: int) -> None:
    async def ended() -> bool:
        rows = await rig.sql("SELECT count(*) AS n FROM task WHERE due_at IS NULL")
        return bool(rows[0]["n"] >= number)

    await until(ended)


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return start_sandbox(tmp_path / "sandbox", "--run-seconds", "0.3", "--concurrency", "3")


def test_a_real_worker_brings_all_tasks_home_without_any_callback(stage: Stage, sandbox: Sandbox) -> None:
    async def story(rig: Rig) -> None:
        tasks = [await rig.accept() for _ in range(8)]
        running = asyncio.create_task(rig.worker.run())
        await until_ended(rig, len(tasks))
        rig.worker.stop.set()
        await running
        assert {(await rig.state(task))[0] for task in tasks} == {State.ARCHIVED}

    try:
        stage.play(story, base_url=sandbox.url, api_key=KEY, concurrency=3, settings={"public_url": None})
        ledger = sandbox.ledger()
        assert ledger["charges"] == len(ledger["tasks"]) == 8
        assert [task["creates"] for task in ledger["tasks"]] == [1] * 8
    finally:
        sandbox.stop()


def test_a_worker_that_starts_while_the_database_is_away_waits_for_it(stage: Stage, database_url: str) -> None:
    server, _, options = database_url.partition("?")
    address, _, name = server.rpartition("/")
    gate = f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS '

    async def story(rig: Rig) -> None:
        task = await rig.accept()
        rig.world.creates = [created()]

        async def refused() -> bool:
            return bool(rig.logged("worker.not_enlisted"))

        async def submitted() -> bool:
            return (await rig.state(task))[0] is State.SUBMITTED

        async with await psycopg.AsyncConnection.connect(f"{address}/postgres?{options}", autocommit=True) as admin:
            await admin.execute(f"{gate} false".encode())
            ended = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %(d)s"
            await admin.execute(ended, {"d": name})
            running = asyncio.create_task(rig.worker.run())
            await until(refused)
            await admin.execute(f"{gate} true".encode())
        await until(submitted)
        rig.worker.stop.set()
        await running

    stage.play(story)


@pytest.mark.parametrize("wanted", [False, True])
def test_a_handler_that_crashes_five_times_in_a_row_is_dead_and_calls_a_person(stage: Stage, *, wanted: bool) -> None:
    async def story(rig: Rig) -> None:
        rig.faults -= {"job.crashed", "job.dead"}
        task = await rig.submitted()
        if wanted:
            await rig.told(task, rig.world.record("failed", task), sign="no")
        rig.worker.handlers = {**HANDLERS, JobKind.QUERY: single(crash)}
        for number in range(5):
            assert (await rig.task(task)).attention is None
            settled = await rig.work(JobKind.QUERY)
            assert settled is not None
            assert (settled.error, settled.dead) == ("RuntimeError", number == 4)
        assert (await rig.task(task)).attention == "job_dead"
        assert (await rig.jobs_of(task))["query"]["state"] == "dead"
        assert await rig.claim(JobKind.QUERY) is None

        rig.worker.handlers = HANDLERS
        rig.world.queries = [rig.world.report("processing", task)]
        await rig.overdue(task)
        await rig.work(JobKind.QUERY)
        assert await rig.state(task) == (State.EXPIRED, "never_finished")

    stage.play(story)


def test_a_crash_between_other_errors_is_not_counted_with_them(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.faults -= {"job.crashed"}
        task = await rig.submitted()
        rig.world.queries = [rig.world.report("processing", task)]
        for _ in range(4):
            rig.worker.handlers = {**HANDLERS, JobKind.QUERY: single(crash)}
            for _ in range(2):
                await rig.work(JobKind.QUERY)
            rig.worker.handlers = HANDLERS
            await rig.forget_spacing(task)
            await rig.work(JobKind.QUERY)
        assert (await rig.task(task)).attention is None

    stage.play(story)


def test_a_dead_archive_job_runs_again_when_a_fresh_link_comes(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.faults -= {"job.crashed", "job.dead"}
        task = await rig.succeeded()
        rig.worker.handlers = {**HANDLERS, JobKind.ARCHIVE: single(crash)}
        for _ in range(5):
            await rig.work(JobKind.ARCHIVE)
        assert (await rig.jobs_of(task))["archive"]["state"] == "dead"
        rig.worker.handlers = HANDLERS
        record = rig.world.record("succeed", task, clips=("c1",))
        record["task_result"]["audios"][0]["url_mp3"] += "&fresh=1"
        await rig.told(task, record)
        await rig.work(JobKind.ARCHIVE)
        assert (await rig.state(task))[0] is State.ARCHIVED

    stage.play(story)


def test_a_clean_stop_gives_leases_back_at_once(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.accept()
        begun = asyncio.Event()

        async def hang(_: Services, job: Job) -> Outcome:
            begun.set()
            await asyncio.Event().wait()
            raise AssertionError(job)

        worker = Worker(
            rig.services, handlers={**HANDLERS, JobKind.SUBMIT: single(hang)}, grace=timedelta(seconds=0.05)
        )
        running = asyncio.create_task(worker.run())
        await begun.wait()
        worker.stop.set()
        await running
        job = (await rig.jobs_of(task))["submit"]
        assert (job["state"], job["attempt"], job["lost"], job["lease_token"]) == ("ready", 0, 0, None)
        assert await rig.sql("SELECT id FROM worker") == []

    stage.play(story)


@pytest.mark.parametrize("when", ["accepted", "submitted", "succeeded", "advancing"])
def test_a_job_that_vanished_is_made_again(stage: Stage, when: str) -> None:
    async def story(rig: Rig) -> None:
        rig.faults -= {"job.mended"}
        if when == "accepted":
            await rig.accept()
        elif when == "submitted":
            await rig.submitted()
        elif when == "succeeded":
            await rig.succeeded()
        else:
            task = await rig.submitted()
            await rig.call_back(task, rig.world.record("processing", task))
        rows = await rig.sql("DELETE FROM job RETURNING kind, subject")
        assert await sweep.mend(rig.services) == len(rows)
        assert await rig.sql("SELECT kind, subject FROM job ORDER BY kind") == sorted(rows, key=lambda row: row["kind"])
        assert await sweep.mend(rig.services) == 0

    stage.play(story)
