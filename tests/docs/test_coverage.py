"""Everything that is served, told or read was driven by a test that still exists."""

from __future__ import annotations

import re

import pytest

from tests.docs import reading
from tools.documents import coverage

TOLD = coverage.told(reading.DOCS / "coverage.json")
TESTS = sorted({test for items in TOLD.values() for tests in items.values() for test in tests})


@pytest.mark.parametrize("kind", sorted(coverage.items()))
def test_each_item_has_a_test_and_nothing_else_is_named(kind: str) -> None:
    # For a new one: drive it in tests/system/test_surface.py, then `make coverage-page`.
    assert [item for item in coverage.items()[kind] if not TOLD[kind].get(item)] == []
    assert sorted(TOLD[kind].keys() - set(coverage.items()[kind])) == []


@pytest.mark.parametrize("test", TESTS)
def test_each_test_that_is_named_exists(test: str) -> None:
    # What it drives is seen when it runs: `tests/evidence.py`.
    file, _, name = test.partition("::")
    assert re.search(rf"^def {name.partition('[')[0]}\(", (reading.ROOT / file).read_text("utf-8"), re.MULTILINE)
