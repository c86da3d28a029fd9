"""The web application of a rig, and a client with an API key."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from receiver.store import keys
from receiver.store.keys import Key
from receiver.web.app import build_app
from tests.flow.rig import OWNER, Rig, Stage

SECRET: Final = "team-api-key-of-the-tests"
BODY: Final[dict[str, Any]] = {
    "account": "studio",
    "kind": "text-to-audio",
    "input": {"prompt": "rain on a tin roof", "duration": 3},
}


@dataclass(kw_only=True)
class Door:
    rig: Rig
    client: httpx.AsyncClient
    made: dict[str, str] = field(default_factory=dict)

    async def post(self, body: object = None, *, key: str | None = None, **headers: str) -> httpx.Response:
        if key is not None:
            headers["Idempotency-Key"] = key
        return await self.client.post("/v1/tasks", json=BODY if body is None else body, headers=headers)

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.client.get(path, headers=headers)

    async def new_key(self, owner: str, secret: str, **limits: Any) -> httpx.AsyncClient:
        await add_key(self.rig, owner, secret, **limits)
        return httpx.AsyncClient(
            transport=self.client._transport, base_url="http://web", headers={"Authorization": f"Bearer {secret}"}
        )


async def add_key(rig: Rig, owner: str, secret: str, **limits: Any) -> None:
    made = Key(**({"id": f"key-{owner}", "owner": owner, "daily_tasks": None, "daily_units": None} | limits))
    async with rig.services.database.connection() as conn:
        await keys.add(conn, made, hashlib.sha256(secret.encode()).digest())


@asynccontextmanager
async def opened(rig: Rig) -> AsyncIterator[Door]:
    await add_key(rig, OWNER, SECRET)
    transport = httpx.ASGITransport(build_app(rig.services, rig.intake), raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {SECRET}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://web", headers=headers) as client:
        yield Door(rig=rig, client=client)


def play(stage: Stage, story: Callable[[Door], Awaitable[None]], **options: Any) -> None:
    async def played(rig: Rig) -> None:
        async with opened(rig) as door:
            await story(door)

    stage.play(played, **options)


async def insisting(post: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
    """
    Post again while the answer is "not now", as callers do.

    Of many at once some wait long for one of the few connections where the machine is busy.
    """
    while (answer := await post()).status_code == httpx.codes.SERVICE_UNAVAILABLE:
        pass
    return answer


def judge_problem(door: Door, answer: httpx.Response, status: int, code: str, *fields: str) -> dict[str, Any]:
    """Assert that *answer* is a problem of this kind that names these fields, told once in the log."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert (problem["status"], problem["code"], problem["type"]) == (status, code, f"urn:receiver:error:{code}")
    assert [each["field"] for each in problem.get("errors", [])] == list(fields)
    lines = [line for line in door.rig.logged("request.refused") if line["request_id"] == problem["request_id"]]
    assert len(lines) == 1
    assert (lines[0]["status"], lines[0]["error"], lines[0].get("fields", [])) == (status, code, list(fields))
    return problem
