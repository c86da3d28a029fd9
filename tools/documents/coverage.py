"""
The page that names, for each route, command, setting and metric, the tests that ran it on a real deployment.

The evidence is `docs/coverage.json`, which `make coverage-page` writes from what was seen while the tests ran.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import typer

from receiver.cli.api import KEY_VARIABLE, URL_VARIABLE
from receiver.cli.main import app
from receiver.settings import is_secret, variables
from receiver.telemetry import DECLARED
from receiver.web.operations import OPERATIONS
from tools.documents.commands import tree
from tools.documents.markdown import MADE, code, table

#: By kind and item: the tests.
Told = Mapping[str, Mapping[str, list[str]]]

_TITLES: Final = {"route": "Routes", "command": "Commands", "setting": "Settings", "metric": "Metrics"}
#: In the place of an account's name.
ACCOUNT: Final = "NAME"


def items() -> dict[str, list[str]]:
    """Return all that must have been tried, by kind."""
    root: Any = typer.main.get_command(app)
    settings = variables(ACCOUNT)
    return {
        "route": [f"{each.method} {each.path}" for each in OPERATIONS],
        "command": [name for name, _ in tree(root)],
        "setting": [
            *settings,
            *(f"{name}_FILE" for name in settings if is_secret(name) and f"{name}_FILE" not in settings),
            *(URL_VARIABLE, KEY_VARIABLE),
        ],
        "metric": [each.name for each in DECLARED],
    }


def told(file: Path) -> Told:
    """Read the evidence; nothing where there is none yet."""
    found: Told = json.loads(file.read_text("utf-8")) if file.exists() else {}
    return found


def page(evidence: Told) -> str:
    """Return the page."""
    return "".join(
        [
            f"{MADE}\n\n# Coverage\n\n",
            "Each route, command, setting and metric, with tests that ran it on a real deployment: web, worker, "
            "PostgreSQL and S3 server as separate processes, with the release's defaults, and the sandbox as the "
            "provider. A route counts when web itself counted a request for it, a command when its process was started, a "
            "setting when a running process had it in its environment, a metric when a scrape showed a value of it. "
            "A line without a test fails the tests, and so does a test that no longer does what stands here.\n\n",
            *(part for kind, names in items().items() for part in _kind(kind, names, evidence.get(kind, {}))),
        ]
    )


def _kind(kind: str, names: list[str], evidence: Mapping[str, list[str]]) -> Iterator[str]:
    yield f"## {_TITLES[kind]}\n\n"
    yield table((kind, "tests"), ((code(name), "<br>".join(map(code, evidence.get(name, ())))) for name in names))
