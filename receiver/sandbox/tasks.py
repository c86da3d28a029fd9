"""What is kept of tasks, their files and their callbacks: operations for `State.do`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from receiver.sandbox import callbacks, ids
from receiver.sandbox.answers import Refusal, duplicate, no_free_slot, unmade
from receiver.sandbox.faults import Odds
from receiver.sandbox.houses import ExternalIds, House
from receiver.sandbox.plan import Plan, Unsure
from receiver.sandbox.records import FORMATS, Callback, Course, Format, MediaFile, Order, Product, Status, Task

Connection = sqlite3.Connection

INSERT: Final = """
INSERT INTO task (
  position, id, number, house, told_id, plan, product, prompt, duration, video_id, video_url, sound,
  external_id, callback_url, status, failure, created_at, updated_at, starts_at, ends_at
) VALUES (
  :position, :id, :number, :house, :told_id, :plan, :product, :prompt, :duration, :video_id, :video_url, :sound,
  :external_id, :callback_url, :status, :failure, :created_at, :updated_at, :starts_at, :ends_at
)
"""


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
    conn: Connection,
    house: House,
    order: Order,
    now: int,
    *,
    concurrency: int,
    draw: Callable[[int], Course],
    odds: Odds,
) -> Made | Refusal:
    """
    Make a task of *order*, or say why not; either way the create is noted with its order.

    *draw* is given the order's number and decides the task's course; *odds*
    decide its faults. Where external ids are enforced, a repeated one is told
    before a lack of slots: it is the answer that settles an unsure create.
    """
    number = _number(conn, house, order)
    if _is_repeat(conn, number):
        return _refused(conn, number, duplicate(str(order.external_id)))
    if concurrency and _open(conn, house) >= concurrency:
        return _refused(conn, number, no_free_slot())
    unsure = odds.unsure(number, _unmade(conn, number) + 1)
    if unsure is Unsure.UNMADE:
        return _refused(conn, number, unmade())
    position, task_id = _next(conn)
    course = draw(number)
    fails = course.failure is not None
    task = Task(
        id=task_id,
        house=house.name,
        told_id=ids.told(task_id, house.ids),
        number=number,
        order=order,
        plan=odds.plan(number, told=order.callback_url is not None, fails=fails, formats=FORMATS[order.product]),
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


def refuse(conn: Connection, house: House, order: Order, *, reply: str, fault: str) -> None:
    """Note a create that was answered with *reply* before anything was looked at."""
    _attempt(conn, _number(conn, house, order), made=False, reply=reply, fault=fault)


def replied(conn: Connection, attempt: int, *, reply: str, fault: str) -> None:
    """Note that a create was answered otherwise than it was to be."""
    conn.execute("UPDATE attempt SET reply = ?, fault = ? WHERE id = ?", (reply, fault, attempt))


def move(conn: Connection, task_id: int, status: Status, now: int, files: Iterable[MediaFile] = ()) -> Change:
    """Give the task *status*, with its *files* when it succeeds, and note the callbacks that are due for it."""
    conn.execute("UPDATE task SET status = ?, updated_at = ? WHERE id = ?", (status, now, task_id))
    conn.executemany(
        "INSERT INTO file (task_id, format, clip, take, bytes, sha256, duration, sound_sha256)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [(task_id, f.format, f.clip, f.take, f.bytes, f.sha256, f.duration, f.sound_sha256) for f in files],
    )
    task = get(conn, task_id)
    return Change(task=task, callbacks=callbacks.add(conn, task))


def get(conn: Connection, task_id: int) -> Task:
    """Return the task with this id of Kling's, which exists."""
    return _tasks(conn, [conn.execute("SELECT * FROM task WHERE id = ?", (task_id,)).fetchone()])[0]


def find(conn: Connection, house: House, given: str, products: Iterable[Product]) -> Task | None:
    """Return the house's task of one of *products* whose id is *given*, else the newest whose external id it is."""
    task = by_id(conn, house, given) or by_external_id(conn, house, given)
    return task if task is not None and task.order.product in products else None


def by_id(conn: Connection, house: House, given: str) -> Task | None:
    """Return the house's task that it told under this id."""
    row = conn.execute("SELECT * FROM task WHERE house = ? AND told_id = ?", (house.name, given)).fetchone()
    return None if row is None else _tasks(conn, [row])[0]


def by_external_id(conn: Connection, house: House, given: str) -> Task | None:
    """Return the newest task of this external id; None also where nobody finds one by it."""
    if house.external_ids is ExternalIds.IGNORED:
        return None
    query = "SELECT * FROM task WHERE house = ? AND external_id = ? ORDER BY position DESC LIMIT 1"
    row = conn.execute(query, (house.name, given)).fetchone()
    return None if row is None else _tasks(conn, [row])[0]


def page(conn: Connection, house: House, product: Product, number: int, size: int) -> list[Task]:
    """Return one page of all tasks of a product, the newest first; *number* is from 1."""
    rows = conn.execute(
        "SELECT * FROM task WHERE house = ? AND product = ? ORDER BY position DESC LIMIT ? OFFSET ?",
        (house.name, product, size, (number - 1) * size),
    )
    return _tasks(conn, rows.fetchall())


def since(
    conn: Connection, house: House, *, start: int, end: int, before: int | None, statuses: Sequence[Status], limit: int
) -> list[Task]:
    """
    Return tasks that were made between *start* and *end* (milliseconds since 1970), the newest first.

    *before*, an id of Kling's, begins after the page that ended with it.
    """
    rows = conn.execute(
        "SELECT * FROM task WHERE house = ?1 AND created_at BETWEEN ?2 AND ?3 AND (?4 IS NULL OR id < ?4)"
        " AND status IN (SELECT value FROM json_each(?5)) ORDER BY position DESC LIMIT ?6",
        (house.name, start, end, before, json.dumps(list(statuses)), limit),
    )
    return _tasks(conn, rows.fetchall())


def file(conn: Connection, house: str, task_id: int, clip: int, form: Format) -> MediaFile | None:
    """Return one file of a task; None when the house has no such file."""
    row = conn.execute(
        "SELECT file.* FROM file JOIN task ON task.id = file.task_id"
        " WHERE task.house = ? AND task_id = ? AND clip = ? AND format = ?",
        (house, task_id, clip, form),
    ).fetchone()
    return None if row is None else _file(row)


def unfinished(conn: Connection) -> list[Change]:
    """Return all that was under way when the last process ended, the oldest first."""
    rows = conn.execute(
        "SELECT * FROM task WHERE status IN ('submitted', 'processing')"
        " OR id IN (SELECT task_id FROM callback WHERE outcome IS NULL) ORDER BY position"
    )
    return [Change(task=task, callbacks=callbacks.known(conn, task.id)) for task in _tasks(conn, rows.fetchall())]


def link_key(conn: Connection) -> bytes:
    """Return the key that signs media links; made once, so that links outlive a restart."""
    key: bytes = conn.execute("SELECT link_key FROM origin").fetchone()[0]
    return key


def _open(conn: Connection, house: House) -> int:
    row = conn.execute("SELECT open FROM tally WHERE house = ?", (house.name,)).fetchone()
    return 0 if row is None else int(row["open"])


def _number(conn: Connection, house: House, order: Order) -> int:
    """Return the number of *order*: where external ids are enforced that of its first create, else a new one."""
    enforced = house.external_ids is ExternalIds.ENFORCED and order.external_id is not None
    if enforced:
        query = "SELECT number FROM submission WHERE house = ? AND external_id = ? AND enforced"
        row = conn.execute(query, (house.name, order.external_id)).fetchone()
        if row is not None:
            return int(row["number"])
    added = conn.execute(
        "INSERT INTO submission (house, external_id, enforced) VALUES (?, ?, ?) RETURNING number",
        (house.name, order.external_id, enforced),
    )
    return int(added.fetchone()["number"])


def _is_repeat(conn: Connection, number: int) -> bool:
    return conn.execute("SELECT 1 FROM task WHERE number = ?", (number,)).fetchone() is not None


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
    return position, first_id + position * ids.EACH


def _insert(conn: Connection, position: int, task: Task) -> None:
    order = task.order
    row = {
        "position": position,
        "id": task.id,
        "number": task.number,
        "house": task.house,
        "told_id": task.told_id,
        "plan": task.plan.to_json(),
        "product": order.product,
        "prompt": order.prompt,
        "duration": None if order.duration is None else str(order.duration),
        "video_id": order.video_id,
        "video_url": order.video_url,
        "sound": order.sound,
        "external_id": order.external_id,
        "callback_url": order.callback_url,
        "status": task.status,
        "failure": task.failure,
        "created_at": task.created_at,
        "updated_at": task.updated_at,
        "starts_at": task.starts_at,
        "ends_at": task.ends_at,
    }
    conn.execute(INSERT, row)


def _tasks(conn: Connection, rows: Sequence[sqlite3.Row]) -> list[Task]:
    """Read tasks with their files."""
    files: dict[int, list[MediaFile]] = {row["id"]: [] for row in rows}
    query = "SELECT * FROM file WHERE task_id IN (SELECT value FROM json_each(?)) ORDER BY task_id, format"
    for row in conn.execute(query, (json.dumps(list(files)),)):
        files[row["task_id"]].append(_file(row))
    return [_task(row, files[row["id"]]) for row in rows]


def _task(row: sqlite3.Row, files: Iterable[MediaFile]) -> Task:
    order = Order(
        product=Product(row["product"]),
        prompt=row["prompt"],
        duration=None if row["duration"] is None else Decimal(row["duration"]),
        video_id=row["video_id"],
        video_url=row["video_url"],
        sound=bool(row["sound"]),
        external_id=row["external_id"],
        callback_url=row["callback_url"],
    )
    return Task(
        id=row["id"],
        house=row["house"],
        told_id=row["told_id"],
        number=row["number"],
        order=order,
        plan=Plan.from_json(row["plan"]),
        status=Status(row["status"]),
        failure=row["failure"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        starts_at=row["starts_at"],
        ends_at=row["ends_at"],
        files=tuple(files),
    )


def _file(row: sqlite3.Row) -> MediaFile:
    return MediaFile(
        clip=row["clip"],
        take=row["take"],
        format=Format(row["format"]),
        bytes=row["bytes"],
        sha256=row["sha256"],
        duration=row["duration"],
        sound_sha256=row["sound_sha256"],
        generation=row["generation"],
    )
