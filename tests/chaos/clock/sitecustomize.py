"""
Lets Python sleep under libfaketime, which breaks `clock_nanosleep` where it leaves the monotonic clock alone.

Read by every Python process that has this directory on its path: those with a wrong clock, and no others.
"""

from __future__ import annotations

import select
import time
from typing import SupportsIndex


def _sleep(seconds: float | SupportsIndex, /) -> None:
    select.select((), (), (), float(seconds))


time.sleep = _sleep
