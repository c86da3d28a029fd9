"""Coroutines that run for as long as a block does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any


class _Over(Exception):
    """The block has ended."""


@asynccontextmanager
async def background() -> AsyncIterator[asyncio.TaskGroup]:
    """Give a task group for the block; at its end what still runs is cancelled. What fails in it ends the block."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
            group.create_task(_end())
    except* _Over:
        pass


async def first_of(*waits: Coroutine[Any, Any, object], seconds: float | None = None) -> None:
    """Wait until one of *waits* is over, or *seconds* are; what is not over is cancelled."""
    running = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(running, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _end() -> None:
    raise _Over
