"""
One system call for a small answer.

uvicorn writes head and body apart, and the second write costs as much as all checks of a callback.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Bytes. A longer piece is written at once, after what was gathered before it.
_SMALL: Final = 4096


class GatheringProtocol(HttpToolsProtocol):
    """uvicorn's HTTP over a transport that gathers."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over a new connection."""
        # uvloop's transports have the methods, not the class.
        super().connection_made(_Gathering(cast("asyncio.Transport", transport), self.loop))


class _Gathering(asyncio.Transport):
    """Writes small pieces together as soon as what runs now has run; passes all else on."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._pieces: list[bytes | bytearray | memoryview] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._pieces.append(data)
        if len(data) > _SMALL:
            self._flush()
        elif len(self._pieces) == 1:
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._transport.set_protocol(protocol)

    def _flush(self) -> None:
        if self._pieces:
            data = b"".join(self._pieces)
            self._pieces.clear()
            self._transport.write(data)
