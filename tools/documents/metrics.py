"""The page of metrics and log lines, from their declarations and calls."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from receiver.telemetry import DECLARED
from tools.documents.markdown import MADE, code, plain, table

_LEVELS: Final = ("debug", "info", "warning", "error", "exception", "critical")
_SERVED: Final = {"both": "web and worker"}


def page(package: Path) -> str:
    """Return the page; log lines are read from the modules of *package*."""
    return "".join(
        [
            f"{MADE}\n\n# Metrics and logs\n\n## Metrics\n\n",
            "Web serves them at `/metrics` on `RECEIVER_PORT`, a worker at `/metrics` on `RECEIVER_WORKER_PORT`, in "
            "the text format of Prometheus and without a key: keep both ports inside. Labels are bounded; none holds an id "
            "or a URL. Counters and histograms count what one process did since it started, so sum over processes. Gauges "
            "of the database are the same from every web: take the `max`, not the `sum`. ",
            "What to alarm on, and what to do then: [operating](../operating.md).\n\n",
            table(
                ("metric", "kind", "labels", "served by", "meaning"),
                (
                    (
                        code(each.name),
                        each.kind,
                        " ".join(map(code, each.labels)),
                        _SERVED.get(each.role, each.role),
                        plain(each.help),
                    )
                    for each in sorted(DECLARED, key=lambda each: each.name)
                ),
            ),
            "## Logs\n\n",
            "Lines go to stderr, as `RECEIVER_LOG_FORMAT` says for people or as one JSON object a line. An event is a "
            "constant name with fields beside it; lines of a request carry its `request_id`, lines of a job its "
            "`job_id` and `task_id`. Keys, tokens and the queries of signed URLs are never written. Unknown errors are written "
            "once, with their traceback.\n\n",
            table(("event", "level", "fields"), _events(package)),
        ]
    )


def _events(package: Path) -> Iterator[tuple[str, str, str]]:
    found: dict[tuple[str, str], set[str]] = {}
    for file in sorted(package.rglob("*.py")):
        if "sandbox" in file.relative_to(package).parts:
            continue
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="log"), attr=level),
                    args=[ast.Constant(value=str(event)), *_],
                    keywords=keywords,
                ) if level in _LEVELS:
                    fields = found.setdefault((event, level), set())
                    fields |= {each.arg for each in keywords if each.arg is not None}
    for (event, level), fields in sorted(found.items()):
        yield code(event), level, " ".join(map(code, sorted(fields)))
