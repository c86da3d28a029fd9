"""Several worker processes on one queue, some of which are killed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import psycopg

from receiver.core.model import State, TaskId
from tests.flow.rig import Rig, Stage
from tests.jobs.workshop import POISON

JOBS = 300
ADD = """
INSERT INTO job (kind, subject, account, state, run_at, deliver_by)
SELECT 'query', s, 'studio', 'ready', now(), now() FROM unnest(%(s)s::bigint[]) AS x (s)
"""


@contextmanager
def workers(stage: Stage, number: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    started = []
    for each in range(number):
        mine = replace(stage, directory=stage.directory / str(each))
        mine.directory.mkdir(exist_ok=True)
        given = json.dumps(asdict(mine) | {"directory": str(mine.directory)}, default=str)
        command = [sys.executable, "-m", "tests.jobs.workshop", given]
        started.append(
            subprocess.Popen(
                command, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
        )
    try:
        yield started
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
            process.wait()


def prepared(stage: Stage, *subjects: int) -> psycopg.Connection[tuple[int, ...]]:
    conn = psycopg.connect(stage.database_url, autocommit=True)
    conn.execute("CREATE TABLE mark (subject bigint PRIMARY KEY)")
    conn.execute("CREATE TABLE tries (subject bigint)")
    conn.execute(ADD, {"s": list(subjects)})
    return conn


def number(conn: psycopg.Connection[tuple[int, ...]], sql: str) -> int:
    row = conn.execute(sql.encode()).fetchone()
    assert row is not None
    return row[0]


def until(conn: psycopg.Connection[tuple[int, ...]], sql: str, wanted: int) -> None:
    deadline = time.monotonic() + 40
    while number(conn, sql) < wanted:
        assert time.monotonic() < deadline, f"{number(conn, sql)} of {wanted}"
        threading.Event().wait(0.02)


def test_every_job_has_its_effect_once_although_a_worker_is_killed(stage: Stage) -> None:
    with prepared(stage, *range(1, JOBS + 1)) as conn, workers(stage, 3) as processes:
        until(conn, "SELECT count(*) FROM worker", 3)
        until(conn, "SELECT count(*) FROM mark", 30)
        processes[0].kill()
        processes[0].wait()
        until(conn, "SELECT count(*) FROM mark", JOBS - 16)
        # What the dead one held is taken over when its lease lapses; nobody waits 30 s here.
        conn.execute("UPDATE job SET lease_until = lease_until - interval '1 min'")
        until(conn, "SELECT count(*) FROM mark", JOBS)
        until(conn, "SELECT 1 - (count(*) > 0)::int FROM job", 1)
        assert number(conn, "SELECT count(*) FROM tries") <= JOBS + 16 * 3
        for process in processes[1:]:
            process.terminate()
        assert [process.wait(40) for process in processes[1:]] == [0, 0]
        assert number(conn, "SELECT count(*) FROM worker") == 1


def test_a_job_that_kills_its_worker_is_dead_after_five_and_hurts_no_other(stage: Stage) -> None:
    with prepared(stage, POISON) as conn:
        for lost in range(5):
            with workers(stage, 1) as (process,):
                assert process.wait(40) == -9
            assert number(conn, "SELECT count(*) FROM tries") == lost + 1
            # Others went on meanwhile, and the lease has lapsed.
            conn.execute("UPDATE job SET lease_until = now() - interval '1 s'")
            conn.execute("UPDATE worker SET finished_at = now()")
        conn.execute(ADD, {"s": [1]})
        with workers(stage, 1):
            until(conn, "SELECT count(*) FROM mark", 1)
            until(conn, "SELECT count(*) FROM job WHERE state = 'dead' AND last_error = 'lease_lost'", 1)
        assert number(conn, "SELECT count(*) FROM tries WHERE subject = 666") == 5


def unread(conn: psycopg.Connection[tuple[int, ...]]) -> int:
    return number(conn, "SELECT count(*) FROM inbox WHERE outcome IS NULL")


def test_a_worker_that_is_killed_in_the_middle_of_a_batch_has_done_nothing_of_it(stage: Stage) -> None:
    tasks: list[TaskId] = []

    async def posted(rig: Rig) -> None:
        for _ in range(6):
            tasks.append(await rig.submitted())
            await rig.call_back(tasks[-1], rig.world.record("failed", tasks[-1]))

    async def judged(rig: Rig) -> None:
        for task in tasks:
            assert (await rig.state(task))[0] is State.FAILED
            assert (await rig.story(task)).count("task.failed") == 1

    stage.play(posted, concurrency=10)
    blocked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with psycopg.connect(stage.database_url, autocommit=True) as conn:
        with psycopg.connect(stage.database_url) as other, workers(stage, 1) as (process,):
            # All is written but what became of the last callback.
            other.execute("SELECT FROM inbox WHERE id = (SELECT max(id) FROM inbox) FOR UPDATE")
            until(conn, blocked, 1)
            process.kill()
            assert process.wait() == -9
        assert unread(conn) == len(tasks)
        assert number(conn, "SELECT count(*) FROM task WHERE state = 'submitted'") == len(tasks)
        conn.execute("UPDATE job SET lease_until = now() - interval '1 s' WHERE state = 'leased'")
        with workers(stage, 1):
            until(conn, "SELECT count(*) FROM inbox WHERE outcome = 'moved'", len(tasks))
            until(conn, "SELECT 1 - (count(*) > 0)::int FROM job WHERE kind = 'advance'", 1)
    stage.play(judged)
