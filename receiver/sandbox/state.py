"""
The sandbox's database file: survives kill -9, one process at a time.

Operations (functions of a connection) run on one thread. All that wait at one
moment share one transaction, so that a burst costs few flushes to disk.
"""

from __future__ import annotations

import asyncio
import fcntl
import secrets
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from receiver.sandbox import callbacks
from receiver.sandbox.background import background
from receiver.sandbox.records import Counted

T = TypeVar("T")

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS origin (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  first_id INTEGER NOT NULL,
  link_key BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS task (
  position INTEGER PRIMARY KEY,
  id INTEGER NOT NULL UNIQUE,
  number INTEGER NOT NULL UNIQUE REFERENCES submission (number),
  house TEXT NOT NULL,
  told_id TEXT NOT NULL,
  plan TEXT NOT NULL,
  product TEXT NOT NULL,
  prompt TEXT NOT NULL,
  duration TEXT,
  video_id TEXT,
  video_url TEXT,
  sound INTEGER NOT NULL,
  external_id TEXT,
  callback_url TEXT,
  status TEXT NOT NULL CHECK (status IN ('submitted', 'processing', 'succeed', 'failed')),
  failure TEXT,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  starts_at INTEGER NOT NULL,
  ends_at INTEGER NOT NULL,
  UNIQUE (house, told_id)
);
CREATE INDEX IF NOT EXISTS task_external ON task (house, external_id);
CREATE INDEX IF NOT EXISTS task_page ON task (house, product, position);
CREATE INDEX IF NOT EXISTS task_open ON task (position) WHERE status IN ('submitted', 'processing');
CREATE TABLE IF NOT EXISTS tally (house TEXT PRIMARY KEY, open INTEGER NOT NULL);
CREATE TRIGGER IF NOT EXISTS task_made AFTER INSERT ON task BEGIN
  INSERT INTO tally VALUES (NEW.house, 1) ON CONFLICT DO UPDATE SET open = open + 1;
END;
CREATE TRIGGER IF NOT EXISTS task_ended AFTER UPDATE OF status ON task
WHEN OLD.status IN ('submitted', 'processing') AND NEW.status NOT IN ('submitted', 'processing') BEGIN
  UPDATE tally SET open = open - 1 WHERE house = NEW.house;
END;
CREATE TABLE IF NOT EXISTS file (
  task_id INTEGER NOT NULL REFERENCES task (id),
  format TEXT NOT NULL CHECK (format IN ('mp3', 'wav', 'mp4')),
  clip INTEGER NOT NULL,
  take INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  sha256 TEXT NOT NULL,
  duration TEXT NOT NULL,
  sound_sha256 TEXT,
  generation INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (task_id, format)
);
CREATE TABLE IF NOT EXISTS callback (
  task_id INTEGER NOT NULL REFERENCES task (id),
  position INTEGER NOT NULL,
  webhook_id INTEGER NOT NULL UNIQUE,
  kind TEXT NOT NULL,
  status TEXT NOT NULL,
  changed_at INTEGER NOT NULL,
  until_taken INTEGER NOT NULL,
  begun INTEGER NOT NULL DEFAULT 0,
  outcome TEXT,
  copies TEXT NOT NULL DEFAULT '[]',
  PRIMARY KEY (task_id, position)
);
CREATE INDEX IF NOT EXISTS callback_due ON callback (task_id, position) WHERE outcome IS NULL;
CREATE TABLE IF NOT EXISTS submission (
  number INTEGER PRIMARY KEY,
  house TEXT NOT NULL,
  external_id TEXT,
  enforced INTEGER NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS submission_once ON submission (house, external_id) WHERE enforced;
CREATE TABLE IF NOT EXISTS attempt (
  id INTEGER PRIMARY KEY,
  number INTEGER NOT NULL REFERENCES submission (number),
  made INTEGER NOT NULL,
  reply TEXT NOT NULL,
  fault TEXT
);
CREATE INDEX IF NOT EXISTS attempt_number ON attempt (number);
CREATE UNIQUE INDEX IF NOT EXISTS attempt_made_once ON attempt (number) WHERE made;
CREATE TABLE IF NOT EXISTS fetch (
  id INTEGER PRIMARY KEY,
  task_id INTEGER NOT NULL REFERENCES task (id),
  format TEXT NOT NULL,
  nth INTEGER NOT NULL,
  status INTEGER,
  bytes INTEGER,
  fault TEXT,
  UNIQUE (task_id, format, nth)
);
CREATE TABLE IF NOT EXISTS incident (
  id INTEGER PRIMARY KEY,
  house TEXT NOT NULL,
  kind TEXT NOT NULL,
  given TEXT,
  fault TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS request (
  house TEXT NOT NULL,
  kind TEXT NOT NULL,
  number INTEGER NOT NULL,
  PRIMARY KEY (house, kind)
);
"""

#: Of the schema.
VERSION: Final = 3

#: Operations in one transaction.
BATCH: Final = 500

#: Seconds between writes of the request counts when nothing else is written.
COUNTS_EVERY: Final = 0.5

#: Ids have 18 digits (providers.md 2.3): seconds of the first start, then eight digits for what is made since.
ID_ROOM: Final = 10**8

Operation = Callable[[sqlite3.Connection], Any]
#: A house, and what is counted in it.
Key = tuple[str, Counted]


class StateLocked(Exception):
    """Another sandbox works on this directory."""


class StateOutdated(Exception):
    """Another version of the sandbox wrote this directory."""


class StateClosed(Exception):
    """The operation came too late, or the database failed; whether it took place is not known."""


class State:
    """Runs operations, durable before they return; counts requests."""

    def __init__(self, connection: sqlite3.Connection, thread: ThreadPoolExecutor) -> None:
        self._connection = connection
        self._thread = thread
        self._waiting: list[tuple[Operation, asyncio.Future[Any]]] = []
        self._wake = asyncio.Event()
        self._closed = False
        self._counts: Counter[Key] = Counter()
        self._numbers: Counter[Key] = Counter()

    @classmethod
    @asynccontextmanager
    async def open(cls, directory: Path) -> AsyncIterator[Self]:
        """
        Open the state in *directory*, made when missing.

        A database error ends the block: the process must not go on half.

        Raises:
            StateLocked: Another process has it open.
            StateOutdated: Another version wrote it.
        """
        with _locked(directory), ThreadPoolExecutor(1, "sandbox-state") as thread:
            loop = asyncio.get_running_loop()
            connection = await loop.run_in_executor(thread, _connect, directory / "sandbox.sqlite3")
            state = cls(connection, thread)
            state._numbers = await loop.run_in_executor(thread, _read_counts, connection)
            try:
                async with background() as group:
                    group.create_task(state._run())
                    group.create_task(state._keep_counts())
                    yield state
            finally:
                await loop.run_in_executor(thread, _finish, connection, state._take_counts())

    async def do(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """
        Run *operation* and return its result once it is on disk.

        Raises:
            StateClosed: It may or may not have taken place.
        """
        if self._closed:
            raise StateClosed
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((operation, future))
        self._wake.set()
        return await future

    def count(self, house: str, kind: Counted) -> int:
        """
        Count one request to a house and return its number among those of its kind, from 1.

        On disk with whatever is written next, half a second later at most.
        """
        self._counts[house, kind] += 1
        self._numbers[house, kind] += 1
        return self._numbers[house, kind]

    async def write_counts(self) -> None:
        """Bring to disk what was counted so far."""
        await self.do(partial(_add_counts, counts=self._take_counts()))

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._wake.wait()
                batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
                if not self._waiting:
                    self._wake.clear()
                await self._settle(loop, batch)
        finally:
            self._close()

    async def _keep_counts(self) -> None:
        while True:
            await asyncio.sleep(COUNTS_EVERY)
            if self._counts:
                await self.write_counts()

    def _take_counts(self) -> Counter[Key]:
        counts, self._counts = self._counts, Counter()
        return counts

    def _close(self) -> None:
        self._closed = True
        for _, future in self._waiting:
            _fail(future)
        self._waiting.clear()

    async def _settle(
        self, loop: asyncio.AbstractEventLoop, batch: list[tuple[Operation, asyncio.Future[Any]]]
    ) -> None:
        operations = [operation for operation, _ in batch]
        counts = self._take_counts()
        try:
            results, wrote = await loop.run_in_executor(self._thread, _transact, self._connection, operations, counts)
            if not wrote:
                self._counts += counts
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)
        finally:
            for _, future in batch:
                _fail(future)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise StateLocked(f"another sandbox works in {directory}") from exc
        yield


def _fail(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(StateClosed())


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    if connection.execute("PRAGMA user_version").fetchone()[0] != VERSION:
        if connection.execute("SELECT 1 FROM sqlite_schema").fetchone():
            connection.close()
            raise StateOutdated(f"{path} is of another version of the sandbox; remove its directory")
        connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.executescript(SCHEMA)
    origin = (int(time.time()) * ID_ROOM, secrets.token_bytes(32))
    connection.execute("INSERT INTO origin VALUES (1, ?, ?) ON CONFLICT DO NOTHING", origin)
    callbacks.give_up(connection)
    return connection


def _transact(
    connection: sqlite3.Connection, operations: list[Operation], counts: Counter[Key]
) -> tuple[list[Any], bool]:
    """Return the results, and whether *counts* went along: reads alone are not worth a flush to disk."""
    before = connection.total_changes
    connection.execute("BEGIN")
    try:
        results = [operation(connection) for operation in operations]
        wrote = connection.total_changes != before
        if wrote:
            _add_counts(connection, counts)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    return results, wrote


def _add_counts(connection: sqlite3.Connection, counts: Counter[Key]) -> None:
    connection.executemany(
        "INSERT INTO request VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET number = number + excluded.number",
        [(house, kind, number) for (house, kind), number in counts.items()],
    )


def _read_counts(connection: sqlite3.Connection) -> Counter[Key]:
    rows = connection.execute("SELECT * FROM request").fetchall()
    return Counter({(row["house"], Counted(row["kind"])): row["number"] for row in rows})


def _finish(connection: sqlite3.Connection, counts: Counter[Key]) -> None:
    _add_counts(connection, counts)
    connection.close()
