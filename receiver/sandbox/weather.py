"""What requests to one house meet before they are looked at: outages, the account's state, the rate limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from receiver.sandbox import answers
from receiver.sandbox.answers import Refusal
from receiver.sandbox.faults import Faults, Odds
from receiver.sandbox.records import Counted

#: Codes that close the whole API; every other state of an account closes creates alone.
CLOSE_ALL: Final = frozenset({1000, 1001, 1002, 1003, 1004, 1304})
#: Codes that the account itself can be in.
ACCOUNT_CODES: Final = CLOSE_ALL | {1100, 1101, 1102, 1103}


class Mode(StrEnum):
    """How an outage answers."""

    SERVER_ERROR = "5xx"
    HANG = "hang"
    CUT = "cut"


class Part(StrEnum):
    """What an outage concerns."""

    API = "api"
    MEDIA = "media"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """The API, the media or both are down."""

    mode: Mode
    parts: frozenset[Part]
    #: By the weather's clock; None: until told.
    until: float | None
    #: Set when it is over.
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Weather:
    """The state of one house that the control routes change; gone with the process."""

    def __init__(self, *, seed: int, faults: Faults, clock: Callable[[], float]) -> None:
        self.faults = faults
        #: What the account is in; None: good standing.
        self.account_code: int | None = None
        self._seed = seed
        self._clock = clock
        self._outage: Outage | None = None
        self._tokens = 0.0
        self._filled_at = clock()
        self._began = False

    def odds(self) -> Odds:
        """Return what is drawn under the rates of now."""
        return Odds(seed=self._seed, faults=self.faults)

    def down(self, mode: Mode, parts: frozenset[Part], seconds: float | None) -> None:
        """Begin an outage, in place of the one that may be; *seconds* of None: until `up`."""
        self.up()
        self._outage = Outage(mode=mode, parts=parts, until=None if seconds is None else self._clock() + seconds)

    def up(self) -> None:
        """End the outage."""
        if self._outage is not None:
            self._outage.over.set()
        self._outage = None

    def outage(self, part: Part) -> Outage | None:
        """Return the outage that *part* is in."""
        if self._outage is not None and self._outage.until is not None and self._clock() >= self._outage.until:
            self.up()
        return self._outage if self._outage is not None and part in self._outage.parts else None

    def left(self, outage: Outage) -> float | None:
        """Return the seconds that *outage* still takes; None: until told."""
        return None if outage.until is None else max(0.0, outage.until - self._clock())

    def account_refusal(self, kind: Counted) -> Refusal | None:
        """Return what the account's state has to say."""
        code = self.account_code
        if code is None or (kind is not Counted.CREATE and code not in CLOSE_ALL):
            return None
        return answers.refusal_of(str(code), fault="account")

    def too_fast(self) -> Refusal | None:
        """Count a create against the rate limit: a bucket of tokens that holds those of one second."""
        rate = self.faults.rate_limit
        if not rate:
            return None
        room, now = max(1.0, rate), self._clock()
        self._tokens = min(room, self._tokens + (now - self._filled_at) * rate) if self._began else room
        self._filled_at, self._began = now, True
        if self._tokens < 1:
            return answers.refusal_of("1302", fault="rate_limit")
        self._tokens -= 1
        return None
