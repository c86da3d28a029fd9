"""One line of the result: what was measured, against what, and whether the bar is met."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Final, Literal

Bar = Literal["at least", "at most"]

_HEADS: Final = ("id", "unit", "floor", "baseline", "ours", "to", "ratio", "must", "holds", "goal", "reached")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured row; `must` and `goal` are bars for `ratio`, that of `ours` to what it stands against."""

    id: str
    unit: str
    ours: float
    floor: float | None = None
    baseline: float | None = None
    #: None: an absolute bar, `ratio` is `ours` itself.
    against: Literal["floor", "baseline"] | None
    ratio: float
    bar: Bar = "at least"
    must: float
    goal: float
    #: What each round gave, by the name of what ran.
    rounds: dict[str, list[float]] = field(default_factory=dict)

    def meets(self, bar: float) -> bool:
        """Say whether the ratio reaches *bar*."""
        return self.ratio >= bar if self.bar == "at least" else self.ratio <= bar


def against(
    other: Literal["floor", "baseline"],
    rounds: dict[str, list[float]],
    *,
    name: str,
    unit: str,
    must: float,
    goal: float,
    bar: Bar = "at least",
) -> Figure:
    """Return the row of `ours` against one *other*, by the medians of the rounds."""
    values = {name: middle(each) for name, each in rounds.items()}
    return Figure(
        id=name,
        unit=unit,
        floor=values.get("floor"),
        baseline=values.get("baseline"),
        ours=values["ours"],
        against=other,
        ratio=values["ours"] / values[other],
        bar=bar,
        must=must,
        goal=goal,
        rounds=rounds,
    )


def middle(values: Sequence[float]) -> float:
    """Return the median of the rounds."""
    return float(median(values))


def table(figures: Sequence[Figure]) -> str:
    """Lay the figures out as a Markdown table."""
    rows = [_HEADS, tuple("-" for _ in _HEADS), *(_cells(figure) for figure in figures)]
    widths = [max(len(row[n]) for row in rows) for n in range(len(_HEADS))]
    return "\n".join(
        "| " + " | ".join(_fill(cell, width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    )


def as_json(machine: dict[str, str], figures: Sequence[Figure], notes: Sequence[str]) -> str:
    """Return everything as one JSON object."""
    rows = [{**asdict(f), "holds": f.meets(f.must), "reached": f.meets(f.goal)} for f in figures]
    return json.dumps({"machine": machine, "figures": rows, "notes": list(notes)}, indent=2)


def _fill(cell: str, width: int) -> str:
    return "-" * width if cell == "-" else cell.ljust(width)


def _cells(figure: Figure) -> tuple[str, ...]:
    sign = ">=" if figure.bar == "at least" else "<="
    return (
        figure.id,
        figure.unit,
        _number(figure.floor),
        _number(figure.baseline),
        _number(figure.ours),
        figure.against or "",
        _number(figure.ratio) if figure.against else "",
        f"{sign} {figure.must:g}",
        "yes" if figure.meets(figure.must) else "NO",
        f"{sign} {figure.goal:g}",
        "yes" if figure.meets(figure.goal) else "no",
    )


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
