"""How what the service says looks on a terminal and in a pipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

#: Of a task or an asset.
STYLES: Final[Mapping[str, str]] = {
    "archived": "green",
    "stored": "green",
    "partial": "yellow",
    "succeeded": "cyan",
    "processing": "cyan",
    "submitted": "blue",
    "submitting": "blue",
    "failed": "red",
    "rejected": "red",
    "expired": "red",
    "invalid": "red",
    "cancelled": "magenta",
}
ABSENT: Final = "-"

#: Characters: between two columns, and of one that gives way.
_GAP: Final = 2
_NARROW: Final = 6
_KILO: Final = 1000
_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR


def clean(value: object) -> str:
    r"""Return *value* as one line that cannot steer a terminal: control characters become escapes (\n, \x1b)."""
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return str(value).lower()
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in str(value))


def cell(value: object, *, style: str = "") -> Text:
    """Return *value* for a table; square brackets in it mean nothing."""
    return Text(clean(value), style=style, overflow="fold")


def state_cell(state: object) -> Text:
    """Return a state in its colour."""
    return cell(state, style=STYLES.get(str(state), ""))


def size(count: int | None) -> str:
    """Return a number of bytes for people."""
    if count is None:
        return ABSENT
    amount, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < _KILO:
            break
        amount, unit = amount / _KILO, larger
    return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"


def span(seconds: float | None) -> str:
    """Return a duration for people; a minus sign says that it is over by that much."""
    if seconds is None:
        return ABSENT
    sign, left = ("-" if seconds < 0 else ""), abs(seconds)
    if left < _MINUTE:
        return f"{sign}{left:.1f} s"
    whole = int(left)
    if whole < _HOUR:
        return f"{sign}{whole // _MINUTE}m {whole % _MINUTE:02}s"
    if whole < _DAY:
        return f"{sign}{whole // _HOUR}h {whole % _HOUR // _MINUTE:02}m"
    return f"{sign}{whole // _DAY}d {whole % _DAY // _HOUR:02}h"


def files_of(task: Mapping[str, Any]) -> str:
    """Say how many files of a task are stored, of how many that are known."""
    stored = sum(asset["state"] == "stored" for asset in task["assets"])
    return f"{stored}/{len(task['assets'])}" if task["assets"] else ABSENT


class _Giving(Table):
    """A table in which all columns give way where those that should not do not fit: no id or number is ever cut."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._wanted(console, options) > options.max_width:
            for column in self.columns:
                column.no_wrap = False
        yield from super().__rich_console__(console, options)

    def _wanted(self, console: Console, options: ConsoleOptions) -> int:
        """Return the least width at which the table is easy to read."""
        wanted = 0
        for column in self.columns:
            found = [Measurement.get(console, options, each) for each in (column.header, *column.cells)]
            widest, word = max(each.maximum for each in found), max(each.minimum for each in found)
            wanted += _GAP + max(column.min_width or 0, widest if column.no_wrap else min(word, _NARROW))
        return wanted


def table(*columns: str, right: Iterable[str] = (), fold: Iterable[str] = ()) -> Table:
    """Return an empty table; the columns in *right* are set flush right, those in *fold* give way when it is narrow."""
    made = _Giving(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    flush, giving = set(right), set(fold)
    for name in columns:
        made.add_column(name, justify="right" if name in flush else "left", overflow="fold", no_wrap=name not in giving)
    return made


def rows(lines: Iterable[Sequence[object]]) -> str:
    """Return *lines* for a pipe: one a line, tabs between."""
    return "".join("\t".join(clean(value) for value in line) + "\n" for line in lines)
