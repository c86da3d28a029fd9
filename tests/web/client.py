"""A client of the web application, which works on real services."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx

from receiver.store import keys
from receiver.store.keys import Key
from receiver.web.app import build_app
from tests.flow.rig import KEY, Rig, Stage

ORDER: Final = {"account": "studio", "kind": "text-to-audio", "input": {"prompt": "rain", "duration": 3.0}}

Story = Callable[[Rig, httpx.AsyncClient], Awaitable[None]]


async def add_key(rig: Rig, key: Key) -> dict[str, str]:
    """Make a key in the database and return the header that carries it."""
    secret = f"rk_{key.id}"
    async with rig.services.database.connection() as conn:
        await keys.add(conn, key, hashlib.sha256(secret.encode()).digest())
    return {"Authorization": f"Bearer {secret}"}


@asynccontextmanager
async def client_of(rig: Rig, key: Key = KEY) -> AsyncIterator[httpx.AsyncClient]:
    """Speak to the web application with a key."""
    transport = httpx.ASGITransport(build_app(rig.services, rig.intake))
    async with httpx.AsyncClient(transport=transport, base_url="http://web", headers=await add_key(rig, key)) as client:
        yield client


def play(stage: Stage, story: Story, **options: Any) -> None:
    async def played(rig: Rig) -> None:
        async with client_of(rig) as client:
            await story(rig, client)

    stage.play(played, **options)
