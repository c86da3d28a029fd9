"""What is kept of fetches of media: operations for `State.do`."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from receiver.sandbox import tasks
from receiver.sandbox.faults import Odds
from receiver.sandbox.links import Link
from receiver.sandbox.plan import Spoilt
from receiver.sandbox.records import Format, MediaFile, Task

#: The HTTP status of what is refused.
REFUSED: Final = MappingProxyType({Spoilt.LAPSED: 403, Spoilt.DEAD: 404, Spoilt.SERVER_ERROR: 503})

Connection = sqlite3.Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """One request for a file by a link that was given out here."""

    id: int
    task: Task
    file: MediaFile
    #: Of the task.
    external_id: str | None
    spoilt: Spoilt | None


def begin(
    conn: Connection, house: str, task_id: int, clip: int, form: Format, *, link: Link, odds: Odds
) -> Fetch | None:
    """
    Note a fetch and decide what it meets; None when the house has no such file.

    The first one by a dead link sees to it that the next answer has a link that works.
    """
    file = tasks.file(conn, house, task_id, clip, form)
    if file is None:
        return None
    task = tasks.get(conn, task_id)
    before = conn.execute("SELECT count(*) FROM fetch WHERE task_id = ? AND format = ?", (task_id, form))
    nth: int = before.fetchone()[0] + 1
    if link.lapsed:
        spoilt: Spoilt | None = Spoilt.LAPSED
    elif form in task.plan.dead and link.generation == 0:
        spoilt = Spoilt.DEAD
        conn.execute("UPDATE file SET generation = 1 WHERE task_id = ? AND format = ?", (task_id, form))
    else:
        spoilt = odds.fetch(task.number, form, nth)
    fetch_id = conn.execute(
        "INSERT INTO fetch (task_id, format, nth, status, fault) VALUES (?, ?, ?, ?, ?) RETURNING id",
        (task_id, form, nth, None if spoilt is None else REFUSED.get(spoilt), spoilt),
    ).fetchone()[0]
    return Fetch(id=fetch_id, task=task, file=file, external_id=task.order.external_id, spoilt=spoilt)


def end(conn: Connection, fetch_id: int, *, status: int | None, sent: int, fault: str | None) -> None:
    """Record the answer: its HTTP status, how many bytes of the body were sent, and what was wrong with it."""
    conn.execute("UPDATE fetch SET status = ?, bytes = ?, fault = ? WHERE id = ?", (status, sent, fault, fetch_id))
