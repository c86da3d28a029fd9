"""What is known of the secrets of a deployment, without showing one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from receiver import wiring
from receiver.cli import run
from receiver.core.errors import Misconfigured
from receiver.core.model import AccountId, Secret
from receiver.core.tokens import key_id
from receiver.flow.services import Deal
from receiver.settings import FILE, Settings, account_variable, own_variable
from receiver.store import accounts, db, health, secrets, weather
from receiver.store.accounts import ConsoleTest
from receiver.store.secrets import Need
from receiver.store.weather import Weather


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """All that is known of secrets at one moment."""

    #: Of the callback URLs; the first signs.
    callbacks: tuple[Secret, ...]
    ages: Mapping[tuple[str, str], datetime]
    #: By key id; under None tasks of which it was not written down.
    needs: Mapping[str | None, Need]
    deals: Mapping[AccountId, Deal]
    weather: Mapping[AccountId, Weather]
    tests: Mapping[AccountId, ConsoleTest | None]
    #: Key ids of the callback secrets that the last process to start had.
    agreed: frozenset[str]
    #: By the database (UTC).
    now: datetime

    def missing(self) -> dict[str, Need]:
        """Return what open tasks need and nobody has."""
        have = {key_id(secret) for secret in self.callbacks}
        return {name: need for name, need in self.needs.items() if name is not None and name not in have}

    def age(self, account: str, name: str) -> timedelta | None:
        """Return for how long a secret is known; None when no process has had it yet."""
        since = self.ages.get((account, name))
        return None if since is None else self.now - since


async def known_of(database_url: str, settings: Settings) -> Known:
    """
    Read all that is known of secrets.

    Raises:
        Misconfigured: There is no callback secret, or an account is wrong.
        StoreUnavailable: The database does not answer.
    """
    deals = wiring.read_deals(settings)
    conn = await db.connect(database_url)
    try:
        async with db.translated():
            now = await db.clock(conn)
            return Known(
                callbacks=callback_secrets(settings),
                ages=await secrets.ages(conn),
                needs=await secrets.needed(conn),
                deals=deals,
                weather=await weather.of(conn, list(deals), now),
                tests={account: await accounts.last_test(conn, account) for account in deals},
                agreed=await health.agreed(conn),
                now=now,
            )
    finally:
        await conn.close()


def callback_secrets(settings: Settings) -> tuple[Secret, ...]:
    """
    Return the secrets of the callback URLs, from the settings or from our own file.

    Raises:
        Misconfigured: There is none yet.
    """
    file = run.own_secrets_file(settings)
    if file is None:
        return wiring.read_tokens(settings).secrets
    try:
        return wiring.read_secrets(file)
    except FileNotFoundError as exc:
        raise Misconfigured(
            f"there are no callback secrets in {file} yet; the first `receiver serve` makes one"
        ) from exc


def webhook_variable(deal: Deal) -> str:
    """Return the variable that holds the webhook secrets of an account; where none is set the general one."""
    general = account_variable(deal.account.id, "webhook_secrets")
    environment = {name.upper() for name, value in os.environ.items() if value}
    for name in (general, own_variable(deal.account.dialect, "webhook_secrets")):
        if name is not None and environment & {name, f"{name}{FILE}"}:
            return name
    return general
