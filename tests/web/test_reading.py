"""Everything that is read over HTTP, and the door as a whole."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from receiver.core.model import JobKind, TaskId
from receiver.web.app import build_app
from receiver.web.server import serve, serve_web
from tests.flow.rig import ACCOUNT, Rig, Stage, signed
from tests.web.door import SECRET, Door, add_key, judge_problem, opened, play

Story = Callable[[Door], Awaitable[None]]


async def archived(door: Door) -> dict[str, Any]:
    task = await door.rig.succeeded()
    await door.rig.work(JobKind.ARCHIVE)
    found: dict[str, Any] = (await door.get(f"/v1/tasks/{task}")).json()
    assert found["state"] == "archived"
    return found


def test_an_archived_task_shows_where_its_audio_is(stage: Stage) -> None:
    async def story(door: Door) -> None:
        task = await archived(door)
        assert [asset["format"] for asset in task["assets"]] == ["mp3", "wav"]
        for asset in task["assets"]:
            assert asset["s3_uri"].startswith("s3://")
            assert asset == (await door.get(f"/v1/assets/{asset['id']}")).json()
            body = await door.get(asset["url"])
            assert len(body.content) == asset["bytes"]
            assert hashlib.sha256(body.content).hexdigest() == asset["sha256"]
            assert body.headers["content-type"] == asset["media_type"]
            assert body.headers["content-disposition"] == f'attachment; filename="{task["id"]}-0.{asset["format"]}"'
        events = (await door.get(f"/v1/tasks/{task['id']}/events")).json()["events"]
        assert events == task["events"]

    play(stage, story)


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [("0-0", 0, 0), ("5-9", 5, 9), ("100-", 100, None), ("-7", -7, None), ("3-999999999", 3, None)],
)
def test_a_range_of_bytes_is_given(stage: Stage, asked: str, first: int, last: int | None) -> None:
    async def story(door: Door) -> None:
        asset = (await archived(door))["assets"][1]
        whole = (await door.get(asset["url"])).content
        part = await door.get(asset["url"], Range=f"bytes={asked}")
        assert part.status_code == 206
        assert part.content == whole[first : None if last is None else last + 1]
        start = first % len(whole)
        end = len(whole) - 1 if last is None else last
        assert part.headers["content-range"] == f"bytes {start}-{end}/{len(whole)}"
        assert part.headers["content-length"] == str(len(part.content))

    play(stage, story)


@pytest.mark.parametrize("asked", ["bytes=999999999-", "bytes=-0"])
def test_a_range_outside_is_refused(stage: Stage, asked: str) -> None:
    async def story(door: Door) -> None:
        asset = (await archived(door))["assets"][1]
        answer = await door.get(asset["url"], Range=asked)
        judge_problem(door, answer, 416, "range_unsatisfiable")
        assert answer.headers["content-range"] == f"bytes */{asset['bytes']}"

    play(stage, story)


@pytest.mark.parametrize("asked", ["bytes=", "bytes=-", "bytes=a-b", "lines=1-2", "bytes=0-1,4-5", "bytes=9-5", "x"])
def test_a_range_that_is_none_is_left_out_of_account(stage: Stage, asked: str) -> None:
    async def story(door: Door) -> None:
        asset = (await archived(door))["assets"][0]
        answer = await door.get(asset["url"], Range=asked)
        assert (answer.status_code, len(answer.content)) == (200, asset["bytes"])

    play(stage, story)


def test_what_the_caller_has_already_is_not_sent_again(stage: Stage) -> None:
    async def story(door: Door) -> None:
        asset = (await archived(door))["assets"][0]
        etag = (await door.get(asset["url"])).headers["etag"]
        assert etag == f'"{asset["sha256"]}"'
        for given in (etag, f"W/{etag}", f'"x", {etag}', "*"):
            known = await door.get(asset["url"], **{"If-None-Match": given})
            assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", etag)
        two = [("If-None-Match", '"x"'), ("If-None-Match", etag)]
        assert (await door.client.get(asset["url"], headers=two)).status_code == 304
        assert (await door.get(asset["url"], **{"If-None-Match": '"x"'})).status_code == 200
        assert (await door.get(asset["url"], Range="bytes=0-1", **{"If-Range": etag})).status_code == 206
        assert (await door.get(asset["url"], Range="bytes=0-1", **{"If-Range": '"x"'})).status_code == 200

    play(stage, story)


def test_a_public_bucket_is_pointed_at(stage: Stage) -> None:
    async def story(door: Door) -> None:
        asset = (await archived(door))["assets"][0]
        assert asset["url"].startswith(stage.store.endpoint)
        async with httpx.AsyncClient(timeout=60) as stranger:
            assert len((await stranger.get(asset["url"])).content) == asset["bytes"]
        answer = await door.get(f"/v1/assets/{asset['id']}/content")
        assert answer.status_code == 307
        assert answer.headers["location"].startswith(stage.store.endpoint)
        assert answer.headers["cache-control"] == "no-store"
        assert "X-Amz-Signature" not in str(door.rig.logs)

    play(stage, story, settings={"s3_public": True})


def test_an_asset_that_is_not_stored_has_no_bytes(stage: Stage) -> None:
    async def story(door: Door) -> None:
        task = await door.rig.succeeded()
        asset = (await door.get(f"/v1/tasks/{task}")).json()["assets"][0]
        assert (asset["state"], asset["url"], asset["s3_uri"]) == ("pending", None, None)
        judge_problem(door, await door.get(f"/v1/assets/{asset['id']}/content"), 404, "not_found")

    play(stage, story)


NO_IDS = ["0", "1", "01", "x", "-1", "9" * 19, "9" * 40, "%00", "%ff", "1%0a", "٣"]


def test_an_unknown_id_is_not_found(stage: Stage) -> None:
    async def story(door: Door) -> None:
        for text in NO_IDS:
            for path in (
                f"/v1/tasks/{text}",
                f"/v1/tasks/{text}/events",
                f"/v1/assets/{text}",
                f"/v1/assets/{text}/content",
            ):
                judge_problem(door, await door.get(path), 404, "not_found")

    play(stage, story)


def test_what_belongs_to_another_owner_is_not_found(stage: Stage) -> None:
    async def story(door: Door) -> None:
        task = await archived(door)
        async with await door.new_key("others", "another-key") as client:
            asset = task["assets"][0]["id"]
            reads = (
                f"/v1/tasks/{task['id']}",
                f"/v1/tasks/{task['id']}/events",
                f"/v1/assets/{asset}",
                f"/v1/assets/{asset}/content",
            )
            for path in reads:
                judge_problem(door, await client.get(path), 404, "not_found")
            for act in ("cancel", "retry", "refresh"):
                judge_problem(door, await client.post(f"/v1/tasks/{task['id']}/{act}"), 404, "not_found")
            assert (await client.get("/v1/tasks")).json() == {"tasks": [], "next_cursor": None}
            assert (await client.get("/v1/ledger")).json()["accepted"] == 0

    play(stage, story)


def test_pages_follow_each_other_without_gap_or_repeat(stage: Stage) -> None:
    async def story(door: Door) -> None:
        made = [str(await door.rig.accept()) for _ in range(7)]
        found, path = [], "/v1/tasks?limit=3"
        while path:
            page = (await door.get(path)).json()
            found += [task["id"] for task in page["tasks"]]
            path = f"/v1/tasks?limit=3&cursor={page['next_cursor']}" if page["next_cursor"] else ""
        assert found == sorted(made, key=int, reverse=True)

    play(stage, story)


def test_lists_are_filtered_by_state_and_account(stage: Stage) -> None:
    async def story(door: Door) -> None:
        accepted = str(await door.rig.accept())
        await door.rig.sql("UPDATE job SET run_at = 'infinity', state = 'waiting', held = true")
        sent = str(await door.rig.submitted())

        async def listed(query: str) -> list[str]:
            return [task["id"] for task in (await door.get(f"/v1/tasks?{query}")).json()["tasks"]]

        assert await listed("state=accepted") == [accepted]
        assert await listed("state=submitted&account=studio") == [sent]
        assert await listed("account=studio") == [sent, accepted]
        assert await listed("account=nobody") == []
        assert await listed("state=archived") == []

    play(stage, story)


WRONG_PARAMETERS = [
    ("state=done", "state"),
    ("limit=0", "limit"),
    ("limit=201", "limit"),
    ("limit=x", "limit"),
    ("limit=", "limit"),
    ("cursor=x", "cursor"),
    ("cursor=", "cursor"),
    ("page=2", "page"),
    ("account=%00", "account"),
]


def test_a_list_names_the_parameter_that_is_wrong(stage: Stage) -> None:
    async def story(door: Door) -> None:
        for query, field in WRONG_PARAMETERS:
            judge_problem(door, await door.get(f"/v1/tasks?{query}"), 422, "invalid_input", field)

    play(stage, story)


def test_the_ledger_adds_up(stage: Stage) -> None:
    async def story(door: Door) -> None:
        await archived(door)
        failed = await door.rig.submitted()
        await door.rig.told(failed, door.rig.world.record("failed", failed))
        await door.rig.accept()
        ledger = (await door.get("/v1/ledger")).json()
        assert ledger["accepted"] == 3 == sum(ledger["states"].values())
        assert {state: n for state, n in ledger["states"].items() if n} == {"archived": 1, "failed": 1, "accepted": 1}
        assert ledger["callbacks"] == {"received": 1, "duplicates": 0}
        assert len(ledger["lines"]) == 1

    play(stage, story)


NOT_SERVED = [
    ("DELETE", "/v1/tasks", {"GET", "HEAD", "POST"}),
    ("PUT", "/v1/tasks/1", {"GET", "HEAD"}),
    ("GET", "/callbacks/a/1/t", {"POST"}),
    ("POST", "/healthz", {"GET", "HEAD"}),
]


def test_a_method_that_is_not_served_says_which_are(stage: Stage) -> None:
    async def story(door: Door) -> None:
        for method, path, allow in NOT_SERVED:
            answer = await door.client.request(method, path)
            judge_problem(door, answer, 405, "method_not_allowed")
            assert set(answer.headers["allow"].split(", ")) == allow

    play(stage, story)


NO_PATHS = ["/v1", "/v2/tasks", "/v1/tasks/1/2/3", "/callbacks/a/1", "/../etc/passwd"]


def test_an_unknown_path_is_not_found(stage: Stage) -> None:
    async def story(door: Door) -> None:
        for path in NO_PATHS:
            judge_problem(door, await door.get(path), 404, "not_found")

    play(stage, story)


def test_the_metrics_are_those_of_prometheus(stage: Stage) -> None:
    async def story(door: Door) -> None:
        await archived(door)
        await door.get("/nowhere")
        families = {family.name for family in text_string_to_metric_families((await door.get("/metrics")).text)}
        assert {"receiver_creates", "receiver_queries", "receiver_assets", "receiver_requests_refused"} <= families

    play(stage, story)


def test_alive_and_ready_are_two_things(stage: Stage) -> None:
    async def story(door: Door) -> None:
        assert (await door.get("/readyz")).json() == {"ready": True}
        await door.rig.services.database.close()
        assert (await door.get("/healthz")).json() == {"alive": True}
        answer = await door.get("/readyz")
        judge_problem(door, answer, 503, "store_unavailable")
        assert answer.headers["retry-after"] == "2"
        judge_problem(door, await door.get("/v1/tasks"), 503, "store_unavailable")

    play(stage, story, judged=False)


def callback(rig: Rig, task: TaskId, body: bytes, sign: str = "good") -> tuple[str, dict[str, str]]:
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    headers = {name: value for name, value in zip(names, signed(body, sign), strict=True) if value is not None}
    return f"/callbacks/{ACCOUNT}/{task}/{rig.services.tokens.callback_token(ACCOUNT, task)}", headers


def test_callbacks_are_answered_by_what_became_of_them(stage: Stage) -> None:
    async def story(door: Door) -> None:
        task = await door.rig.submitted()
        body = b'{"task_status":"processing"}'
        path, headers = callback(door.rig, task, body)
        for repeat in (False, True):
            answer = await door.client.post(path, content=body, headers=headers)
            assert (answer.status_code, answer.json()) == (200, {"repeat": repeat})
        bad = await door.client.post(path, content=body + b" ", headers=headers)
        judge_problem(door, bad, 401, "signature_rejected")
        assert "www-authenticate" not in bad.headers
        for wrong in (f"{path}x", path.replace(str(task), str(task + 1)), path.replace(ACCOUNT, "nobody")):
            judge_problem(door, await door.client.post(wrong, content=body, headers=headers), 404, "token_unknown")
        large = await door.client.post(path, content=b"x" * 300_000)
        judge_problem(door, large, 413, "body_too_large")
        token = path.rpartition("/")[2]
        assert token not in str(door.rig.logs)

    play(stage, story)


def served(stage: Stage, story: Callable[[Rig, str, int], Awaitable[None]]) -> None:
    """Play against a real server on a real socket."""

    async def told(rig: Rig) -> None:
        await add_key(rig, "team", SECRET)
        stop = asyncio.Event()
        app = build_app(rig.services, rig.intake)
        serving = asyncio.create_task(serve(app, host="127.0.0.1", port=0, name="web", stop=stop))
        async with asyncio.timeout(60):
            while not rig.logged("server.started"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        port = int(rig.logged("server.started")[0]["port"])
        try:
            await story(rig, f"http://127.0.0.1:{port}", port)
        finally:
            stop.set()
            await serving

    stage.play(told)


def test_a_sender_that_goes_away_is_no_fault_of_ours(stage: Stage) -> None:
    async def story(rig: Rig, url: str, port: int) -> None:
        task = await rig.submitted()
        path, _ = callback(rig, task, b"{}")
        for target in (path, "/v1/tasks"):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            head = (
                f"POST {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\nContent-Length: 99\r\n\r\nhalf"
            )
            writer.write(head.encode())
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            assert (await client.get("/healthz")).status_code == 200
        async with asyncio.timeout(60):
            while len(rig.logged("request.left")) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert rig.logged("request.crashed") == []

    served(stage, story)


def test_a_head_request_and_a_reader_that_leaves_hold_no_connection_to_the_bucket(stage: Stage) -> None:
    async def story(rig: Rig, url: str, port: int) -> None:
        del port
        task = await rig.succeeded()
        await rig.work(JobKind.ARCHIVE)
        asset = (await rig.assets(task))[0]
        headers = {"Authorization": f"Bearer {SECRET}"}
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
            for _ in range(30):
                answer = await client.head(f"/v1/assets/{asset.id}/content")
                assert (answer.status_code, answer.headers["content-length"]) == (200, str(asset.size))
                async with client.stream("GET", f"/v1/assets/{asset.id}/content") as response:
                    assert response.status_code == 200
            assert len((await client.get(f"/v1/assets/{asset.id}/content")).content) == asset.size

    served(stage, story)


def test_a_head_request_tells_of_all_bytes_and_asks_the_bucket_for_none(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        async with opened(rig) as door:
            asset = (await archived(door))["assets"][0]
            await rig.services.bucket.delete((await rig.assets(TaskId(int(asset["task"]))))[0].key or "")
            for asked in ({}, {"Range": "bytes=0-9"}, {"Range": "bytes=999999999-"}):
                head = await door.client.head(asset["url"], headers=asked)
                assert (head.status_code, head.headers["content-length"]) == (200, str(asset["bytes"]))
                assert "content-range" not in head.headers

    stage.play(story)


def test_an_object_that_is_gone_is_said_to_be(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        async with opened(rig) as door:
            asset = (await archived(door))["assets"][0]
            await rig.services.bucket.delete((await rig.assets(TaskId(int(asset["task"]))))[0].key or "")
            judge_problem(door, await door.get(asset["url"]), 404, "not_found")

    stage.play(story)


def test_web_ends_when_it_can_keep_no_callback_any_more(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        serving = asyncio.create_task(serve_web(rig.services, host="127.0.0.1", port=0))
        async with asyncio.timeout(60):
            while not rig.logged("server.started"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await rig.sql("ALTER TABLE inbox RENAME TO elsewhere")
        path, headers = callback(rig, task, b"{}")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{rig.logged('server.started')[0]['port']}") as client:
            assert (await client.post(path, content=b"{}", headers=headers)).status_code == 503
        with pytest.raises(psycopg.errors.UndefinedTable):
            await serving
        await rig.sql("ALTER TABLE elsewhere RENAME TO inbox")

    stage.play(story)
