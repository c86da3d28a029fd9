"""Hear of ready jobs at once; the poll goes on all the same, so that a lost NOTIFY costs half a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import structlog

from receiver.core.errors import StoreUnavailable
from receiver.store import db, jobs

log = structlog.get_logger(__name__)

_PAUSE: Final = timedelta(seconds=2)


class Waker:
    """LISTENs on one direct connection and calls *wake*."""

    def __init__(self, database_url: str, wake: Callable[[], None]) -> None:
        self._url = database_url
        self._wake = wake

    async def run(self) -> None:
        """Listen until cancelled; connect again whenever the connection breaks."""
        while True:
            try:
                await self._listen()
            except StoreUnavailable as exc:
                log.warning("worker.deaf", error=exc.code)
                await asyncio.sleep(_PAUSE.total_seconds())

    async def _listen(self) -> None:
        conn = await db.connect(self._url)
        try:
            async with db.translated():
                async for _ in jobs.notices(conn):
                    self._wake()
        finally:
            await conn.close()
