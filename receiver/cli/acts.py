"""What a person may do to a task of a running service."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer
from rich.console import Console

from receiver.cli import api, completing, looking, orders
from receiver.cli.looking import AsJson, TaskId
from receiver.cli.tables import cell, clean, rows, state_cell

#: Of a task after an act, for a pipe.
_TOLD: Final = ("id", "state", "reason", "due_at")


def cancel(task: TaskId, *, as_json: AsJson = False, url: api.Url = api.DEFAULT_URL) -> None:
    """Cancel a task that was never sent."""
    _act(task, "cancel", {}, as_json=as_json, url=url)


def retry(
    task: TaskId,
    *,
    may_charge_twice: Annotated[
        bool, typer.Option("--may-charge-twice", help="Send again where the provider may charge again")
    ] = False,
    as_json: AsJson = False,
    url: api.Url = api.DEFAULT_URL,
) -> None:
    """Try again what has failed: the send of a task, its media, or its dead jobs."""
    _act(task, "retry", {"may_charge_twice": may_charge_twice}, as_json=as_json, url=url)


def refresh(task: TaskId, *, as_json: AsJson = False, url: api.Url = api.DEFAULT_URL) -> None:
    """Ask the provider after a task now; an archived one that has grown is archived again."""
    _act(task, "refresh", {}, as_json=as_json, url=url)


def adopt(
    account: Annotated[str, typer.Argument(help="The account that made it", autocompletion=completing.accounts)],
    kind: Annotated[str, typer.Argument(help="What was made, such as text-to-audio", autocompletion=completing.kinds)],
    provider_task_id: Annotated[str, typer.Argument(metavar="PROVIDER_TASK_ID", help="The provider's own id")],
    *,
    reference: Annotated[str | None, typer.Option(help="Your own id; need not be unique")] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="NAME=TEXT", help="May be given again")] = None,
    as_json: AsJson = False,
    url: api.Url = api.DEFAULT_URL,
) -> None:
    """Archive a task that was made elsewhere; its id here is printed."""
    document: dict[str, Any] = {"account": account, "kind": kind, "provider_task_id": provider_task_id}
    if reference is not None:
        document["reference"] = reference
    if label:
        document["labels"] = orders.read_labels(label)
    with api.connected(url) as service:
        answer = service.post("/v1/tasks:adopt", document)
    if as_json:
        looking.echo(answer)
    elif sys.stdout.isatty():
        _print(answer.document)
    else:
        sys.stdout.write(rows([[answer.document["id"]]]))


def events(task: TaskId, *, as_json: AsJson = False, url: api.Url = api.DEFAULT_URL) -> None:
    """Tell the whole story of a task, the oldest first."""
    with api.connected(url) as service:
        answer = service.get(f"/v1/tasks/{quote(task, safe='')}/events")
    story = answer.document["events"]
    if as_json:
        looking.echo(answer)
    elif sys.stdout.isatty():
        Console(highlight=False).print(looking.story_table(story))
    else:
        sys.stdout.write(rows((event["at"], event["type"], looking.data_of(event)) for event in story))


def _act(task: str, act: str, document: Mapping[str, object], *, as_json: bool, url: str) -> None:
    with api.connected(url) as service:
        answer = service.post(f"/v1/tasks/{quote(task, safe='')}/{act}", document)
    if as_json:
        looking.echo(answer)
    elif sys.stdout.isatty():
        _print(answer.document)
    else:
        sys.stdout.write(rows([[answer.document[name] for name in _TOLD]]))


def _print(task: Mapping[str, Any]) -> None:
    rest = f"due {clean(task['due_at'])}" if task["due_at"] is not None else clean(task["reason"])
    Console(highlight=False).print(cell(task["id"], style="bold"), state_cell(task["state"]), rest, markup=False)
