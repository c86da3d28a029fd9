"""The files of deploy/, read once, and what their expressions name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from receiver import telemetry

ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy"
#: What Prometheus and its client library give to every target.
GIVEN: Final = {"up": {"job", "instance"}, "process_resident_memory_bytes": {"job", "instance"}}
#: Labels that the scrape adds to each series.
SCRAPED: Final = {"job", "instance"}

_SERIES: Final = re.compile(r"\b(receiver_[a-z0-9_]+|up|process_[a-z0-9_]+)\b(?:\{([^}]*)\})?")
_LABEL: Final = re.compile(r"([a-z_]+)\s*(?:=~|!~|!=|=)")
_STRINGS: Final = re.compile(r'"[^"]*"')


def load(path: str) -> Any:
    return yaml.safe_load((DEPLOY / path).read_text("utf-8"))


def exported() -> dict[str, set[str]]:
    """Return the name of every series that a process may show, with its labels."""
    found = dict(GIVEN)
    for each in telemetry.DECLARED:
        labels = set(each.labels) | SCRAPED
        if each.kind == "histogram":
            found |= {f"{each.name}_{part}": labels for part in ("sum", "count")}
            found[f"{each.name}_bucket"] = labels | {"le"}
        else:
            found[each.name] = labels
    return found


def series_of(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Yield each series that an expression names, with the labels that it selects by."""
    # Braces within strings are no selectors.
    for name, selector in _SERIES.findall(_STRINGS.sub('""', expression)):
        yield name, set(_LABEL.findall(selector))


def misnamed(expression: str) -> list[str]:
    """Return what an expression names and no process shows."""
    known = exported()
    return [
        f"{name}{sorted(labels)}"
        for name, labels in series_of(expression)
        if name not in known or not labels <= known[name]
    ]
