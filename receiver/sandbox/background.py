"""Coroutines that run for as long as a block does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


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


async def _end() -> None:
    raise _Over
