"""A running service for the commands that speak to one."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from receiver.local.store import StoreAddress
from tests import evidence
from tests.cli.rig import Demo, start_demo
from tests.flow.rig import Stage


@pytest.fixture(scope="session")
def demo_parent() -> Iterator[Path]:
    """Passable for the database's user when the tests run as root."""
    place = Path(tempfile.mkdtemp(prefix="receiver-cli-"))
    place.chmod(0o711)
    yield place
    shutil.rmtree(place)


@pytest.fixture
def demo_directory(demo_parent: Path) -> Path:
    """Of the test's own demo."""
    return Path(tempfile.mkdtemp(dir=demo_parent))


@pytest.fixture
def start(demo_directory: Path) -> Iterator[Callable[..., Demo]]:
    """Start a demo in the test's own directory."""
    evidence.command(["demo"])
    with ExitStack() as stack:
        yield lambda *options: stack.enter_context(contextmanager(start_demo)(demo_directory, *options))


@pytest.fixture(scope="session")
def kept(demo_parent: Path) -> Iterator[Demo]:
    """A service with three archived tasks, one of them for a video, and its sandbox."""
    with contextmanager(start_demo)(Path(tempfile.mkdtemp(dir=demo_parent)), "--keep", "--tasks", "3") as demo:
        demo.read_until("Ctrl-C stops")
        yield demo
        assert demo.end(signal.SIGTERM) == 0


@pytest.fixture
def stage(database_url: str, bucket_address: StoreAddress, bucket_prefix: str, tmp_path: Path) -> Stage:
    """Services on a database and a bucket of the test's own, and a scripted provider."""
    return Stage(database_url, bucket_address, bucket_prefix, tmp_path)
