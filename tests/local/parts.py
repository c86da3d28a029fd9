"""A program for the tests to start and kill: `python parts.py WHAT DIRECTORY [WATCH]`; it says JSON, one a line."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import structlog

from receiver.core.errors import ReceiverError
from receiver.local.child import Watch
from receiver.local.postgres import EmbeddedPostgres
from receiver.local.store import EmbeddedStore
from receiver.local.supervisor import ChildSpec, Service, Supervisor

SLEEPER = "import signal; signal.pause()"
#: Says in one write that it is deaf from now on: others write to the same pipe.
STUBBORN = "import os, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.write(1, b'{}\\n'); signal.pause()"


def say(**facts: object) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def one(what: str, directory: Path, watch: Watch) -> int:
    """Start one part, say where it is, and wait to be killed or told to stop."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    part: EmbeddedPostgres | EmbeddedStore
    if what == "postgres":
        part = EmbeddedPostgres(directory, watch=watch)
        address: object = part.start()
    else:
        part = EmbeddedStore(directory, watch=watch)
        address = part.start().endpoint
    say(address=address, pid=part.process.pid if part.process else None, uid=os.geteuid())
    signal.sigwait([signal.SIGTERM])
    part.stop()
    return 0


def supervised(what: str, directory: Path, watch: Watch) -> int:
    structlog.configure(
        processors=[structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
    )
    program = STUBBORN if what == "stubborn" else SLEEPER
    services: list[Service] = []
    if what != "stubborn":
        services.append(EmbeddedPostgres(directory / "postgres", watch=watch))
        services.append(EmbeddedStore(directory / "store", watch=watch))
    children = [ChildSpec(name, [sys.executable, "-c", program], {"PART": name}) for name in ("web", "worker")]
    return Supervisor(services, children, watch=watch).run()


def main() -> int:
    what, directory, *rest = sys.argv[1:]
    watch = Watch(rest[0]) if rest else Watch.KERNEL
    try:
        if what in {"postgres", "store"}:
            return one(what, Path(directory), watch)
        return supervised(what, Path(directory), watch)
    except ReceiverError as exc:
        say(error=exc.code, message=str(exc))
        return 3


if __name__ == "__main__":
    sys.exit(main())
