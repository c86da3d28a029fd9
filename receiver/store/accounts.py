"""What all processes must agree on about an account: whether it is paused, and the lock under which slots are taken."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from receiver.core.errors import Misconfigured
from receiver.core.model import AccountId, TaskId, Verdict
from receiver.store import jobs
from receiver.store.db import Connection, every, one


@dataclass(frozen=True, slots=True)
class Pause:
    """Whether and why submits of an account are paused (UTC)."""

    paused_reason: str | None
    paused_detail: str | None
    paused_at: datetime | None
    #: When it was last tried whether the provider takes the account again.
    probed_at: datetime | None = None
    #: The one task that is sent all the same; read under the lock alone.
    probe_task: TaskId | None = None
    #: Nothing has tried it for a minute; read under the lock alone.
    probe_due: bool = False

    @property
    def by_hand(self) -> bool:
        """Whether only a person may end it."""
        return self.paused_reason == "paused_by_operator"

    def stops(self, task: TaskId) -> bool:
        """Return whether *task* must wait for the end of the pause."""
        return self.paused_at is not None and self.probe_task != task


@dataclass(frozen=True, slots=True)
class ConsoleTest:
    """The last test callback from an account's console: when (UTC), what its signature was, which secret made it."""

    at: datetime
    verdict: Verdict
    #: The key id of the webhook secret; None where none matched.
    secret: str | None


ENROL: Final = """
-- store.accounts.enrol: make the account known; its dialect never changes
INSERT INTO account (id, dialect) VALUES (%(id)s, %(dialect)s)
ON CONFLICT (id) DO UPDATE SET dialect = account.dialect
RETURNING dialect
"""

IN_USE: Final = """
-- store.accounts.in_use: what the open tasks are of
SELECT DISTINCT account, kind FROM task WHERE due_at IS NOT NULL ORDER BY account, kind
"""

LOCK: Final = """
-- store.accounts.lock: slots are taken and given back under it
SELECT paused_reason, paused_detail, paused_at, probe_task,
       coalesce(greatest(probed_at, paused_at) < now() - interval '1 minute', false) AS probe_due
  FROM account WHERE id = %(id)s FOR NO KEY UPDATE
"""

GET: Final = """
-- store.accounts.get: whether the account is paused
SELECT paused_reason, paused_detail, paused_at, probed_at FROM account WHERE id = %(id)s
"""

PAUSE: Final = """
-- store.accounts.pause: the first reason stays
UPDATE account SET paused_reason = %(reason)s, paused_detail = %(detail)s, paused_at = now(), probe_task = NULL
 WHERE id = %(id)s AND paused_at IS NULL
"""

PAUSE_BY_HAND: Final = """
-- store.accounts.pause_by_hand: a person's word replaces a reason that a probe could end
UPDATE account SET paused_reason = 'paused_by_operator', paused_detail = NULL, paused_at = now(), probe_task = NULL
 WHERE id = %(id)s AND paused_reason IS DISTINCT FROM 'paused_by_operator'
"""

PROBE: Final = """
-- store.accounts.due_for_probe: accounts whose key is refused that nobody has asked about for a minute; the caller asks
UPDATE account SET probed_at = now()
 WHERE id IN (SELECT id FROM account WHERE paused_reason = 'authentication' AND id = ANY(%(askable)s)
                 AND greatest(probed_at, paused_at) < now() - interval '1 minute' FOR NO KEY UPDATE SKIP LOCKED)
RETURNING id
"""

RELEASE_PROBE: Final = """
-- store.accounts.release_probe: one held task tries a paused account: the longest waiting of those that were refused;
-- else of those that need a slot, where there is one; else one that is asked after before it is sent; the caller holds
-- the account's lock
WITH sent AS (
    SELECT job.id, job.subject, task.unsure
      FROM task JOIN job ON job.kind = 'submit' AND job.subject = task.id AND job.held
     WHERE task.account = %(id)s AND task.state = 'submitting'
     ORDER BY task.unsure, job.deliver_by, job.id LIMIT 1 FOR UPDATE OF job SKIP LOCKED
), waiting AS (
    SELECT id, subject FROM job
     WHERE held AND account = %(id)s AND %(has_room)s AND NOT EXISTS (SELECT FROM sent WHERE NOT unsure)
       AND NOT EXISTS (SELECT FROM task WHERE task.id = job.subject AND task.state = 'submitting')
     ORDER BY deliver_by, id LIMIT 1 FOR UPDATE SKIP LOCKED
), front AS (
    SELECT id, subject FROM waiting UNION ALL
    SELECT id, subject FROM sent WHERE NOT EXISTS (SELECT FROM waiting)
), marked AS (
    UPDATE account SET probed_at = now(), probe_task = front.subject FROM front WHERE account.id = %(id)s
)
UPDATE job SET held = false, state = 'ready', run_at = now() FROM front WHERE job.id = front.id
"""

RESUME: Final = """
-- store.accounts.resume: submits go on
UPDATE account SET paused_reason = NULL, paused_detail = NULL, paused_at = NULL, probe_task = NULL
 WHERE id = %(id)s AND paused_at IS NOT NULL
"""


NOTE_TEST: Final = """
-- store.accounts.note_test: only the last one is kept
INSERT INTO console_test (account, verdict, secret) VALUES (%(id)s, %(verdict)s, %(secret)s)
ON CONFLICT (account) DO UPDATE SET at = now(), verdict = excluded.verdict, secret = excluded.secret
"""

LAST_TEST: Final = """
-- store.accounts.last_test: the last one, if there was any
SELECT at, verdict, secret FROM console_test WHERE account = %(id)s
"""


async def enrol(conn: Connection, account: AccountId, dialect: str) -> None:
    """
    Make *account* known to the database.

    Raises:
        Misconfigured: It exists with another dialect; an account never changes it.
    """
    row = await one(conn, ENROL, {"id": account, "dialect": dialect})
    if row is None or row["dialect"] != dialect:
        known = "another" if row is None else row["dialect"]
        raise Misconfigured(f"account {account} was made with the dialect {known}; give the new one another name")


async def in_use(conn: Connection) -> list[tuple[AccountId, str]]:
    """Return the accounts that have open tasks, each with the kinds of these."""
    return [(row["account"], row["kind"]) for row in await every(conn, IN_USE)]


async def lock(conn: Connection, account: AccountId) -> Pause:
    """Lock the account's row until the transaction ends; tasks are locked before, jobs after it."""
    return Pause(**(await one(conn, LOCK, {"id": account}) or {}))


async def get(conn: Connection, account: AccountId) -> Pause:
    """Return whether the account is paused, unlocked."""
    return Pause(**(await one(conn, GET, {"id": account}) or {}))


async def pause(conn: Connection, account: AccountId, reason: str, detail: str) -> bool:
    """Stop submits of *account*; False when they were stopped already."""
    return (await conn.execute(PAUSE, {"id": account, "reason": reason, "detail": detail})).rowcount > 0


async def pause_by_hand(conn: Connection, account: AccountId) -> bool:
    """Stop submits of *account* until a person resumes; False when a person had stopped them already."""
    return (await conn.execute(PAUSE_BY_HAND, {"id": account})).rowcount > 0


async def resume(conn: Connection, account: AccountId) -> bool:
    """Let submits go on; False when they were not stopped. The caller holds the lock and releases held jobs."""
    return (await conn.execute(RESUME, {"id": account})).rowcount > 0


async def due_for_probe(conn: Connection, askable: Collection[AccountId]) -> list[AccountId]:
    """Return those of *askable* whose key is refused and that this caller shall ask about: each once a minute."""
    return [row["id"] for row in await every(conn, PROBE, {"askable": list(askable)})]


async def release_probe(conn: Connection, account: AccountId, *, has_room: bool) -> int:
    """
    Let one held task try a paused account; return how many were let go, 1 at the most.

    *has_room*: one may be taken that has no slot at the provider yet. The caller
    holds the account's lock and has seen that a probe is due.
    """
    released = (await conn.execute(RELEASE_PROBE, {"id": account, "has_room": has_room})).rowcount
    if released:
        await conn.execute(jobs.WAKE)
    return released


async def note_test(conn: Connection, account: AccountId, verdict: Verdict, secret: str | None) -> None:
    """Remember a console's test callback, and which secret had signed it."""
    await conn.execute(NOTE_TEST, {"id": account, "verdict": verdict, "secret": secret})


async def last_test(conn: Connection, account: AccountId) -> ConsoleTest | None:
    """Return the last test callback of *account*; None when there was none."""
    row = await one(conn, LAST_TEST, {"id": account})
    return None if row is None else ConsoleTest(row["at"], Verdict(row["verdict"]), row["secret"])
