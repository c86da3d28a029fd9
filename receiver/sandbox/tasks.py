"""What is kept of tasks, their audio and their callbacks: operations for `State.do`."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from receiver.sandbox import callbacks
from receiver.sandbox.answers import Refusal, duplicate, no_free_slot, unmade
from receiver.sandbox.faults import Odds
from receiver.sandbox.plan import Plan, Unsure
from receiver.sandbox.records import Audio, Callback, Course, Format, Order, Status, Task

#: A task owns as many ids: its own, its clip's, one for each callback.
IDS_EACH: Final = 16
CLIP_ID: Final = 1
#: Never used for anything that is made.
LAST_ID: Final = IDS_EACH - 1

Connection = sqlite3.Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A task after a status change, and the callbacks that it has so far or brings."""

    task: Task
    callbacks: tuple[Callback, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A task that a create made, and what its reply says."""

    change: Change
    #: Of the create.
    attempt: int
    unsure: Unsure | None


def create(
    conn: Connection, order: Order, now: int, *, concurrency: int, draw: Callable[[int], Course], odds: Odds
) -> Made | Refusal:
    """
    Make a task of *order*, or say why not; either way the create is noted with its order.

    *draw* is given the order's number and decides the task's course; *odds*
    decide its faults. A repeated external id is told before a lack of slots:
    it is the answer that settles an unsure create.
    """
    number = _number(conn, order)
    if order.external_id is not None and _has_task(conn, order.external_id):
        return _refused(conn, number, duplicate(order.external_id))
    if concurrency and _open(conn) >= concurrency:
        return _refused(conn, number, no_free_slot())
    unsure = odds.unsure(number, _unmade(conn, number) + 1)
    if unsure is Unsure.UNMADE:
        return _refused(conn, number, unmade())
    position, task_id = _next(conn)
    course = draw(number)
    task = Task(
        id=task_id,
        number=number,
        order=order,
        plan=odds.plan(number, told=order.callback_url is not None, fails=course.failure is not None),
        status=Status.SUBMITTED,
        failure=course.failure,
        created_at=now,
        updated_at=now,
        starts_at=now + course.starts_after,
        ends_at=now + course.ends_after,
    )
    _insert(conn, position, task)
    attempt = _attempt(conn, number, made=True, reply="200 0" if unsure is None else unsure, fault=unsure)
    return Made(change=Change(task=task, callbacks=callbacks.add(conn, task)), attempt=attempt, unsure=unsure)


def refuse(conn: Connection, order: Order, *, reply: str, fault: str) -> None:
    """Note a create that was answered with *reply* before anything was looked at."""
    _attempt(conn, _number(conn, order), made=False, reply=reply, fault=fault)


def replied(conn: Connection, attempt: int, *, reply: str, fault: str) -> None:
    """Note that a create was answered otherwise than it was to be."""
    conn.execute("UPDATE attempt SET reply = ?, fault = ? WHERE id = ?", (reply, fault, attempt))


def move(conn: Connection, task_id: int, status: Status, now: int, audios: Iterable[Audio] = ()) -> Change:
    """Give the task *status*, with its *audios* when it succeeds, and note the callbacks that are due for it."""
    conn.execute("UPDATE task SET status = ?, updated_at = ? WHERE id = ?", (status, now, task_id))
    conn.executemany(
        "INSERT INTO audio (task_id, format, clip, bytes, sha256, duration) VALUES (?, ?, ?, ?, ?, ?)",
        [(task_id, a.format, a.clip, a.bytes, a.sha256, a.duration) for a in audios],
    )
    task = get(conn, task_id)
    return Change(task=task, callbacks=callbacks.add(conn, task))


def get(conn: Connection, task_id: int) -> Task:
    """Return the task with this id, which exists."""
    row = conn.execute("SELECT * FROM task WHERE id = ?", (task_id,)).fetchone()
    return _task(conn, row)


def find(conn: Connection, given: str) -> Task | None:
    """Return the task whose id is *given*, else the one whose external id it is."""
    row = (
        conn.execute("SELECT * FROM task WHERE CAST(id AS TEXT) = ?1 AND id = CAST(?1 AS INTEGER)", (given,)).fetchone()
        or conn.execute("SELECT * FROM task WHERE external_id = ?", (given,)).fetchone()
    )
    return None if row is None else _task(conn, row)


def page(conn: Connection, number: int, size: int) -> list[Task]:
    """Return one page of all tasks, the newest first; *number* is from 1."""
    rows = conn.execute("SELECT * FROM task ORDER BY position DESC LIMIT ? OFFSET ?", (size, (number - 1) * size))
    return [_task(conn, row) for row in rows.fetchall()]


def audio(conn: Connection, task_id: int, clip: int, form: Format) -> Audio | None:
    """Return one file of a task; None when there is no such file."""
    row = conn.execute(
        "SELECT * FROM audio WHERE task_id = ? AND clip = ? AND format = ?", (task_id, clip, form)
    ).fetchone()
    return None if row is None else _audio(row)


def unfinished(conn: Connection) -> list[Change]:
    """Return all that was under way when the last process ended, the oldest first."""
    rows = conn.execute(
        "SELECT * FROM task WHERE status IN ('submitted', 'processing')"
        " OR id IN (SELECT task_id FROM callback WHERE outcome IS NULL) ORDER BY position"
    )
    return [Change(task=_task(conn, row), callbacks=callbacks.known(conn, row["id"])) for row in rows.fetchall()]


def link_key(conn: Connection) -> bytes:
    """Return the key that signs media links; made once, so that links outlive a restart."""
    key: bytes = conn.execute("SELECT link_key FROM origin").fetchone()[0]
    return key


def clip_id(task_id: int) -> int:
    """Return the id of the task's clip."""
    return task_id + CLIP_ID


def _open(conn: Connection) -> int:
    count: int = conn.execute("SELECT count(*) FROM task WHERE status IN ('submitted', 'processing')").fetchone()[0]
    return count


def _number(conn: Connection, order: Order) -> int:
    """Return the number of *order*: that of its external id's first create, or a new one."""
    if order.external_id is not None:
        row = conn.execute("SELECT number FROM submission WHERE external_id = ?", (order.external_id,)).fetchone()
        if row is not None:
            return int(row["number"])
    added = conn.execute("INSERT INTO submission (external_id) VALUES (?) RETURNING number", (order.external_id,))
    return int(added.fetchone()["number"])


def _has_task(conn: Connection, external_id: str) -> bool:
    return conn.execute("SELECT 1 FROM task WHERE external_id = ?", (external_id,)).fetchone() is not None


def _unmade(conn: Connection, number: int) -> int:
    """Count the creates of an order that could have made its task; what was refused for other reasons draws nothing."""
    query = "SELECT count(*) FROM attempt WHERE number = ? AND fault = ?"
    count: int = conn.execute(query, (number, Unsure.UNMADE)).fetchone()[0]
    return count


def _refused(conn: Connection, number: int, refusal: Refusal) -> Refusal:
    reply = f"{refusal.http} {refusal.code}"
    _attempt(conn, number, made=False, reply=reply, fault=refusal.fault)
    return refusal


def _attempt(conn: Connection, number: int, *, made: bool, reply: str, fault: str | None) -> int:
    row = conn.execute(
        "INSERT INTO attempt (number, made, reply, fault) VALUES (?, ?, ?, ?) RETURNING id",
        (number, made, reply, fault),
    ).fetchone()
    return int(row["id"])


def _next(conn: Connection) -> tuple[int, int]:
    row = conn.execute("SELECT first_id, (SELECT coalesce(max(position), 0) + 1 FROM task) AS position FROM origin")
    first_id, position = row.fetchone()
    return position, first_id + position * IDS_EACH


def _insert(conn: Connection, position: int, task: Task) -> None:
    order = task.order
    conn.execute(
        "INSERT INTO task VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            position,
            task.id,
            task.number,
            task.plan.to_json(),
            order.external_id,
            order.prompt,
            str(order.duration),
            order.callback_url,
            task.status,
            task.failure,
            task.created_at,
            task.updated_at,
            task.starts_at,
            task.ends_at,
        ),
    )


def _task(conn: Connection, row: sqlite3.Row) -> Task:
    audios = conn.execute("SELECT * FROM audio WHERE task_id = ? ORDER BY format", (row["id"],)).fetchall()
    order = Order(
        prompt=row["prompt"],
        duration=Decimal(row["duration"]),
        external_id=row["external_id"],
        callback_url=row["callback_url"],
    )
    return Task(
        id=row["id"],
        number=row["number"],
        order=order,
        plan=Plan.from_json(row["plan"]),
        status=Status(row["status"]),
        failure=row["failure"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        starts_at=row["starts_at"],
        ends_at=row["ends_at"],
        audios=tuple(map(_audio, audios)),
    )


def _audio(row: sqlite3.Row) -> Audio:
    return Audio(
        clip=row["clip"],
        format=Format(row["format"]),
        bytes=row["bytes"],
        sha256=row["sha256"],
        duration=row["duration"],
        generation=row["generation"],
    )
