"""The sum of all accepted tasks of a running service."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import typer
from rich.console import Console
from rich.table import Table

from receiver.cli import api
from receiver.cli.looking import AsJson, echo
from receiver.cli.tables import cell, clean, rows, state_cell, table

_LINE: Final = ("day", "account", "kind")
_TASK: Final = ("id", "state", "reason", "attention", "due_at")


def ledger(*, as_json: AsJson = False, url: api.Url = api.DEFAULT_URL) -> None:
    """
    Show the sum of all accepted tasks, and the newest that are not archived.

    Ends with status 1 when the states do not add up to the number accepted.
    """
    with api.connected(url) as service:
        answer = service.get("/v1/ledger")
    told = answer.document
    if as_json:
        echo(answer)
    elif sys.stdout.isatty():
        _print(told)
    else:
        sys.stdout.write(rows(_lines(told)))
    counted = sum(told["states"].values())
    if counted != told["accepted"]:
        sys.stderr.write(f"receiver: {clean(told['accepted'])} were accepted and {counted} are here\n")
        raise typer.Exit(1)


def _lines(told: Mapping[str, Any]) -> Iterable[Sequence[object]]:
    yield "accepted", told["accepted"]
    for state, number in told["states"].items():
        yield "state", state, number
    for line in told["lines"]:
        for state, number in line["states"].items():
            yield "line", *(line[name] for name in _LINE), state, number
    yield "not_archived_total", told["not_archived_total"]
    for task in told["not_archived"]:
        yield "not_archived", *(task[name] for name in _TASK)


def _print(told: Mapping[str, Any]) -> None:
    console = Console(highlight=False)
    console.print(cell(f"{told['accepted']} accepted", style="bold"))
    sums = table("day", "account", "kind", "accepted", "", right=("accepted",), fold=("account", "kind", ""))
    for line in told["lines"]:
        states = ", ".join(f"{number} {state}" for state, number in line["states"].items())
        sums.add_row(*(cell(line[name]) for name in _LINE), cell(line["accepted"]), cell(states, style="dim"))
    sums.add_row()
    for state, number in told["states"].items():
        if number:
            sums.add_row(*("",) * 3, cell(number), state_cell(state))
    console.print(sums)
    if told["not_archived"]:
        console.print(_left(told["not_archived"]))
    if (hidden := told["not_archived_total"] - len(told["not_archived"])) > 0:
        console.print(f"and {hidden} older that are not archived")


def _left(tasks: Iterable[Mapping[str, Any]]) -> Table:
    made = table("not archived", "state", "reason", "attention", "due", fold=("reason", "attention"))
    for task in tasks:
        made.add_row(
            cell(task["id"]),
            state_cell(task["state"]),
            cell(task["reason"] or ""),
            cell(task["attention"] or "", style="yellow"),
            cell(task["due_at"] or "", style="dim"),
        )
    return made
