"""The processes of a demo: started, listened to, and stopped, whatever happens."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import IO, Final

from receiver.cli import api
from receiver.core.errors import ReceiverError, Unavailable
from receiver.local import child
from receiver.local.child import Child, Launch

#: A slow disk needs most of it to make a database.
START: Final = timedelta(minutes=2)
#: More than the service takes for a clean stop.
STOP: Final = timedelta(seconds=15)
#: Seconds between two looks.
GLANCE: Final = 0.05

RECEIVER: Final = (sys.executable, "-m", "receiver")


class Interrupted(ReceiverError):
    """Somebody asked the demo to stop before it was done."""

    code = "interrupted"


class PartFailed(Unavailable):
    """A process of the demo ended, or did not become ready."""

    code = "part_failed"


class StopRequest:
    """Whether SIGINT or SIGTERM has come; the handler does no more than leave a note."""

    def __init__(self) -> None:
        self.made = False

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Take both signals until the end of the block."""
        before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def check(self) -> None:
        """
        Go on, unless asked to stop.

        Raises:
            Interrupted: It was asked for.
        """
        if self.made:
            raise Interrupted("stopped before the end")

    def pause(self, length: timedelta) -> None:
        """
        Wait for *length*.

        Raises:
            Interrupted: A stop was asked for before or meanwhile.
        """
        end = time.monotonic() + length.total_seconds()
        self.check()
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, GLANCE))
            self.check()

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.made = True


class Part:
    """
    A process whose output goes to a file, and which says one thing that others wait for.

    Args:
        name: For people.
        arguments: Of the command `receiver`.
        env: Its whole environment.
        log: Takes stdout and stderr, for the owner only.
        saying: Finds what it says, as the group 1 of a line.
        secret: What it says is not written to the log.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        env: Mapping[str, str],
        *,
        log: Path,
        saying: re.Pattern[bytes],
        secret: bool = False,
    ) -> None:
        self.name = name
        self.log = log
        self.said: str | None = None
        self._saying = saying
        self._secret = secret
        read_end, write_end = os.pipe()
        heard = os.fdopen(read_end, "rb")
        with os.fdopen(write_end, "wb") as output:
            self._child: Child = child.start([*RECEIVER, *arguments], Launch(env=env, output=output))
        self._listener = threading.Thread(target=self._listen, args=(heard,), name=f"{name}-log", daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    def require_alive(self) -> None:
        """
        See that it runs.

        Raises:
            PartFailed: It has ended.
        """
        status = self._child.poll()
        if status is not None:
            raise PartFailed(f"the {self.name} ended with status {status}; see {self.log}")

    def stop(self, limit: timedelta = STOP) -> None:
        """Ask it to stop, kill it when *limit* is over, and let its last words get to the log."""
        self._child.end((signal.SIGTERM, limit))
        self._listener.join(GLANCE * 20)

    def _listen(self, heard: IO[bytes]) -> None:
        with heard, child.open_log(self.log) as log:
            for line in heard:
                match = self._saying.search(line) if self.said is None else None
                log.write(line if match is None or not self._secret else line.replace(match[1], b"***"))
                log.flush()
                if match is not None:
                    self.said = match[1].decode()


def word_of(part: Part, stop: StopRequest) -> str:
    """
    Wait for what *part* says.

    Raises:
        PartFailed: It ended without a word, or took too long.
        Interrupted: A stop was asked for.
    """
    await_fact(lambda: part.said is not None, part, stop)
    return part.said or ""


def await_ready(service: api.Client, part: Part, stop: StopRequest) -> None:
    """
    Wait until the service takes requests.

    Raises:
        PartFailed: It ended, or took too long.
        Interrupted: A stop was asked for.
    """

    def ready() -> bool:
        try:
            service.get("/readyz")
        except api.ServiceUnreachable:
            return False
        except api.Problem as exc:
            if not exc.passing:
                raise
            return False
        return True

    await_fact(ready, part, stop)


def await_fact(fact: Callable[[], bool], part: Part, stop: StopRequest) -> None:
    """
    Wait until *fact* is true, while *part* lives.

    Raises:
        PartFailed: It ended, or took too long.
        Interrupted: A stop was asked for.
    """
    end = time.monotonic() + START.total_seconds()
    while not fact():
        part.require_alive()
        if time.monotonic() > end:
            raise PartFailed(f"the {part.name} took too long to start; see {part.log}")
        stop.pause(timedelta(seconds=GLANCE))
