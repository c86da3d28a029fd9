"""Posts callbacks over many connections at once; a general client would be the slowest part of the test."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from urllib.parse import urlsplit

from tests.system.catching import Caught

CONNECTIONS = 64
#: Seconds for one answer.
LIMIT = 30.0

#: What a connection says when its server is killed.
CUT = (ConnectionError, asyncio.IncompleteReadError)


class Line:
    """One connection, opened when it is needed."""

    def __init__(self, url: str) -> None:
        self._host, self._port = urlsplit(url).hostname or "", urlsplit(url).port or 0
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, callback: Caught) -> int:
        """Send a callback and return the status of the answer."""
        headers = {**callback.headers, "host": "test", "content-length": str(len(callback.body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return await self._ask(f"POST {callback.path} HTTP/1.1\r\n{head}\r\n".encode() + callback.body)

    async def get(self, path: str) -> int:
        """Return the status of the answer to a GET."""
        return await self._ask(f"GET {path} HTTP/1.1\r\nhost: test\r\n\r\n".encode())

    async def _ask(self, request: bytes) -> int:
        try:
            async with asyncio.timeout(LIMIT):
                if self._streams is None:
                    self._streams = await asyncio.open_connection(self._host, self._port)
                reader, writer = self._streams
                writer.write(request)
                status, *headers = (await reader.readuntil(b"\r\n\r\n")).decode().lower().splitlines()
                lengths = [line.partition(":")[2] for line in headers if line.startswith("content-length:")]
                await reader.readexactly(int(lengths[0]))
                if "connection: close" in headers:
                    await self.close()
                return int(status.split()[1])
        except CUT:
            await self.close()
            raise

    async def close(self) -> None:
        """Let go of the connection."""
        if self._streams is not None:
            _, writer = self._streams
            self._streams = None
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


class Rush:
    """
    Sends callbacks to *urls* in turn and notes what was answered.

    Each is sent once. A server that is away, or says 503, is waited for before
    the next one goes out on that connection. *acts* are done, each once, when
    so many have been answered 200.
    """

    def __init__(
        self, urls: list[str], callbacks: Iterator[Caught], acts: Mapping[int, Callable[[], object]] | None = None
    ) -> None:
        self._urls = urls
        self._callbacks = callbacks
        self._acts = dict(acts or {})
        #: Answered 200.
        self.kept: list[Caught] = []
        self.refused: Counter[int] = Counter()
        #: Sent and never answered.
        self.cut = 0

    async def run(self) -> None:
        """Send all over all connections."""
        async with asyncio.TaskGroup() as group:
            for number in range(CONNECTIONS):
                group.create_task(self._send(Line(self._urls[number % len(self._urls)])))

    async def _send(self, line: Line) -> None:
        for callback in self._callbacks:
            try:
                status = await line.post(callback)
            except CUT:
                self.cut += 1
                await self._until_ready(line)
                continue
            if status == 200:
                self.kept.append(callback)
                if act := self._acts.pop(len(self.kept), None):
                    await asyncio.to_thread(act)
            else:
                self.refused[status] += 1
                await self._until_ready(line)
        await line.close()

    async def _until_ready(self, line: Line) -> None:
        while True:
            with suppress(*CUT):
                if await line.get("/readyz") == 200:
                    return
            await asyncio.sleep(0.1)
