"""When to try or to ask again. Pure: time and randomness come in."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Final

SECOND: Final = timedelta(seconds=1)
#: Longest pause between two polls or two tries.
LONGEST_PAUSE: Final = timedelta(minutes=10)
#: While tasks wait for a slot of an account, those that hold one are asked at least this often.
BUSY_PAUSE: Final = timedelta(seconds=30)
#: At most one query per task in this time.
QUERY_SPACING: Final = timedelta(seconds=5)
_LARGEST_EXPONENT: Final = 20


def retry_after(attempt: int, *, remaining: timedelta, jitter: float) -> timedelta:
    """
    Return the pause before the next try: 1 s doubling to 10 minutes, less as the deadline nears.

    Args:
        attempt: Tries so far; 1 after the first failure.
        remaining: Time until the deadline; past it haste gains nothing, so the pause is not shortened.
        jitter: From [0, 1); spreads the pause over its upper half.
    """
    pause: timedelta = SECOND * (2 ** min(max(attempt, 1) - 1, _LARGEST_EXPONENT))
    pause = min(pause, LONGEST_PAUSE)
    if remaining > timedelta():
        pause = min(pause, max(remaining / 8, SECOND))
    return pause * (0.5 + jitter / 2)


def next_poll(
    polls: int, *, usual: timedelta, remaining: timedelta, jitter: float, slots_awaited: bool = False
) -> timedelta:
    """
    Return the pause before the provider is asked of a task again.

    Args:
        polls: Answered queries so far; 0 gives the time after which a task is usually done.
        usual: How long the provider usually takes.
        remaining: Time until the task is due; may be negative.
        jitter: From [0, 1); spreads the pause by a quarter to both sides.
        slots_awaited: Other tasks of the account wait for one to end.
    """
    pause: timedelta = usual * math.pow(1.6, min(polls, _LARGEST_EXPONENT))
    longest = BUSY_PAUSE if slots_awaited else LONGEST_PAUSE
    pause = min(pause, longest, max(remaining / 8, QUERY_SPACING))
    return max(pause * (0.75 + jitter / 2), SECOND)
