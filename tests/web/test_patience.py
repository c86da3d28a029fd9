"""How long a connection may keep a server waiting, by a clock that only the tests move."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from prometheus_client import REGISTRY
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from structlog.testing import capture_logs
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT

from receiver.web import problems
from receiver.web.access import AccessLog
from receiver.web.bodies import read_body
from receiver.web.protocol import HEAD_WITHIN, SILENCE, WHOLE_WITHIN, Protocol
from receiver.web.server import serve

HEAD = HEAD_WITHIN.total_seconds()
SILENT = SILENCE.total_seconds()
WHOLE = WHOLE_WITHIN.total_seconds()
#: Seconds; less than any limit.
LITTLE = 0.5
REQUEST_ID = "of-the-one-who-asks"


class Clock(asyncio.SelectorEventLoop):
    """A loop whose time stands still until it is moved."""

    now = 0.0

    def time(self) -> float:
        return self.now


async def passed(seconds: float) -> None:
    """Let so much time pass, in steps that are smaller than any limit, and let all happen that is due."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Clock)
    end = loop.now + seconds
    while loop.now < end:
        loop.now = min(loop.now + LITTLE, end)
        for _ in range(4):
            await asyncio.sleep(0)


async def until(fact: Callable[[], object]) -> None:
    while not fact():  # noqa: ASYNC110 - no time passes by itself
        await asyncio.sleep(0)


class Line:
    """One connection to the server under test, from both ends."""

    def __init__(self, seen: list[bytes], turn: asyncio.Event) -> None:
        self._seen = seen
        self._sent = 0
        #: Opens the route that waits.
        self.turn = turn
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        """Send *data* and return when the server has read it."""
        await self.sent(data)
        await self.read(self._sent)

    async def read(self, count: int) -> None:
        """Return when the server has read so many bytes in all."""
        await until(lambda: sum(map(len, self._seen)) >= count)

    async def sent(self, data: bytes) -> None:
        self._sent += len(data)
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of the next answer."""
        status, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        return int(status.split()[1]), headers, await self.reader.readexactly(int(headers["content-length"]))

    async def refused(self) -> dict[str, Any]:
        """Return the problem of a 408, after which the connection is closed."""
        status, headers, body = await self.answer()
        assert (status, headers["content-type"], headers["connection"]) == (408, "application/problem+json", "close")
        assert await self.reader.read() == b""
        problem: dict[str, Any] = json.loads(body)
        assert (problem["status"], problem["code"]) == (408, "request_timeout")
        assert problem["request_id"] == headers["x-request-id"]
        return problem


Story = Callable[[Line], Awaitable[None]]


def told(story: Story) -> list[dict[str, Any]]:
    """Serve, tell *story* over one connection, and return what was logged of requests."""
    seen: list[bytes] = []
    made = asyncio.Event()

    class Seeing(Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            made.set()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            seen.append(data)

    async def run(logs: list[Any]) -> None:
        stop, line = asyncio.Event(), Line(seen, asyncio.Event())
        app = application(line.turn)
        serving = asyncio.create_task(
            serve(app, host="127.0.0.1", port=0, name="test", stop=stop, protocol=Seeing),
        )
        try:
            await until(lambda: serving.done() or any(each["event"] == "server.started" for each in logs))
            port = next(each["port"] for each in logs if each["event"] == "server.started")
            line.reader, line.writer = await asyncio.open_connection("127.0.0.1", port)
            await made.wait()
            await story(line)
            line.writer.close()
        finally:
            stop.set()
            while not serving.done():
                await passed(LITTLE)
            await serving

    with capture_logs() as logs, asyncio.Runner(loop_factory=Clock) as runner:
        runner.run(run(logs))
    return [dict(each) for each in logs if each["event"].startswith("request.")]


def application(turn: asyncio.Event) -> Starlette:
    async def echo(request: Request) -> Response:
        return Response(await read_body(request.receive))

    async def work(request: Request) -> Response:
        await turn.wait()
        return await echo(request)

    async def unread(_: Request) -> Response:
        return Response(b"no")

    return Starlette(
        routes=[Route(f"/{each.__name__}", each, methods=["POST"]) for each in (echo, work, unread)],
        exception_handlers={ClientDisconnect: problems.render_left},
        middleware=[Middleware(AccessLog)],
    )


def counted() -> float:
    """How many requests to `/echo` were given up."""
    labels = {"route": "/echo", "error": "request_timeout"}
    return REGISTRY.get_sample_value("receiver_requests_refused_total", labels) or 0


def post(path: str, length: int, *headers: str) -> bytes:
    given = ("Host: x", f"Content-Length: {length}", f"X-Request-Id: {REQUEST_ID}", *headers)
    return "\r\n".join((f"POST {path} HTTP/1.1", *given, "", "")).encode()


def test_who_says_nothing_is_let_go_without_a_word() -> None:
    async def story(line: Line) -> None:
        await passed(HEAD)
        assert await line.reader.read() == b""

    assert told(story) == []


def test_a_head_that_is_whole_in_time_is_answered_and_the_next_has_as_much_time() -> None:
    async def story(line: Line) -> None:
        for body in (b"a", b"b"):
            await line.send(b"POST")
            await passed(HEAD - LITTLE)
            await line.send(post("/echo", 1).removeprefix(b"POST") + body)
            assert (await line.answer())[::2] == (200, body)

    assert [each["event"] for each in told(story)] == ["request.answered"] * 2


def test_a_head_drop_by_drop_is_refused_and_told() -> None:
    async def story(line: Line) -> None:
        for byte in post("/echo", 0)[: int(HEAD)]:
            await line.send(bytes([byte]))
            await passed(1)
        await line.refused()

    (said,) = told(story)
    assert (said["event"], said["status"], said["error"]) == ("request.refused", 408, "request_timeout")


def test_between_two_requests_drops_that_are_no_request_do_not_help() -> None:
    async def story(line: Line) -> None:
        await line.send(post("/echo", 0))
        assert (await line.answer())[0] == 200
        for _ in range(int(HEAD)):
            await line.send(b"\r\n")
            await passed(1)
        assert await line.reader.read() == b""

    assert [each["event"] for each in told(story)] == ["request.answered"]


def test_a_body_that_stops_coming_is_refused_by_its_own_id_and_told_once() -> None:
    async def story(line: Line) -> None:
        await line.send(post("/echo", 9) + b"half")
        await passed(SILENT)
        assert (await line.refused())["request_id"] == REQUEST_ID

    before = counted()
    (said,) = told(story)
    assert (said["event"], said["status"], said["error"]) == ("request.refused", 408, "request_timeout")
    assert (said["request_id"], said["route"]) == (REQUEST_ID, "/echo")
    assert counted() - before == 1


def test_a_slow_body_is_taken_as_long_as_it_comes() -> None:
    async def story(line: Line) -> None:
        await line.send(post("/echo", 5))
        for byte in b"slow.":
            await passed(SILENT - LITTLE)
            await line.send(bytes([byte]))
        assert (await line.answer())[::2] == (200, b"slow.")

    assert [each["event"] for each in told(story)] == ["request.answered"]


def test_a_body_drop_by_drop_has_an_end() -> None:
    async def story(line: Line) -> None:
        await line.send(post("/echo", 99))
        for _ in range(int(WHOLE // 20)):
            await line.send(b".")
            await passed(20)
        await line.refused()

    assert [each["event"] for each in told(story)] == ["request.refused"]


def test_the_rest_of_a_body_that_was_answered_unread_is_not_awaited_for_long() -> None:
    async def story(line: Line) -> None:
        await line.send(post("/unread", 99))
        assert (await line.answer())[::2] == (200, b"no")
        for _ in range(int(HEAD)):
            await line.send(b".")
            await passed(1)
        assert await line.reader.read() == b""

    assert [each["event"] for each in told(story)] == ["request.answered"]


@pytest.mark.parametrize("body", [b"", b"x" * 200_000], ids=["no body", "more than is read before it is asked for"])
def test_while_it_is_our_turn_nobody_is_let_go(body: bytes) -> None:
    async def story(line: Line) -> None:
        await line.send(head := post("/work", len(body)))
        sending = asyncio.create_task(line.sent(body))
        await line.read(len(head) + min(len(body), HIGH_WATER_LIMIT + 1))
        await passed(2 * WHOLE)
        line.turn.set()
        assert (await line.answer())[::2] == (200, body)
        await sending

    assert [each["event"] for each in told(story)] == ["request.answered"]


def test_who_waits_to_be_asked_for_a_body_is_not_let_go() -> None:
    async def story(line: Line) -> None:
        await line.send(post("/work", 1, "Expect: 100-continue"))
        await passed(2 * SILENT)
        line.turn.set()
        assert (await line.reader.readuntil(b"\r\n\r\n")).split()[1] == b"100"
        await line.send(b"x")
        assert (await line.answer())[::2] == (200, b"x")

    assert [each["event"] for each in told(story)] == ["request.answered"]
