"""When things are due. Pure: the caller brings the time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from receiver.core.model import AssetState, State, Task

#: How long a task may wait to be sent for the first time.
SUBMIT_WITHIN: Final = timedelta(hours=24)
#: Granted once when the provider or the bucket cannot be reached at the deadline.
GRACE: Final = timedelta(hours=24)


def due_at(task: Task) -> datetime | None:
    """Return when an open task must have ended (UTC); None for one that has."""
    match task.state:
        case State.ACCEPTED:
            return task.submit_by
        case State.SUBMITTING | State.SUBMITTED | State.PROCESSING:
            return task.settle_by
        case State.SUCCEEDED:
            pending = [asset.gone_at for asset in task.assets if asset.state is AssetState.PENDING]
            return min(pending, default=task.settle_by)
        case _:
            return None


def deliver_by(task: Task) -> datetime | None:
    """Return the least `deliver_by` of the pending assets (UTC); None when nothing is pending."""
    return min((a.deliver_by for a in task.assets if a.state is AssetState.PENDING), default=None)


def slack(task: Task, now: datetime) -> timedelta | None:
    """Return the time left until the first link or deadline of an open task; None for one that has ended."""
    by = deliver_by(task) or task.due_at
    return None if task.due_at is None or by is None else by - now


def gone_at(window: timedelta, *sensible: datetime | None, now: datetime) -> datetime:
    """
    Return the end of the delivery window, counted from the earlier sensible time.

    Whether a window starts at creation or at the end is not documented
    (providers.md D18), so the earlier one counts. A time in the future, or one
    from before the window, is the clock's fault and not used.
    """
    starts = [at for at in sensible if at is not None and now - window < at <= now]
    return min(starts, default=now) + window
