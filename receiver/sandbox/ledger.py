"""The sandbox's own account of what happened: the judge in tests."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from receiver.sandbox.plan import Plan
from receiver.sandbox.records import NO_CHARGE, PRICE, Counted, Kind, Status

Shown = dict[str, Any]
Groups = dict[Any, list[Shown]]


def read(conn: sqlite3.Connection) -> Shown:
    """
    Return everything, the oldest task first.

    `creates` counts the create requests for the task's order, refused ones
    included, and `attempts` tells each: whether it made the task, and its
    reply: HTTP status and code, `cut`, `hang` or `502 html`; what a kill kept
    from being given counts as given. `unmade` are orders that have no task.
    `faults` are what was drawn, or what came of it: of the task, of each
    callback, attempt and fetch; `queries` those of its queries. `copies` of a
    callback are the outcomes of its repeats; the outcomes: see
    `records.Callback`. `incidents` counts requests that met a fault, by kind.
    """
    audios = _grouped(conn, "SELECT * FROM audio ORDER BY format", "task_id", _audio)
    told = _grouped(conn, "SELECT * FROM callback ORDER BY position", "task_id", dict)
    attempts = _grouped(conn, "SELECT * FROM attempt ORDER BY id", "number", _attempt)
    fetches = _grouped(conn, "SELECT * FROM fetch ORDER BY id", "task_id", _fetch)
    queries = _grouped(conn, "SELECT * FROM incident WHERE kind = 'query' ORDER BY id", "given", dict)
    listed = []
    for row in conn.execute("SELECT * FROM task ORDER BY position"):
        plan = Plan.from_json(row["plan"])
        tried = attempts.pop(row["number"])
        given = row["external_id"] or str(row["id"])
        listed.append(
            _task(row, plan)
            | {"creates": len(tried), "attempts": tried, "audios": audios[row["id"]]}
            | {"callbacks": [_callback(one, plan) for one in told[row["id"]]]}
            | {"fetches": fetches[row["id"]], "queries": [one["fault"] for one in queries[given]]}
        )
    counted = {row["kind"]: row["number"] for row in conn.execute("SELECT * FROM request")}
    return {
        "tasks": listed,
        "unmade": _unmade(conn, attempts),
        "charges": sum(task["charged"] != NO_CHARGE for task in listed),
        "requests": {kind.value: counted.get(kind, 0) for kind in Counted},
        "incidents": _incidents(conn),
    }


def _grouped(conn: sqlite3.Connection, query: str, key: str, shown: Callable[[sqlite3.Row], Shown]) -> Groups:
    groups: Groups = defaultdict(list)
    for row in conn.execute(query):
        groups[row[key]].append(shown(row))
    return groups


def _task(row: sqlite3.Row, plan: Plan) -> Shown:
    return {
        "task_id": str(row["id"]),
        "external_task_id": row["external_id"],
        "number": row["number"],
        "status": row["status"],
        "charged": PRICE if row["status"] == Status.SUCCEED else NO_CHARGE,
        "faults": plan.names(),
    }


def _unmade(conn: sqlite3.Connection, attempts: Groups) -> list[Shown]:
    rows = conn.execute("SELECT * FROM submission ORDER BY number")
    return [
        {
            "external_task_id": row["external_id"],
            "number": row["number"],
            "creates": len(attempts[row["number"]]),
            "attempts": attempts[row["number"]],
        }
        for row in rows
        if row["number"] in attempts
    ]


def _attempt(row: sqlite3.Row) -> Shown:
    return {"made": bool(row["made"]), "reply": row["reply"], "faults": _listed([row["fault"]])}


def _audio(row: sqlite3.Row) -> Shown:
    shown = {name: row[name] for name in ("format", "bytes", "sha256", "duration")}
    return {"id": str(row["clip"])} | shown


def _callback(row: Shown, plan: Plan) -> Shown:
    truth = row["kind"] == Kind.TRUTH
    return {
        "kind": row["kind"],
        "status": row["status"],
        "outcome": row["outcome"],
        "copies": json.loads(row["copies"]),
        "faults": list(plan.telling(row["position"]).names()) if truth else [],
    }


def _fetch(row: sqlite3.Row) -> Shown:
    shown = {name: row[name] for name in ("format", "nth", "status", "bytes")}
    return shown | {"faults": _listed([row["fault"]])}


def _listed(faults: Iterable[str | None]) -> list[str]:
    return [fault for fault in faults if fault is not None]


def _incidents(conn: sqlite3.Connection) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in conn.execute("SELECT kind, fault FROM incident"):
        counts[row["kind"]][row["fault"]] += 1
    return {kind: dict(found) for kind, found in counts.items()}
