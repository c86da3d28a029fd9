"""Ask a running service after tasks."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer
from rich.console import Console
from rich.table import Table

from receiver.cli import api, completing, orders
from receiver.cli.tables import cell, clean, files_of, rows, size, span, state_cell, table

AsJson = Annotated[bool, typer.Option("--json", help="Print exactly what the API answered")]

TaskId = Annotated[str, typer.Argument(metavar="ID", help="The task's id")]

#: Of a task, in the order shown: name in the answer, name for people.
FACTS: Final = (
    ("id", "task"),
    ("state", "state"),
    ("reason", "reason"),
    ("detail", "detail"),
    ("attention", "attention"),
    ("account", "account"),
    ("kind", "kind"),
    ("provider_task_id", "provider's id"),
    ("trust", "trust"),
    ("units", "units"),
    ("reference", "reference"),
    ("labels", "labels"),
    ("input", "input"),
    ("created_at", "created"),
    ("sent_at", "sent"),
    ("due_at", "due"),
    ("slack_seconds", "slack"),
    ("ended_at", "ended"),
)

#: Characters of a time without its fraction.
SECONDS: Final = len("2026-01-01T00:00:00")
#: Tasks of one page, at most.
LARGEST_PAGE: Final = 200

_SPAN: Final = re.compile(r"(-?\d{1,9})([smhd]?)", re.ASCII)
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


States = Annotated[
    list[str] | None,
    typer.Option(help="Only tasks in this state; may be given again", autocompletion=completing.states),
]
Account = Annotated[str | None, typer.Option(help="Only tasks of this account", autocompletion=completing.accounts)]
Kind = Annotated[str | None, typer.Option(help="Only tasks of this kind", autocompletion=completing.kinds)]
Labels = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="NAME=TEXT", help="Only tasks with this label; given again, with all of them"),
]
Reference = Annotated[str | None, typer.Option(help="Only tasks with this id of yours")]
SlackBelow = Annotated[
    str | None, typer.Option(metavar="TIME", help="Only open tasks with less time left, such as 90s, 30m, 2h, 1d")
]
Attention = Annotated[
    str | None, typer.Option(help="Only tasks at which a person must look for this reason, or for `any`")
]
After = Annotated[
    str | None, typer.Option(metavar="TIME", help="Only tasks made then or later, such as 2026-01-31T12:00:00Z")
]
Before = Annotated[str | None, typer.Option(metavar="TIME", help="Only tasks made before then")]
Cursor = Annotated[str | None, typer.Option(help="Go on where the last page ended, with the same filters")]


def show(
    task: TaskId,
    *,
    as_json: AsJson = False,
    url: api.Url = api.DEFAULT_URL,
) -> None:
    """Show a task: where it stands, its files, and all that happened to it."""
    with api.connected(url) as service:
        answer = service.get(f"/v1/tasks/{quote(task, safe='')}")
    if as_json:
        echo(answer)
    elif sys.stdout.isatty():
        _print_task(answer.document)
    else:
        sys.stdout.write(rows(_task_lines(answer.document)))


def listing(
    *,
    state: States = None,
    account: Account = None,
    kind: Kind = None,
    label: Labels = None,
    reference: Reference = None,
    slack_below: SlackBelow = None,
    attention: Attention = None,
    created_after: After = None,
    created_before: Before = None,
    limit: Annotated[int, typer.Option(help="Tasks of one page, at most 200")] = 50,
    cursor: Cursor = None,
    every: Annotated[bool, typer.Option("--all", help="All pages")] = False,
    as_json: AsJson = False,
    url: api.Url = api.DEFAULT_URL,
) -> None:
    """List tasks, the newest first; of several filters all must fit."""
    query: dict[str, str | int | Sequence[str] | None] = {
        "state": state,
        "account": account,
        "kind": kind,
        "label": [f"{name}:{value}" for name, value in orders.read_labels(label or ()).items()],
        "reference": reference,
        "slack_below": None if slack_below is None else read_span(slack_below),
        "attention": attention,
        "created_after": created_after,
        "created_before": created_before,
        "limit": LARGEST_PAGE if every else limit,
        "cursor": cursor,
    }
    with api.connected(url) as service:
        pages = _pages(service, query) if every else iter([service.get("/v1/tasks", query)])
        if as_json:
            _print_json(pages, whole=every)
        else:
            _print_pages(pages, whole=every)


def read_span(text: str) -> int:
    """
    Read a time span such as 90, 90s, 30m, 2h or 1d, in seconds.

    Raises:
        typer.BadParameter: It is none.
    """
    match = _SPAN.fullmatch(text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is no time span such as 90s, 30m, 2h or 1d", param_hint="--slack-below")
    return int(match[1]) * _SECONDS[match[2]]


def _pages(service: api.Client, query: Mapping[str, str | int | Sequence[str] | None]) -> Iterator[api.Answer]:
    cursor = query["cursor"]
    while True:
        answer = service.get("/v1/tasks", {**query, "cursor": cursor})
        yield answer
        cursor = answer.document["next_cursor"]
        if cursor is None:
            return


def _print_json(pages: Iterator[api.Answer], *, whole: bool) -> None:
    """Print a page as it came, or all pages as if they were one, written as they come."""
    if not whole:
        echo(next(pages))
        return
    before = '{"tasks": ['
    for page in pages:
        for task in page.document["tasks"]:
            sys.stdout.write(before + json.dumps(task, ensure_ascii=False))
            before = ",\n"
    sys.stdout.write(("" if before.startswith(",") else before) + '], "next_cursor": null}\n')


def _print_pages(pages: Iterator[api.Answer], *, whole: bool) -> None:
    more = None
    for page in pages:
        tasks: Sequence[Mapping[str, Any]] = page.document["tasks"]
        if sys.stdout.isatty():
            Console(highlight=False).print(_list_table(tasks))
        else:
            sys.stdout.write(rows(_list_line(task) for task in tasks))
        more = page.document["next_cursor"]
    if more is not None and not whole:
        sys.stderr.write(f"there are more: --cursor {clean(more)}, or --all\n")


def echo(answer: api.Answer) -> None:
    """Print exactly what the API answered."""
    sys.stdout.write(answer.text + "\n")


def _fact(task: Mapping[str, Any], name: str) -> object:
    value = task[name]
    if name == "slack_seconds" and value is not None:
        return span(value)
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False) if value else None
    return value


def _print_task(task: Mapping[str, Any]) -> None:
    console = Console(highlight=False)
    facts = Table.grid(padding=(0, 2))
    for name, label in FACTS:
        if (value := _fact(task, name)) is not None:
            facts.add_row(cell(label, style="dim"), state_cell(value) if name == "state" else cell(value))
    console.print(facts)
    if task["assets"]:
        files = table(
            *("asset", "clip", "format", "state", "bytes", "length", "sha-256"),
            right=("bytes", "length"),
            fold=("clip", "sha-256"),
        )
        for asset in task["assets"]:
            files.add_row(
                *(cell(asset[name]) for name in ("id", "clip", "format")),
                state_cell(asset["state"]),
                *(cell(value) for value in (size(asset["bytes"]), span(asset["seconds"]))),
                cell(f"{asset['sha256'][:16]}..." if asset["sha256"] else asset["error"], style="dim"),
            )
        console.print(files)
    console.print(story_table(task["events"]))


def story_table(events: Iterable[Mapping[str, Any]]) -> Table:
    """Return the events of a task as a table."""
    story = table("at", "event", "", fold=("",))
    for event in events:
        story.add_row(cell(event["at"], style="dim"), cell(event["type"]), cell(data_of(event), style="dim"))
    return story


def data_of(event: Mapping[str, Any]) -> str:
    """Return what an event says beside its type, on one line."""
    texts = (value if isinstance(value, str) else json.dumps(value) for value in event["data"].values())
    return " ".join(f"{name}={text}" for name, text in zip(event["data"], texts, strict=True))


def _task_lines(task: Mapping[str, Any]) -> Iterable[Sequence[object]]:
    for name, _ in FACTS:
        if (value := _fact(task, name)) is not None:
            yield name, task[name] if name == "slack_seconds" else value
    for asset in task["assets"]:
        names = ("id", "clip", "format", "state", "bytes", "sha256", "s3_uri")
        yield "asset", *(asset[name] for name in names)
    for event in task["events"]:
        yield "event", event["at"], event["type"], data_of(event)


def _list_table(tasks: Sequence[Mapping[str, Any]]) -> Table:
    made = table(
        *("task", "state", "account", "kind", "files", "slack", "created", "reference"),
        right=("files", "slack"),
        fold=("account", "kind", "created", "reference"),
    )
    for task in tasks:
        slack = task["slack_seconds"]
        made.add_row(
            cell(task["id"]),
            state_cell(task["state"]),
            *(cell(task[name]) for name in ("account", "kind")),
            cell(files_of(task)),
            cell("" if slack is None else span(slack)),
            cell(f"{task['created_at'][:SECONDS]}Z", style="dim"),
            cell(task["reference"] or task["reason"] or ""),
        )
    return made


def _list_line(task: Mapping[str, Any]) -> Sequence[object]:
    return (
        *(task[name] for name in ("id", "state", "account", "kind")),
        files_of(task),
        *(task[name] for name in ("slack_seconds", "created_at", "reference", "reason")),
    )
