"""How well an account's callbacks have come of late, told by the rows themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from receiver.core import ids
from receiver.core.model import AccountId
from receiver.store.db import Connection, every, one

#: How far back it looks.
SPAN: Final = timedelta(hours=24)
#: Callbacks of all accounts, the newest, that are counted at most.
CALLBACKS: Final = 20_000
#: Tasks of one account, the newest, that are judged at most.
TASKS: Final = 5_000
#: A task takes this long at most from its id to its end: a day to be sent, a day to run, a day of grace.
_LONGEST: Final = timedelta(days=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """
    The callbacks of one account in the last 24 h, and how they served its tasks.

    A callback *tells the end* of a task when it could be read, is about that task,
    and says that it has succeeded or failed. The end *is known* when a trusted
    observation has moved the task to succeeded or failed.
    """

    #: Callbacks kept; repeats are not kept.
    received: int = 0
    #: Copies of those, byte for byte, that came later and had no effect.
    repeated: int = 0
    #: Of those received, how many had a good signature.
    signed: int = 0
    last_received_at: datetime | None = None
    #: The last one with a good signature.
    last_signed_at: datetime | None = None
    #: Tasks whose end became known in that time and whose create had named a callback URL.
    expected: int = 0
    #: Of those expected, how many were told their end only after we had learnt it by asking.
    late: int = 0
    #: Of those expected, how many no callback has told their end so far: they ended by polling.
    lost: int = 0


ARRIVALS: Final = """
-- store.weather.arrivals: the newest callbacks by account; copies that no sweep has counted yet are added
WITH newest AS (
    SELECT * FROM (SELECT account, task_id, verified, digest, repeats, received_at FROM inbox
                    ORDER BY id DESC LIMIT %(limit)s) AS x
     WHERE received_at > now() - %(span)s
), waiting AS (
    SELECT account, sum(times) AS times FROM inbox_repeat JOIN newest USING (task_id, account, verified, digest)
     GROUP BY account
)
SELECT account, count(*) AS received, sum(repeats) + coalesce(max(waiting.times), 0) AS repeated,
       count(*) FILTER (WHERE verified) AS signed, max(received_at) AS last_received_at,
       max(received_at) FILTER (WHERE verified) AS last_signed_at
  FROM newest LEFT JOIN waiting USING (account)
 GROUP BY account
"""

ENDS: Final = """
-- store.weather.ends: how the ends of an account's newest tasks were learnt; each part is one look into an index
SELECT count(*) AS expected,
       count(*) FILTER (WHERE told.at > known.at) AS late,
       count(*) FILTER (WHERE told.at IS NULL) AS lost
  FROM (SELECT id FROM task WHERE account = %(account)s AND id >= %(first)s AND sends > 0
         ORDER BY id DESC LIMIT %(limit)s) AS sent
 CROSS JOIN LATERAL (SELECT at FROM event
                      WHERE task_id = sent.id AND type IN ('task.succeeded', 'task.failed', 'task.rescued')
                        AND data ? 'trust' ORDER BY id LIMIT 1) AS known
 CROSS JOIN LATERAL (SELECT min(received_at) AS at FROM inbox
                      WHERE task_id = sent.id AND account = %(account)s AND told IN ('succeeded', 'failed')) AS told
 CROSS JOIN LATERAL (SELECT FROM event
                      WHERE task_id = sent.id AND type = 'task.sending' AND data @> '{"callback": true}'
                      LIMIT 1) AS asked
 WHERE known.at > now() - %(span)s
"""


async def of(conn: Connection, accounts: list[AccountId], now: datetime) -> Mapping[AccountId, Weather]:
    """Return the weather of *accounts*; the work is bounded by `CALLBACKS` and `TASKS`, not by what there is."""
    rows = await every(conn, ARRIVALS, {"limit": CALLBACKS, "span": SPAN})
    arrivals = {row.pop("account"): row for row in rows}
    return {account: Weather(**arrivals.get(account, {}), **await _ends(conn, account, now)) for account in accounts}


async def _ends(conn: Connection, account: AccountId, now: datetime) -> dict[str, Any]:
    first = ids.task_id(now - SPAN - _LONGEST, 0)
    params = {"account": account, "first": first, "limit": TASKS, "span": SPAN}
    return await one(conn, ENDS, params) or {}
