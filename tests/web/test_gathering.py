from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from receiver.web.gathering import GatheringProtocol
from receiver.web.server import serve

PIECES = [b"a", b"b" * 5000, b"c" * 10, b"d", b"e" * 100_000, b"f" * 4096, b"g"]
DEADLINE = 20.0

Story = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bytes]]


async def echo(request: Request) -> Response:
    return Response(await request.body())


async def stream(_: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in PIECES:
            yield piece

    return StreamingResponse(pieces(), headers={"content-length": str(len(b"".join(PIECES)))})


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                return await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.01)


def told(story: Story) -> bytes:
    """Serve, tell *story* over one connection, and return what it returns."""

    async def run() -> bytes:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        app = Starlette(routes=[Route("/echo", echo, methods=["POST"]), Route("/stream", stream)])
        stop = asyncio.Event()
        serving = asyncio.create_task(
            serve(app, host="127.0.0.1", port=port, name="test", stop=stop, protocol=GatheringProtocol)
        )
        reader, writer = await connect(port)
        try:
            async with asyncio.timeout(DEADLINE):
                return await story(reader, writer)
        finally:
            writer.close()
            stop.set()
            await serving

    return asyncio.run(run())


def post(body: bytes, *headers: bytes) -> bytes:
    lines = [b"POST /echo HTTP/1.1", b"Host: x", b"Content-Length: %d" % len(body), *headers, b"", b""]
    return b"\r\n".join(lines) + body


async def answer(reader: asyncio.StreamReader) -> bytes:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
    return await reader.readexactly(length)


def test_pieces_of_any_size_come_whole_and_in_order() -> None:
    async def story(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        return await answer(reader)

    assert told(story) == b"".join(PIECES)


def test_requests_sent_at_once_are_answered_in_order() -> None:
    async def story(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"".join(post(b"%d" % n) for n in range(10)))
        return b"".join([await answer(reader) for _ in range(10)])

    assert told(story) == b"0123456789"


def test_an_answer_before_the_end_of_a_connection_is_not_lost() -> None:
    async def story(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(post(b"last", b"Connection: close"))
        return (await reader.read()).partition(b"\r\n\r\n")[2]

    assert told(story) == b"last"


def test_a_large_body_is_asked_for_and_answered() -> None:
    async def story(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        body = b"x" * 300_000
        head, rest = post(body, b"Expect: 100-continue").split(b"\r\n\r\n", 1)
        writer.write(head + b"\r\n\r\n")
        go_on = await reader.readuntil(b"\r\n\r\n")
        writer.write(rest)
        return go_on.split()[1] + b" %d" % len(await answer(reader))

    assert told(story) == b"100 300000"
