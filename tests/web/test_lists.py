"""GET /v1/tasks: every filter, and cursors."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from tests.flow.rig import Stage
from tests.web.door import BODY, Door, judge_problem, play

Params = list[tuple[str, str]]


async def ids_of(door: Door, *params: tuple[str, str]) -> list[str]:
    answer = await door.get(f"/v1/tasks?{urlencode(params)}")
    assert answer.status_code == 200, answer.text
    return [task["id"] for task in answer.json()["tasks"]]


async def made(door: Door, **changes: Any) -> str:
    return str((await door.post(BODY | changes)).json()["id"])


def test_each_filter_shows_what_fits(stage: Stage) -> None:
    async def story(door: Door) -> None:
        plain = await made(door)
        tagged = await made(door, labels={"show": "12", "a": "b:c:d"}, reference="scene-3")
        other = await made(door, labels={"show": "12"})
        await door.client.post(f"/v1/tasks/{plain}/cancel")
        await door.rig.sql("UPDATE task SET attention = 'job_dead' WHERE id = %(id)s", id=int(other))
        at = datetime.fromisoformat((await door.get(f"/v1/tasks/{tagged}")).json()["created_at"])
        later, sooner = (at + timedelta(hours=1)).isoformat(), (at - timedelta(hours=1)).isoformat()
        everything = [other, tagged, plain]
        table: list[tuple[Params, list[str]]] = [
            ([], everything),
            ([("state", "accepted")], [other, tagged]),
            ([("state", "accepted"), ("state", "cancelled")], everything),
            ([("account", "studio")], everything),
            ([("account", "nobody")], []),
            ([("kind", "text-to-audio")], everything),
            ([("kind", "video-to-audio")], []),
            ([("label", "show:12")], [other, tagged]),
            ([("label", "show:12"), ("label", "a:b:c:d")], [tagged]),
            ([("label", "show:1")], []),
            ([("label", "show:")], []),
            ([("reference", "scene-3")], [tagged]),
            ([("attention", "any")], [other]),
            ([("attention", "job_dead")], [other]),
            ([("attention", "no_media")], []),
            ([("slack_below", "90000")], [other, tagged]),
            ([("slack_below", "60")], []),
            ([("slack_below", "-1")], []),
            ([("created_after", sooner), ("created_before", later)], everything),
            ([("created_after", later)], []),
            ([("created_before", sooner)], []),
            ([("created_before", "2000-01-01T00:00:00Z")], []),
            ([("created_after", "2999-12-31T23:59:59.999Z")], []),
            ([("label", "show:12"), ("state", "accepted"), ("kind", "text-to-audio"), ("account", "studio"),
              ("attention", "any"), ("slack_below", "90000"), ("created_after", sooner)], [other]),
        ]  # fmt: skip
        for params, expected in table:
            assert await ids_of(door, *params) == expected, params

    play(stage, story)


def test_the_slack_of_a_filter_is_the_slack_that_is_shown(stage: Stage) -> None:
    async def story(door: Door) -> None:
        task = await door.rig.succeeded()
        slack = (await door.get(f"/v1/tasks/{task}")).json()["slack_seconds"]
        assert await ids_of(door, ("slack_below", str(int(slack) + 60))) == [str(task)]
        assert await ids_of(door, ("slack_below", str(int(slack) - 60))) == []
        due = await door.rig.sql("UPDATE asset SET link_expires_at = now() + interval '1 hour'")
        assert due == []
        await door.client.post(f"/v1/tasks/{task}/refresh")
        assert await ids_of(door, ("slack_below", "3700")) == [str(task)]

    play(stage, story)


def test_a_list_is_its_owner_s(stage: Stage) -> None:
    async def story(door: Door) -> None:
        await made(door, labels={"a": "b"}, reference="r")
        async with await door.new_key("others", "another-key") as client:
            for query in ("", "?label=a:b", "?reference=r", "?account=studio", "?state=accepted&state=failed"):
                assert (await client.get(f"/v1/tasks{query}")).json() == {"tasks": [], "next_cursor": None}

    play(stage, story)


def test_pages_hold_each_task_once_while_tasks_come_and_change(stage: Stage) -> None:
    async def story(door: Door) -> None:
        made_first = [await made(door, labels={"a": "b"}) for _ in range(7)]
        for query in ("", "&label=a:b", "&account=studio", "&state=accepted&state=cancelled"):
            read: list[str] = []
            cursor = ""
            while True:
                page = (await door.get(f"/v1/tasks?limit=3{query}{cursor}")).json()
                assert len(page["tasks"]) <= 3
                read += [task["id"] for task in page["tasks"]]
                if page["next_cursor"] is None:
                    break
                cursor = f"&cursor={page['next_cursor']}"
                await made(door, labels={"a": "b"})
                await door.client.post(f"/v1/tasks/{made_first[0]}/cancel")
            assert read[-7:] == made_first[::-1]
            assert len(set(read)) == len(read)

    play(stage, story)


def test_the_last_page_says_so_also_when_it_is_full(stage: Stage) -> None:
    async def story(door: Door) -> None:
        for _ in range(4):
            await made(door)
        first = (await door.get("/v1/tasks?limit=2")).json()
        second = (await door.get(f"/v1/tasks?limit=2&cursor={first['next_cursor']}")).json()
        assert (len(second["tasks"]), second["next_cursor"]) == (2, None)

    play(stage, story)


def test_a_cursor_is_good_for_its_filter_alone(stage: Stage) -> None:
    async def story(door: Door) -> None:
        for _ in range(3):
            await made(door, labels={"a": "b", "c": "d"})
        base = "state=accepted&state=failed&label=a:b&label=c:d"
        cursor = (await door.get(f"/v1/tasks?{base}&limit=1")).json()["next_cursor"]
        same = "label=c:d&state=failed&state=accepted&label=a:b&limit=2"
        assert len((await door.get(f"/v1/tasks?{same}&cursor={cursor}")).json()["tasks"]) == 2
        for other in ("", "state=accepted", f"{base}&account=studio", base.replace("a:b", "a:x")):
            judge_problem(door, await door.get(f"/v1/tasks?{other}&cursor={cursor}"), 422, "invalid_input", "cursor")
        callbacks = await door.get(
            f"/v1/callbacks?cursor={(await door.get('/v1/tasks?limit=1')).json()['next_cursor']}"
        )
        judge_problem(door, callbacks, 422, "invalid_input", "cursor")
        for broken in (cursor[:-1], cursor + "A", cursor.swapcase(), "%00", "1", "=", "é", "A" * 5000):
            answer = await door.get(f"/v1/tasks?{base}&cursor={broken}")
            judge_problem(door, answer, 422, "invalid_input", "cursor")

    play(stage, story)


WRONG = [
    ("state=lost", "state"),
    ("state=accepted&state=", "state"),
    ("label=x", "label"),
    ("label=:x", "label"),
    ("label=a:1&label=a:2", "label"),
    ("label=" + "&label=".join(f"a{n}:" for n in range(33)), "label"),
    ("label=a:%00", "label"),
    ("slack_below=soon", "slack_below"),
    ("slack_below=1.5", "slack_below"),
    ("slack_below=99999999999", "slack_below"),
    ("created_after=yesterday", "created_after"),
    ("created_after=1767225600", "created_after"),
    ("created_after=2026-01-01T00:00:00", "created_after"),
    ("created_after=2026-01-01", "created_after"),
    ("created_before=0001-01-01T00:00:00Z", "created_before"),
    ("created_before=9999-12-31T23:59:59Z", "created_before"),
    ("created_before=2026-13-01T00:00:00Z", "created_before"),
    ("created_before=2026-01-01T00:00:00+00:00", "created_before"),
    ("reference=a&reference=b", "reference"),
    ("owner=team", "owner"),
]


def test_a_filter_that_is_wrong_is_named(stage: Stage) -> None:
    async def story(door: Door) -> None:
        for query, name in WRONG:
            problem = judge_problem(door, await door.get(f"/v1/tasks?{query}"), 422, "invalid_input", name)
            assert problem["errors"][0]["message"]

    play(stage, story)
