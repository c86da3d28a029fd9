"""
Work as rows, written in the transaction of the change it follows from.

A finished job is deleted; to want one is an upsert; a wish that arrives while
the job is leased is seen by `settle`, because `wanted` has changed. Durations
are passed as intervals: only the database's clock decides.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

from receiver.core.model import AccountId, JobId, JobKind, TaskId
from receiver.store.db import Connection, every, one

LEASE: Final = timedelta(seconds=30)
#: Rows that one sweep moves at most.
SWEEP: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A wish for a job; `delay` counts from the database's now."""

    kind: JobKind
    subject: int
    account: AccountId
    deliver_by: datetime
    delay: timedelta = timedelta()


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A claimed job: the token proves the lease, `wanted` is what it was when claimed."""

    id: JobId
    kind: JobKind
    subject: int
    account: AccountId
    token: UUID
    wanted: int
    #: Tries including this one; starts at 1.
    attempt: int
    #: Leases lost in a row while other jobs finished.
    lost: int
    #: How often in a row `last_error` came.
    same_error: int
    last_error: str | None
    deliver_by: datetime
    #: An earlier try's lease ran out before it had ended.
    lapsed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """How a claimed job ended: `delay` None is done, else it runs again after it."""

    job: Job
    delay: timedelta | None = None
    #: A stable error code when the try failed; it keeps the count of attempts.
    error: str | None = None
    same_error: int = 0
    dead: bool = False


WANT: Final = """
-- store.jobs.want: upsert; a leased job keeps its lease and learns that it is wanted again
INSERT INTO job (kind, subject, account, state, run_at, deliver_by)
SELECT kind, subject, account, CASE WHEN delay <= interval '0' THEN 'ready' ELSE 'waiting' END, now() + delay,
       deliver_by
  FROM unnest(%(kinds)s::text[], %(subjects)s::bigint[], %(accounts)s::text[],
              %(delays)s::interval[], %(deliver_bys)s::timestamptz[])
       AS x (kind, subject, account, delay, deliver_by)
 ORDER BY kind, subject
ON CONFLICT (kind, subject) DO UPDATE
   SET wanted = job.wanted + 1,
       run_at = least(job.run_at, excluded.run_at),
       deliver_by = excluded.deliver_by,
       state = CASE WHEN job.state = 'leased' OR job.held THEN job.state
                    WHEN least(job.run_at, excluded.run_at) <= now() THEN 'ready'
                    ELSE 'waiting' END
"""

WAKE: Final = """
-- store.jobs.wake: tell the workers that something is ready
SELECT pg_notify('receiver_job', '')
"""

CLAIM: Final = """
-- store.jobs.claim: the most urgent ready jobs of one kind, and lapsed leases among them
WITH ready AS (
    SELECT id, deliver_by, false AS lapsed FROM job
     WHERE kind = %(kind)s AND state = 'ready'
     ORDER BY deliver_by, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), lapsed AS (
    SELECT id, deliver_by, true AS lapsed FROM job
     WHERE kind = %(kind)s AND state = 'leased' AND lease_until < now()
     ORDER BY lease_until LIMIT %(lapsed)s FOR UPDATE SKIP LOCKED
), picked AS (
    SELECT * FROM (SELECT * FROM ready UNION ALL SELECT * FROM lapsed) AS both_kinds
     ORDER BY deliver_by, id LIMIT %(limit)s
)
UPDATE job
   SET state = 'leased',
       run_at = 'infinity',
       attempt = attempt + 1,
       lost = CASE WHEN NOT picked.lapsed THEN lost
                   WHEN EXISTS (SELECT FROM worker WHERE finished_at > job.lease_until - %(lease)s) THEN lost + 1
                   ELSE lost END,
       lease_until = now() + %(lease)s,
       lease_token = %(token)s
  FROM picked
 WHERE job.id = picked.id
RETURNING job.id, kind, subject, account, lease_token AS token, wanted, attempt, lost, same_error, last_error,
          job.deliver_by, picked.lapsed
"""

RENEW: Final = """
-- store.jobs.renew: that a worker lives, and every lease of it, in one statement
WITH alive AS (
    INSERT INTO worker (id) VALUES (%(worker)s) ON CONFLICT (id) DO UPDATE SET seen_at = now()
), mine AS (
    SELECT job.id FROM job JOIN unnest(%(ids)s::bigint[], %(tokens)s::uuid[]) AS x (id, token)
        ON job.id = x.id AND job.lease_token = x.token
     ORDER BY kind, subject FOR UPDATE OF job SKIP LOCKED
)
UPDATE job SET lease_until = now() + %(lease)s FROM mine WHERE job.id = mine.id
"""

SETTLE: Final = """
-- store.jobs.settle: delete what is done and no longer wanted, reschedule the rest; a stale token touches nothing
WITH x AS (
    SELECT * FROM unnest(%(ids)s::bigint[], %(tokens)s::uuid[], %(wanteds)s::int[], %(delays)s::interval[],
                         %(errors)s::text[], %(sames)s::int[], %(deads)s::boolean[])
                  AS x (id, token, wanted, delay, error, same, dead)
), mine AS MATERIALIZED (
    SELECT job.id, x.delay, x.error, x.same, x.dead AND job.wanted = x.wanted AS dead,
           job.wanted = x.wanted AND x.delay IS NULL AND NOT x.dead AS done
      FROM job JOIN x ON job.id = x.id AND job.lease_token = x.token
     ORDER BY kind, subject FOR UPDATE OF job
), seen AS (
    UPDATE worker SET finished_at = now() WHERE id = %(worker)s::uuid AND EXISTS (SELECT FROM mine WHERE error IS NULL)
), gone AS (
    DELETE FROM job USING mine WHERE job.id = mine.id AND mine.done
)
UPDATE job
   SET run_at = least(run_at, coalesce(now() + mine.delay, 'infinity')),
       state = CASE WHEN mine.dead THEN 'dead'
                    WHEN least(run_at, coalesce(now() + mine.delay, 'infinity')) <= now() THEN 'ready'
                    ELSE 'waiting' END,
       attempt = CASE WHEN mine.error IS NULL THEN 0 ELSE attempt END,
       lost = CASE WHEN mine.dead THEN lost ELSE 0 END,
       same_error = mine.same,
       last_error = coalesce(mine.error, last_error),
       lease_until = NULL,
       lease_token = NULL
  FROM mine
 WHERE job.id = mine.id AND NOT mine.done
"""

HOLD: Final = """
-- store.jobs.hold: a submit job waits for a slot of its account, or for the end of a pause
UPDATE job
   SET state = 'waiting', held = true, run_at = now(), attempt = 0, lost = 0, lease_until = NULL, lease_token = NULL
 WHERE id = %(id)s AND lease_token = %(token)s
"""

RELEASE_HELD: Final = """
-- store.jobs.release_held: those whose task has its slot already, and the longest waiting of the others; the caller
-- holds the account's lock
WITH sent AS (
    SELECT job.id FROM task JOIN job ON job.kind = 'submit' AND job.subject = task.id AND job.held
     WHERE task.account = %(account)s AND task.state = 'submitting' FOR UPDATE OF job SKIP LOCKED
), waiting AS (
    SELECT id FROM job
     WHERE held AND account = %(account)s
       AND NOT EXISTS (SELECT FROM task WHERE task.id = job.subject AND task.state = 'submitting')
     ORDER BY deliver_by, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
UPDATE job SET held = false, state = 'ready', run_at = now()
 WHERE id IN (SELECT id FROM sent UNION ALL SELECT id FROM waiting)
"""

HELD_ACCOUNTS: Final = """
-- store.jobs.held_accounts: accounts for which something waits
SELECT DISTINCT account FROM job WHERE held
"""

HELD_OF: Final = """
-- store.jobs.held_of: how many submits wait for an account
SELECT count(*) AS n FROM job WHERE held AND account = %(account)s
"""

REMOVE: Final = """
-- store.jobs.remove: what tasks no longer need, also while a worker holds it
WITH mine AS MATERIALIZED (
    SELECT id FROM job
     WHERE (kind, subject) IN (SELECT * FROM unnest(%(kinds)s::text[], %(subjects)s::bigint[]))
     ORDER BY kind, subject FOR UPDATE
)
DELETE FROM job USING mine WHERE job.id = mine.id
"""

READY_WAITING: Final = """
-- store.jobs.ready_waiting: what has become due, oldest first
WITH due AS (
    SELECT id FROM job WHERE state = 'waiting' AND NOT held AND run_at <= now()
     ORDER BY run_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
UPDATE job SET state = 'ready' FROM due WHERE job.id = due.id
"""

READY_DUE: Final = """
-- store.jobs.ready_due: tasks past their due time get their job, also a held or dead one
WITH due AS (
    SELECT job.id FROM task JOIN job ON job.subject = task.id AND job.kind IN ('submit', 'query')
     WHERE task.due_at <= now() AND job.state IN ('waiting', 'dead')
     ORDER BY task.due_at LIMIT %(limit)s FOR UPDATE OF job SKIP LOCKED
)
UPDATE job SET state = 'ready', held = false, run_at = now() FROM due WHERE job.id = due.id
"""

REVIVE: Final = """
-- store.jobs.revive: a person has looked; the waiting and dead jobs of a task run now, with a clean record
WITH mine AS (
    SELECT job.id, job.state = 'dead' AS dead FROM job
     WHERE job.state IN ('waiting', 'dead') AND NOT job.held
       AND (job.kind, job.subject) IN (
           SELECT kind, %(task)s FROM unnest(ARRAY['submit', 'query', 'archive']) AS k (kind) UNION ALL
           SELECT 'advance', inbox.id FROM inbox WHERE inbox.task_id = %(task)s AND inbox.processed_at IS NULL)
     ORDER BY job.kind, job.subject FOR UPDATE OF job
)
UPDATE job SET state = 'ready', run_at = now(), attempt = 0, lost = 0, same_error = 0
  FROM mine WHERE job.id = mine.id
RETURNING mine.dead
"""

COUNT: Final = """
-- store.jobs.count: how many jobs of each kind stand where
SELECT kind, CASE WHEN held THEN 'held' ELSE state END AS state, count(*) AS n FROM job GROUP BY 1, 2
"""

RETIRE: Final = """
-- store.jobs.retire: a worker stops; workers not seen for a day are forgotten
DELETE FROM worker WHERE id = %(worker)s OR seen_at < now() - interval '1 day'
"""


async def want(conn: Connection, wishes: Sequence[Wanted]) -> None:
    """Upsert jobs and wake the workers when one can run now; the caller commits."""
    if not wishes:
        return
    await conn.execute(
        WANT,
        {
            "kinds": [w.kind for w in wishes],
            "subjects": [w.subject for w in wishes],
            "accounts": [w.account for w in wishes],
            "delays": [w.delay for w in wishes],
            "deliver_bys": [w.deliver_by for w in wishes],
        },
    )
    if any(w.delay <= timedelta() for w in wishes):
        await conn.execute(WAKE)


async def claim(
    conn: Connection, kind: JobKind, limit: int, *, lapsed: int | None = None, lease: timedelta = LEASE
) -> list[Job]:
    """
    Lease up to *limit* jobs, the least `deliver_by` first; the attempt is counted before it is made.

    At most *lapsed* of them, by default all, are such whose last lease ran out.
    """
    params = {"kind": kind, "limit": limit, "lapsed": limit if lapsed is None else lapsed, "lease": lease}
    rows = await every(conn, CLAIM, {**params, "token": uuid4()})
    found = [Job(**{**row, "kind": JobKind(row["kind"])}) for row in rows]
    return sorted(found, key=lambda job: (job.deliver_by, job.id))


async def renew(conn: Connection, worker: UUID, held: Sequence[Job], *, lease: timedelta = LEASE) -> None:
    """Note that *worker* lives and extend the leases of *held*; one that another has taken over is left alone."""
    params = {"worker": worker, "ids": [j.id for j in held], "tokens": [j.token for j in held], "lease": lease}
    await conn.execute(RENEW, params)


async def settle(conn: Connection, worker: UUID | None, ended: Sequence[Settled]) -> None:
    """Delete or reschedule claimed jobs; those whose lease was lost are left alone. *worker* is who finished them."""
    await conn.execute(
        SETTLE,
        {
            "worker": worker,
            "ids": [s.job.id for s in ended],
            "tokens": [s.job.token for s in ended],
            "wanteds": [s.job.wanted for s in ended],
            "delays": [s.delay for s in ended],
            "errors": [s.error for s in ended],
            "sames": [s.same_error for s in ended],
            "deads": [s.dead for s in ended],
        },
    )


async def hold(conn: Connection, job: Job) -> None:
    """Let a submit job wait until its account has room; the caller holds the account's lock."""
    await conn.execute(HOLD, {"id": job.id, "token": job.token})


async def release_held(conn: Connection, account: AccountId, limit: int) -> int:
    """
    Ready up to *limit* held jobs in their order, and all whose task has its slot already; return how many.

    The caller holds the account's lock.
    """
    released = (await conn.execute(RELEASE_HELD, {"account": account, "limit": limit})).rowcount
    if released:
        await conn.execute(WAKE)
    return released


async def held_accounts(conn: Connection) -> list[AccountId]:
    """Return the accounts for which submit jobs are held."""
    return [row["account"] for row in await every(conn, HELD_ACCOUNTS)]


async def held_of(conn: Connection, account: AccountId) -> int:
    """Return how many submit jobs are held for *account*."""
    row = await one(conn, HELD_OF, {"account": account})
    return 0 if row is None else int(row["n"])


async def remove(conn: Connection, unwanted: Collection[tuple[JobKind, int]]) -> None:
    """Delete the jobs of these kinds and subjects, leased or not; the caller commits."""
    if unwanted:
        kinds, subjects = zip(*unwanted, strict=True)
        await conn.execute(REMOVE, {"kinds": list(kinds), "subjects": list(subjects)})


async def ready_waiting(conn: Connection) -> int:
    """Move jobs whose time has come to ready; return how many."""
    return (await conn.execute(READY_WAITING, {"limit": SWEEP})).rowcount


async def notices(conn: Connection) -> AsyncIterator[None]:
    """Yield once for each wake-up, for as long as the connection holds."""
    await conn.execute("LISTEN receiver_job")
    async for _ in conn.notifies():
        yield None


async def ready_due(conn: Connection) -> int:
    """Ready the job of each task that is past its due time; return how many."""
    return (await conn.execute(READY_DUE, {"limit": SWEEP})).rowcount


async def revive(conn: Connection, task: TaskId) -> int:
    """
    Let the waiting and dead jobs of *task* run now, also those of its callbacks; return how many were dead.

    The caller holds the task's lock and commits.
    """
    revived = await every(conn, REVIVE, {"task": task})
    await conn.execute(WAKE)
    return sum(row["dead"] for row in revived)


async def count(conn: Connection) -> dict[tuple[JobKind, str], int]:
    """Return the number of jobs by kind and state; a held one counts as "held"."""
    return {(JobKind(row["kind"]), row["state"]): row["n"] for row in await every(conn, COUNT)}


async def retire(conn: Connection, worker: UUID) -> None:
    """Note that a worker has stopped."""
    await conn.execute(RETIRE, {"worker": worker})
