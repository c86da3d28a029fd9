"""
The pages that are made from the code: `python -m tools.documents` writes them, a test keeps them equal.

A page written by hand says why and how; what can be read from the code stands in these alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tools.documents import api, commands, coverage, metrics, providers, settings, states

ROOT: Final = Path(__file__).resolve().parent.parent.parent
DOCS: Final = ROOT / "docs"


def pages() -> dict[str, str]:
    """Return the text of each made page by its path below `docs/`."""
    return {
        "changelog.md": (ROOT / "CHANGELOG.md").read_text("utf-8"),
        "coverage.md": coverage.page(coverage.told(DOCS / "coverage.json")),
        "reference/api.md": api.page(),
        "reference/cli.md": commands.page(),
        "reference/metrics.md": metrics.page(ROOT / "receiver"),
        "reference/providers.md": providers.page(),
        "reference/settings.md": settings.page(),
        "reference/states.md": states.page(),
    }
