"""Follow tasks of a running service until they have ended."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import quote

import typer
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from receiver.cli import api
from receiver.cli.tables import cell, clean, files_of, rows, span, state_cell, table
from receiver.core.model import ENDS, State

#: How long a service may be away, as while it is started again.
PATIENCE: Final = timedelta(seconds=60)
#: Between two looks.
PAUSE: Final = timedelta(seconds=1)
#: Seconds that the service is asked to wait for an end; shorter than the client's own limit.
WAIT: Final = 20

Task = Mapping[str, Any]
_T = TypeVar("_T")


class TimeOver(Exception):
    """Not all tasks ended in the time that was given."""


def watch(
    ids: Annotated[list[str], typer.Argument(metavar="ID", help="The tasks' ids")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the task as JSON, on a line, at each change")] = False,
    url: api.Url = api.DEFAULT_URL,
) -> None:
    """
    Show how tasks change until all have ended.

    Ends with status 1 when one did not end archived. In a pipe each change is a line.
    """
    asked = list(dict.fromkeys(ids))
    with api.connected(url) as service:
        if as_json:
            ended = _follow(service, asked, lambda tasks, changed: _print_json(tasks[changed]))
        elif sys.stdout.isatty():
            with Live(console=Console(highlight=False), auto_refresh=False) as live:
                ended = _follow(service, asked, lambda tasks, _: live.update(_board(tasks), refresh=True))
        else:
            ended = _follow(service, asked, lambda tasks, changed: _print_line(tasks[changed]))
    if any(task["state"] != State.ARCHIVED for task in ended.values()):
        raise typer.Exit(1)


def wait_for(service: api.Client, ids: Sequence[str], *, within: timedelta | None) -> Iterator[api.Answer]:
    """
    Yield the answer for each of the tasks when it has ended, in their order.

    Raises:
        TimeOver: Some have not ended in time.
    """
    end = None if within is None else time.monotonic() + within.total_seconds()
    for task in ids:
        while True:
            left = WAIT if end is None else max(0, min(WAIT, int(end - time.monotonic())))
            answer = patiently(partial(_look, service, task, wait=left))
            if answer.document["state"] in ENDS:
                yield answer
                break
            if end is not None and time.monotonic() >= end:
                raise TimeOver
            if left == 0:
                time.sleep(min(PAUSE.total_seconds(), max(0, (end or 0) - time.monotonic())))


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show on a terminal how much is done; yield what tells of some more."""
    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        mine = bar.add_task(what, total=total)
        yield lambda more: bar.advance(mine, more)


def patiently(ask: Callable[[], _T]) -> _T:
    """
    Return what *ask* does; while the service is away for a moment, try again.

    Raises:
        api.Problem: The service refuses, or cannot do it for too long.
        api.ServiceUnreachable: It stays away.
    """
    end = time.monotonic() + PATIENCE.total_seconds()
    while True:
        try:
            return ask()
        except api.ServiceUnreachable:
            if time.monotonic() > end:
                raise
        except api.Problem as exc:
            if not exc.passing or time.monotonic() > end:
                raise
        time.sleep(PAUSE.total_seconds())


def _look(service: api.Client, task: str, *, wait: int = 0) -> api.Answer:
    return service.get(f"/v1/tasks/{quote(task, safe='')}", {"wait": wait or None})


def _follow(
    service: api.Client, ids: Sequence[str], tell: Callable[[Mapping[str, Task], str], None]
) -> Mapping[str, Task]:
    # The first look is not repeated: a wrong id or a wrong URL is told at once.
    tasks = {task: _look(service, task).document for task in ids}
    for task in ids:
        tell(tasks, task)
    while still := [task for task in ids if tasks[task]["state"] not in ENDS]:
        # Where one is left, its end ends the pause.
        wait = 1 if len(still) == 1 else 0
        if not wait:
            time.sleep(PAUSE.total_seconds())
        for task in still:
            found = patiently(partial(_look, service, task, wait=wait)).document
            changed = _marks(found) != _marks(tasks[task])
            tasks[task] = found
            if changed:
                tell(tasks, task)
    return tasks


def _marks(task: Task) -> object:
    """Return what makes a change worth telling."""
    assets = [(asset["id"], asset["state"]) for asset in task["assets"]]
    return *(task[name] for name in ("state", "reason", "attention", "revision", "provider_task_id")), assets


def _print_json(task: Task) -> None:
    sys.stdout.write(json.dumps(task, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def _print_line(task: Task) -> None:
    sys.stdout.write(rows([line_of(task)]))
    sys.stdout.flush()


def line_of(task: Task) -> Sequence[object]:
    """Return what a pipe gets to read of a task that changes."""
    return *(task[name] for name in ("id", "state", "reason", "attention")), files_of(task)


def _board(tasks: Mapping[str, Task]) -> Table:
    made = table("task", "state", "files", "slack", "", right=("files", "slack"), fold=("",))
    for task in tasks.values():
        slack = task["slack_seconds"]
        made.add_row(
            cell(task["id"]),
            state_cell(task["state"]),
            cell(files_of(task)),
            cell("" if slack is None else span(slack)),
            cell(clean(task["attention"] or task["reason"] or ""), style="dim"),
        )
    return made
