"""Run the benchmarks: `python -m bench [ROW]... [--rounds N] [--seconds S] [--json]`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from typing import Final

from bench import ack, burst, jobs, machine, reconcile, start
from bench.figures import Figure, as_json, table
from bench.parts import open_parts

Suite = Callable[[int, float], tuple[list[Figure], list[str]]]


def _ack(rounds: int, seconds: float) -> tuple[list[Figure], list[str]]:
    with open_parts() as parts:
        return ack.measure(parts, rounds=rounds, seconds=seconds)


def _burst(rounds: int, _seconds: float) -> tuple[list[Figure], list[str]]:
    with open_parts() as parts:
        return burst.measure(parts, rounds=rounds)


def _jobs(rounds: int, seconds: float) -> tuple[list[Figure], list[str]]:
    with open_parts() as parts:
        return jobs.measure(parts, rounds=rounds, seconds=seconds)


def _reconcile(_rounds: int, _seconds: float) -> tuple[list[Figure], list[str]]:
    """Count once: a number of requests is no matter of speed."""
    with open_parts() as parts:
        return reconcile.measure(parts)


_SUITES: Final[dict[str, Suite]] = {
    "start": lambda rounds, _: start.measure(rounds=rounds),
    "ack": _ack,
    "burst": _burst,
    "jobs": _jobs,
    "reconcile": _reconcile,
}
#: Those that run unless some are named; the others take a quarter of an hour.
_USUAL: Final = ("start", "ack", "burst", "jobs")


ROWS: Final = f"what to measure: {', '.join(_SUITES)}; by default {', '.join(_USUAL)}"


def main() -> int:
    """Measure, print the result on standard output, and return 1 when a must does not hold."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=ROWS)
    parser.add_argument("--rounds", type=int, default=3, help="how often each runs, in turn; medians count")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long one run takes, about")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    asked = parser.parse_args()
    if unknown := set(asked.rows) - set(_SUITES):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    signal.signal(signal.SIGTERM, _terminated)
    figures, notes = measure(asked.rows or _USUAL, rounds=asked.rounds, seconds=asked.seconds)
    if asked.json:
        print(as_json(machine.describe(), figures, notes))
    else:
        print("\n".join(f"{name}: {value}" for name, value in machine.describe().items()), end="\n\n")
        print(table(figures), end="\n\n")
        print("\n".join(notes))
    return 0 if all(figure.meets(figure.must) for figure in figures) else 1


def measure(rows: list[str] | tuple[str, ...], *, rounds: int, seconds: float) -> tuple[list[Figure], list[str]]:
    """Measure *rows* and return the figures and what a reader should know."""
    figures: list[Figure] = []
    notes = [] if machine.can_pin() else ["nothing was pinned to a core: this needs Linux and two cores"]
    for name, suite in _SUITES.items():
        if name in rows:
            strangers = machine.Strangers()
            found, said = suite(rounds, seconds)
            figures, notes = (
                figures + found,
                [*notes, *said, f"{name}: other processes used {strangers.cores():.2f} cores"],
            )
    return figures, notes


def _terminated(*_: object) -> None:
    """End by an exception, so that every part is stopped."""
    sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
