import logging
from pathlib import Path

import pytest

from receiver.local.store import StoreAddress
from tests.flow.rig import Stage


@pytest.fixture
def stage(database_url: str, bucket_address: StoreAddress, bucket_prefix: str, tmp_path: Path) -> Stage:
    return Stage(database_url, bucket_address, bucket_prefix, tmp_path)


@pytest.fixture(autouse=True)
def _all_lines(caplog: pytest.LogCaptureFixture) -> None:
    """Let requests be told as in a service, whose level is info."""
    caplog.set_level(logging.INFO, logger="receiver.web.access")
