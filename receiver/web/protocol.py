"""
uvicorn's HTTP, where it would take too much, take too little, or answer in plain text.

What is no HTTP request reaches no application, and so none of what stands around one.
"""

from __future__ import annotations

import asyncio
import http
from typing import Final

import httptools

from receiver.web import problems
from receiver.web.gathering import GatheringProtocol

#: Bytes of a head that may follow the piece in which it began; uvicorn itself would take any number.
LARGEST_HEAD: Final = 64 * 1024


class Protocol(GatheringProtocol):
    """uvicorn's HTTP as this service speaks it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over a new connection."""
        super().connection_made(transport)
        #: None while no head is under way.
        self._head: int | None = None

    def data_received(self, data: bytes) -> None:
        """Read on, but no head without an end; refuse what is no HTTP request."""
        self._unset_keepalive_if_required()
        if self._head is not None:
            self._head += len(data)
            if self._head > LARGEST_HEAD:
                self._refuse("head_too_large")
                return
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserError:
                self._refuse("malformed_request")
            except httptools.HttpParserUpgrade as exc:
                data = self._plainly(data[exc.args[0] :])
                continue
            return

    def on_message_begin(self) -> None:
        """Begin to read a head."""
        self._head = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Leave the head, and let the application answer."""
        self._head = None
        super().on_headers_complete()

    def _should_upgrade(self) -> bool:
        """Keep a request that would rather speak another protocol from the application until it is read plainly."""
        return True

    def _plainly(self, rest: bytes) -> bytes:
        """
        Return a request as if it did not wish for another protocol, and *rest*, which came after its head, to be read.

        Clients that would like HTTP/2 send their body along, of which the parser takes nothing.
        """
        method = self.scope["method"]
        if method == "CONNECT":
            self._refuse("malformed_request")
            return b""
        lines = [b"%s %s HTTP/%s" % (method.encode(), self.url, self.scope["http_version"].encode())]
        lines += [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        return b"\r\n".join((*lines, b"", rest))

    def _refuse(self, code: str) -> None:
        status, request_id, body = problems.unread(code)
        lines = (
            f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}",
            f"content-type: {problems.PROBLEM_JSON}",
            f"content-length: {len(body)}",
            f"x-request-id: {request_id}",
            "connection: close",
            "\r\n",
        )
        self.transport.write("\r\n".join(lines).encode() + body)
        self.transport.close()
