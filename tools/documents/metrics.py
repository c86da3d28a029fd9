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
            "What happens to a task is a line as well as an event of its story: those below, and `task.` or `asset.` with the "
            "state that it came to. They are warnings where a person has to look, or where media were lost.\n\n",
            table(("event", "level", "fields"), _events(package)),
        ]
    )


def _events(package: Path) -> Iterator[tuple[str, str, str]]:
    found: dict[tuple[str, str], set[str]] = {}
    for file in sorted(package.rglob("*.py")):
        if "sandbox" in file.relative_to(package).parts:
            continue
        nodes = list(ast.walk(ast.parse(file.read_text("utf-8"))))
        silent = {inner for node in nodes if _is_silent(node) for inner in ast.walk(node)}
        for event, level, fields in (line for node in nodes if node not in silent for line in _line(node)):
            found.setdefault((event, level), set()).update(fields)
    for (event, level), fields in sorted(found.items()):
        yield code(event), level, " ".join(map(code, sorted(fields)))


def _is_silent(node: ast.AST) -> bool:
    """Say whether *node* adds events to a story by itself, without lines."""
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="events"), attr="add")):
            return True
    return False


def _line(node: ast.AST) -> Iterator[tuple[str, str, set[str]]]:
    """Yield the event, level and fields of a line that *node* writes: `log.info("…")`, also put off, or an event."""
    match node:
        case (
            ast.Call(
                func=ast.Attribute(value=ast.Name(id="log"), attr=level),
                args=[ast.Constant(value=str(event)), *_],
                keywords=named,
            )
            | ast.Call(
                func=ast.Name(id="partial"),
                args=[ast.Attribute(value=ast.Name(id="log"), attr=level), ast.Constant(value=str(event)), *_],
                keywords=named,
            )
        ) if level in _LEVELS:
            yield event, level, {each.arg for each in named if each.arg is not None}
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id="log"), attr="log"),
            args=[_, ast.IfExp(body=ast.Constant(value=str(one)), orelse=ast.Constant(value=str(other))), *_],
            keywords=named,
        ):
            for event in (one, other):
                yield event, "by its status", {each.arg for each in named if each.arg is not None}
        case ast.Call(func=ast.Name(id="Event"), args=[_, ast.Constant(value=str(event)), *told]):
            keys = [key for each in told if isinstance(each, ast.Dict) for key in each.keys]
            fields = {str(key.value) for key in keys if isinstance(key, ast.Constant)}
            yield event, "info or warning", {"task_id", "account", *fields}
