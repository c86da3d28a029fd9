"""The archived audio of a running service: list it, show it, bring it here."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from receiver.cli import api, download
from receiver.cli.download import Brought, Wanted
from receiver.cli.looking import AsJson, echo
from receiver.cli.tables import cell, clean, rows, size, span, state_cell, table
from receiver.core.errors import ReceiverError

app = typer.Typer(
    help=f"Archived audio of a running service; its API key is taken from {api.KEY_VARIABLE}.", no_args_is_help=True
)

#: Of an asset, in the order of the columns of a pipe.
COLUMNS: Final = ("id", "clip", "format", "state", "bytes", "seconds", "sha256", "s3_uri", "error")
#: Of an asset, in the order shown: name in the answer, name for people.
FACTS: Final = (
    ("id", "asset"),
    ("task", "task"),
    ("state", "state"),
    ("error", "error"),
    ("clip", "clip"),
    ("position", "position"),
    ("format", "format"),
    ("media_type", "type"),
    ("bytes", "bytes"),
    ("seconds", "length"),
    ("sha256", "sha-256"),
    ("verified", "verified by"),
    ("stored_at", "stored"),
    ("s3_uri", "in the bucket"),
    ("url", "url"),
    ("play_url", "url without a key"),
)


@app.command("list")
def listing(
    task: Annotated[str, typer.Option("--task", metavar="ID", help="The task's id")],
    *,
    as_json: AsJson = False,
    url: api.Url = api.DEFAULT_URL,
) -> None:
    """List the files of a task, wanted and stored; with --json the task as the API tells of it."""
    with api.connected(url) as service:
        answer = service.get(f"/v1/tasks/{quote(task, safe='')}")
    assets: Sequence[Mapping[str, Any]] = answer.document["assets"]
    if as_json:
        echo(answer)
    elif sys.stdout.isatty():
        Console(highlight=False).print(_table(assets))
    else:
        sys.stdout.write(rows([asset[name] for name in COLUMNS] for asset in assets))


@app.command()
def show(
    asset: Annotated[str, typer.Argument(metavar="ID", help="The asset's id")],
    *,
    as_json: AsJson = False,
    url: api.Url = api.DEFAULT_URL,
) -> None:
    """Show a file: its size, its hash, and where it is. Whoever has the URL without a key can play it."""
    with api.connected(url) as service:
        answer = service.get(f"/v1/assets/{quote(asset, safe='')}")
    facts = [(name, label) for name, label in FACTS if answer.document[name] is not None]
    if as_json:
        echo(answer)
    elif sys.stdout.isatty():
        grid = Table.grid(padding=(0, 2))
        for name, label in facts:
            value = answer.document[name]
            shown = {"bytes": size, "seconds": span}.get(name, str)(value)
            grid.add_row(cell(label, style="dim"), state_cell(value) if name == "state" else cell(shown))
        Console(highlight=False).print(grid)
    else:
        sys.stdout.write(rows((name, answer.document[name]) for name, _ in facts))


@app.command()
def get(
    assets: Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids of assets")] = None,
    *,
    task: Annotated[str | None, typer.Option("--task", metavar="ID", help="All files of this task")] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="PATH", help="Directory, made if need be; for one file also its name")
    ] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON document about the files")] = False,
    url: api.Url = api.DEFAULT_URL,
) -> None:
    """
    Bring files here; what was cut goes on where it ended, when the same command is given again.

    The bytes gather in <name>.part, and get their name when their SHA-256 is the one that the API tells.
    """
    if not assets and task is None:
        raise typer.BadParameter("name an asset, or a task with --task")
    with api.connected(url) as service:
        found, failures = _found(service, assets or (), task)
        brought = []
        with _progress() as begin:
            for wanted in _named(found, out):
                try:
                    brought.append(download.bring(service, wanted, begin(wanted)))
                except api.ServiceUnreachable:
                    raise
                except (api.Problem, ReceiverError) as exc:
                    failures[wanted.id] = exc
    _tell(brought, failures, as_json=as_json)


def _found(
    service: api.Client, ids: Sequence[str], task: str | None
) -> tuple[list[Mapping[str, Any]], dict[str, Exception]]:
    """Ask after every asset that is wanted; what cannot be had is told apart."""
    told: list[Mapping[str, Any]] = []
    failures: dict[str, Exception] = {}
    if task is not None:
        told += service.get(f"/v1/tasks/{quote(task, safe='')}").document["assets"]
        if not told:
            raise api.Problem(0, "no_files", f"task {task} has no files yet", ())
    for each in dict.fromkeys(ids):
        try:
            told.append(service.get(f"/v1/assets/{quote(each, safe='')}").document)
        except api.Problem as exc:
            failures[each] = exc
    unique = {asset["id"]: asset for asset in told}
    for asset in unique.values():
        if asset["state"] != "stored":
            why = f" ({asset['error']})" if asset["error"] else ""
            failures[asset["id"]] = api.Problem(0, "not_stored", f"this file is {asset['state']}{why}", ())
    return [asset for asset in unique.values() if asset["state"] == "stored"], failures


def _named(assets: Sequence[Mapping[str, Any]], out: Path) -> list[Wanted]:
    """Give each asset its file; two that the service names alike get their ids in the name."""
    names = Counter(download.name_of(asset) for asset in assets)
    one_file = len(assets) == 1 and out != Path() and not out.is_dir() and not str(out).endswith("/")
    found = []
    for asset in assets:
        name = download.name_of(asset)
        if names[name] > 1:
            name = f"{asset['task']}-{asset['position']}-{asset['id']}.{asset['format']}"
        target = out if one_file and out.suffix else out / name
        found.append(Wanted(id=asset["id"], size=asset["bytes"], sha256=asset["sha256"], target=target))
    return found


@contextmanager
def _progress() -> Iterator[Callable[[Wanted], Callable[[int], None]]]:
    """Yield what begins a line of progress on a terminal, and returns what moves it."""
    columns = (
        TextColumn("{task.description}", markup=False),
        *(BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()),
    )
    console = Console(stderr=True, highlight=False)
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as progress:

        def begin(wanted: Wanted) -> Callable[[int], None]:
            line = progress.add_task(clean(wanted.target.name), total=wanted.size)
            return lambda done: progress.update(line, completed=done)

        yield begin


def _tell(brought: Sequence[Brought], failures: Mapping[str, Exception], *, as_json: bool) -> None:
    """Say where the files are, and what failed; exit status 1 when something did."""
    if as_json:
        files = [_document(each) for each in brought]
        failed = [{"id": name, "error": str(exc)} for name, exc in failures.items()]
        sys.stdout.write(json.dumps({"files": files, "failed": failed}) + "\n")
    elif sys.stdout.isatty():
        for each in brought:
            Console(highlight=False).print(
                cell(each.wanted.target),
                cell(size(each.wanted.size), style="dim"),
                cell("sha-256 is right", style="green"),
            )
    else:
        sys.stdout.write(
            rows((each.wanted.id, each.wanted.target, each.wanted.size, each.wanted.sha256) for each in brought)
        )
    for name, exc in failures.items():
        code = getattr(exc, "code", type(exc).__name__)
        sys.stderr.write(f"receiver: {clean(code)}: asset {clean(name)}: {clean(str(exc).removeprefix(f'{code}: '))}\n")
    if failures:
        raise typer.Exit(1)


def _document(brought: Brought) -> dict[str, object]:
    wanted = brought.wanted
    return {
        "id": wanted.id,
        "path": str(wanted.target),
        "bytes": wanted.size,
        "sha256": wanted.sha256,
        "resumed_at": brought.resumed_at,
        "known": brought.known,
    }


def _table(assets: Sequence[Mapping[str, Any]]) -> Table:
    made = table(
        *("asset", "clip", "format", "state", "bytes", "length", "sha-256"),
        right=("bytes", "length"),
        fold=("clip", "sha-256"),
    )
    for asset in assets:
        made.add_row(
            *(cell(asset[name]) for name in ("id", "clip", "format")),
            state_cell(asset["state"]),
            *(cell(value) for value in (size(asset["bytes"]), span(asset["seconds"]))),
            cell(asset["sha256"] or asset["error"] or "", style="dim"),
        )
    return made
