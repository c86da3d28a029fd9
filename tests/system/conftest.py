"""A deployment for each test, stopped cleanly and judged at its end."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.deployment import Deployment, Stopwatch
from tests.system.judging import require_consistent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.system)
            item.add_marker(pytest.mark.timeout(400))


@pytest.fixture
def watch() -> Stopwatch:
    return Stopwatch()


@pytest.fixture
def deployment() -> Iterator[Deployment]:
    """A sandbox, and services as the test starts them; after the test their work is whole and all is gone."""
    place = Path(tempfile.mkdtemp(prefix="receiver-system-"))
    place.chmod(0o711)  # the database may run as another user
    made = Deployment(directory=place / "run")
    try:
        yield made
        if made.services and made.service.program is not None and made.service.program.lives():
            require_consistent(made)
        made.close()
    finally:
        made.discard()
        if keep := os.environ.get("SYSTEM_TESTS_KEEP"):
            shutil.copytree(made.logs, Path(keep) / place.name)
        shutil.rmtree(place)
