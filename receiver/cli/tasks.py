"""Submit tasks to a running service and ask after them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer
from rich.console import Console
from rich.table import Table

from receiver.cli import api
from receiver.cli.tables import ABSENT, cell, clean, rows, size, span, state_cell, table

app = typer.Typer(
    help=f"Tasks of a running service; its API key is taken from {api.KEY_VARIABLE}.", no_args_is_help=True
)

AsJson = Annotated[bool, typer.Option("--json", help="Print exactly what the API answered")]

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

_FIELD: Final = re.compile(r"([^=:]+)(:=|=)(.*)", re.DOTALL)


@app.command()
def submit(
    account: Annotated[str, typer.Argument(help="Which configured account pays")],
    kind: Annotated[str, typer.Argument(help="What is made, such as text-to-audio")],
    fields: Annotated[
        list[str] | None, typer.Argument(metavar="NAME=TEXT|NAME:=JSON", help="What the provider needs")
    ] = None,
    *,
    reference: Annotated[str | None, typer.Option(help="Your own id; need not be unique")] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="NAME=TEXT", help="May be given again")] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="With the same key the same task is made only once")
    ] = None,
    as_json: AsJson = False,
    url: api.Url = api.DEFAULT_URL,
) -> None:
    """
    Submit one task; its id is printed once it is durable.

    Example: receiver tasks submit kling text-to-audio prompt='rain on a tin roof' duration:=5.0
    """
    document: dict[str, Any] = {"account": account, "kind": kind, "input": read_fields(fields or ())}
    if reference is not None:
        document["reference"] = reference
    if label:
        document["labels"] = read_labels(label)
    with api.connected(url) as service:
        answer = service.post("/v1/tasks", document, idempotency_key=idempotency_key)
    if as_json:
        echo(answer)
    elif sys.stdout.isatty():
        task = answer.document
        Console(highlight=False).print(
            cell(task["id"], style="bold"), state_cell(task["state"]), f"due {clean(task['due_at'])}"
        )
    else:
        sys.stdout.write(rows([[answer.document["id"]]]))


@app.command()
def show(
    task: Annotated[str, typer.Argument(metavar="ID", help="The task's id")],
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


@app.command("list")
def listing(
    *,
    state: Annotated[str | None, typer.Option(help="Only tasks in this state")] = None,
    account: Annotated[str | None, typer.Option(help="Only tasks of this account")] = None,
    limit: Annotated[int, typer.Option(help="Tasks of one page")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Go on where the last page ended")] = None,
    as_json: AsJson = False,
    url: api.Url = api.DEFAULT_URL,
) -> None:
    """List tasks, the newest first."""
    query = {"state": state, "account": account, "limit": limit, "cursor": cursor}
    with api.connected(url) as service:
        answer = service.get("/v1/tasks", query)
    if as_json:
        echo(answer)
        return
    tasks: Sequence[Mapping[str, Any]] = answer.document["tasks"]
    if sys.stdout.isatty():
        Console(highlight=False).print(_list_table(tasks))
    else:
        sys.stdout.write(rows(_list_line(task) for task in tasks))
    if (more := answer.document["next_cursor"]) is not None:
        sys.stderr.write(f"there may be more: --cursor {clean(more)}\n")


def read_fields(given: Iterable[str]) -> dict[str, Any]:
    """
    Read `name=text` and `name:=json`.

    Raises:
        typer.BadParameter: One is neither, holds no JSON, or names a field again.
    """
    found: dict[str, Any] = {}
    for each in given:
        match = _FIELD.fullmatch(each)
        if match is None:
            raise typer.BadParameter(f"{each!r} is neither name=text nor name:=json")
        name, sign, text = match.groups()
        if name in found:
            raise typer.BadParameter(f"{name!r} is given twice")
        found[name] = text if sign == "=" else _read_json(name, text)
    return found


def read_labels(given: Iterable[str]) -> dict[str, str]:
    """
    Read `name=text`.

    Raises:
        typer.BadParameter: One is not that, or names a label again.
    """
    found: dict[str, str] = {}
    for each in given:
        name, sign, text = each.partition("=")
        if not (name and sign):
            raise typer.BadParameter(f"{each!r} is not name=text", param_hint="--label")
        if name in found:
            raise typer.BadParameter(f"{name!r} is given twice", param_hint="--label")
        found[name] = text
    return found


def _read_json(name: str, text: str) -> object:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise typer.BadParameter(f"what follows {name}:= is no JSON; for text write {name}=…") from exc


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


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
            cell(_files(task)),
            cell("" if slack is None else span(slack)),
            cell(f"{task['created_at'][:SECONDS]}Z", style="dim"),
            cell(task["reference"] or task["reason"] or ""),
        )
    return made


def _list_line(task: Mapping[str, Any]) -> Sequence[object]:
    return (
        *(task[name] for name in ("id", "state", "account", "kind")),
        _files(task),
        *(task[name] for name in ("slack_seconds", "created_at", "reference", "reason")),
    )


def _files(task: Mapping[str, Any]) -> str:
    """Say how many files are stored, of how many that are known."""
    stored = sum(asset["state"] == "stored" for asset in task["assets"])
    return f"{stored}/{len(task['assets'])}" if task["assets"] else ABSENT
