"""Follows the tasks until all have ended: a live table on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from receiver.cli import api
from receiver.cli.demonstration.orders import Order, Placed
from receiver.cli.demonstration.parts import StopRequest
from receiver.cli.tables import ABSENT, STYLES, cell, size, span, state_cell, table
from receiver.core.model import ENDS, State

LOOK: Final = timedelta(milliseconds=300)
#: At most one line in this time where there is no terminal.
LINE: Final = timedelta(seconds=1)
#: Of `GET /v1/tasks`.
PAGE: Final = 200
#: Lines of the live table that hold no task.
FRAME: Final = 7
#: With their least widths, so that nothing moves while the table fills.
COLUMNS: Final = {"#": 2, "task": 17, "order": 12, "state": 10, "files": 5, "bytes": 8, "slack": 7}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One file, as the service describes it."""

    id: str
    task: str
    clip: str
    format: str
    state: str
    bytes: int | None
    #: Lower-case hex.
    sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One task as it stands."""

    number: int
    placed: Placed
    state: State
    reason: str | None
    #: Why a person must look.
    attention: str | None
    #: Seconds; None when it has ended.
    slack: float | None
    assets: tuple[Asset, ...]

    @property
    def ended(self) -> bool:
        """Whether nothing more is expected."""
        return self.state in ENDS


class Board:
    """All tasks of one run."""

    def __init__(self, service: api.Client) -> None:
        self._service = service
        self.placed: list[Placed] = []
        self._began = time.monotonic()
        self.rows: tuple[Row, ...] = ()

    @property
    def seconds(self) -> float:
        """The time since the board was made."""
        return time.monotonic() - self._began

    def look(self) -> bool:
        """Ask how the tasks stand; False when the service is away, and nothing has changed."""
        told: dict[str, Mapping[str, Any]] = {}
        cursor = None
        try:
            while True:
                page = self._service.get("/v1/tasks", {"limit": PAGE, "cursor": cursor}).document
                told |= {task["id"]: task for task in page["tasks"]}
                cursor = page["next_cursor"]
                if cursor is None:
                    break
        except api.ServiceUnreachable:
            return False
        except api.Problem as exc:
            if not exc.passing:
                raise
            return False
        self.rows = tuple(_row(number, placed, told[placed.task]) for number, placed in enumerate(self.placed, 1))
        return True

    @property
    def ended(self) -> bool:
        """Whether all tasks have ended."""
        return bool(self.rows) and all(row.ended for row in self.rows)

    def summary(self) -> Text:
        """Return the time and the number of tasks by state."""
        counts = Counter(row.state for row in self.rows)
        line = Text(f"{self.seconds:5.1f} s")
        for state in State:
            if counts[state]:
                line.append("   ").append(f"{state} {counts[state]}", style=STYLES.get(state, ""))
        return line

    def table(self, room: int | None = None) -> Group:
        """Return the table, with at most *room* tasks: those that are open first, then the latest that ended."""
        rows = self.rows
        if room is not None and len(rows) > room:
            urgent = sorted(rows, key=lambda row: (row.ended, -row.number if row.ended else row.number))
            rows = tuple(sorted(urgent[:room], key=lambda row: row.number))
        left_out = len(self.rows) - len(rows)
        return Group(_table(rows), *([Text(f"and {left_out} more", style="dim")] if left_out else []), self.summary())


def follow(
    board: Board, console: Console, stop: StopRequest, *, limit: timedelta, meanwhile: Callable[[], None]
) -> None:
    """
    Show *board* until all tasks have ended or *limit* has passed; *meanwhile* is called between two looks.

    Raises:
        Interrupted: A stop was asked for.
    """
    shown = _LiveTable(board, console) if console.is_terminal else _Lines(board, console)
    with shown:
        while not board.ended and board.seconds < limit.total_seconds():
            meanwhile()
            if board.look():
                shown.update()
            stop.pause(LOOK)
    if console.is_terminal:
        console.print(board.table())


class _LiveTable:
    """Redrawn at each look, no taller than the terminal."""

    def __init__(self, board: Board, console: Console) -> None:
        self._board = board
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> None:
        self._live.start()

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def update(self) -> None:
        self._live.update(self._board.table(max(self._console.height - FRAME, 3)), refresh=True)


class _Lines:
    """The sums, when they have changed, but not too often."""

    def __init__(self, board: Board, console: Console) -> None:
        self._board = board
        self._console = console
        self._states: Sequence[State] = ()
        self._next = 0.0

    def __enter__(self) -> None:
        """Begin with the first look."""

    def __exit__(self, *_: object) -> None:
        """End with the last look."""

    def update(self) -> None:
        states = [row.state for row in self._board.rows]
        if states != self._states and (self._board.ended or self._board.seconds >= self._next):
            self._console.print(self._board.summary())
            self._states, self._next = states, self._board.seconds + LINE.total_seconds()


def _row(number: int, placed: Placed, told: Mapping[str, Any]) -> Row:
    names = ("id", "task", "clip", "format", "state", "bytes", "sha256")
    return Row(
        number=number,
        placed=placed,
        state=State(told["state"]),
        reason=told["reason"],
        attention=told["attention"],
        slack=told["slack_seconds"],
        assets=tuple(Asset(**{name: each[name] for name in names}) for each in told["assets"]),
    )


def _table(rows: Sequence[Row]) -> Table:
    made = table(*COLUMNS, right=("#", "files", "bytes", "slack"), fold=("order",))
    for column, width in zip(made.columns, COLUMNS.values(), strict=True):
        column.min_width = width
    for row in rows:
        stored = [asset for asset in row.assets if asset.state == "stored"]
        made.add_row(
            cell(row.number, style="dim"),
            cell(row.placed.task),
            _order_cell(row.placed.order),
            state_cell(row.state),
            cell(f"{len(stored)}/{len(row.assets)}" if row.assets else ABSENT),
            cell(size(sum(asset.bytes or 0 for asset in stored)) if stored else ABSENT),
            cell(ABSENT if row.slack is None else span(row.slack)),
        )
    return made


def _order_cell(order: Order) -> Text:
    """Keep to one line; where it is narrow the prompt is cut."""
    return Text(f"{order.seconds} s {order.prompt}", style="dim", no_wrap=True, overflow="crop")
