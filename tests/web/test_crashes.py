from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import NoReturn

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from structlog.testing import capture_logs

from receiver.web.access import AccessLog
from receiver.web.problems import CrashGuard


async def broken(_: Request) -> NoReturn:
    raise ZeroDivisionError("with a secret in it")


async def breaking(_: Request) -> Response:
    async def halves() -> AsyncIterator[bytes]:
        yield b"half"
        raise ZeroDivisionError

    return StreamingResponse(halves())


APP = Starlette(
    routes=[Route("/broken", broken), Route("/breaking", breaking)],
    middleware=[Middleware(AccessLog), Middleware(CrashGuard)],
)


def get(path: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(APP), base_url="http://web") as client:
            return await client.get(path)

    return asyncio.run(ask())


def test_a_fault_of_ours_is_answered_without_showing_it_and_logged_once() -> None:
    with capture_logs() as logs:
        answer = get("/broken")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert answer.json()["code"] == "internal_error"
    assert "secret" not in answer.text
    assert [entry["event"] for entry in logs] == ["request.crashed", "request.refused"]


def test_an_answer_that_has_begun_is_cut() -> None:
    with pytest.raises(ZeroDivisionError):
        get("/breaking")
