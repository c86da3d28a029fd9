"""Pages that are made from the code are as the code is."""

from __future__ import annotations

import re

import pytest

from receiver.settings import variables
from tests.docs import reading
from tools.documents import pages

MADE = pages()


@pytest.mark.parametrize("name", sorted(MADE))
def test_making_a_page_again_changes_nothing(name: str) -> None:
    # `make docs-generate` mends it.
    assert (reading.DOCS / name).read_text("utf-8") == MADE[name]


def test_the_example_the_page_and_the_code_name_the_same_settings() -> None:
    example = set(re.findall(r"^# ([A-Z][A-Z0-9_]+)=", (reading.ROOT / ".env.example").read_text(), re.MULTILINE))
    page = set(re.findall(r"^\| `([A-Z][A-Z0-9_]+)` \|", MADE["reference/settings.md"], re.MULTILINE))
    assert {name.replace("__STUDIO__", "__NAME__") for name in example} == set(variables("NAME"))
    assert page - {"RECEIVER_URL", "RECEIVER_API_KEY"} == set(variables("NAME"))


def test_every_page_of_the_site_is_in_its_index() -> None:
    index = (reading.ROOT / "mkdocs.yml").read_text("utf-8")
    assert [page.name for page in reading.DOCS.rglob("*.md") if str(page.relative_to(reading.DOCS)) not in index] == []
