"""The outside world of these tests: an HTTP host that says exactly the bytes it is told to."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self


@dataclass
class Exchange:
    """One request as it came in, and the socket to answer it on."""

    #: Counts the requests of the host from 0.
    number: int
    line: str
    headers: dict[str, str]
    body: bytes
    connection: socket.socket
    stopping: threading.Event

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def answer(self, status: str, body: bytes = b"", *headers: str) -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
        self.send("\r\n".join(lines).encode() + body)


async def until(fact: Callable[[], bool]) -> None:
    """Wait for *fact*, a minute at most."""
    async with asyncio.timeout(60):
        while not fact():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


#: Returns whether the connection stays open.
Behaviour = Callable[[Exchange], bool]


@dataclass
class RawHost:
    """Serves each connection in a thread of its own until left."""

    behaviour: Behaviour
    seen: list[Exchange] = field(default_factory=list)
    connections: int = 0

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stopping = threading.Event()
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        for connection in self._open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as reader:
                while line := reader.readline().decode("latin-1").strip():
                    headers = {}
                    while header := reader.readline().decode("latin-1").strip():
                        name, _, value = header.partition(":")
                        headers[name.lower()] = value.strip()
                    if "expect" in headers:
                        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                    body = reader.read(int(headers.get("content-length", "0")))
                    exchange = Exchange(len(self.seen), line, headers, body, connection, self._stopping)
                    self.seen.append(exchange)
                    if not self.behaviour(exchange):
                        return
        except OSError:
            return  # the other side went away, as many of these tests want it to
