"""The accounts of a running service: how they stand, and whether their submits go on."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer
from rich.console import Console
from rich.table import Table

from receiver.cli import api, completing
from receiver.cli.looking import AsJson, echo
from receiver.cli.tables import ABSENT, cell, rows, span, table

app = typer.Typer(
    help=f"Accounts of a running service; its API key is taken from {api.KEY_VARIABLE}.", no_args_is_help=True
)

Account = Annotated[str, typer.Argument(metavar="ID", help="The account's name", autocompletion=completing.accounts)]

#: Of an account, in the order of the columns of a pipe.
COLUMNS: Final = (
    *("id", "dialect", "paused_reason", "in_flight", "concurrency", "waiting"),
    *("tasks_today", "daily_tasks", "units_today", "daily_units", "paused_at", "paused_detail"),
)


@app.command("list")
def listing(*, as_json: AsJson = False, url: api.Url = api.DEFAULT_URL) -> None:
    """List the accounts: slots taken, what today (UTC) has cost, how callbacks came, and why one is paused."""
    with api.connected(url) as service:
        answer = service.get("/v1/accounts")
    _tell(answer, answer.document["accounts"], as_json=as_json)


@app.command()
def show(account: Account, *, as_json: AsJson = False, url: api.Url = api.DEFAULT_URL) -> None:
    """Show an account: its limits, what the last days have cost, and how its callbacks came."""
    with api.connected(url) as service:
        answer = service.get(f"/v1/accounts/{quote(account, safe='')}")
    if as_json:
        echo(answer)
    elif sys.stdout.isatty():
        _print(answer.document)
    else:
        sys.stdout.write(rows(_lines(answer.document)))


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
        *("account", "dialect", "submits", "slots", "waiting", "tasks today", "units today", "lost", "signed", ""),
        right=("slots", "waiting", "tasks today", "units today", "lost"),
        fold=("dialect", "submits", ""),
    )
    for each in accounts:
        paused, weather = each["paused"], each["callbacks"]
        made.add_row(
            *(cell(each[name]) for name in ("id", "dialect")),
            cell(each["paused_reason"], style="yellow") if paused else cell("go on", style="green"),
            cell(f"{each['in_flight']}/{each['concurrency']}"),
            cell(each["waiting"]),
            cell(_of(each["tasks_today"], each["daily_tasks"])),
            cell(_of(each["units_today"], each["daily_units"])),
            cell(f"{weather['lost']}/{weather['expected']}", style="yellow" if weather["lost"] else ""),
            cell(_ago(weather["last_signed_at"])),
            cell(each["paused_detail"] or "", style="dim"),
        )
    return made


def _print(account: Mapping[str, Any]) -> None:
    console, grid = Console(highlight=False), Table.grid(padding=(0, 2))
    for name, value in _lines(account):
        if not name.startswith("day "):
            grid.add_row(cell(name.replace("_", " "), style="dim"), cell(value))
    console.print(grid)
    days = table("day (UTC)", "tasks", "units", right=("tasks", "units"))
    for day in account["days"]:
        days.add_row(*(cell(day[name]) for name in ("day", "tasks", "units")))
    console.print(days)


def _lines(account: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Yield what is known of an account: a name and what belongs to it; what is not known is left out."""
    for name in ("id", "dialect", "host", *COLUMNS[2:], "probed_at", "signature_mode"):
        if account[name] is not None:
            yield name, account[name]
    if account["webhook_secrets"]:
        yield "webhook_secrets", " ".join(account["webhook_secrets"])
    for name, value in account["callbacks"].items():
        if value is not None:
            yield f"callbacks_{name}", value
    yield "console_test", _test(account["console_test"])
    for day in account["days"]:
        yield f"day {day['day']}", f"{day['tasks']} tasks, {day['units']} units"


def _test(test: Mapping[str, Any] | None) -> str:
    if test is None:
        return "none yet; `receiver callbacks test-url` prints the URL for it"
    by = f", signed with {test['secret']}" if test["secret"] else ""
    return f"{_ago(test['at'])}: the signature was {test['verdict']}{by}"


def _ago(moment: str | None) -> str:
    """Return how long ago a moment was, by this machine's clock."""
    if moment is None:
        return ABSENT
    passed = (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    return f"{span(max(passed, 0.0))} ago"


def _of(amount: object, limit: object) -> str:
    return f"{amount}/{ABSENT if limit is None else limit}"
