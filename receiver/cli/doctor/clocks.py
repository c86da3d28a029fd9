"""Clocks: this machine's, the database's, and those of others as their answers tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Final

from receiver.cli.doctor.findings import Finding, broken, ok, warning
from receiver.core.model import KeyPair
from receiver.dialects.signature import TOLERANCE
from receiver.flow.services import Deal
from receiver.store import db
from receiver.store.db import Connection

#: Between this machine and the database; the service corrects its own clock by it.
TO_DATABASE: Final = timedelta(seconds=2)
#: A token of a key pair is good from 5 s before it is made (providers.md 2.1); answers tell whole seconds.
TO_PROVIDER: Final = timedelta(seconds=6)
#: S3 servers refuse requests whose clock is off by 15 minutes; a minute is no accident.
TO_BUCKET: Final = timedelta(minutes=1)
BUCKET_LIMIT: Final = timedelta(minutes=15)
SYNC: Final = "synchronise the clocks (chrony, systemd-timesyncd)"


async def offset_to(conn: Connection, clock: Callable[[], datetime]) -> timedelta:
    """Return what is added to this machine's clock to have the database's."""
    before = clock()
    theirs = await db.clock(conn)
    return theirs - (before + (clock() - before) / 2)


def check_database(offset: timedelta) -> Finding:
    """Judge the offset to the database."""
    text = f"{_seconds(offset)} from this machine to the database"
    if abs(offset) > TO_DATABASE:
        return warning("clock", f"{text}; the service corrects itself by it", SYNC)
    return ok("clock", text)


def check_provider(deal: Deal, offset: timedelta) -> Iterator[Finding]:
    """Judge how far the provider's clock is from the service's; nothing where it does not matter."""
    name, text = f"account {deal.account.id}", f"the provider's clock differs by {_seconds(offset)}"
    if abs(offset) > TO_PROVIDER and isinstance(deal.account.credentials, KeyPair):
        yield broken(name, f"{text}: tokens made with the key pair are refused", SYNC)
    elif abs(offset) > TOLERANCE and deal.account.webhook_secrets:
        yield broken(name, f"{text}: signed callbacks count as stale", SYNC)
    elif abs(offset) > TO_PROVIDER:
        yield warning(name, text, SYNC)


def check_bucket(offset: timedelta) -> Iterator[Finding]:
    """Judge how far the bucket's clock is from this machine's; nothing when it is near."""
    text = f"the server's clock differs by {_seconds(offset)}"
    if abs(offset) > BUCKET_LIMIT:
        yield broken("bucket", f"{text}: S3 servers refuse requests by then", SYNC)
    elif abs(offset) > TO_BUCKET:
        yield warning("bucket", text, SYNC)


def _seconds(offset: timedelta) -> str:
    return f"{offset.total_seconds():+.1f} s"
