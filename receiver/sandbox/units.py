"""Reads what the fault options are given: rates, durations, both, and requests a second."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

#: Seconds of each unit; the longest names first, so that `ms` is not read as `s`.
UNITS: Final = MappingProxyType({"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0})


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    """Something that takes *seconds*, and how often it happens."""

    #: 0 to 1.
    rate: float = 0.0
    seconds: float

    def __str__(self) -> str:
        return f"{self.rate:g}:{self.seconds:g}s"


#: Nothing is late or slow; how long it would take, when only a rate is given.
LATE: Final = Delay(seconds=30.0)
SLOW: Final = Delay(seconds=5.0)


def rate(text: str) -> float:
    """
    Read a rate from 0 to 1.

    Raises:
        ValueError: It is none.
    """
    value = _number(text)
    if value > 1:
        raise ValueError(f"{text!r} is over 1")
    return value


def seconds(text: str) -> float:
    """
    Read a duration: `20s`, `500ms`, `2m`, `1h`, or bare seconds.

    Raises:
        ValueError: It is none.
    """
    for unit, size in UNITS.items():
        if text.endswith(unit):
            return _number(text.removesuffix(unit)) * size
    return _number(text)


def per_second(text: str) -> float:
    """
    Read how many a second: `5/s` or `5`; 0 is no limit.

    Raises:
        ValueError: It is none.
    """
    return _number(text.removesuffix("/s"))


def late(text: str) -> Delay:
    """
    Read `0.1:30s`; without a duration 30 s.

    Raises:
        ValueError: It is none.
    """
    return _delay(text, LATE.seconds)


def slow(text: str) -> Delay:
    """
    Read `0.05:5s`; without a duration 5 s.

    Raises:
        ValueError: It is none.
    """
    return _delay(text, SLOW.seconds)


def _delay(text: str, default: float) -> Delay:
    share, colon, duration = text.partition(":")
    return Delay(rate=rate(share), seconds=seconds(duration) if colon else default)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError as exc:
        raise ValueError(f"{text!r} is no number") from exc
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{text!r} is not a number from 0 on")
    return value
