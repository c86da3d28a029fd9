"""API keys; only their hash is kept."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import secrets
import sys
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Annotated, Final, TypeVar

import typer
from rich.console import Console

from receiver import wiring
from receiver.cli import run
from receiver.cli.tables import cell, clean, rows, table
from receiver.core.errors import NotFound
from receiver.store import db, keys
from receiver.store.keys import Key, Listed

app = typer.Typer(help="API keys, made in the database itself.", no_args_is_help=True)

#: Of the key that the first start prints.
FIRST_OWNER = "main"
#: Of a list.
COLUMNS: Final = ("id", "owner", "daily_tasks", "daily_units", "created_at", "revoked_at")

T = TypeVar("T")


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


@app.command("list")
def listing(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON document")] = False,
) -> None:
    """List the keys by id: whose they are, what they may cost, and whether they are in force. Shows no key."""
    lines = [_line(key) for key in _with_keys(keys.listed)]
    if as_json:
        sys.stdout.write(json.dumps({"keys": lines}) + "\n")
    elif sys.stdout.isatty():
        shown = table(*COLUMNS, right=("daily_tasks", "daily_units"))
        for line in lines:
            shown.add_row(*(cell(line[name]) for name in COLUMNS))
        Console(highlight=False).print(shown)
    else:
        sys.stdout.write(rows([line[name] for name in COLUMNS] for line in lines))


@app.command()
def revoke(key: Annotated[str, typer.Argument(metavar="ID", help="As `receiver keys list` shows it")]) -> None:
    """Let a key open nothing any more, from its next request on; its tasks go on."""
    if not _with_keys(lambda conn: keys.revoke(conn, key)):
        raise NotFound(f"there is no key {clean(key)} in force; see `receiver keys list`")
    sys.stdout.write(f"{key} is revoked\n")


def _with_keys(act: Callable[[db.Connection], Awaitable[T]]) -> T:
    """Do *act* on the database of the settings."""

    async def done(url: str) -> T:
        conn = await db.connect(url)
        try:
            async with db.translated():
                return await act(conn)
        finally:
            await conn.close()

    with run.database(run.read_settings()) as url:
        wiring.check_migrated(url)
        return asyncio.run(done(url))


def _line(key: Listed) -> dict[str, str | int | None]:
    return {
        "id": key.id,
        "owner": key.owner,
        "daily_tasks": key.daily_tasks,
        "daily_units": None if key.daily_units is None else str(key.daily_units),
        "created_at": key.created_at.isoformat(timespec="seconds"),
        "revoked_at": None if key.revoked_at is None else key.revoked_at.isoformat(timespec="seconds"),
    }


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
