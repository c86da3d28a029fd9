"""
What the tests really drive on a deployment: routes, commands, settings, metrics.

`docs/coverage.json` names tests for each item. A test that is named there and has not shown at its end what
stands there of it fails. `make coverage-page` writes the file anew.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import httpx

CLAIMS = Path(__file__).resolve().parent.parent / "docs" / "coverage.json"
#: Names the file to which what was seen is added, a line a test; nothing is claimed then.
VARIABLE = "TESTS_EVIDENCE"

_OF_ACCOUNT = re.compile(r"(RECEIVER_ACCOUNTS__).+?(__[A-Z_]+)")
_SETTING = re.compile(r"(?:RECEIVER|KLING|COMETAPI|DEERAPI|KKIAI)_[A-Z0-9_]+")
_REQUESTS = re.compile(
    r'^receiver_http_requests_total\{method="(\w+)",route="([^"]+)",status="\d+"\} (\S+)$', re.MULTILINE
)
_SAMPLE = re.compile(r"^(receiver_\w+?)(?:\{| )", re.MULTILINE)
_SERIES = re.compile(r"_(?:total|bucket|sum|count)$")

_seen: set[tuple[str, str]] = set()


def command(arguments: Sequence[str]) -> None:
    """Note that `receiver <arguments>` ran."""
    for number in (1, 2):
        _seen.add(("command", " ".join(["receiver", *arguments[:number]])))


def settings(names: Iterable[str]) -> None:
    """Note what a running process has in its environment."""
    for name in names:
        if _SETTING.fullmatch(name):
            _seen.add(("setting", _OF_ACCOUNT.sub(r"\1NAME\2", name)))


def metrics(url: str) -> None:
    """Note the metrics of which the process at *url* shows a value; some are there because of earlier tests."""
    for name in _SAMPLE.findall(_scraped(url)):
        _seen.update((("metric", name), ("metric", _SERIES.sub("", name))))


def _requests(url: str) -> Counter[str]:
    """Return how often each route was asked for, as the process at *url* has counted."""
    counted: Counter[str] = Counter()
    for method, route, number in _REQUESTS.findall(_scraped(url)):
        counted[f"{method} {route}"] += int(float(number))
    return counted


def _scraped(url: str) -> str:
    return httpx.get(f"{url}/metrics", trust_env=False, timeout=20).raise_for_status().text


@contextmanager
def watched(url: str) -> Iterator[None]:
    """Note the routes that the process at *url* is asked for meanwhile."""
    before = _requests(url)
    yield
    for route, number in _requests(url).items():
        if number > before[route]:
            _seen.add(("route", route))


@contextmanager
def gathered(test: str) -> Iterator[None]:
    """Gather what *test* drives; at its end see that it is what stands in the document."""
    _seen.clear()
    yield
    if file := os.environ.get(VARIABLE):
        with Path(file).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({"test": test, "seen": sorted(_seen)}) + "\n")
        return
    missing = _claims().get(test, set()) - _seen
    assert not missing, f"docs/coverage.md names {test} for {sorted(missing)}, which it did not drive"


@cache
def _claims() -> Mapping[str, set[tuple[str, str]]]:
    found: dict[str, set[tuple[str, str]]] = {}
    if CLAIMS.exists():
        for kind, items in json.loads(CLAIMS.read_text("utf-8")).items():
            for item, tests in items.items():
                for test in tests:
                    found.setdefault(test, set()).add((kind, item))
    return found
