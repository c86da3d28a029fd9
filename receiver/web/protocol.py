"""
uvicorn's HTTP, where it would take too much, take too little, or answer in plain text.

What is no HTTP request reaches no application, and so none of what stands around one.
"""

from __future__ import annotations

import asyncio
import http
from datetime import timedelta
from typing import TYPE_CHECKING, Final, cast

import httptools

from receiver.web import access, problems
from receiver.web.gathering import GatheringProtocol

if TYPE_CHECKING:
    from starlette.types import Scope
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

#: Bytes of a head that may follow the piece in which it began; uvicorn itself would take any number.
LARGEST_HEAD: Final = 64 * 1024
#: From when a request could begin, or began, to the end of its head. A head is one packet, seldom two: who takes longer
#: has nothing to say, or holds connections on purpose. Between two requests uvicorn itself closes earlier.
HEAD_WITHIN: Final = timedelta(seconds=10)
#: Without a byte of a body that is not whole. Long enough for a bad line to come back, and callbacks are sent again.
SILENCE: Final = timedelta(seconds=30)
#: From the first byte of a head to the last of its body, of which the largest has 4 MiB: drop by drop it had no end.
WHOLE_WITHIN: Final = timedelta(minutes=5)


class Protocol(GatheringProtocol):
    """uvicorn's HTTP as this service speaks it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over a new connection."""
        super().connection_made(transport)
        #: None while no head is under way.
        self._head: int | None = None
        #: By the loop's clock: the last bytes, and since when the head of a request could have come whole.
        self._heard = self._since = self.loop.time()
        #: One for each connection, however many requests it brings.
        self._timer = self.loop.call_later(HEAD_WITHIN.total_seconds(), self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of a connection."""
        self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, but no head without an end; refuse what is no HTTP request."""
        self._heard = self.loop.time()
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
        self._since = self._heard
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Leave the head, and let the application answer."""
        self._head = None
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Go on to the next request."""
        self._since = self.loop.time()
        super().on_response_complete()

    def _look(self) -> None:
        """End the connection if it has kept us waiting for too long, and look again when it may have."""
        now, cycle = self.loop.time(), self._unanswered()
        if cycle is None:
            due = self._since + HEAD_WITHIN.total_seconds()
        elif self._waits_for_body(cycle):
            due = min(self._heard + SILENCE.total_seconds(), self._since + WHOLE_WITHIN.total_seconds())
        else:
            # It is our turn, or was until now: nothing that did not come was owed.
            self._heard, due = now, now + HEAD_WITHIN.total_seconds()
        if now < due:
            self._timer = self.loop.call_at(min(due, now + HEAD_WITHIN.total_seconds()), self._look)
        elif not self.transport.is_closing():
            self._give_up()

    def _unanswered(self) -> RequestResponseCycle | None:
        """Return the request that came last, unless its answer is written."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return None if cycle is None or cycle.response_complete else cycle

    def _waits_for_body(self, cycle: RequestResponseCycle) -> bool:
        """Tell whether the rest of the body is wanted, and the client has been let to send it."""
        asked = not (cycle.waiting_for_100_continue or self.flow.read_paused)
        return asked and cycle.more_body and not cycle.response_started

    def _give_up(self) -> None:
        """Answer a request that has begun; of what never did nobody need hear."""
        if (cycle := self._unanswered()) is not None:
            # The application hears that the client has left, writes the line, and can answer no more.
            cycle.disconnected = True
            self._answer(*problems.stalled(cast("Scope", cycle.scope)))
        elif self._head is not None:
            self._refuse(access.STALLED)
        else:
            self.transport.close()

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
        self._answer(*problems.unread(code))

    def _answer(self, status: int, request_id: str, body: bytes) -> None:
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
