"""Sends a clip: whole, half, drop by drop, or held in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import MappingProxyType
from typing import Final

from starlette.responses import FileResponse
from starlette.types import Message, Receive, Scope, Send

from receiver.sandbox.plan import Spoilt
from receiver.sandbox.records import Format, MediaFile
from receiver.sandbox.wire import gone, transport_of

MEDIA_TYPES: Final = MappingProxyType({Format.MP3: "audio/mpeg", Format.WAV: "audio/wav", Format.MP4: "video/mp4"})

#: Parts of a file that is sent drop by drop.
DROPS: Final = 20
HALVES: Final = 2

OK: Final = 200


class Clip(FileResponse):
    """A file of a task; Range and If-Range are the base's, the shape is ours."""

    chunk_size = 1024 * 1024

    def __init__(
        self,
        path: Path,
        file: MediaFile,
        *,
        spoilt: Spoilt | None,
        halfway: Callable[[], Awaitable[bool]],
        pause: Callable[[], Awaitable[None]],
    ) -> None:
        """
        Prepare to send the file.

        Args:
            path: Where it lies.
            file: What it is.
            spoilt: `TRUNCATED`, `TRUNCATED_LENGTHLESS`, `SLOW` or None.
            halfway: Is asked when half of the body was sent; False cuts.
            pause: Waits between two drops.
        """
        headers = {"etag": f'"{file.sha256}"'}
        super().__init__(path, headers=headers, media_type=MEDIA_TYPES[file.format])
        self._spoilt = spoilt
        self._halfway = halfway
        self._pause = pause
        #: Of the answer, once it has begun.
        self.status: int | None = None
        #: Bytes of the body.
        self.sent = 0
        #: The control cut it.
        self.cut = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        shape = _Shape(self, send, transport_of(scope))
        await super().__call__(scope, receive, shape.send)
        if shape.over:
            await gone(receive)

    async def halfway(self) -> bool:
        """Tell whether the second half is sent."""
        if self._spoilt in {Spoilt.TRUNCATED, Spoilt.TRUNCATED_LENGTHLESS}:
            return False
        self.cut = not await self._halfway()
        return not self.cut

    async def drop(self) -> None:
        """Wait before the next drop."""
        await self._pause()

    @property
    def lengthless(self) -> bool:
        """Whether neither length nor chunks tell where the body ends."""
        return self._spoilt is Spoilt.TRUNCATED_LENGTHLESS

    @property
    def slow(self) -> bool:
        """Whether it goes drop by drop."""
        return self._spoilt is Spoilt.SLOW


class _Shape:
    """Passes on the messages of one answer, in parts; `over` once the connection is closed in its middle."""

    def __init__(self, clip: Clip, send: Send, transport: asyncio.Transport) -> None:
        self._clip = clip
        self._send = send
        self._transport = transport
        self._length = 0
        self.over = False

    async def send(self, message: Message) -> None:
        if self.over:
            return
        if message["type"] == "http.response.start":
            await self._start(message)
        elif self._length:
            await self._body(message)
        else:
            await self._send(message)

    async def _start(self, message: Message) -> None:
        headers: list[tuple[bytes, bytes]] = message["headers"]
        self._clip.status = message["status"]
        if message["status"] in {200, 206}:
            self._length = int(dict(headers)[b"content-length"])
        if not (self._length and self._clip.lengthless):
            await self._send(message)
            return
        # Nothing but the raw connection can leave out the length: the server would send chunks.
        phrase = b"OK" if message["status"] == OK else b"Partial Content"
        lines = [b"HTTP/1.1 %d %b" % (message["status"], phrase), b"connection: close"]
        lines += [b"%b: %b" % header for header in headers if header[0] != b"content-length"]
        self._transport.write(b"\r\n".join([*lines, b"", b""]))

    async def _body(self, message: Message) -> None:
        rest: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        while rest and not self.over:
            sent = self._clip.sent
            room = next(edge for edge in self._edges() if edge > sent) - sent
            part, rest = rest[:room], rest[room:]
            await self._pass(part, more=more or bool(rest))
        if not message.get("body") and not self.over:
            await self._send(message)

    async def _pass(self, part: bytes, *, more: bool) -> None:
        if self._clip.lengthless:
            self._transport.write(part)
        else:
            await self._send({"type": "http.response.body", "body": part, "more_body": more})
        self._clip.sent += len(part)
        if self._clip.sent == self._length // 2 and not await self._clip.halfway():
            self.over = True
            # Not abort: the half that was sent has to arrive.
            self._transport.close()
        elif self._clip.slow and self._clip.sent in self._edges():
            await self._clip.drop()

    def _edges(self) -> list[int]:
        """Return the bytes after which a part ends; the half is one of them."""
        drops = DROPS if self._clip.slow else HALVES
        return [self._length * number // drops for number in range(1, drops + 1)]
