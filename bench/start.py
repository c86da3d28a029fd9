"""Row `start`: seconds until the embedded database and store are ready, from nothing and over existing data."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from bench.figures import Figure, middle
from receiver.local.postgres import EmbeddedPostgres
from receiver.local.store import EmbeddedStore

#: Seconds: must and goal.
BARS: Final = {"start-first": (3.0, 1.5), "start-later": (1.0, 0.3)}


def measure(*, rounds: int) -> tuple[list[Figure], list[str]]:
    """Start both parts in a fresh directory and then once more; return a row for each."""
    taken: dict[str, list[float]] = {name: [] for name in BARS}
    for _ in range(rounds):
        directory = Path(tempfile.mkdtemp(prefix="receiver-bench-"))
        directory.chmod(0o711)
        try:
            for name, seconds in taken.items():
                seconds.append(_start(directory))
                print(f"{name}: {seconds[-1]:.2f} s", file=sys.stderr, flush=True)
        finally:
            shutil.rmtree(directory)
    return [
        Figure(
            id=name, unit="s", ours=middle(taken[name]), against=None, ratio=middle(taken[name]), bar="at most",
            must=must, goal=goal, rounds={"ours": taken[name]},
        )
        for name, (must, goal) in BARS.items()
    ], []  # fmt: skip


def _start(directory: Path) -> float:
    """Start both as `receiver serve` does, one after the other, and stop them; return the seconds of the start."""
    postgres, store = EmbeddedPostgres(directory / "postgres"), EmbeddedStore(directory / "store")
    before = time.perf_counter()
    try:
        postgres.start()
        store.start()
        return time.perf_counter() - before
    finally:
        store.stop()
        postgres.stop()
