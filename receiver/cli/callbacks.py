"""The callbacks that a running service has kept, and the URL that a provider's console tests."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer
from rich.console import Console
from rich.table import Table

from receiver import wiring
from receiver.cli import api, completing, keyring, run
from receiver.cli.looking import SECONDS, AsJson, echo
from receiver.cli.tables import cell, clean, rows, size, table
from receiver.core.errors import Misconfigured, NotFound
from receiver.core.model import AccountId
from receiver.core.tokens import CONSOLE_TEST, TokenKeys

app = typer.Typer(
    help=f"Callbacks of a running service; its API key is taken from {api.KEY_VARIABLE}.", no_args_is_help=True
)

Callback = Annotated[str, typer.Argument(metavar="ID", help="The callback's id")]

#: Of a callback, in the order of the columns of a pipe.
COLUMNS: Final = (
    *("id", "received_at", "account", "task", "trust", "told", "outcome", "repeats", "bytes", "processed_at"),
)
_STYLES: Final = {"moved": "green", "orphan": "red", "cross_wired": "red", "unreadable": "red", "asked": "yellow"}


@app.command("list")
def listing(
    *,
    task: Annotated[str | None, typer.Option(metavar="ID", help="Only callbacks of this task's URL")] = None,
    account: Annotated[
        str | None, typer.Option(help="Only callbacks of this account's URLs", autocompletion=completing.accounts)
    ] = None,
    outcome: Annotated[
        str | None, typer.Option(help="Only those of which this became, such as orphan; or unprocessed")
    ] = None,
    after: Annotated[str | None, typer.Option(metavar="TIME", help="Only those received at this time or later")] = None,
    before: Annotated[str | None, typer.Option(metavar="TIME", help="Only those received before this time")] = None,
    limit: Annotated[int, typer.Option(help="Callbacks of one page")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Go on where the last page ended")] = None,
    as_json: AsJson = False,
    url: api.Url = api.DEFAULT_URL,
) -> None:
    """List the callbacks of your tasks, and those of no task, the newest first. Times are like 2026-01-31T12:00:00Z."""
    query = {"task": task, "account": account, "outcome": outcome, "limit": limit, "cursor": cursor}
    times = {"received_after": after, "received_before": before}
    with api.connected(url) as service:
        answer = service.get("/v1/callbacks", {**query, **times})
    if as_json:
        echo(answer)
        return
    found: Sequence[Mapping[str, Any]] = answer.document["callbacks"]
    if sys.stdout.isatty():
        Console(highlight=False).print(_table(found))
    else:
        sys.stdout.write(rows([each[name] for name in COLUMNS] for each in found))
    if (more := answer.document["next_cursor"]) is not None:
        sys.stderr.write(f"there are more: --cursor {clean(more)}\n")


@app.command()
def show(callback: Callback, *, as_json: AsJson = False, url: api.Url = api.DEFAULT_URL) -> None:
    """Show a callback and its body, without the queries of URLs and without tokens."""
    with api.connected(url) as service:
        answer = service.get(f"/v1/callbacks/{quote(callback, safe='')}")
    _tell(answer, as_json=as_json)


@app.command()
def replay(callback: Callback, *, as_json: AsJson = False, url: api.Url = api.DEFAULT_URL) -> None:
    """Have a callback read again, as if it had just come; what is known already changes nothing."""
    with api.connected(url) as service:
        answer = service.post(f"/v1/callbacks/{quote(callback, safe='')}/replay", {})
    _tell(answer, as_json=as_json)


@app.command("test-url")
def test_url(
    account: Annotated[str, typer.Option(help="The account whose console shall test its callbacks")],
) -> None:
    """
    Print the URL to give to the test of a provider's console; reads the settings itself, and asks no service.

    What came of the last test is told by `receiver accounts show`. The URL is secret, and good for tests alone.
    """
    settings = run.read_settings()
    deals = wiring.read_deals(settings)
    if account not in deals:
        raise NotFound(f"there is no account {account}; known: {', '.join(sorted(deals)) or 'none'}")
    if settings.public_url is None:
        raise Misconfigured("RECEIVER_PUBLIC_URL is not set, so a provider cannot reach this service")
    token = TokenKeys(keyring.callback_secrets(settings)).console_token(AccountId(account))
    sys.stdout.write(f"{settings.public_url.rstrip('/')}/callbacks/{account}/{CONSOLE_TEST}/{token}\n")


def _tell(answer: api.Answer, *, as_json: bool) -> None:
    told = answer.document
    facts = [(name, told[name]) for name in (*COLUMNS, "sha256", "body_encoding", "body_cut") if told[name] is not None]
    if as_json:
        echo(answer)
    elif sys.stdout.isatty():
        grid = Table.grid(padding=(0, 2))
        for name, value in facts:
            shown = size(value) if name == "bytes" else value
            grid.add_row(cell(name.replace("_", " "), style="dim"), cell(shown, style=_STYLES.get(str(value), "")))
        console = Console(highlight=False)
        console.print(grid)
        console.print(cell(told["body"]))
    else:
        sys.stdout.write(rows([*facts, ("body", told["body"])]))


def _table(callbacks: Sequence[Mapping[str, Any]]) -> Table:
    made = table(
        *("callback", "received", "account", "task", "trust", "told", "outcome", "repeats", "bytes"),
        right=("repeats", "bytes"),
        fold=("account", "received"),
    )
    for each in callbacks:
        outcome = each["outcome"] or "unprocessed"
        made.add_row(
            cell(each["id"]),
            cell(f"{each['received_at'][:SECONDS]}Z", style="dim"),
            *(cell(each[name]) for name in ("account", "task", "trust", "told")),
            cell(outcome, style=_STYLES.get(outcome, "")),
            cell(each["repeats"] or ""),
            cell(size(each["bytes"])),
        )
    return made
