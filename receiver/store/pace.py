"""What all processes agree on about the pace of an account: circuit, budget of requests, lowered limit."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from receiver.core.model import AccountId
from receiver.store.db import Connection, one


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How an account may be spoken to (UTC); an account without a row has met no trouble."""

    #: Answers in a row that settled nothing.
    failures: int = 0
    #: Nothing is sent before; then, after failures, one request tries.
    open_until: datetime | None = None
    open_reason: str | None = None
    #: Whether that time is still to come.
    is_open: bool = False
    #: Tasks in flight at most until `lowered_until`.
    lowered_to: int | None = None
    lowered_until: datetime | None = None


STANDING: Final = """
-- store.pace.standing: whether anything slows the account; a row that says nothing any more is as none
SELECT failures, coalesce(open_until > now(), false) AS is_open,
       CASE WHEN open_until > now() OR failures >= %(patience)s THEN open_until END AS open_until,
       CASE WHEN open_until > now() OR failures >= %(patience)s THEN open_reason END AS open_reason,
       CASE WHEN lowered_until > now() THEN lowered_to END AS lowered_to,
       CASE WHEN lowered_until > now() THEN lowered_until END AS lowered_until
  FROM pace WHERE account = %(account)s
"""

WAIT: Final = """
-- store.pace.wait: how long until a request may pass, and whether it would be the one that tries
SELECT failures, greatest(open_until - now(), interval '0') AS wait FROM pace WHERE account = %(account)s
"""

TRY: Final = """
-- store.pace.try: the one request that tries an open circuit, of all processes
UPDATE pace SET open_until = now() + %(trial)s
 WHERE account = %(account)s AND failures >= %(patience)s AND (open_until IS NULL OR open_until <= now())
"""

SPEND: Final = """
-- store.pace.spend: one request of the budget; a burst of some seconds' worth is allowed
INSERT INTO pace AS p (account, next_request_at) VALUES (%(account)s, now() + %(every)s)
ON CONFLICT (account) DO UPDATE SET next_request_at = greatest(p.next_request_at, now()) + %(every)s
 WHERE p.next_request_at IS NULL OR p.next_request_at <= now() + %(burst)s
"""

REST: Final = """
-- store.pace.rest: how long until the budget has room
SELECT greatest(next_request_at - now() - %(burst)s, interval '0') AS wait FROM pace WHERE account = %(account)s
"""

FAILED: Final = """
-- store.pace.failed: one more answer that settled nothing; from the patience on the circuit opens, longer each time
INSERT INTO pace AS p (account, failures) VALUES (%(account)s, 1)
ON CONFLICT (account) DO UPDATE
   SET failures = p.failures + 1,
       open_until = CASE WHEN p.failures + 1 >= %(patience)s
                         THEN now() + least(%(first)s * power(2, least(p.failures + 1 - %(patience)s, 16)), %(longest)s)
                         ELSE p.open_until END,
       open_reason = CASE WHEN p.failures + 1 >= %(patience)s THEN 'unreachable' ELSE p.open_reason END
RETURNING failures
"""

ANSWERED: Final = """
-- store.pace.answered: the provider is there; that it wanted fewer requests stays
UPDATE pace AS p
   SET failures = 0,
       open_until = CASE WHEN p.open_reason = 'too_fast' THEN p.open_until END,
       open_reason = CASE WHEN p.open_reason = 'too_fast' THEN p.open_reason END
  FROM pace AS before
 WHERE p.account = %(account)s AND before.account = p.account AND p.failures > 0
RETURNING before.failures
"""

REST_UNTIL: Final = """
-- store.pace.rest_until: the provider said when to come back
INSERT INTO pace AS p (account, open_until, open_reason) VALUES (%(account)s, now() + %(wait)s, %(reason)s)
ON CONFLICT (account) DO UPDATE
   SET open_until = greatest(p.open_until, excluded.open_until),
       open_reason = CASE WHEN p.open_until > excluded.open_until THEN p.open_reason ELSE excluded.open_reason END
"""

LOWER: Final = """
-- store.pace.lower: the provider takes fewer tasks than the account says
INSERT INTO pace (account, lowered_to, lowered_until) VALUES (%(account)s, %(limit)s, now() + %(span)s)
ON CONFLICT (account) DO UPDATE SET lowered_to = excluded.lowered_to, lowered_until = excluded.lowered_until
"""


async def standing(conn: Connection, account: AccountId, *, patience: int) -> Pace:
    """Return what slows *account* now; *patience* failures in a row open its circuit."""
    return Pace(**(await one(conn, STANDING, {"account": account, "patience": patience}) or {}))


async def wait(conn: Connection, account: AccountId, *, patience: int, trial: timedelta) -> timedelta:
    """
    Return how long nothing may be sent for *account*; zero lets this caller send.

    Where the circuit has been open, one caller of all processes gets zero, and
    the next one only after *trial*, unless an answer has come.
    """
    row = await one(conn, WAIT, {"account": account})
    if row is None:
        return timedelta()
    left: timedelta = row["wait"] or timedelta()
    if left > timedelta() or row["failures"] < patience:
        return left
    tried = await conn.execute(TRY, {"account": account, "patience": patience, "trial": trial})
    return timedelta() if tried.rowcount else trial


async def spend(conn: Connection, account: AccountId, *, every: timedelta, burst: timedelta) -> timedelta:
    """Take one request of a budget that grows by one each *every*; return zero, or how long there is none."""
    params = {"account": account, "every": every, "burst": burst}
    if (await conn.execute(SPEND, params)).rowcount:
        return timedelta()
    row = await one(conn, REST, params)
    return every if row is None or not row["wait"] else row["wait"]


async def failed(conn: Connection, account: AccountId, *, patience: int, first: timedelta, longest: timedelta) -> int:
    """Count an answer that settled nothing and return how many came in a row; too many open the circuit."""
    params = {"account": account, "patience": patience, "first": first, "longest": longest}
    row = await one(conn, FAILED, params)
    return 0 if row is None else int(row["failures"])


async def answered(conn: Connection, account: AccountId) -> int:
    """Note that the provider answers; return how many failures in a row that ended."""
    row = await one(conn, ANSWERED, {"account": account})
    return 0 if row is None else int(row["failures"])


async def rest(conn: Connection, account: AccountId, wait: timedelta, reason: str) -> None:
    """Send nothing for *account* until *wait* is over."""
    await conn.execute(REST_UNTIL, {"account": account, "wait": wait, "reason": reason})


async def lower(conn: Connection, account: AccountId, limit: int, span: timedelta) -> None:
    """Let at most *limit* tasks of *account* be in flight for *span*."""
    await conn.execute(LOWER, {"account": account, "limit": limit, "span": span})
