"""One row per accepted job. Only `move` writes `task.state`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter, itemgetter
from typing import Any, Final

from psycopg.types.json import Jsonb

from receiver.core import deadlines
from receiver.core.model import AccountId, Asset, State, Task, TaskId, Trust
from receiver.store import assets
from receiver.store.db import Connection, every, one, records


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """What a submitter asks for, checked and normalised."""

    id: TaskId
    owner: str
    account: AccountId
    kind: str
    input: Mapping[str, str | int | float | bool]
    reference: str | None
    labels: Mapping[str, str]
    idempotency_key: str | None
    #: SHA-256 of the normalised request.
    request_hash: bytes
    #: The id of the key that asked.
    api_key: str


@dataclass(frozen=True, slots=True)
class Locked:
    """A task whose row is locked, and the database's time at that moment (UTC)."""

    task: Task
    now: datetime


@dataclass(frozen=True, slots=True)
class Earlier:
    """The task that an idempotency key made before."""

    id: TaskId
    request_hash: bytes


ADD: Final = """
-- store.tasks.add: new tasks, their first events and their submit jobs at once: most of what a submit costs are round
-- trips; a used id or idempotency key is left out of the answer
WITH new AS (
    INSERT INTO task (id, owner, account, kind, input, reference, labels, idempotency_key, request_hash, api_key,
                      state, submit_by, due_at)
    SELECT id, owner, account, kind, input, reference, labels, idempotency_key, request_hash, api_key,
           'accepted', now() + %(submit_within)s, now() + %(submit_within)s
      FROM unnest(%(ids)s::bigint[], %(owners)s::text[], %(accounts)s::text[], %(kinds)s::text[], %(inputs)s::jsonb[],
                  %(references)s::text[], %(labels)s::jsonb[], %(keys)s::text[],
                  %(hashes)s::bytea[], %(api_keys)s::text[])
           AS x (id, owner, account, kind, input, reference, labels, idempotency_key, request_hash, api_key)
     ORDER BY idempotency_key, id
    ON CONFLICT DO NOTHING
    RETURNING *
), told AS (
    INSERT INTO event (task_id, type, data)
    SELECT id, 'task.accepted', jsonb_build_object('account', account, 'kind', kind, 'reference', reference) FROM new
     ORDER BY id
), work AS (
    INSERT INTO job (kind, subject, account, state, run_at, deliver_by)
    SELECT 'submit', id, account, 'ready', now(), submit_by FROM new ORDER BY id
)
SELECT *, now() AS read_at, (SELECT pg_notify('receiver_job', '')) FROM new ORDER BY id
"""

EARLIER: Final = """
-- store.tasks.earlier: what idempotency keys stand for
SELECT id, idempotency_key, request_hash FROM task WHERE owner = %(owner)s AND idempotency_key = ANY(%(keys)s)
"""

ADOPT: Final = """
-- store.tasks.adopt: a task that was made elsewhere enters as `submitted`; one that we know is left out
INSERT INTO task (id, owner, account, kind, input, reference, labels, request_hash, api_key, adopted, provider_task_id,
                  state, submit_by, settle_by, due_at)
VALUES (%(id)s, %(owner)s, %(account)s, %(kind)s, '{}', %(reference)s, %(labels)s, %(request_hash)s, %(api_key)s, true,
        %(provider_task_id)s, 'submitted', now(), now() + %(longest)s, now() + %(longest)s)
ON CONFLICT DO NOTHING
RETURNING due_at
"""

AT_PROVIDER: Final = """
-- store.tasks.at_provider: which task of ours is this one of the provider's
SELECT id FROM task WHERE account = %(account)s AND provider_task_id = %(provider_task_id)s LIMIT 1
"""

FOR_ANOTHER: Final = """
-- store.tasks.is_made_for_another: whether the provider made its task, not long ago, for another task of ours
SELECT FROM task
 WHERE account = %(account)s AND provider_task_id = %(provider_task_id)s AND id <> %(task)s AND NOT adopted
   AND coalesce(last_sent_at, created_at) > now() - %(within)s
 LIMIT 1
"""

LOCK: Final = """
-- store.tasks.lock: each change of tasks or their assets begins here, in one order for all
SELECT *, now() AS read_at FROM task WHERE id = ANY(%(ids)s) ORDER BY id FOR NO KEY UPDATE
"""

LOCK_FREE: Final = """
-- store.tasks.lock_free: the same without waiting for others
SELECT *, now() AS read_at FROM task WHERE id = ANY(%(ids)s) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
"""

KNOWN: Final = """
-- store.tasks.known: which of these ids are tasks
SELECT id FROM task WHERE id = ANY(%(ids)s)
"""

GET: Final = """
-- store.tasks.get: one task as it stands
SELECT *, now() AS read_at FROM task WHERE id = %(id)s
"""

OWNED: Final = """
-- store.tasks.owned: whether a task is the caller's
SELECT FROM task WHERE id = %(id)s AND owner = %(owner)s
"""

ENDED: Final = """
-- store.tasks.ended: which of these tasks have ended
SELECT id FROM task WHERE id = ANY(%(ids)s) AND due_at IS NULL
"""

MOVE: Final = """
-- store.tasks.move: the only statement that writes task.state
UPDATE task
   SET state = x.state, reason = x.reason, detail = x.detail, attention = x.attention, revision = x.revision,
       provider_task_id = x.provider_task_id, hinted_id = x.hinted_id, submit_by = x.submit_by,
       first_sent_at = x.first_sent_at, last_sent_at = x.last_sent_at, sends = x.sends, unsure = x.unsure,
       settle_by = x.settle_by, due_at = x.due_at, deliver_by = x.deliver_by, ended_at = x.ended_at, polls = x.polls,
       last_polled_at = x.last_polled_at, no_media = x.no_media, asked_again = x.asked_again,
       query_wanted = x.query_wanted, grace_given = x.grace_given, units = x.units, trust = x.trust
  FROM jsonb_populate_recordset(NULL::task, %(tasks)s) AS x
 WHERE task.id = x.id
"""

AT_WORK: Final = """
-- store.tasks.at_work: tasks that the provider is known to have taken and not to have ended
SELECT count(*) AS n FROM task WHERE account = %(account)s AND state IN ('submitted', 'processing')
"""

IN_FLIGHT: Final = """
-- store.tasks.in_flight: slots of an account that are taken
SELECT count(*) AS n FROM task WHERE account = %(account)s AND state IN ('submitting', 'submitted', 'processing')
"""


_COLUMNS: Final = tuple(name for name in Task.__slots__ if name != "assets")
_ROW: Final = itemgetter(*_COLUMNS)
#: What never changes, and is not written again.
_FIXED: Final = {"owner", "account", "kind", "input", "created_at", "reference", "labels", "adopted"}
_MOVED: Final = tuple(name for name in _COLUMNS if name not in _FIXED)
_CHANGED: Final = attrgetter(*_MOVED)


async def add(conn: Connection, new: Sequence[NewTask], *, submit_within: timedelta) -> list[Locked]:
    """
    Insert tasks as `accepted`, each with its first event and its submit job; return those that were inserted, by id.

    One that is missing from the answer clashes with an id or an idempotency key
    that exists. The caller commits.
    """
    rows = await every(
        conn,
        ADD,
        {
            "submit_within": submit_within,
            "ids": [t.id for t in new],
            "owners": [t.owner for t in new],
            "accounts": [t.account for t in new],
            "kinds": [t.kind for t in new],
            "inputs": [Jsonb(dict(t.input)) for t in new],
            "references": [t.reference for t in new],
            "labels": [Jsonb(dict(t.labels)) for t in new],
            "keys": [t.idempotency_key for t in new],
            "hashes": [t.request_hash for t in new],
            "api_keys": [t.api_key for t in new],
        },
    )
    return [located(row, {}) for row in rows]


async def adopt(conn: Connection, new: NewTask, provider_task_id: str, *, longest: timedelta) -> datetime | None:
    """Insert a task made elsewhere and return its due time; None when its id or the provider's is taken."""
    values = {name: getattr(new, name) for name in NewTask.__slots__ if name not in {"input", "labels"}}
    params = {**values, "labels": Jsonb(dict(new.labels)), "provider_task_id": provider_task_id, "longest": longest}
    row = await one(conn, ADOPT, params)
    return None if row is None else row["due_at"]


async def at_provider(conn: Connection, account: AccountId, provider_task_id: str) -> TaskId | None:
    """Return the task of ours that the provider calls *provider_task_id*."""
    row = await one(conn, AT_PROVIDER, {"account": account, "provider_task_id": provider_task_id})
    return None if row is None else TaskId(row["id"])


async def is_made_for_another(conn: Connection, task: Task, provider_task_id: str, *, within: timedelta) -> bool:
    """Return whether another task of the same account, sent *within* this time, is the one of that name."""
    params = {"account": task.account, "task": task.id, "provider_task_id": provider_task_id, "within": within}
    return await one(conn, FOR_ANOTHER, params) is not None


async def earlier(conn: Connection, owner: str, keys: Sequence[str]) -> dict[str, Earlier]:
    """Return what the idempotency keys of *owner* made before, by key."""
    rows = await every(conn, EARLIER, {"owner": owner, "keys": list(keys)})
    return {row["idempotency_key"]: Earlier(row["id"], row["request_hash"]) for row in rows}


async def lock(conn: Connection, task: TaskId) -> Locked | None:
    """Lock the row of *task* until the transaction ends and return it with its assets; None when there is none."""
    return (await lock_all(conn, [task])).get(task)


async def lock_all(conn: Connection, wanted: Collection[TaskId]) -> dict[TaskId, Locked]:
    """Lock the rows of those tasks that there are, in the order of their ids, and return them with their assets."""
    rows = await every(conn, LOCK, {"ids": list(wanted)})
    return await _located(conn, rows)


async def lock_free(conn: Connection, wanted: Collection[TaskId]) -> tuple[dict[TaskId, Locked], set[TaskId]]:
    """Lock those of the tasks that nobody else has locked; return them, and which are another's at the moment."""
    found = await _located(conn, await every(conn, LOCK_FREE, {"ids": list(wanted)}))
    missing = [task for task in wanted if task not in found]
    return found, {row["id"] for row in await every(conn, KNOWN, {"ids": missing})} if missing else set()


async def get(conn: Connection, task: TaskId) -> Locked | None:
    """Return *task* with its assets, unlocked."""
    return (await _located(conn, await every(conn, GET, {"id": task}))).get(task)


async def owned(conn: Connection, task: TaskId, owner: str) -> bool:
    """Return whether *task* is one of *owner*."""
    return await one(conn, OWNED, {"id": task, "owner": owner}) is not None


async def ended(conn: Connection, asked: Sequence[TaskId]) -> list[TaskId]:
    """Return those of the tasks that have ended."""
    return [row["id"] for row in await every(conn, ENDED, {"ids": list(asked)})]


async def move(conn: Connection, moved: Iterable[Task]) -> None:
    """
    Write everything of some tasks that may change; the caller holds the rows' locks and commits.

    `due_at` and `ended_at` must fit the state, or the database refuses.
    """
    rows = [dict(zip(_MOVED, _CHANGED(task), strict=True), deliver_by=deadlines.deliver_by(task)) for task in moved]
    if rows:
        await conn.execute(MOVE, {"tasks": records(rows)})


async def at_work(conn: Connection, account: AccountId) -> int:
    """Count the tasks that the provider of *account* has taken and not ended, as far as is known."""
    row = await one(conn, AT_WORK, {"account": account})
    return 0 if row is None else int(row["n"])


async def in_flight(conn: Connection, account: AccountId) -> int:
    """Count the tasks that hold a slot of *account*; the caller holds the account's lock."""
    row = await one(conn, IN_FLIGHT, {"account": account})
    return 0 if row is None else int(row["n"])


async def _located(conn: Connection, rows: Sequence[Mapping[str, Any]]) -> dict[TaskId, Locked]:
    found = await assets.of(conn, [row["id"] for row in rows])
    return {row["id"]: located(row, found) for row in rows}


def located(row: Mapping[str, Any], found: Mapping[TaskId, tuple[Asset, ...]]) -> Locked:
    """Make a task of its row and its assets."""
    values = dict(zip(_COLUMNS, _ROW(row), strict=True))
    values["state"] = State(row["state"])
    values["trust"] = None if row["trust"] is None else Trust(row["trust"])
    return Locked(Task(**values, assets=found.get(row["id"], ())), row["read_at"])
