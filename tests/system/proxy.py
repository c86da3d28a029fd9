"""Stands between two programs that speak HTTP; holds, loses, refuses and repeats what it is told to."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")

#: Bytes of a request's head.
LONGEST_HEAD = 64 * 1024
#: Seconds to hear from the server behind.
UPSTREAM = 60
#: Headers that concern one connection alone.
OWN = (b"expect:", b"connection:", b"keep-alive:")
BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\nretry-after: 1\r\n\r\n"


class Fate(Enum):
    """What becomes of a request."""

    PASS = "passed"
    #: Answered 503; the server behind hears nothing.
    BUSY = "503"
    #: Never answered, and cut when the fate changes; the server behind hears nothing.
    HANG = "hung"
    #: Cut at once; the server behind hears nothing.
    CUT = "cut"
    #: Done by the server behind; its answer is dropped, and the connection cut.
    LOSE = "reply lost"


@dataclass(eq=False)
class Hold:
    """Holds the answer to one request until it is let go."""

    method: str
    #: A part of the path.
    part: str
    #: Set once the server behind has answered, which is after it did what was asked.
    reached: threading.Event = field(default_factory=threading.Event)
    #: What was sent, to be sent again.
    request: bytes = b""
    status: int = 0
    _told: asyncio.Event = field(default_factory=asyncio.Event)
    _cut: bool = False

    def matches(self, method: str, path: str) -> bool:
        return method == self.method and self.part in path


class Proxy:
    """One listening port before one server; *url* is where clients go."""

    def __init__(self, upstream: str, port: int) -> None:
        self.aim(upstream)
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        #: Decides what becomes of a request from its method and path.
        self.decide: Callable[[str, str], Fate] = lambda _method, _path: Fate.PASS
        self.counts: Counter[Fate] = Counter()
        self._holds: list[Hold] = []
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")

    def start(self) -> None:
        self._thread.start()
        self.listen()

    def close(self) -> None:
        self.refuse()
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def aim(self, upstream: str) -> None:
        """Stand before another server."""
        parts = urlsplit(upstream)
        self._upstream = parts.hostname or "", parts.port or 80

    def listen(self) -> None:
        """Take connections, again after `refuse`."""
        self._do(self._listen())

    def refuse(self) -> None:
        """Let the port be closed: connections are refused."""
        self._do(self._refuse())

    def change(self, decide: Callable[[str, str], Fate]) -> None:
        """Decide otherwise from now on; what hangs is cut."""
        self.decide = decide
        self._do(self._cut_hanging())

    def hold(self, method: str, part: str) -> Hold:
        """Hold the answer to the next such request."""
        hold = Hold(method, part)
        self._holds.append(hold)
        return hold

    def release(self, hold: Hold, *, cut: bool = False) -> None:
        """Give the answer that is held, or cut its connection; one that holds nothing yet is forgotten."""
        hold._cut = cut
        if hold in self._holds:
            self._holds.remove(hold)
        self._loop.call_soon_threadsafe(hold._told.set)

    def repeat(self, hold: Hold) -> int:
        """Send what was held once more; return the status of the answer."""
        answer = self._do(self._ask(hold.request))
        return int(answer.split(b" ", 2)[1])

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(UPSTREAM)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=LONGEST_HEAD)

    async def _refuse(self) -> None:
        if self._server is None:
            return
        # A server that is closed between the taking of a connection and its first step leaves it open for ever.
        for listener in self._server.sockets:
            self._loop.remove_reader(listener)
        await asyncio.sleep(0)
        self._server.close()
        self._server = None

    async def _cut_hanging(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _end(self) -> None:
        # What was taken last has a step to go until its task is there, and another until that has begun.
        for _ in range(3):
            await asyncio.sleep(0)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            answer = await self._relay(reader, writer)
            if answer:
                writer.write(answer)
                await writer.drain()
                writer.close()
            else:
                writer.transport.abort()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.transport.abort()
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            self._tasks.discard(task)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """Read one request and return the answer to it; nothing when the connection shall be cut."""
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).removesuffix(b"\r\n\r\n").split(b"\r\n")
        lowered = [line.lower() for line in lines]
        if any(line.startswith(b"expect:") for line in lowered):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        length = next((int(line.split(b":")[1]) for line in lowered if line.startswith(b"content-length:")), 0)
        body = await reader.readexactly(length)
        kept = [line for line in lines if not line.lower().startswith(OWN)]
        request = b"\r\n".join([first, *kept, b"connection: close", b"", body])
        method, path = first.decode().split(" ")[:2]
        hold = next((each for each in self._holds if each.matches(method, path)), None)
        if hold is not None:
            self._holds.remove(hold)
            return await self._held(hold, request)
        fate = self.decide(method, path)
        self.counts[fate] += 1
        return await self._meet(fate, request)

    async def _held(self, hold: Hold, request: bytes) -> bytes:
        answer = await self._ask(request)
        hold.request, hold.status = request, int(answer.split(b" ", 2)[1])
        hold.reached.set()
        await hold._told.wait()
        return b"" if hold._cut else answer

    async def _meet(self, fate: Fate, request: bytes) -> bytes:
        match fate:
            case Fate.BUSY:
                return BUSY
            case Fate.CUT:
                return b""
            case Fate.HANG:
                await self._changed.wait()
                return b""
        answer = await self._ask(request)
        return b"" if fate is Fate.LOSE else answer

    async def _ask(self, request: bytes) -> bytes:
        async with asyncio.timeout(UPSTREAM):
            reader, writer = await asyncio.open_connection(*self._upstream)
            try:
                writer.write(request)
                await writer.drain()
                return await reader.read()
            finally:
                writer.close()


@contextmanager
def proxying(upstream: str, port: int) -> Iterator[Proxy]:
    """Stand before *upstream* on *port* until the end of the block."""
    proxy = Proxy(upstream, port)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.close()
