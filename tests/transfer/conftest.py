from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.transfer.stores import Rclone, start_rclone


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rclone]:
    server = start_rclone(tmp_path_factory.mktemp("rclone"))
    yield server
    server.stop()


@pytest.fixture
def doomed_rclone(tmp_path: Path) -> Iterator[Rclone]:
    """One that a test may kill."""
    server = start_rclone(tmp_path / "rclone")
    yield server
    server.stop()
