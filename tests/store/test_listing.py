"""Pages of tasks: each filter alone reads a bounded number of rows, by an index, however many there are."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from itertools import islice
from typing import Any

import psycopg
import pytest
from psycopg import sql

from receiver.core import ids
from receiver.core.model import State
from receiver.local.postgres import EmbeddedPostgres
from receiver.store import listing
from receiver.store.db import Connection, connect, one
from receiver.store.listing import Filter
from tests.conftest import url_of

MANY = 30_000
LIMIT = 20
#: Ten seconds lie between two tasks; one in three has the common label, one in 3,000 the rare one.
FILL = """
INSERT INTO task (id, owner, account, kind, input, reference, labels, request_hash, state, attention, reason, submit_by,
                  created_at, due_at, deliver_by, ended_at)
SELECT n * 10000000000::bigint, 'o', CASE WHEN mod(n, 1000) = 7 THEN 'rare' ELSE 'a' END,
       CASE WHEN mod(n, 1500) = 3 THEN 'video-to-audio' ELSE 'text-to-audio' END, '{}', 'scene-' || n / 100,
       CASE WHEN mod(n, 3) = 0 THEN jsonb_build_object(
                'show', 'common', 'n', CASE WHEN mod(n, 3000) = 0 THEN 'rare' ELSE n::text END)
            ELSE '{}' END,
       decode(repeat('00', 32), 'hex'), s.state,
       CASE WHEN mod(n, 500) = 1 THEN 'job_dead' WHEN mod(n, 700) = 1 THEN 'no_media' END,
       CASE WHEN s.state = 'failed' THEN 'media_invalid' END, now(), x.at,
       CASE WHEN s.state IN ('accepted', 'succeeded') THEN now() + n * interval '1 minute' END,
       CASE WHEN s.state = 'succeeded' THEN now() + (n - 120) * interval '1 minute' END,
       CASE WHEN s.state NOT IN ('accepted', 'succeeded') THEN x.at END
  FROM generate_series(1, %(many)s) AS n
 CROSS JOIN LATERAL (SELECT timestamptz '2025-01-01Z' + n * interval '10 s' AS at) AS x
 CROSS JOIN LATERAL (SELECT CASE WHEN mod(n, 100) = 0 THEN 'failed' WHEN mod(n, 20) = 1 THEN 'accepted'
                                 WHEN mod(n, 20) = 3 THEN 'succeeded' ELSE 'archived' END AS state) AS s
"""
USED = {"Index Scan", "Index Only Scan", "Bitmap Heap Scan", "Bitmap Index Scan", "Subquery Scan"}
NOON = ids.EPOCH + timedelta(seconds=MANY * 5)

SINGLE: dict[str, dict[str, Any]] = {
    "none": {},
    "state": {"states": [State.FAILED]},
    "states": {"states": [State.FAILED, State.ACCEPTED]},
    "account": {"account": "a"},
    "rare account": {"account": "rare"},
    "kind": {"kind": "text-to-audio"},
    "rare kind": {"kind": "video-to-audio"},
    "common label": {"labels": {"show": "common"}},
    "rare label": {"labels": {"n": "rare"}},
    "reference": {"reference": "scene-150"},
    "attention": {"attention": "no_media"},
    "any attention": {"attended": True},
    "slack": {"slack_below": timedelta(hours=5)},
    "after": {"created_after": NOON},
    "before": {"created_before": NOON},
    "state and account": {"states": [State.ARCHIVED], "account": "rare"},
    "both labels": {"labels": {"show": "common", "n": "rare"}},
}


@pytest.fixture(scope="module")
def full_url(postgres_server: EmbeddedPostgres, database_template: str) -> Iterator[str]:
    name = f"full_{secrets.token_hex(6)}"
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(database_template))
    with psycopg.connect(postgres_server.start(), autocommit=True) as conn:
        conn.execute(create)
    url = url_of(postgres_server, name)
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("INSERT INTO account (id, dialect) VALUES ('a', 'd'), ('rare', 'd')")
        conn.execute(FILL, {"many": MANY})
        conn.execute("VACUUM ANALYZE task, task_label")
    yield url
    # Only the superuser may end a vacuum that is at work there.
    with psycopg.connect(postgres_server.start().replace("//receiver@", "//postgres@"), autocommit=True) as conn:
        conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def on(url: str, story: Callable[[Connection], Awaitable[None]]) -> None:
    async def told() -> None:
        async with await connect(url) as conn:
            await story(conn)

    asyncio.run(told())


def scans(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "Scan" in node["Node Type"] and node["Node Type"] != "Function Scan":
        yield node
    for child in node.get("Plans", ()):
        yield from scans(child)


def rows_read(node: dict[str, Any]) -> float:
    told = node["Actual Rows"] + sum(value for name, value in node.items() if name.startswith("Rows Removed"))
    return float(told * node["Actual Loops"])


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("page", [1, 100])
def test_a_filter_reads_its_index_and_few_rows_also_deep_in_the_list(full_url: str, name: str, page: int) -> None:
    async def story(conn: Connection) -> None:
        wanted = SINGLE[name]
        before = MANY * 10_000_000_000 if page == 1 else (MANY - 2 * LIMIT * page) * 10_000_000_000
        asked = Filter(owner="o", before=before, limit=LIMIT, **wanted)
        labels = wanted.get("labels", {})
        label = ("n", labels["n"]) if "n" in labels else next(iter(labels.items()), None)
        for statement, params in listing.pages(asked, label):
            row = await (await conn.execute(b"EXPLAIN (ANALYZE, FORMAT JSON) " + statement.encode(), params)).fetchone()
            assert row is not None
            plan = row["QUERY PLAN"][0]["Plan"]
            found = list(scans(plan))
            assert {node["Node Type"] for node in found} <= USED, plan
            assert sum(map(rows_read, found)) <= 8 * LIMIT, str(plan)

    on(full_url, story)


#: The same as the statements say, by other means.
FACTS: dict[str, Callable[[dict[str, Any], Any], bool]] = {
    "states": lambda row, value: row["state"] in value,
    "labels": lambda row, value: value.items() <= row["labels"].items(),
    "attended": lambda row, _: row["attention"] is not None,
    "slack_below": lambda row, value: (
        row["due_at"] is not None and (row["deliver_by"] or row["due_at"]) < row["now"] + value
    ),
    "created_after": lambda row, value: row["created_at"] >= value,
    "created_before": lambda row, value: row["created_at"] < value,
}


def matches(row: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(FACTS[name](row, value) if name in FACTS else row[name] == value for name, value in wanted.items())


PAIRS = [
    {**SINGLE[first], **SINGLE[second]}
    for first in SINGLE
    for second in ("state", "states", "account", "rare kind", "common label", "attention", "slack", "before")
]


def test_any_filters_together_show_what_fits_newest_first_and_page_by_page(full_url: str) -> None:
    async def story(conn: Connection) -> None:
        rows = await (await conn.execute("SELECT *, now() AS now FROM task ORDER BY id DESC")).fetchall()
        for wanted in [*SINGLE.values(), *PAIRS]:
            expected = list(islice((row["id"] for row in rows if matches(row, wanted)), 3 * LIMIT))
            found: list[int] = []
            before = None
            for _ in range(3):
                page = await listing.newest(conn, Filter(owner="o", before=before, limit=LIMIT, **wanted))
                found += [each.task.id for each in page]
                before = found[-1] if found else 1
            assert found == expected, wanted

    async def at_one_moment(conn: Connection) -> None:
        # Slack shrinks; within a transaction the database's clock stands still.
        async with conn.transaction():
            await story(conn)

    on(full_url, at_one_moment)


def test_another_owner_sees_nothing(full_url: str) -> None:
    async def story(conn: Connection) -> None:
        for wanted in SINGLE.values():
            assert await listing.newest(conn, Filter(owner="p", **wanted)) == []

    on(full_url, story)


def test_labels_of_any_length_and_their_changes_are_found(database_url: str) -> None:
    async def count(conn: Connection, name: str, value: str, owner: str = "o") -> int:
        return len(await listing.newest(conn, Filter(owner=owner, labels={name: value})))

    async def story(conn: Connection) -> None:
        await conn.execute("INSERT INTO account (id, dialect) VALUES ('a', 'd'), ('rare', 'd')")
        await conn.execute(FILL, {"many": 3})
        long = "x" * 100_000
        for labels in ({"long": long, "": ""}, {"long": long, "a": "1b"}, {"a1": "b"}):
            await conn.execute(
                "UPDATE task SET labels = %(labels)s WHERE id = 30000000000",
                {"labels": psycopg.types.json.Jsonb(labels)},
            )
        assert [await count(conn, *label) for label in (("long", long), ("", ""), ("a", "1b"), ("a1", "b"))] == [
            0,
            0,
            0,
            1,
        ]
        await conn.execute("UPDATE task SET owner = 'p' WHERE id = 30000000000")
        assert (await count(conn, "a1", "b"), await count(conn, "a1", "b", "p")) == (0, 1)
        await conn.execute("DELETE FROM task")
        row = await one(conn, "SELECT count(*) AS n FROM task_label")
        assert row is not None
        assert row["n"] == 0

    on(database_url, story)
