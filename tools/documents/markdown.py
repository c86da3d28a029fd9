"""Tables and text in Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Final

#: Stands at the head of each made page.
MADE: Final = "<!-- Made by `make docs-generate` from the code; changes here are lost. -->"


def code(text: object) -> str:
    """Return *text* as code; nothing for nothing."""
    return f"`{text}`" if text not in (None, "") else ""


def value(given: object) -> str:
    """Return a value as code: text as it is, everything else as JSON."""
    return code(given if isinstance(given, str) else json.dumps(given, ensure_ascii=False))


def cell(text: object) -> str:
    """Return *text* so that it is one cell of a table."""
    return " ".join(str(text).split()).replace("|", "\\|")


def plain(text: str) -> str:
    """Return prose in which no angle bracket stands for markup; code keeps its own."""
    parts = text.split("`")
    parts[::2] = [part.replace("<", "&lt;") for part in parts[::2]]
    return "`".join(parts)


def table(heads: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """Return a table with a blank line after it, without columns that are empty; nothing when it has no lines."""
    rows = [[cell(each) for each in line] for line in lines]
    kept = [place for place in range(len(heads)) if any(row[place] for row in rows)]
    if not rows:
        return ""
    shown = [[heads[place] for place in kept], ["---"] * len(kept), *([row[place] for place in kept] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in shown) + "\n"
