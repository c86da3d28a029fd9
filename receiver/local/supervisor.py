"""
Keep the embedded parts, the web and the workers running, and stop them in order.

Everything happens in the main thread (children are tied to it) and no signal handler does more than leave a note: the
loop sleeps until a signal arrives or a restart is due.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from types import FrameType
from typing import Final, Protocol

import structlog

from receiver.core.errors import Misconfigured, ReceiverError
from receiver.local import child
from receiver.local.child import DEFAULT_WATCH, Child, Launch, Watch
from receiver.local.postgres import never

#: One that ran this long before it died is started again at once.
STABLE: Final = timedelta(seconds=5)
#: One that lived for longer was not starting any more.
LONGEST_START: Final = timedelta(minutes=1)
BACKOFF_FIRST: Final = timedelta(seconds=0.1)
BACKOFF_LAST: Final = timedelta(seconds=5)
#: From the request to stop: SIGKILL for web and workers that still run.
CHILDREN_STOP: Final = timedelta(seconds=8)
#: From the request to stop: all is gone.
ALL_STOP: Final = timedelta(seconds=10)
#: The least that a service is given to stop.
SERVICE_STOP: Final = timedelta(seconds=0.5)
#: The children are looked at this often even if no signal says that one ended.
GLANCE: Final = timedelta(seconds=1)
PAUSE: Final = timedelta(milliseconds=50)

log = structlog.get_logger(__name__)


class Service(Protocol):
    """What the supervisor keeps running."""

    @property
    def name(self) -> str:
        """Its name in the log."""

    @property
    def process(self) -> Child | None:
        """The process, also after its end; None before the first start."""

    def start(self, cancelled: Callable[[], bool] = ...) -> object:
        """Start it, or start it again; return when it is ready."""

    def alive(self) -> bool:
        """Say whether it runs."""

    def stop(self, limit: timedelta = ...) -> None:
        """Stop it within *limit*; nothing when it does not run."""


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """A program of our own to keep running."""

    name: str
    #: The first is the program's absolute path.
    argv: Sequence[str]
    #: Added to our own environment.
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: The exit status by which it says that it cannot run as it is set up; None: it says no such thing.
    hopeless: int | None = None


class Program:
    """A `Service` made of a `ChildSpec`: ready as soon as it runs, stopped by SIGTERM, then SIGKILL."""

    def __init__(self, spec: ChildSpec, watch: Watch = DEFAULT_WATCH) -> None:
        self._spec = spec
        self._watch = watch
        self.process: Child | None = None

    @property
    def name(self) -> str:
        """Its name in the log."""
        return self._spec.name

    def start(self, cancelled: Callable[[], bool] = never) -> None:
        """Start it, unless it runs or the start was *cancelled*."""
        if not cancelled() and not self.alive():
            self.process = child.start(self._spec.argv, Launch(env={**os.environ, **self._spec.env}, watch=self._watch))

    def alive(self) -> bool:
        """Say whether it runs."""
        return self.process is not None and self.process.alive()

    def hopeless(self) -> bool:
        """Say whether it has ended, and no other start can help."""
        status = None if self.process is None else self.process.poll()
        return status is not None and status == self._spec.hopeless

    def stop(self, limit: timedelta = CHILDREN_STOP) -> None:
        """Ask it to stop, and kill it when *limit* is over."""
        if self.process is not None:
            self.process.end((signal.SIGTERM, limit))


@dataclass(slots=True, eq=False)
class _Kept:
    """One service and how it fared."""

    service: Service
    #: Deaths and failed starts in quick succession.
    failures: int = 0
    #: It has done its work once: a start that fails ends earlier, and with a status of its own.
    ran: bool = False
    #: `time.monotonic` of the last start.
    started: float = 0.0
    #: When to start it again; None while it runs.
    due: float | None = None

    def never_will(self) -> bool:
        """Tell of one that has ended whether it has never run, and says that it cannot."""
        status = None if self.service.process is None else self.service.process.poll()
        lived = time.monotonic() - self.started
        self.ran = self.ran or status is None or status <= 0 or lived > LONGEST_START.total_seconds()
        return not self.ran and isinstance(self.service, Program) and self.service.hopeless()

    def fail(self, now: float) -> None:
        """Note a death or failed start: again at once the first time, then ever later."""
        if now - self.started > STABLE.total_seconds():
            self.failures = 0
        self.due = now + backoff(self.failures).total_seconds()
        self.failures += 1


def backoff(failures: int) -> timedelta:
    """Return the pause before the next start, after *failures* earlier ones in quick succession."""
    if failures == 0:
        return timedelta()
    return min(BACKOFF_FIRST * 2.0 ** min(failures - 1, 10), BACKOFF_LAST)


class Supervisor:
    """
    Run *services* and *children* until SIGTERM or SIGINT.

    Args:
        services: The embedded parts, in the order of their start; those that run already are taken over as they are.
        children: Started after all services. They are left running while a service is started again.
        watch: How the children learn that we are gone.
    """

    def __init__(
        self,
        services: Sequence[Service],
        children: Sequence[ChildSpec],
        *,
        watch: Watch = DEFAULT_WATCH,
    ) -> None:
        self._services = [_Kept(service) for service in services]
        self._programs = [_Kept(Program(spec, watch)) for spec in children]
        self._requests = 0

    def run(self) -> int:
        """
        Start all, keep all running, stop all when asked to; return the exit status 0.

        A second signal while stopping kills the children at once.

        Raises:
            ReceiverError: Something could not be started the first time; all the others were stopped.
            Misconfigured: The same of a program that says so by its exit status.
        """
        with self._signals() as wait:
            try:
                for kept in self._all():
                    if not self._stopping():
                        self._start(kept)
                while not self._stopping():
                    self._mend()
                    wait(self._nap())
            except ReceiverError:
                if not self._stopping():  # what was cancelled by the request to stop is no failure
                    raise
            finally:
                self._stop()
        return 0

    def _all(self) -> list[_Kept]:
        return [*self._services, *self._programs]

    def _stopping(self) -> bool:
        return self._requests > 0

    def _start(self, kept: _Kept) -> None:
        if not kept.service.alive():
            kept.service.start(self._stopping)
        kept.started = time.monotonic()
        kept.due = None
        if (process := kept.service.process) is not None:
            log.info("child.started", name=kept.service.name, pid=process.pid)

    def _mend(self) -> None:
        """
        Start again what died, once its pause is over; services come first.

        Raises:
            Misconfigured: A program has never run, and says that it never will. One that has run is tried again: the
                others work on meanwhile, and what keeps it from running now may be mended without us.
        """
        for kept in self._all():
            if kept.due is None and not kept.service.alive():
                log.warning("child.died", **_facts(kept.service))
                if kept.never_will():
                    raise Misconfigured(f"{kept.service.name} cannot run as it is set up; it has said why")
                kept.fail(time.monotonic())
            if kept.due is not None and time.monotonic() >= kept.due and not self._stopping():
                self._try_again(kept)

    def _try_again(self, kept: _Kept) -> None:
        try:
            self._start(kept)
        except ReceiverError as exc:
            if self._stopping():
                return
            kept.fail(time.monotonic())
            log.error("child.not_started", name=kept.service.name, error=exc.code, detail=str(exc))  # noqa: TRY400

    def _nap(self) -> timedelta:
        now = time.monotonic()
        waits = [timedelta(seconds=kept.due - now) for kept in self._all() if kept.due is not None]
        return max(PAUSE, min([GLANCE, *waits]))

    def _stop(self) -> None:
        """Stop the programs side by side, then the services in reverse order of their start."""
        began = time.monotonic()
        running = [kept.service for kept in self._programs if kept.service.alive()]
        for service in running:
            _send(service, signal.SIGTERM)
        already = self._requests
        log.info("children.stopping")
        limit = began + CHILDREN_STOP.total_seconds()
        while any(s.alive() for s in running) and time.monotonic() < limit and self._requests == already:
            time.sleep(PAUSE.total_seconds())
        for service in running:
            service.stop(timedelta())
            log.info("child.stopped", **_facts(service))
        for kept in reversed(self._services):
            left = timedelta(seconds=began + ALL_STOP.total_seconds() - time.monotonic()) - SERVICE_STOP
            kept.service.stop(max(left / 2, SERVICE_STOP))
            log.info("child.stopped", **_facts(kept.service))

    @contextmanager
    def _signals(self) -> Iterator[Callable[[timedelta], None]]:
        """Take SIGTERM, SIGINT and SIGCHLD, and yield a wait that any of them ends."""
        ours, theirs = socket.socketpair()
        with ours, theirs, selectors.DefaultSelector() as selector:
            ours.settimeout(0)
            theirs.settimeout(0)
            selector.register(ours, selectors.EVENT_READ)

            def wait(limit: timedelta) -> None:
                for _ in selector.select(limit.total_seconds()):
                    ours.recv(4096)

            before_fd = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
            handlers = {signal.SIGTERM: self._request, signal.SIGINT: self._request, signal.SIGCHLD: _notice}
            before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
            try:
                yield wait
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)
                signal.set_wakeup_fd(before_fd)

    def _request(self, _number: int, _frame: FrameType | None) -> None:
        self._requests += 1


def _notice(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: that the signal came ends the wait."""


def _send(service: Service, number: signal.Signals) -> None:
    if service.process is not None:
        service.process.send(number)


def _facts(service: Service) -> dict[str, str | int]:
    """Collect what the log says of an ended process."""
    facts: dict[str, str | int] = {"name": service.name}
    if (process := service.process) is not None:
        facts["pid"] = process.pid
        status = process.poll()
        if status is not None and status < 0:
            facts["signal"] = signal.Signals(-status).name
        elif status is not None:
            facts["returncode"] = status
    return facts
