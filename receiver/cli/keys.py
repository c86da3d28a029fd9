"""API keys; only their hash is kept."""

from __future__ import annotations

import asyncio
import hashlib
import math
import secrets
import sys
from decimal import Decimal
from typing import Annotated

import typer

from receiver import wiring
from receiver.cli import run
from receiver.store import db, keys
from receiver.store.keys import Key

app = typer.Typer(help="API keys, made in the database itself.", no_args_is_help=True)

#: Of the key that the first start prints.
FIRST_OWNER = "main"


@app.command()
def create(
    owner: Annotated[str, typer.Option(help="Whose tasks the key sees")] = FIRST_OWNER,
    daily_tasks: Annotated[int | None, typer.Option(min=0, help="Tasks that it may submit per day (UTC)")] = None,
    daily_units: Annotated[float | None, typer.Option(min=0, help="Units that these may cost per day (UTC)")] = None,
) -> None:
    """Make a key and print it once."""
    if not owner.strip():
        raise typer.BadParameter("must not be empty", param_hint="--owner")
    if daily_units is not None and not math.isfinite(daily_units):
        raise typer.BadParameter("must be a number", param_hint="--daily-units")
    with run.database(run.read_settings()) as url:
        wiring.check_migrated(url)
        units = None if daily_units is None else Decimal(str(daily_units))
        sys.stdout.write(asyncio.run(make(url, owner.strip(), daily_tasks, daily_units=units)) + "\n")


async def make(
    database_url: str, owner: str, daily_tasks: int | None = None, daily_units: Decimal | None = None
) -> str:
    """Make a key for *owner* and return it; nobody can read it again."""
    conn = await db.connect(database_url)
    try:
        return await _add(conn, owner, daily_tasks, daily_units)
    finally:
        await conn.close()


async def first(database_url: str) -> str | None:
    """Make the first key of a new deployment; None when there is one."""
    conn = await db.connect(database_url)
    try:
        return None if await keys.exist(conn) else await _add(conn, FIRST_OWNER)
    finally:
        await conn.close()


async def _add(
    conn: db.Connection, owner: str, daily_tasks: int | None = None, daily_units: Decimal | None = None
) -> str:
    secret = f"rk_{secrets.token_urlsafe(32)}"
    key = Key(id=secrets.token_hex(4), owner=owner, daily_tasks=daily_tasks, daily_units=daily_units)
    async with db.translated():
        await keys.add(conn, key, hashlib.sha256(secret.encode()).digest())
    return secret
