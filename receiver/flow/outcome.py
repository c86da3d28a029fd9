"""How a job's handler says what shall become of the job."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Done:
    """The job is no longer needed, unless it was wanted again meanwhile."""


@dataclass(frozen=True, slots=True)
class Later:
    """Nothing failed; run again after *delay*."""

    delay: timedelta


@dataclass(frozen=True, slots=True)
class Retry:
    """The try failed with the stable *error* code; *delay* None means the usual back-off."""

    error: str
    delay: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """The job was held in the handler's own transaction; there is nothing left to settle."""


Outcome = Done | Later | Retry | Held
