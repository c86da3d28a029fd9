"""Which callbacks a task has, and what is kept of them: operations for `State.do`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from types import MappingProxyType
from typing import Final

from receiver.sandbox import ids
from receiver.sandbox.houses import HOUSES
from receiver.sandbox.plan import CONTRADICTION, END, FORGERY, PROCESSING, SUBMITTED
from receiver.sandbox.records import Callback, Kind, Status, Task

#: The places of the statuses.
POSITIONS: Final = MappingProxyType(
    {Status.SUBMITTED: SUBMITTED, Status.PROCESSING: PROCESSING, Status.SUCCEED: END, Status.FAILED: END}
)

BEFORE_END: Final = frozenset({SUBMITTED, PROCESSING})

LOST: Final = "lost"
CUT: Final = "cut"

Connection = sqlite3.Connection


def of(task: Task) -> tuple[Callback, ...]:
    """Return what its plan says to tell now that *task* has its status; some houses tell its end alone."""
    place, plan = POSITIONS[task.status], task.plan
    contradicted = place == END and plan.contradict_at is not None
    told = []
    if place not in untold(task):
        outcome = LOST if plan.telling(place).lost else None
        told.append(_callback(task, place, status=task.status, until_taken=contradicted, outcome=outcome))
    if plan.contradict_at == place:
        told.append(_callback(task, CONTRADICTION, kind=Kind.CONTRADICTION, status=Status.FAILED))
    if plan.forge_at == place:
        told.append(_callback(task, FORGERY, kind=Kind.FORGERY, status=Status.SUCCEED))
    return tuple(told)


def untold(task: Task) -> frozenset[int]:
    """Return the places that the task's house leaves out."""
    return BEFORE_END if HOUSES[task.house].callbacks.terminal_only else frozenset()


def add(conn: Connection, task: Task) -> tuple[Callback, ...]:
    """Note what is due now that *task* has its status, and return it; nothing without `callback_url`."""
    if task.order.callback_url is None:
        return ()
    made = of(task)
    conn.executemany(
        "INSERT INTO callback (task_id, position, webhook_id, kind, status, changed_at, until_taken, outcome)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [(c.task_id, c.position, c.webhook_id, c.kind, c.status, c.changed_at, c.until_taken, c.outcome) for c in made],
    )
    return made


def begin(conn: Connection, callback: Callback) -> None:
    """Note, before the connection is opened, that the attempt is spent."""
    conn.execute(
        "UPDATE callback SET begun = 1 WHERE task_id = ? AND position = ?", (callback.task_id, callback.position)
    )


def end(conn: Connection, callback: Callback, outcome: str, copies: Iterable[str] = ()) -> None:
    """Record what became of the first sending, and of each one after it."""
    conn.execute(
        "UPDATE callback SET outcome = ?, copies = ? WHERE task_id = ? AND position = ?",
        (outcome, json.dumps(list(copies)), callback.task_id, callback.position),
    )


def give_up(conn: Connection) -> None:
    """
    Close what a killed process was sending: whether it arrived, nobody can say.

    What is sent until it is taken stays due.
    """
    conn.execute("UPDATE callback SET outcome = 'unknown' WHERE begun AND outcome IS NULL AND NOT until_taken")


def known(conn: Connection, task_id: int) -> tuple[Callback, ...]:
    """Return all callbacks of a task so far."""
    rows = conn.execute("SELECT * FROM callback WHERE task_id = ? ORDER BY position", (task_id,)).fetchall()
    return tuple(
        Callback(
            task_id=row["task_id"],
            position=row["position"],
            webhook_id=row["webhook_id"],
            kind=Kind(row["kind"]),
            status=Status(row["status"]),
            changed_at=row["changed_at"],
            until_taken=bool(row["until_taken"]),
            outcome=row["outcome"],
        )
        for row in rows
    )


def _callback(
    task: Task,
    position: int,
    *,
    status: Status,
    kind: Kind = Kind.TRUTH,
    until_taken: bool = False,
    outcome: str | None = None,
) -> Callback:
    return Callback(
        task_id=task.id,
        position=position,
        webhook_id=task.id + ids.FIRST_WEBHOOK + position,
        kind=kind,
        status=status,
        changed_at=task.updated_at,
        until_taken=until_taken,
        outcome=outcome,
    )
