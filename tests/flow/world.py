"""The outside world of these tests: a provider that answers exactly what it is told to, and remembers each request."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Final, Literal

import numpy as np
import soundfile

API: Final = "/v1/audio/text-to-audio"

JsonMap = dict[str, Any]


@cache
def sound(kind: str, seed: int = 7) -> bytes:
    """Return one second of noise as a whole file."""
    samples = np.random.default_rng(seed).normal(0, 0.1, (8000, 1)).astype("float32")
    file = io.BytesIO()
    soundfile.write(file, samples, 8000, format=kind.upper())
    return file.getvalue()


@dataclass(frozen=True)
class Seen:
    """One request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> JsonMap:
        found: JsonMap = json.loads(self.body)
        return found


@dataclass
class Reply:
    """What to answer; *cut* says where the connection is closed instead."""

    status: int = 200
    body: bytes | JsonMap = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: Literal["no", "unanswered", "half"] = "no"
    #: Bytes that Content-Length promises beyond those that come.
    missing: int = 0
    #: Runs after the request was read and before anything is answered.
    first: Callable[[Seen], Awaitable[None]] | None = None

    def data(self) -> bytes:
        body = json.dumps(self.body).encode() if isinstance(self.body, dict) else self.body
        headers = {"Content-Type": "application/json" if isinstance(self.body, dict) else "application/octet-stream"}
        headers |= {"Content-Length": str(len(body) + self.missing)} | self.headers
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"HTTP/1.1 {self.status} Whatever\r\n{head}\r\n".encode() + body


def envelope(code: int, message: str = "", *, status: int = 200, data: object = None) -> Reply:
    return Reply(status, {"code": code, "message": message, "request_id": "r", "data": data})


def created(provider_id: str = "p1") -> Reply:
    return envelope(0, "SUCCEED", data={"task_id": provider_id, "task_status": "submitted"})


def unknown() -> Reply:
    return envelope(1203, "task not found", status=404)


CUT: Final = Reply(cut="unanswered")
HTML: Final = Reply(502, b"<html>Bad Gateway</html>", {"Content-Type": "text/html"})


@dataclass
class Provider:
    """An HTTP server in the test's own event loop."""

    #: What each kind of request is answered with, in turn; the last one goes on.
    creates: list[Reply] = field(default_factory=list)
    queries: list[Reply] = field(default_factory=list)
    media: dict[str, list[Reply]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    #: Requests for which nothing was scripted.
    surprises: list[Seen] = field(default_factory=list)
    #: Whom the last reply of a script has made a task for, by that reply.
    _going_on: dict[int, tuple[Reply, list[str]]] = field(default_factory=dict)
    port: int = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, sock=self._socket())
        self._open: set[asyncio.StreamWriter] = set()

    async def stop(self) -> None:
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await asyncio.sleep(0)

    @asynccontextmanager
    async def refusing(self) -> AsyncIterator[None]:
        """Refuse connections until the end of the block; the port is nobody else's meanwhile."""
        await self.stop()
        taken = self._socket()
        try:
            yield
        finally:
            self._server = await asyncio.start_server(self._serve, sock=taken)

    def _socket(self) -> socket.socket:
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(("127.0.0.1", self.port))
        self.port = made.getsockname()[1]
        return made

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def link(self, name: str, query: str = "ksSecret=hushhush") -> str:
        return f"{self.url}/media/{name}?{query}"

    def made(self) -> list[Seen]:
        return [each for each in self.seen if each.method == "POST"]

    def asked(self) -> list[Seen]:
        return [each for each in self.seen if each.method == "GET" and each.path.startswith(API)]

    def fetched(self) -> list[Seen]:
        return [each for each in self.seen if each.path.startswith("/media/")]

    def offers(self, **files: bytes) -> None:
        """Serve `<name>_<suffix>=bytes` as `/media/<name>.<suffix>`."""
        for name, content in files.items():
            self.media["/media/" + name.replace("_", ".")] = [Reply(200, content)]

    def record(self, status: str, task: object, *, clips: tuple[str, ...] = (), **more: Any) -> JsonMap:
        """Return a task record of the legacy shape; each clip comes as mp3 and wav."""
        now = int(time.time() * 1000)
        result = {
            "audios": [
                {
                    "id": clip,
                    "url_mp3": self.link(f"{clip}.mp3"),
                    "url_wav": self.link(f"{clip}.wav"),
                    "duration_mp3": "1.0",
                    "duration_wav": "1.0",
                }
                for clip in clips
            ],
        }
        found = {"task_id": "p1", "task_status": status, "task_info": {"external_task_id": str(task)}}
        return found | {"task_result": result, "created_at": now - 2000, "updated_at": now - 1000} | more

    def report(self, status: str, task: object, *, clips: tuple[str, ...] = (), **more: Any) -> Reply:
        """Return the answer to a query."""
        return envelope(0, "SUCCEED", data=self.record(status, task, clips=clips, **more))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._exchange(reader, writer):
                pass
        self._open.discard(writer)
        writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        request = Seen(method, path, headers, await reader.readexactly(int(headers.get("content-length", "0"))))
        self.seen.append(request)
        reply = self._reply(request)
        if reply.first is not None:
            await reply.first(request)
        if reply.cut == "unanswered":
            return False
        data = reply.data()
        writer.write(data[: len(data) // 2] if reply.cut == "half" else data)
        await writer.drain()
        return reply.cut == "no" and not reply.missing

    def _reply(self, request: Seen) -> Reply:
        path = request.path.partition("?")[0]
        script = self.media.get(path, []) if path.startswith("/media/") else self.queries
        if request.method == "POST":
            script = self.creates
        if not script:
            self.surprises.append(request)
            return Reply(500, b"nothing was scripted")
        return script.pop(0) if len(script) > 1 else self._named(script[0], request)

    def _named(self, reply: Reply, request: Seen) -> Reply:
        """Let a reply that goes on name each task by an id of its own; the first has the one of the script."""
        body = reply.body if request.method == "POST" and isinstance(reply.body, dict) else {}
        data = body.get("data")
        if not isinstance(data, dict) or "task_id" not in data:
            return reply
        _, made = self._going_on.setdefault(id(reply), (reply, []))
        ours = str(request.json.get("external_task_id"))
        made += [] if ours in made else [ours]
        if not (nth := made.index(ours)):
            return reply
        return replace(reply, body=body | {"data": data | {"task_id": f"{data['task_id']}-{nth}"}})
