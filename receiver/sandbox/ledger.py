"""The sandbox's own account of what happened: the judge in tests."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from receiver.sandbox.records import NO_CHARGE, PRICE, Counted, Status

Grouped = dict[int, list[dict[str, Any]]]


def read(conn: sqlite3.Connection) -> dict[str, Any]:
    """
    Return everything, the oldest task first.

    `creates` counts the create requests that carried the task's external id,
    refused ones (duplicate, no slot) included; 1 for a task without one.
    `outcome` of a callback: the HTTP status as text, `timeout`, the name of an
    error, `unknown` (killed while sending), or null while it is due.
    """
    audios = _grouped(conn.execute("SELECT * FROM audio ORDER BY format"), _audio)
    callbacks = _grouped(conn.execute("SELECT * FROM callback ORDER BY position"), _callback)
    rows = conn.execute(
        "SELECT task.*, coalesce(attempt.creates, 1) AS creates"
        " FROM task LEFT JOIN attempt USING (external_id) ORDER BY number"
    )
    listed = [_task(row) | {"audios": audios[row["id"]], "callbacks": callbacks[row["id"]]} for row in rows]
    counted = {row["kind"]: row["number"] for row in conn.execute("SELECT * FROM request")}
    return {
        "tasks": listed,
        "charges": sum(task["charged"] != NO_CHARGE for task in listed),
        "requests": {kind.value: counted.get(kind, 0) for kind in Counted},
    }


def _grouped(rows: Iterable[sqlite3.Row], shown: Callable[[sqlite3.Row], dict[str, Any]]) -> Grouped:
    groups: Grouped = defaultdict(list)
    for row in rows:
        groups[row["task_id"]].append(shown(row))
    return groups


def _task(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "task_id": str(row["id"]),
        "external_task_id": row["external_id"],
        "status": row["status"],
        "charged": PRICE if row["status"] == Status.SUCCEED else NO_CHARGE,
        "creates": row["creates"],
    }


def _audio(row: sqlite3.Row) -> dict[str, Any]:
    shown = {name: row[name] for name in ("format", "bytes", "sha256", "duration")}
    return {"id": str(row["clip"])} | shown


def _callback(row: sqlite3.Row) -> dict[str, Any]:
    return {"status": row["status"], "outcome": row["outcome"]}
