"""
PostgreSQL as our own child, over its unix socket, with durability as released.

Whoever may enter the socket's directory (its owner, and root) is trusted; nobody else gets there, and there is no TCP.
The log keeps no statement and no detail line, since these would hold the values of rows.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import IO, Final
from urllib.parse import quote

import psycopg

from receiver.core.errors import Misconfigured, StoreUnavailable
from receiver.local import account, child, cluster, sockets
from receiver.local.child import DEFAULT_WATCH, Child, Launch, Watch
from receiver.local.lock import DirectoryLock

#: Recovery of a large log after a kill takes long; a server that lives is given this.
READY: Final = timedelta(minutes=5)
#: Of a clean stop; then the server is stopped without a checkpoint and recovers at its next start.
STOP: Final = timedelta(seconds=5)

SETTINGS: Final = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
}

#: Of `postmaster.pid`, counted from 0.
_SOCKET_LINE: Final = 4


def never() -> bool:
    """Cancel nothing."""
    return False


class EmbeddedPostgres:
    """
    One server on one directory, which it needs for itself.

    `start` may be called again after the server died; the address stays the same. Start it from the main thread.

    Args:
        directory: Holds the data, the socket, the lock and the log; made when absent.
        options: Server settings beyond ours; tests turn durability off here.
        watch: How the server learns that we are gone.
    """

    name: Final = "postgres"

    def __init__(
        self,
        directory: Path,
        *,
        options: Mapping[str, str] | None = None,
        watch: Watch = DEFAULT_WATCH,
    ) -> None:
        self._home = directory.absolute()
        self._data = self._home / "data"
        self._log = self._home / "server.log"
        self._options = dict(options or {})
        self._watch = watch
        self._lock = DirectoryLock(self._home)
        self._url: str | None = None
        self._process: Child | None = None

    @property
    def process(self) -> Child | None:
        """The server, also after its end; None before the first start."""
        return self._process

    def alive(self) -> bool:
        """Say whether the server runs."""
        return self._process is not None and self._process.alive()

    def start(self, cancelled: Callable[[], bool] = never) -> str:
        """
        Start the server, making its data directory when there is none, and return its URL.

        Raises:
            Misconfigured: The set-up must be changed: extra missing, directory in use, unreachable, of another version.
            StoreUnavailable: It did not become ready, or was *cancelled*.
        """
        if self._url is not None and self.alive():
            return self._url
        held = self._lock.held
        try:
            self._url = self._start(cancelled)
        except BaseException as exc:
            if self._process is not None:
                self._process.end((signal.SIGQUIT, timedelta(seconds=2)))
            if not held:
                self._lock.release()
            if isinstance(exc, PermissionError):
                raise Misconfigured(f"no right to use {exc.filename or self._home}: {exc.strerror}") from exc
            raise
        return self._url

    def stop(self, limit: timedelta = STOP) -> None:
        """Stop the server within about *limit*, by a checkpoint if there is time for it; free the directory."""
        if self._process is not None:
            self._process.end((signal.SIGINT, limit * 0.8), (signal.SIGQUIT, limit * 0.2))
        self._lock.release()

    def _start(self, cancelled: Callable[[], bool]) -> str:
        programs = cluster.binaries()
        self._home.mkdir(parents=True, exist_ok=True)
        # Another user's server must pass, and finds only what is its own; what is ours has modes of its own.
        self._home.chmod(0o711 if os.geteuid() == 0 else 0o700)
        self._lock.acquire()
        users = account.choose(self._data)
        with child.open_log(self._log) as log:
            if not self._data.exists():
                cluster.make(self._data, users, programs, log, options=self._options, cancelled=cancelled)
            elif users.maker:
                account.give(self._data, users.server)
            cluster.check_version(self._data)
            place = sockets.directory(self._home, users.server)
            cluster.clear_traces(self._data, place, cancelled)
            self._process = child.start(self._command(programs, place), self._launch(users, programs, place, log))
        url = _url(str(place))
        self._await_ready(url, cancelled)
        return url

    def _command(self, programs: Path, place: Path) -> list[str]:
        quoted = '"' + str(place).replace('"', '""') + '"'
        settings = {**SETTINGS, "unix_socket_directories": quoted, **self._options}
        return [str(programs / "postgres"), "-D", str(self._data), *(f"-c{k}={v}" for k, v in settings.items())]

    def _launch(self, users: account.Account, programs: Path, place: Path, log: IO[bytes]) -> Launch:
        needed = [self._data / "PG_VERSION", place / sockets.SOCKET, programs / "postgres"]
        return Launch(
            env=cluster.environment(programs),
            output=log,
            identity=users.server,
            search=account.closed_to(users.server, needed),
            death_signal=signal.SIGINT,
            watch=self._watch,
        )

    def _await_ready(self, url: str, cancelled: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY.total_seconds()
        while self.alive() and not cancelled() and time.monotonic() < deadline:
            try:
                psycopg.connect(url, connect_timeout=5).close()
            except psycopg.OperationalError as exc:
                if exc.sqlstate not in (None, "57P03"):  # not listening yet; still starting up
                    raise Misconfigured(f"{self._data} is not ours: {exc.sqlstate}") from exc
                time.sleep(0.01)
            else:
                return
        why = "took too long to start" if self.alive() else "stopped while starting"
        raise StoreUnavailable(f"PostgreSQL {'was cancelled' if cancelled() else why}; see {self._log}")


def running(directory: Path) -> str | None:
    """Return the URL of the server that another process of ours keeps running on *directory*, or None."""
    data = directory.absolute() / "data"
    note = data / "postmaster.pid"
    if not note.exists() or cluster.server_on(data) is None:
        return None
    lines = note.read_text().splitlines()
    # Source: PostgreSQL's storage/miscadmin.h, LOCK_FILE_LINE_SOCKET_DIR: the fifth line.
    return _url(lines[_SOCKET_LINE]) if len(lines) > _SOCKET_LINE else None


def _url(sockets_in: str) -> str:
    return f"postgresql://{cluster.ROLE}@/{cluster.DATABASE}?host={quote(sockets_in, safe='')}"
