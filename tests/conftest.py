"""Real servers for every test that wants them: one of each per pytest process, and a database and prefix per test."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import hypothesis
import psycopg
import pytest
import structlog
from psycopg import sql

from receiver.local.postgres import EmbeddedPostgres
from receiver.local.store import EmbeddedStore, StoreAddress
from tests import evidence

#: A file system in memory, and the bytes that must be free there and in all for the unit databases to have room.
MEMORY = Path("/dev/shm")  # noqa: S108 - what the tests make below it has names of its own
ROOM = 3 << 30
#: What the person who runs the tests may have set for services and networks of their own.
STRANGERS = ("RECEIVER_", "SANDBOX_", "KLING_", "COMETAPI_", "DEERAPI_", "KKIAI_")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
#: A test that adds up what a day has cost takes less than that.
SPAN_OF_A_TEST = timedelta(seconds=15)
#: Folders and files that are begun with, since each of their tests takes long; the longest first.
LONG = (
    "tests/system/test_chaos.py",
    "tests/docs/test_commands.py",
    "tests/system/test_exactly_once.py",
    "tests/system/test_quiet.py",
    "tests/system/test_kills.py",
    "tests/cli/test_demo.py",
    "tests/system/test_callbacks.py",
    "tests/system/",
)


for _name in list(os.environ):
    if _name.startswith(STRANGERS) or _name.upper() in PROXIES:
        del os.environ[_name]

# An example may take as long as a busy machine lets it, and each run tries the same ones: what one run would find by
# chance refuses the work of somebody else. `--hypothesis-profile=search` draws anew.
hypothesis.settings.register_profile(
    "same", deadline=None, derandomize=True, database=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile("search", hypothesis.settings.get_profile("same"), derandomize=False)
hypothesis.settings.load_profile("same")


def in_memory() -> bool:
    """Say whether the unit databases may lie in memory, with room for those of all tests."""
    try:
        free = os.statvfs(MEMORY)
        told = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    except OSError:
        return False
    available = int(told.get("MemAvailable", "0 kB").split()[0]) * 1024
    return os.access(MEMORY, os.W_OK) and min(free.f_bavail * free.f_frsize, available) >= ROOM


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long, so that no process is left alone with it at the end; the rest stays as drawn."""
    items.sort(key=lambda item: next((n for n, name in enumerate(LONG) if item.nodeid.startswith(name)), len(LONG)))


#: For a database that lives as long as the test run; nothing else turns durability off.
UNIT_DATABASE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "200"}
TEMPLATE = "receiver_template"


@pytest.fixture(autouse=True)
def _evidence(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a test drives on a deployment is what `docs/coverage.md` says of it."""
    with evidence.gathered(request.node.nodeid):
        yield


@pytest.fixture(autouse=True)
def _within_a_day() -> None:
    """Limits and sums are of a day (UTC): one that is about to end is let go by first."""
    now = datetime.now(UTC)
    left = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), UTC) - now
    if left < SPAN_OF_A_TEST:
        threading.Event().wait(left.total_seconds() + 0.1)


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """A command that was run within a test has set the log up for a process of its own; the next test has not."""
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers, root.level
    yield
    if structlog.get_config()["processors"] is not before["processors"]:
        root.handlers, root.level = handlers, level
        structlog.configure(**before)
        # What was logged by meanwhile has kept the other configuration.
        for name, module in list(sys.modules.items()):
            if name.startswith("receiver.") and (log := vars(module).get("log")) is not None:
                vars(log).pop("bind", None)


@pytest.fixture(scope="session")
def server_directory() -> Iterator[Path]:
    """
    Short enough for a socket, and passable for the database's user when the tests run as root.

    Nothing here need be durable, and thousands of databases are made and dropped there in a fifth of the time.
    """
    place = Path(tempfile.mkdtemp(prefix="receiver-tests-", dir=MEMORY if in_memory() else None))
    place.chmod(0o711)
    yield place
    shutil.rmtree(place)


@pytest.fixture(scope="session")
def postgres_server(server_directory: Path) -> Iterator[EmbeddedPostgres]:
    """A running server without durability; `start()` returns the URL of its empty database."""
    server = EmbeddedPostgres(server_directory / "postgres", options=UNIT_DATABASE)
    server.start()
    yield server
    server.stop()


def url_of(server: EmbeddedPostgres, database: str) -> str:
    """Return the URL of one database of *server*."""
    return server.start().replace("@/receiver?", f"@/{database}?")


@pytest.fixture(scope="session")
def database_template(postgres_server: EmbeddedPostgres) -> str:
    """The name of a database with the whole schema, to copy."""
    from receiver.store.migrate import migrate  # noqa: PLC0415  tests without a database do not need it

    with psycopg.connect(postgres_server.start(), autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
    migrate(url_of(postgres_server, TEMPLATE))
    return TEMPLATE


@pytest.fixture
def database_url(postgres_server: EmbeddedPostgres, database_template: str) -> Iterator[str]:
    """The URL of a fresh database with the whole schema, gone after the test."""
    name = f"test_{secrets.token_hex(8)}"
    copy = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
    create = copy.format(sql.Identifier(name), sql.Identifier(database_template))
    drop = sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
    with psycopg.connect(postgres_server.start(), autocommit=True) as conn:
        conn.execute(create)
    yield url_of(postgres_server, name)
    # Only the superuser may end a vacuum that is at work there.
    with psycopg.connect(postgres_server.start().replace("//receiver@", "//postgres@"), autocommit=True) as conn:
        conn.execute(drop)


@pytest.fixture(scope="session")
def bucket_server(server_directory: Path) -> Iterator[EmbeddedStore]:
    """A running S3 server; `start()` returns its address."""
    server = EmbeddedStore(server_directory / "store")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def bucket_address(bucket_server: EmbeddedStore) -> StoreAddress:
    """Endpoint, bucket and key of the S3 server."""
    return bucket_server.start()


@pytest.fixture
def bucket_prefix() -> str:
    """A prefix that no other test uses; ends with a slash."""
    return f"{secrets.token_hex(8)}/"
