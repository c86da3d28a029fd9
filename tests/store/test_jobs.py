from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from receiver.core.model import AccountId, JobKind
from receiver.store import db, jobs
from receiver.store.db import Connection, one
from receiver.store.jobs import Job, Settled, Wanted

SOON = datetime(2026, 11, 20, tzinfo=UTC)
WORKER = uuid4()
GONE = timedelta(seconds=-1)  # a lease that has lapsed when it is made


def wish(subject: int, *, kind: JobKind = JobKind.QUERY, by: int = 0, delay: timedelta = timedelta()) -> Wanted:
    return Wanted(
        kind=kind, subject=subject, account=AccountId("a"), deliver_by=SOON + timedelta(seconds=by), delay=delay
    )


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    conn = await db.connect(url)
    try:
        yield conn
    finally:
        await conn.close()


def run(url: str, story: Callable[[Connection], Awaitable[None]]) -> None:
    async def told() -> None:
        async with connected(url) as conn:
            await story(conn)

    asyncio.run(told())


async def row(conn: Connection, subject: int) -> dict[str, object]:
    found = await one(conn, "SELECT state, lease_token FROM job WHERE subject = %(s)s", {"s": subject})
    return dict(found or {})


async def claim_one(conn: Connection, lease: timedelta = jobs.LEASE) -> Job:
    (job,) = await jobs.claim(conn, JobKind.QUERY, 1, lease=lease)
    return job


def scans_of(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "Relation Name" in node and "Scan" in node["Node Type"]:
        yield node
    for below in node.get("Plans", []):
        yield from scans_of(below)


def test_a_claim_takes_the_earliest_deadline_first(database_url: str) -> None:
    async def story(conn: Connection) -> None:
        await jobs.want(conn, [wish(n, by=by) for n, by in ((1, 30), (2, 10), (3, 20))])
        assert [job.subject for job in await jobs.claim(conn, JobKind.QUERY, 2)] == [2, 3]
        assert [job.subject for job in await jobs.claim(conn, JobKind.QUERY, 2)] == [1]

    run(database_url, story)


def test_a_waiting_job_is_claimed_only_after_its_time(database_url: str) -> None:
    async def story(conn: Connection) -> None:
        await jobs.want(conn, [wish(1, delay=timedelta(hours=1))])
        assert await jobs.claim(conn, JobKind.QUERY, 1) == []
        assert await jobs.ready_waiting(conn) == 0
        await conn.execute("UPDATE job SET run_at = now() - interval '1 ms'")
        assert await jobs.ready_waiting(conn) == 1
        assert (await claim_one(conn)).subject == 1

    run(database_url, story)


def test_a_finished_job_is_deleted(database_url: str) -> None:
    async def story(conn: Connection) -> None:
        await jobs.want(conn, [wish(1)])
        await jobs.settle(conn, WORKER, [Settled(job=await claim_one(conn))])
        assert await row(conn, 1) == {}

    run(database_url, story)


def test_a_wish_during_the_lease_runs_the_job_again(database_url: str) -> None:
    async def story(conn: Connection) -> None:
        await jobs.want(conn, [wish(1)])
        job = await claim_one(conn)
        await jobs.want(conn, [wish(1)])
        assert (await row(conn, 1))["state"] == "leased"
        await jobs.settle(conn, WORKER, [Settled(job=job)])
        assert (await claim_one(conn)).subject == 1

    run(database_url, story)


@pytest.mark.parametrize(("wished", "asked"), [(1, 9), (9, 1)])
def test_a_rescheduled_job_runs_at_the_earlier_of_both_times(database_url: str, wished: int, asked: int) -> None:
    async def story(conn: Connection) -> None:
        await jobs.want(conn, [wish(1)])
        job = await claim_one(conn)
        await jobs.want(conn, [wish(1, delay=timedelta(hours=wished))])
        await jobs.settle(conn, WORKER, [Settled(job=job, delay=timedelta(hours=asked))])
        found = await one(conn, "SELECT run_at - now() < interval '2 hours' AS soon, state FROM job")
        assert found == {"soon": True, "state": "waiting"}

    run(database_url, story)


def test_a_lapsed_lease_is_claimed_again_and_the_late_finish_touches_nothing(database_url: str) -> None:
    async def story(conn: Connection) -> None:
        await jobs.want(conn, [wish(1)])
        first = await claim_one(conn, lease=GONE)
        second = await claim_one(conn)
        assert (second.subject, second.attempt) == (1, 2)
        await jobs.settle(conn, WORKER, [Settled(job=first)])
        assert (await row(conn, 1))["lease_token"] == second.token
        await jobs.settle(conn, WORKER, [Settled(job=second)])
        assert await row(conn, 1) == {}

    run(database_url, story)


def test_a_renewed_lease_is_not_taken_over(database_url: str) -> None:
    async def story(conn: Connection) -> None:
        await jobs.want(conn, [wish(1)])
        job = await claim_one(conn, lease=GONE)
        await jobs.renew(conn, WORKER, [job])
        assert await jobs.claim(conn, JobKind.QUERY, 1) == []

    run(database_url, story)


def test_a_lost_lease_counts_only_while_other_jobs_finish(database_url: str) -> None:
    async def story(conn: Connection) -> None:
        await jobs.renew(conn, WORKER, [])
        await jobs.want(conn, [wish(1)])
        await claim_one(conn, lease=GONE)
        assert (await claim_one(conn, lease=GONE)).lost == 0
        await conn.execute("UPDATE worker SET finished_at = now() + interval '1 second'")
        assert (await claim_one(conn, lease=GONE)).lost == 1
        assert (await claim_one(conn)).lost == 2

    run(database_url, story)


def test_a_failed_try_keeps_its_count_and_a_good_one_clears_it(database_url: str) -> None:
    async def story(conn: Connection) -> None:
        await jobs.want(conn, [wish(1)])
        failed = Settled(job=await claim_one(conn), delay=timedelta(), error="link_dead", same_error=1)
        await jobs.settle(conn, WORKER, [failed])
        job = await claim_one(conn)
        assert (job.attempt, job.last_error, job.same_error) == (2, "link_dead", 1)
        await jobs.settle(conn, WORKER, [Settled(job=job, delay=timedelta())])
        assert (await claim_one(conn)).attempt == 1

    run(database_url, story)


def test_a_dead_job_stays_until_it_is_wanted_again(database_url: str) -> None:
    async def story(conn: Connection) -> None:
        await jobs.want(conn, [wish(1)])
        await jobs.settle(conn, WORKER, [Settled(job=await claim_one(conn), error="TypeError", dead=True)])
        assert (await row(conn, 1))["state"] == "dead"
        assert await jobs.ready_waiting(conn) == 0
        assert await jobs.claim(conn, JobKind.QUERY, 1) == []
        await jobs.want(conn, [wish(1)])
        assert (await claim_one(conn)).subject == 1

    run(database_url, story)


def test_a_held_job_keeps_its_place_and_is_released_in_order(database_url: str) -> None:
    async def story(conn: Connection) -> None:
        await jobs.want(conn, [wish(n, kind=JobKind.SUBMIT, by=n) for n in (3, 1, 2)])
        for job in await jobs.claim(conn, JobKind.SUBMIT, 3):
            await jobs.hold(conn, job)
        await jobs.want(conn, [wish(3, kind=JobKind.SUBMIT)])  # a wish does not jump the queue
        assert await jobs.ready_waiting(conn) == 0
        assert await jobs.held_accounts(conn) == ["a"]
        await conn.execute("UPDATE job SET deliver_by = %(by)s WHERE subject = 3", {"by": SOON + timedelta(seconds=3)})
        assert await jobs.release_held(conn, AccountId("a"), 2) == 2
        assert [job.subject for job in await jobs.claim(conn, JobKind.SUBMIT, 9)] == [1, 2]

    run(database_url, story)


def test_a_wish_undone_by_a_rollback_leaves_no_job(database_url: str) -> None:
    async def story(conn: Connection) -> None:
        async with conn.transaction(force_rollback=True):
            await jobs.want(conn, [wish(1)])
        assert await row(conn, 1) == {}

    run(database_url, story)


def test_a_wake_up_is_heard_after_the_commit(database_url: str) -> None:
    async def story(conn: Connection) -> None:
        async with connected(database_url) as ear:
            notices = jobs.notices(ear)
            await jobs.want(conn, [wish(1)])
            heard = asyncio.ensure_future(anext(notices))
            while not heard.done():  # LISTEN itself is not announced, so the wish is repeated until it is heard
                await jobs.want(conn, [wish(1)])
            await heard

    run(database_url, story)


def test_two_claims_at_once_share_the_work_without_overlap(database_url: str) -> None:
    async def story(conn: Connection) -> None:
        await jobs.want(conn, [wish(n) for n in range(1, 401)])

        async def drain() -> list[int]:
            async with connected(database_url) as own:
                found: list[int] = []
                while claimed := await jobs.claim(own, JobKind.QUERY, 7):
                    found += [job.subject for job in claimed]
                return found

        drained = await asyncio.gather(*(drain() for _ in range(4)))
        assert sorted(subject for part in drained for subject in part) == list(range(1, 401))

    run(database_url, story)


def test_the_claim_reads_its_index_alone_behind_many_waiting_jobs(database_url: str) -> None:
    async def story(conn: Connection) -> None:
        await conn.execute(
            "INSERT INTO job (kind, subject, account, state, run_at, deliver_by)"
            " SELECT 'query', n, 'a', 'waiting', now() + interval '1 day', now() - interval '1 day'"
            " FROM generate_series(1, %(n)s) AS n",
            {"n": 20_000},
        )
        await jobs.want(conn, [wish(100_000 + n) for n in range(200)])
        await conn.execute("VACUUM ANALYZE job")
        claimed = jobs.CLAIM.replace("-- store.jobs.claim", "EXPLAIN (FORMAT JSON) -- store.jobs.claim").encode()
        params = {"kind": "query", "limit": 1, "lapsed": 1, "lease": jobs.LEASE, "token": uuid4()}
        (plan,) = await (await conn.execute(claimed, params)).fetchall()
        scans = list(scans_of(plan["QUERY PLAN"][0]["Plan"]))
        assert {"job_ready", "job_leased"} <= {scan.get("Index Name") for scan in scans}
        assert ("Seq Scan", "job") not in {(scan["Node Type"], scan["Relation Name"]) for scan in scans}

    run(database_url, story)
