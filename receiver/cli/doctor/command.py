"""The command: every check in turn, and what they say together."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Annotated

import typer

from receiver import wiring
from receiver.cli import keyring, run
from receiver.cli.doctor import (
    accounts,
    bucket,
    clocks,
    database,
    disk,
    environment,
    findings,
    parts,
    profiles,
    public,
    secrets,
    work,
)
from receiver.cli.doctor.findings import Finding, Status, broken, warning
from receiver.cli.doctor.parts import Parts
from receiver.core.errors import Misconfigured, StoreUnavailable
from receiver.core.model import AccountId
from receiver.flow.services import Deal
from receiver.settings import Settings
from receiver.store import accounts as known_accounts
from receiver.store import db, health
from receiver.store.db import Connection

Clock = Callable[[], datetime]


def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON document")] = False,
) -> None:
    """
    Look for what is wrong, a line each, and say how it is mended; exit status 1 when something is broken.

    Asks the database, the bucket, every account's provider (after a task that cannot exist) and the public URL. Parts
    that would be embedded are started for it where they do not run. Shows no secret.
    """
    try:
        settings = run.read_settings()
    except Misconfigured as exc:
        found = [broken("settings", str(exc), "correct or unset it; .env.example names every setting")]
    else:
        with parts.opened(settings) as opened:
            found = asyncio.run(examine(settings, opened, environment=os.environ, clock=wiring.Clock()))
    findings.tell(found, as_json=as_json)
    if findings.worst(found) is Status.BROKEN:
        raise typer.Exit(1)


async def examine(settings: Settings, opened: Parts, *, environment: Mapping[str, str], clock: Clock) -> list[Finding]:
    """Run every check that can run; *clock* is this machine's time, aware UTC."""
    found = [*_configured(settings, environment), *opened.findings]
    deals = _deals(settings, found)
    offset = await _database(settings, opened.database_url, deals, clock, found)
    if opened.bucket is not None:
        found += await bucket.check(opened.bucket, settings, clock)
    found.append(await work.check_web(settings))
    found += await public.check(settings.public_url, deals)
    found += await accounts.check(deals, lambda: clock() + offset)
    return found


def _configured(settings: Settings, variables: Mapping[str, str]) -> list[Finding]:
    return [*environment.check(settings, variables), *profiles.check(settings), *disk.check(settings)]


def _deals(settings: Settings, found: list[Finding]) -> Mapping[AccountId, Deal]:
    """Read the accounts; what is wrong with one is a finding, and then none can be looked at."""
    try:
        deals = wiring.read_deals(settings)
        wiring.read_defaults(settings, deals)
    except Misconfigured as exc:
        if all(finding.found != str(exc) for finding in found):
            found.append(broken("accounts", str(exc), "correct it; the service does not start"))
        return {}
    return deals


async def _database(
    settings: Settings, url: str | None, deals: Mapping[AccountId, Deal], clock: Clock, found: list[Finding]
) -> timedelta:
    """Look at the database and at all that is in it; return its clock's offset."""
    if url is None:
        return timedelta()
    try:
        conn = await db.connect(url)
    except (StoreUnavailable, Misconfigured) as exc:
        found += [database.unreachable(exc), _unseen("it cannot be reached")]
        return timedelta()
    try:
        async with db.translated():
            found += await database.check(conn, settings)
            found += await database.check_pooler(url, conn)
            offset = await clocks.offset_to(conn, clock)
            found.append(clocks.check_database(offset))
            await _content(settings, url, conn, deals, found)
            return offset
    except StoreUnavailable as exc:
        found += [database.unreachable(exc), _unseen("it went away")]
        return timedelta()
    finally:
        await conn.close()


async def _content(
    settings: Settings, url: str, conn: Connection, deals: Mapping[AccountId, Deal], found: list[Finding]
) -> None:
    """Look at what only a database of this version holds."""
    migrations = await asyncio.to_thread(database.check_migrations, url, settings)
    found.append(migrations)
    if migrations.status is not Status.OK:
        found.append(_unseen("its schema is not this version's"))
        return
    try:
        wiring.check_open(await known_accounts.in_use(conn), deals)
    except Misconfigured as exc:
        text = f"{str(exc).removeprefix('account ')}: the service does not start"
        found.append(broken("accounts", text, "configure it again until they have ended"))
    found += work.check(await health.work(conn))
    if any(finding.name == "accounts" and finding.status is Status.BROKEN for finding in found):
        return
    try:
        known = await keyring.known_of(url, settings)
    except Misconfigured as exc:
        found.append(_no_secrets(settings, exc))
        return
    found += [*secrets.check_callbacks(known), *secrets.check_signatures(known)]


def _no_secrets(settings: Settings, exc: Misconfigured) -> Finding:
    if run.own_secrets_file(settings) is not None:
        return warning("callback secrets", str(exc), "run `receiver serve`")
    return broken("callback secrets", str(exc), "set RECEIVER_CALLBACK_SECRETS, or RECEIVER_CALLBACK_SECRETS_FILE")


def _unseen(why: str) -> Finding:
    text = f"tasks, workers, secrets and signatures were not looked at: {why}"
    return warning("work", text, "mend the database first")
