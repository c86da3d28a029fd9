"""The sandbox's own account of what happened: the judge in tests."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from receiver.sandbox.houses import HOUSES
from receiver.sandbox.plan import Plan
from receiver.sandbox.records import NO_CHARGE, PRICES, SOUNDS, Counted, Kind, Product, Status

Shown = dict[str, Any]
Groups = dict[Any, list[Shown]]


def read(conn: sqlite3.Connection, house: str | None = None) -> Shown:
    """
    Return everything, of one house or of all, the oldest task first.

    `creates` counts the create requests for the task's order, refused ones
    included, and `attempts` tells each: whether it made the task, and its
    reply: HTTP status and code, `cut`, `hang` or `502 html`; what a kill kept
    from being given counts as given. Where external ids are not enforced, each
    create is an order of its own. `unmade` are orders that have no task.
    `external_task_id` is what was sent, also where the house drops it.
    `faults` are what was drawn, or what came of it: of the task, of each
    callback, attempt and fetch; `queries` those of its queries. `copies` of a
    callback are the outcomes of its repeats; the outcomes: see
    `records.Callback`. `sound_sha256` of a video is that of its AAC packets,
    one after the other. `incidents` counts requests that met a fault, by kind;
    `houses` has the sums of each house that was ever asked.
    """
    files = _grouped(conn, "SELECT * FROM file ORDER BY format", ("task_id",), dict)
    told = _grouped(conn, "SELECT * FROM callback ORDER BY position", ("task_id",), dict)
    attempts = _grouped(conn, "SELECT * FROM attempt ORDER BY id", ("number",), _attempt)
    fetches = _grouped(conn, "SELECT * FROM fetch ORDER BY id", ("task_id",), _fetch)
    queries = _grouped(conn, "SELECT * FROM incident WHERE kind = 'query' ORDER BY id", ("house", "given"), dict)
    listed = []
    for row in conn.execute("SELECT * FROM task WHERE ?1 IS NULL OR house = ?1 ORDER BY position", (house,)):
        plan, key = Plan.from_json(row["plan"]), (row["id"],)
        tried = attempts.pop((row["number"],))
        given = row["house"], row["external_id"] or row["told_id"]
        listed.append(
            _task(row, plan)
            | {"creates": len(tried), "attempts": tried}
            | {"audios": [_file(one) for one in files[key] if one["format"] in SOUNDS]}
            | {"videos": [_video(one) for one in files[key] if one["format"] not in SOUNDS]}
            | {"callbacks": [_callback(one, plan) for one in told[key]]}
            | {"fetches": fetches[key], "queries": [one["fault"] for one in queries[given]]}
        )
    requests = _requests(conn)
    asked = requests if house is None else {house: requests.get(house, Counter())}
    return {
        "tasks": listed,
        "unmade": _unmade(conn, attempts, house),
        "charges": _charges(listed),
        "requests": _sum(asked.values()),
        "incidents": _incidents(conn, house),
        "houses": {name: _house(name, listed, counted) for name, counted in asked.items()},
    }


def _grouped(conn: sqlite3.Connection, query: str, key: Sequence[str], shown: Callable[[sqlite3.Row], Shown]) -> Groups:
    groups: Groups = defaultdict(list)
    for row in conn.execute(query):
        groups[tuple(row[name] for name in key)].append(shown(row))
    return groups


def _task(row: sqlite3.Row, plan: Plan) -> Shown:
    charged = PRICES[Product(row["product"])] if row["status"] == Status.SUCCEED else NO_CHARGE
    return {
        "house": row["house"],
        "product": row["product"],
        "task_id": row["told_id"],
        "kling_task_id": str(row["id"]),
        "external_task_id": row["external_id"],
        "number": row["number"],
        "status": row["status"],
        "charged": charged,
        "faults": plan.names(),
    }


def _house(name: str, listed: Sequence[Shown], counted: Counter[str]) -> Shown:
    own = [task for task in listed if task["house"] == name]
    return {
        "about": HOUSES[name].about,
        "external_ids": HOUSES[name].external_ids,
        "tasks": len(own),
        "charges": _charges(own),
        "requests": _sum([counted]),
    }


def _charges(tasks: Iterable[Shown]) -> int:
    return sum(task["charged"] != NO_CHARGE for task in tasks)


def _requests(conn: sqlite3.Connection) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in conn.execute("SELECT * FROM request ORDER BY house"):
        counts[row["house"]][row["kind"]] += row["number"]
    return counts


def _sum(counts: Iterable[Counter[str]]) -> dict[str, int]:
    total: Counter[str] = sum(counts, Counter())
    return {kind.value: total[kind.value] for kind in Counted}


def _unmade(conn: sqlite3.Connection, attempts: Groups, house: str | None) -> list[Shown]:
    rows = conn.execute("SELECT * FROM submission WHERE ?1 IS NULL OR house = ?1 ORDER BY number", (house,))
    return [
        {
            "house": row["house"],
            "external_task_id": row["external_id"],
            "number": row["number"],
            "creates": len(attempts[row["number"],]),
            "attempts": attempts[row["number"],],
        }
        for row in rows
        if (row["number"],) in attempts
    ]


def _attempt(row: sqlite3.Row) -> Shown:
    return {"made": bool(row["made"]), "reply": row["reply"], "faults": _listed([row["fault"]])}


def _file(row: Shown) -> Shown:
    return {"id": str(row["clip"])} | {name: row[name] for name in ("format", "bytes", "sha256", "duration")}


def _video(row: Shown) -> Shown:
    return _file(row) | {"sound_sha256": row["sound_sha256"]}


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


def _incidents(conn: sqlite3.Connection, house: str | None) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in conn.execute("SELECT * FROM incident WHERE ?1 IS NULL OR house = ?1", (house,)):
        counts[row["kind"]][row["fault"]] += 1
    return {kind: dict(found) for kind, found in counts.items()}
