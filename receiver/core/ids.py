"""Task ids: 63-bit integers that sort by time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from receiver.core.model import TaskId

EPOCH: Final = datetime(2025, 1, 1, tzinfo=UTC)
#: Ids that one millisecond can hold.
SPREAD: Final = 1_000_000
#: Ids are positive and fit PostgreSQL's bigint.
LIMIT: Final = 2**63


def task_id(now: datetime, draw: int) -> TaskId:
    """Return an id made of *now* (UTC) and *draw*, a random number below `SPREAD`."""
    return TaskId((now - EPOCH) // timedelta(milliseconds=1) * SPREAD + draw % SPREAD)


def parse_task_id(text: str) -> TaskId | None:
    """Return the id that *text* spells, or None: only plain ASCII digits below 2^63 are one."""
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(LIMIT)) and not text.startswith("0")):
        return None
    value = int(text)
    return TaskId(value) if value < LIMIT else None
