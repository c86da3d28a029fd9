"""What is measured runs on real parts: PostgreSQL and the store as released, and processes of our own."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from bench import machine
from receiver.local import cluster
from receiver.local.postgres import EmbeddedPostgres
from receiver.local.store import EmbeddedStore, StoreAddress
from receiver.store.migrate import migrate

HOST: Final = "127.0.0.1"
ACCOUNT: Final = "studio"
#: Files of the write-ahead log, together less than `max_wal_size` lets lie.
_LOG_FILES: Final = 40
_READY: Final = 30.0
_STOP: Final = 15.0


@dataclass(frozen=True, slots=True)
class Parts:
    """Running PostgreSQL and S3 server, and a directory for all else."""

    directory: Path
    database_url: str
    store: StoreAddress
    pin: bool

    def log_of(self, name: str) -> Path:
        """Return the file that the log of a program goes to."""
        return self.directory / f"{name}.log"

    def url_of(self, database: str) -> str:
        """Return the URL of another database of the same server."""
        return self.database_url.replace("@/receiver?", f"@/{database}?")

    def create_database(self, name: str) -> str:
        """Make an empty database and return its URL."""
        with psycopg.connect(self.database_url, autocommit=True) as conn:
            conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url_of(name)


@contextmanager
def open_parts() -> Iterator[Parts]:
    """Start PostgreSQL and the store with release settings in a directory of their own, and migrate."""
    # Short enough for a socket, and passable for the database's user when we are root.
    directory = Path(tempfile.mkdtemp(prefix="receiver-bench-"))
    directory.chmod(0o711)
    pin = machine.can_pin()
    postgres, store = EmbeddedPostgres(directory / "postgres"), EmbeddedStore(directory / "store")
    try:
        with machine.on_core(machine.OTHER_CORE, pin=pin):
            url, address = postgres.start(), store.start()
        migrate(url)
        _run_in(url)
        yield Parts(directory, url, address, pin)
    finally:
        store.stop()
        postgres.stop()
        shutil.rmtree(directory)


def _run_in(database_url: str) -> None:
    """
    Let the write-ahead log come round once, as it has on any server that has worked for a while.

    A new server makes each file of its log when it is needed, 16 MB of zeros, flushed, while every commit waits; after
    a checkpoint the old files are used again.
    """
    superuser = database_url.replace(f"//{cluster.ROLE}@", f"//{cluster.SUPERUSER}@")
    with psycopg.connect(superuser, autocommit=True) as conn:
        for _ in range(_LOG_FILES):
            conn.execute("SELECT pg_logical_emit_message(false, 'bench', ''), pg_switch_wal()")
        conn.execute("CHECKPOINT")


@dataclass(frozen=True, slots=True)
class Keys:
    """The secrets of one deployment."""

    callback: str
    webhook: str


def service_environment(parts: Parts, keys: Keys, port: int) -> dict[str, str]:
    """Return an environment that sets what must be set; all else stays as released."""
    account = f"RECEIVER_ACCOUNTS__{ACCOUNT.upper()}__"
    return {
        "PATH": os.defpath,
        "RECEIVER_DATA_DIR": str(parts.directory / "data"),
        "RECEIVER_DATABASE_URL": parts.database_url,
        "RECEIVER_S3_ENDPOINT": parts.store.endpoint,
        "RECEIVER_S3_ACCESS_KEY": parts.store.access_key,
        "RECEIVER_S3_SECRET_KEY": parts.store.secret_key,
        "RECEIVER_S3_BUCKET": parts.store.bucket,
        "RECEIVER_CALLBACK_SECRETS": keys.callback,
        "RECEIVER_PORT": str(port),
        f"{account}DIALECT": "kling",
        f"{account}API_KEY": secrets.token_hex(16),
        f"{account}WEBHOOK_SECRETS": f'["{keys.webhook}"]',
    }


@contextmanager
def program(parts: Parts, name: str, argv: list[str], env: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run a Python program on the core of the measured, its log to a file; stopped at the end."""
    with parts.log_of(name).open("ab") as log, machine.on_core(machine.SERVER_CORE, pin=parts.pin):
        process = subprocess.Popen(
            [sys.executable, *argv],
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def await_answer(url: str, process: subprocess.Popen[str], log: Path) -> None:
    """
    Wait until *url* is answered at all; *log* is shown when it is not.

    Raises:
        RuntimeError: The process ended, or took too long.
    """
    deadline = time.monotonic() + _READY
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=1).close()  # noqa: S310  our own loopback address
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"{url} did not answer: {log.read_text()[-2000:]}")
