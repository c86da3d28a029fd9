"""
The load: a closed loop over kept-alive connections, every request prepared before the clock starts.

Run as a program of its own (`python -m bench.load`), with an `Order` as JSON on standard input and a `Result` on
standard output. While it measures it only sends bytes and reads answers, so that it costs little of the core that it
shares with PostgreSQL.
"""

from __future__ import annotations

import gc
import json
import select
import socket
import subprocess
import sys
import time
from array import array
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Final

from bench import machine, posts
from bench.parts import HOST, Keys
from receiver.core.model import TaskId

#: Tasks that the callbacks are for.
TASKS: Final = 2000
#: Seconds without any answer.
_PATIENCE: Final = 20.0
_END_OF_HEAD: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to send."""

    port: int
    #: None: to the callback URLs of many tasks.
    path: str | None
    callback_secret: str
    webhook_secret: str
    connections: int
    warm_up: float
    seconds: float
    #: Requests to prepare; the run ends early when they are used up.
    supply: int
    server_pid: int
    #: Whose life the callbacks tell, in any order, and no more; empty: of tasks that nobody knows.
    tasks: tuple[TaskId, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came back; latencies in milliseconds."""

    rate: float
    p50: float
    p99: float
    worst: float
    #: Answers by status, those of the warm-up too.
    statuses: dict[str, int] = field(default_factory=dict)
    #: CPU seconds per second.
    load_busy: float
    server_busy: float
    ran_dry: bool


class Loop:
    """One run over some connections."""

    def __init__(self, order: Order, supply: list[bytes]) -> None:
        self._order = order
        self._supply = iter(supply)
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._sent_at: dict[int, float] = {}
        self._parts: dict[int, bytes] = {}
        #: Answers seen before, by their exact bytes.
        self._known: dict[bytes, str] = {}
        self._statuses: dict[str, int] = {}
        self._latencies = array("d")
        self._dry = False

    def run(self) -> Result:
        """Send until the time is over, then wait for what is under way."""
        for _ in range(self._order.connections):
            self._connect()
        begin = time.perf_counter() + self._order.warm_up
        self._go(until=begin)
        self._latencies = array("d")
        mine, theirs, begin = time.process_time(), machine.busy_seconds(self._order.server_pid), time.perf_counter()
        self._go(until=begin + self._order.seconds)
        took = time.perf_counter() - begin
        mine, theirs = time.process_time() - mine, machine.busy_seconds(self._order.server_pid) - theirs
        ordered = sorted(self._latencies)
        self._go(until=None)
        return Result(
            rate=len(ordered) / took,
            p50=1000 * ordered[len(ordered) // 2],
            p99=1000 * ordered[len(ordered) * 99 // 100],
            worst=1000 * ordered[-1],
            statuses=self._statuses,
            load_busy=mine / took,
            server_busy=theirs / took,
            ran_dry=self._dry,
        )

    def _connect(self) -> None:
        opened = socket.create_connection((HOST, self._order.port))
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.settimeout(0)
        self._sockets[opened.fileno()] = opened
        self._poll.register(opened.fileno(), select.EPOLLIN)
        self._send(opened.fileno())

    def _go(self, until: float | None) -> None:
        """Answer each answer with the next request; without *until*, only let the last answers come."""
        clock, sockets, sent_at, latencies = time.perf_counter, self._sockets, self._sent_at, self._latencies
        while sent_at and (until is None or clock() < until):
            ready = self._poll.poll(_PATIENCE)
            if not ready:
                raise TimeoutError("no answer came")
            for number, _ in ready:
                if self._is_whole(number, sockets[number].recv(65536)):
                    latencies.append(clock() - sent_at.pop(number))
                    if until is not None:
                        self._send(number)

    def _send(self, number: int) -> None:
        request = next(self._supply, None)
        if request is None:
            self._dry = True
            return
        self._sent_at[number] = time.perf_counter()
        if self._sockets[number].send(request) != len(request):
            raise BlockingIOError("the socket takes no whole request")

    def _is_whole(self, number: int, data: bytes) -> bool:
        """Take in what came; True when it completes an answer, which is counted by its status."""
        if not data:
            raise ConnectionResetError("the server closed a connection")
        if self._parts:
            data = self._parts.pop(number, b"") + data
        status = self._known.get(data)
        if status is None:
            status = _status(data)
            if status is None:
                self._parts[number] = data
                return False
            if len(self._known) < 1000:
                self._known[data] = status
        self._statuses[status] = self._statuses.get(status, 0) + 1
        return True


def _status(data: bytes) -> str | None:
    """Return the status of a whole answer, None while some of it is missing."""
    head, found, body = data.partition(_END_OF_HEAD)
    if not found:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return first.split()[1] if len(body) >= int(fields["content-length"]) else None


def run(order: Order) -> Result:
    """Carry out *order* in a process of its own."""
    ran = subprocess.run(
        [sys.executable, "-m", "bench.load"],
        input=json.dumps(asdict(order)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Result(**json.loads(ran.stdout))


def main() -> None:
    order = Order(**json.load(sys.stdin))
    keys = Keys(callback=order.callback_secret, webhook=order.webhook_secret)
    if order.tasks:
        made = posts.lives(order.tasks, keys, order.port)
    else:
        made = posts.requests([order.path] if order.path is not None else posts.paths(keys, TASKS), keys, order.port)
    supply = list(islice(made, order.supply))
    gc.freeze()
    gc.disable()
    print(json.dumps(asdict(Loop(order, supply).run())))


if __name__ == "__main__":
    main()
