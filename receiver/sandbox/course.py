"""Decides what will become of each task. Seeded: the same seed, number and order give the same course."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

import numpy as np

from receiver.sandbox.records import Course, Order

#: A prompt with this text in it ends `failed`, without a charge.
FAIL_MARK: Final = "[fail]"
FAILURE: Final = "risk control"

#: Run times spread this far around the average.
SHORTEST: Final = 0.5
LONGEST: Final = 1.5
#: Part of the run time that a task is `submitted`.
WAITING: Final = 1 / 3


def draw(order: Order, *, seed: int, run_seconds: float) -> Callable[[int], Course]:
    """Return the function that gives the task made of *order* its course, once its number (from 1) is known."""

    def drawn(number: int) -> Course:
        run = run_seconds * 1000 * dice(seed, number, "run").uniform(SHORTEST, LONGEST)
        failure = FAILURE if FAIL_MARK in order.prompt else None
        return Course(starts_after=round(run * WAITING), ends_after=round(run), failure=failure)

    return drawn


def dice(seed: int, number: int, purpose: str) -> np.random.Generator:
    """Return the dice for one *purpose* of the *number*-th task; what one purpose throws moves no other."""
    digest = hashlib.sha256(f"{seed}:{number}:{purpose}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest))
