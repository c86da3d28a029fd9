"""The accounts of a running service: how they stand, and whether their submits go on."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer
from rich.console import Console
from rich.table import Table

from receiver.cli import api
from receiver.cli.tables import ABSENT, cell, rows, table
from receiver.cli.tasks import AsJson, echo

app = typer.Typer(
    help=f"Accounts of a running service; its API key is taken from {api.KEY_VARIABLE}.", no_args_is_help=True
)

Account = Annotated[str, typer.Argument(metavar="ID", help="The account's name")]

#: Of an account, in the order of the columns of a pipe.
COLUMNS: Final = (
    *("id", "dialect", "paused_reason", "in_flight", "concurrency", "waiting"),
    *("tasks_today", "daily_tasks", "units_today", "daily_units", "paused_at", "paused_detail"),
)


@app.command("list")
def listing(*, as_json: AsJson = False, url: api.Url = api.DEFAULT_URL) -> None:
    """List the accounts: slots taken, tasks that wait, what today (UTC) has cost, and why one is paused."""
    with api.connected(url) as service:
        answer = service.get("/v1/accounts")
    _tell(answer, answer.document["accounts"], as_json=as_json)


@app.command()
def pause(account: Account, *, as_json: AsJson = False, url: api.Url = api.DEFAULT_URL) -> None:
    """Let submits wait until `resume`; queries and archiving go on."""
    _change(account, "pause", as_json=as_json, url=url)


@app.command()
def resume(account: Account, *, as_json: AsJson = False, url: api.Url = api.DEFAULT_URL) -> None:
    """Let submits go on, the longest waiting first."""
    _change(account, "resume", as_json=as_json, url=url)


def _change(account: str, act: str, *, as_json: bool, url: str) -> None:
    with api.connected(url) as service:
        answer = service.post(f"/v1/accounts/{quote(account, safe='')}/{act}", {})
    _tell(answer, [answer.document], as_json=as_json)


def _tell(answer: api.Answer, accounts: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    if as_json:
        echo(answer)
    elif sys.stdout.isatty():
        Console(highlight=False).print(_table(accounts))
    else:
        sys.stdout.write(rows([each[name] for name in COLUMNS] for each in accounts))


def _table(accounts: Sequence[Mapping[str, Any]]) -> Table:
    made = table(
        *("account", "dialect", "submits", "slots", "waiting", "tasks today", "units today", ""),
        right=("slots", "waiting", "tasks today", "units today"),
        fold=("dialect", "submits", ""),
    )
    for each in accounts:
        paused = each["paused"]
        made.add_row(
            *(cell(each[name]) for name in ("id", "dialect")),
            cell(each["paused_reason"], style="yellow") if paused else cell("go on", style="green"),
            cell(f"{each['in_flight']}/{each['concurrency']}"),
            cell(each["waiting"]),
            cell(_of(each["tasks_today"], each["daily_tasks"])),
            cell(_of(each["units_today"], each["daily_units"])),
            cell(each["paused_detail"] or "", style="dim"),
        )
    return made


def _of(amount: object, limit: object) -> str:
    return f"{amount}/{ABSENT if limit is None else limit}"
