"""What is kept of tasks, their audio and their callbacks: operations for `State.do`."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from receiver.sandbox.answers import Refusal, duplicate, no_free_slot
from receiver.sandbox.records import Audio, Callback, Course, Format, Order, Status, Task

#: A task owns as many ids: its own, its clip's, one for each callback.
IDS_EACH: Final = 16
CLIP_ID: Final = 1
FIRST_WEBHOOK_ID: Final = 2

Connection = sqlite3.Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A task after a status change, and the callback that tells it; None without `callback_url`."""

    task: Task
    callback: Callback | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """A task that has not ended or has callbacks still to be sent, oldest first."""

    task: Task
    due: tuple[Callback, ...]


def create(
    conn: Connection, order: Order, now: int, *, concurrency: int, draw: Callable[[int], Course]
) -> Change | Refusal:
    """
    Make a task of *order*, or say why not; either way the create is counted for its external id.

    *draw* is given the task's number, from 1, and decides its course.
    A repeated external id is told before a lack of slots: it is the answer that settles an unsure create.
    """
    if order.external_id is not None:
        conn.execute(
            "INSERT INTO attempt VALUES (?, 1) ON CONFLICT DO UPDATE SET creates = creates + 1", (order.external_id,)
        )
        if conn.execute("SELECT 1 FROM task WHERE external_id = ?", (order.external_id,)).fetchone():
            return duplicate(order.external_id)
    if concurrency and _open(conn) >= concurrency:
        return no_free_slot()
    number, task_id = _next(conn)
    course = draw(number)
    task = Task(
        id=task_id,
        order=order,
        status=Status.SUBMITTED,
        failure=course.failure,
        created_at=now,
        updated_at=now,
        starts_at=now + course.starts_after,
        ends_at=now + course.ends_after,
    )
    _insert(conn, number, task)
    return Change(task=task, callback=_add_callback(conn, task))


def move(conn: Connection, task_id: int, status: Status, now: int, audios: Iterable[Audio] = ()) -> Change:
    """Give the task *status*, with its *audios* when it succeeds, and note the callback that is due for it."""
    conn.execute("UPDATE task SET status = ?, updated_at = ? WHERE id = ?", (status, now, task_id))
    conn.executemany(
        "INSERT INTO audio (task_id, format, clip, bytes, sha256, duration) VALUES (?, ?, ?, ?, ?, ?)",
        [(task_id, a.format, a.clip, a.bytes, a.sha256, a.duration) for a in audios],
    )
    task = get(conn, task_id)
    return Change(task=task, callback=_add_callback(conn, task))


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
    rows = conn.execute("SELECT * FROM task ORDER BY number DESC LIMIT ? OFFSET ?", (size, (number - 1) * size))
    return [_task(conn, row) for row in rows.fetchall()]


def audio(conn: Connection, task_id: int, clip: int, form: Format) -> Audio | None:
    """Return one file of a task; None when there is no such file."""
    row = conn.execute(
        "SELECT * FROM audio WHERE task_id = ? AND clip = ? AND format = ?", (task_id, clip, form)
    ).fetchone()
    return None if row is None else _audio(row)


def unfinished(conn: Connection) -> list[Unfinished]:
    """Return all that was under way when the last process ended."""
    rows = conn.execute(
        "SELECT * FROM task WHERE status IN ('submitted', 'processing')"
        " OR id IN (SELECT task_id FROM callback WHERE outcome IS NULL) ORDER BY number"
    )
    return [Unfinished(task=_task(conn, row), due=_due(conn, row["id"])) for row in rows.fetchall()]


def begin_callback(conn: Connection, callback: Callback) -> None:
    """Note, before the connection is opened, that the one attempt is spent."""
    conn.execute(
        "UPDATE callback SET begun = 1 WHERE task_id = ? AND position = ?", (callback.task_id, callback.position)
    )


def end_callback(conn: Connection, callback: Callback, outcome: str) -> None:
    """Record what became of the attempt."""
    conn.execute(
        "UPDATE callback SET outcome = ? WHERE task_id = ? AND position = ?",
        (outcome, callback.task_id, callback.position),
    )


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


def _next(conn: Connection) -> tuple[int, int]:
    row = conn.execute("SELECT first_id, (SELECT coalesce(max(number), 0) + 1 FROM task) AS number FROM origin")
    first_id, number = row.fetchone()
    return number, first_id + number * IDS_EACH


def _insert(conn: Connection, number: int, task: Task) -> None:
    order = task.order
    conn.execute(
        "INSERT INTO task VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            number,
            task.id,
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


def _add_callback(conn: Connection, task: Task) -> Callback | None:
    if task.order.callback_url is None:
        return None
    position = conn.execute("SELECT count(*) FROM callback WHERE task_id = ?", (task.id,)).fetchone()[0]
    callback = Callback(
        task_id=task.id,
        position=position,
        webhook_id=task.id + FIRST_WEBHOOK_ID + position,
        status=task.status,
        changed_at=task.updated_at,
    )
    conn.execute(
        "INSERT INTO callback (task_id, position, webhook_id, status, changed_at) VALUES (?, ?, ?, ?, ?)",
        (callback.task_id, callback.position, callback.webhook_id, callback.status, callback.changed_at),
    )
    return callback


def _due(conn: Connection, task_id: int) -> tuple[Callback, ...]:
    rows = conn.execute(
        "SELECT * FROM callback WHERE task_id = ? AND outcome IS NULL ORDER BY position", (task_id,)
    ).fetchall()
    return tuple(
        Callback(
            task_id=row["task_id"],
            position=row["position"],
            webhook_id=row["webhook_id"],
            status=Status(row["status"]),
            changed_at=row["changed_at"],
        )
        for row in rows
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
        order=order,
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
    )
