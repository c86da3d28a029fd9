"""URLs that give the bytes of an asset to whoever has them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import httpx
import pytest
from starlette.applications import Starlette

from receiver.core.model import AssetId, JobKind, Secret, TaskId
from receiver.core.tokens import TokenKeys
from tests.flow.rig import ACCOUNT, CALLBACK_SECRET, Stage
from tests.web.door import Door, judge_problem, play

PUBLIC = "https://hooks.example.com"


async def archived(door: Door) -> list[dict[str, Any]]:
    task = await door.rig.succeeded()
    await door.rig.work(JobKind.ARCHIVE)
    found: list[dict[str, Any]] = (await door.get(f"/v1/tasks/{task}")).json()["assets"]
    assert len(found) == 2
    return found


@asynccontextmanager
async def stranger(door: Door) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody without a key."""
    async with httpx.AsyncClient(transport=door.client._transport, base_url="http://web") as client:
        yield client


def path_of(asset: dict[str, Any]) -> str:
    assert asset["play_url"].startswith(f"{PUBLIC}/a/{asset['id']}/")
    return str(asset["play_url"]).removeprefix(PUBLIC)


def with_secrets(door: Door, secrets: tuple[Secret, ...]) -> None:
    """Let the service have other secrets from now on."""
    transport = door.client._transport
    assert isinstance(transport, httpx.ASGITransport)
    app = cast("Starlette", transport.app)
    app.state.services = replace(door.rig.services, tokens=TokenKeys(secrets))


def test_whoever_has_the_url_gets_the_bytes(stage: Stage) -> None:
    async def story(door: Door) -> None:
        assets = await archived(door)
        async with stranger(door) as client:
            for asset in assets:
                body = await client.get(path_of(asset))
                assert (body.status_code, hashlib.sha256(body.content).hexdigest()) == (200, asset["sha256"])
                name = f"{asset['task']}-0.{asset['format']}"
                expected = {
                    "content-type": asset["media_type"],
                    "content-disposition": f'inline; filename="{name}"',
                    "etag": f'"{asset["sha256"]}"',
                    "accept-ranges": "bytes",
                    "cache-control": "private, max-age=3600",
                    "x-robots-tag": "noindex, nofollow",
                    "referrer-policy": "no-referrer",
                    "x-content-type-options": "nosniff",
                }
                assert {name: body.headers[name] for name in expected} == expected
                head = await client.head(path_of(asset))
                assert (head.status_code, head.headers["content-length"]) == (200, str(asset["bytes"]))
                part = await client.get(
                    path_of(asset), headers={"Range": "bytes=10-19", "If-Range": head.headers["etag"]}
                )
                assert (part.status_code, part.content) == (206, body.content[10:20])
                assert part.headers["content-range"] == f"bytes 10-19/{asset['bytes']}"
                known = await client.get(path_of(asset), headers={"If-None-Match": head.headers["etag"]})
                assert (known.status_code, known.headers["referrer-policy"]) == (304, "no-referrer")
                judge_problem(
                    door,
                    await client.get(path_of(asset), headers={"Range": "bytes=999999999-"}),
                    416,
                    "range_unsatisfiable",
                )

    play(stage, story)


def test_a_public_bucket_is_pointed_at_and_answers_head_itself(stage: Stage) -> None:
    async def story(door: Door) -> None:
        asset = (await archived(door))[0]
        async with stranger(door) as client:
            answer = await client.get(path_of(asset))
            assert (answer.status_code, answer.headers["cache-control"]) == (307, "no-store")
            assert answer.headers["location"].startswith(stage.store.endpoint)
            assert (answer.headers["referrer-policy"], answer.headers["x-robots-tag"]) == (
                "no-referrer",
                "noindex, nofollow",
            )
            async with httpx.AsyncClient(timeout=60) as outside:
                body = await outside.get(answer.headers["location"])
            assert hashlib.sha256(body.content).hexdigest() == asset["sha256"]
            head = await client.head(path_of(asset))
            assert (head.status_code, head.headers["content-length"]) == (200, str(asset["bytes"]))
            assert head.headers["content-type"] == asset["media_type"]

    play(stage, story, settings={"s3_public": True})


def test_a_wrong_token_is_answered_as_an_unknown_asset_is(stage: Stage) -> None:
    async def story(door: Door) -> None:
        first, second = await archived(door)
        tokens = door.rig.services.tokens
        wrong = [
            f"/a/{first['id']}/{path_of(second).rpartition('/')[2]}",
            f"{path_of(first)}x",
            f"/a/{first['id']}/x",
            f"/a/{first['id']}/%00",
            f"/a/{first['id']}/{TokenKeys((Secret('z' * 40),)).asset_token(AssetId(int(first['id'])))}",
            f"/a/{first['id']}/{tokens.callback_token(ACCOUNT, TaskId(int(first['task'])))}",
            f"/a/0{path_of(first).removeprefix('/a/')}",
            f"/a/99999/{tokens.asset_token(AssetId(99999))}",
            f"/a/x/{tokens.asset_token(AssetId(99999))}",
        ]
        bodies = []
        async with stranger(door) as client:
            for path in wrong:
                problem = judge_problem(door, await client.get(path), 404, "not_found")
                problem.pop("request_id")
                bodies.append(problem)
            assert (await client.get(path_of(first))).status_code == 200
        assert all(body == bodies[0] for body in bodies)

    play(stage, story)


def test_an_asset_that_is_not_stored_has_no_url_and_is_not_given(stage: Stage) -> None:
    async def story(door: Door) -> None:
        task = await door.rig.succeeded()
        asset = (await door.get(f"/v1/tasks/{task}")).json()["assets"][0]
        assert asset["play_url"] is None
        token = door.rig.services.tokens.asset_token(AssetId(int(asset["id"])))
        judge_problem(door, await door.get(f"/a/{asset['id']}/{token}"), 404, "not_found")

    play(stage, story)


def test_a_token_of_an_asset_opens_no_callback_url(stage: Stage) -> None:
    async def story(door: Door) -> None:
        asset = (await archived(door))[0]
        token = path_of(asset).rpartition("/")[2]
        for name in (asset["task"], asset["id"], "test"):
            answer = await door.client.post(f"/callbacks/{ACCOUNT}/{name}/{token}", content=b"{}")
            judge_problem(door, answer, 404, "token_unknown")

    play(stage, story)


def test_a_token_never_reaches_the_log(stage: Stage) -> None:
    async def story(door: Door) -> None:
        asset = (await archived(door))[0]
        async with stranger(door) as client:
            for path in (path_of(asset), f"{path_of(asset)}x"):
                for method in ("GET", "HEAD", "POST"):
                    answer = await client.request(method, path)
                    assert path.rpartition("/")[2] not in str(answer.headers)
                    if answer.status_code != 200:
                        assert path.rpartition("/")[2] not in answer.text
        assert path_of(asset).rpartition("/")[2] not in str(door.rig.logs)

    play(stage, story)


@pytest.mark.parametrize("public", [None, "https://hooks.example.com/below"])
def test_the_url_is_absolute_where_the_public_address_is_known(stage: Stage, public: str | None) -> None:
    async def story(door: Door) -> None:
        asset = (await archived(door))[0]
        assert asset["play_url"].startswith(f"{public or ''}/a/{asset['id']}/")

    play(stage, story, settings={"public_url": public})


def test_a_url_ends_when_its_secret_is_removed(stage: Stage) -> None:
    async def story(door: Door) -> None:
        old, new = Secret(CALLBACK_SECRET), Secret("n" * 40)
        path = path_of((await archived(door))[0])
        async with stranger(door) as client:
            for secrets, status in (((new, old), 200), ((new,), 404)):
                with_secrets(door, secrets)
                assert (await client.get(path)).status_code == status

    play(stage, story)
