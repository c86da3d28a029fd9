from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from structlog.testing import capture_logs

from receiver.core.errors import Misconfigured
from receiver.web.protocol import LARGEST_HEAD
from receiver.web.server import serve
from tests.system.deployment import free_port

PIECES = [b"a", b"b" * 5000, b"c" * 10, b"d", b"e" * 100_000, b"f" * 4096, b"g"]
DEADLINE = 60.0

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
        port = free_port()
        app = Starlette(routes=[Route("/echo", echo, methods=["POST"]), Route("/stream", stream)])
        stop = asyncio.Event()
        serving = asyncio.create_task(serve(app, host="127.0.0.1", port=port, name="test", stop=stop))
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


NO_HTTP = {
    "tls": b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
    "another version": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a method of no one": b"get /stream HTTP/1.1\r\n\r\n",
    "two lengths": b"POST /echo HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "length and chunks": b"POST /echo HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a tunnel": b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a path that is no text": b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("sent", NO_HTTP.values(), ids=NO_HTTP)
def test_what_is_no_http_request_is_answered_with_a_problem_and_told_once(sent: bytes) -> None:
    async def story(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(sent)
        return await reader.read()

    with capture_logs() as logs:
        head, _, body = told(story).partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert status == "HTTP/1.1 400 Bad Request"
    assert (headers["content-type"], headers["connection"]) == ("application/problem+json", "close")
    problem = json.loads(body)
    assert (problem["status"], problem["code"]) == (400, "malformed_request")
    assert int(headers["content-length"]) == len(body)
    refused = [each for each in logs if not each["event"].startswith("server.")]
    assert [(each["event"], each["error"]) for each in refused] == [("request.refused", "malformed_request")]
    assert headers["x-request-id"] == problem["request_id"] == refused[0]["request_id"]


def test_a_head_without_an_end_is_refused() -> None:
    async def story(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"GET /stream HTTP/1.1\r\nHost: x\r\nX-Long: ")
        try:
            while not reader.at_eof():
                writer.write(b"x" * 8192)
                await writer.drain()
                await asyncio.sleep(0)
        except ConnectionError:
            pass
        return b""

    with capture_logs() as logs:
        told(story)
    assert [each["error"] for each in logs if each["event"] == "request.refused"] == ["head_too_large"]


def test_a_long_head_that_ends_is_read_also_after_a_body() -> None:
    async def story(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        first = b"X-Long: " + b"x" * (LARGEST_HEAD // 2)
        got = b""
        for body in (b"a", b"b" * 200_000, b"c"):
            whole = post(body, first)
            for piece in (whole[:30], whole[30:]):
                writer.write(piece)
                await writer.drain()
            got += (await answer(reader))[:1]
        return got

    assert told(story) == b"abc"


WISHES = {
    "HTTP/2": (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"),
    "a socket": (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"),
}


@pytest.mark.parametrize("wish", WISHES.values(), ids=WISHES)
def test_who_wishes_for_another_protocol_is_answered_in_this_one(wish: tuple[bytes, ...]) -> None:
    whole = post(b"body", *wish)

    async def story(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        got = b""
        for cut in (10, 30, -6, -5, -3, len(whole)):
            for piece in (whole[:cut], whole[cut:]):
                writer.write(piece)
                await writer.drain()
            got += await answer(reader)
        return got

    assert told(story) == b"body" * 6


def test_any_number_of_such_wishes_at_once_is_answered() -> None:
    wish = (b"Connection: Upgrade", b"Upgrade: h2c")

    async def story(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(post(b"a", *wish) * 600)
        return b"".join([await answer(reader) for _ in range(600)])

    assert told(story) == b"a" * 600


def test_a_port_that_is_taken_is_named() -> None:
    async def story() -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            with pytest.raises(Misconfigured, match=f"web cannot listen on 127.0.0.1:{port}"):
                await serve(Starlette(), host="127.0.0.1", port=port, name="web", stop=asyncio.Event())

    asyncio.run(story())
