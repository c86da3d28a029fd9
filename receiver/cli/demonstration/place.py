"""Where a demo runs: its directory, its port, its secrets, and the settings that follow from them."""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, SecretStr

from receiver.cli.demonstration.sellers import Seller
from receiver.core.errors import Misconfigured
from receiver.local.store import BUCKET, HOST, is_free
from receiver.settings import Settings, account_variable

#: Below the range of outgoing ports, and away from the one that the embedded store draws from.
PORTS: Final = range(10_000, 20_000)
#: Variables of the person who starts the demo that would change it, or bring a real account into it.
STRANGERS: Final = ("RECEIVER_", "SANDBOX_", "KLING_", "COMETAPI_", "DEERAPI_", "KKIAI_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One run of the demo."""

    directory: Path
    port: int
    #: Of the sandbox's account.
    api_key: str = field(repr=False)
    #: `whsec_…`: the sandbox signs with it, the service checks with it.
    webhook_secret: str = field(repr=False)

    @property
    def url(self) -> str:
        """Where the service listens."""
        return f"http://{HOST}:{self.port}"

    @property
    def objects(self) -> Path:
        """Where the media lie as files."""
        return self.directory / "store" / "objects" / BUCKET

    def sandbox_variables(self) -> dict[str, str]:
        """Return what the sandbox is told by its environment."""
        return {"SANDBOX_API_KEY": self.api_key, "SANDBOX_WEBHOOK_SECRET": self.webhook_secret}

    def service_variables(self, sandbox_url: str, sellers: Sequence[Seller]) -> dict[str, str]:
        """Return what the service is told by its environment: accounts, ports and directory, nothing else."""
        return {
            "RECEIVER_DATA_DIR": str(self.directory),
            "RECEIVER_PORT": str(self.port),
            "RECEIVER_WORKER_PORT": "0",
            "RECEIVER_PUBLIC_URL": self.url,
            **{
                account_variable(seller.account, name): value
                for seller in sellers
                for name, value in self._account(seller, sandbox_url).items()
            },
        }

    def _account(self, seller: Seller, sandbox_url: str) -> dict[str, str]:
        account = {
            "dialect": seller.profile.name,
            "base_url": sandbox_url + seller.path,
            "api_key": self.api_key,
            "allow_cidrs": json.dumps(["127.0.0.0/8"]),
            "allow_http": "true",
            "keep_video": "true",
        }
        if HOST not in seller.profile.asset_hosts:
            account["asset_hosts"] = json.dumps([HOST])
        if seller.signs:
            account["webhook_secrets"] = json.dumps([self.webhook_secret])
        return account


def make(parent: Path) -> Place:
    """
    Make the directory of a new run below *parent*, named for the time (UTC), and draw port and secrets.

    Raises:
        Misconfigured: There is no room for it below *parent*.
    """
    stamp = (
        datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z").replace(":", "").replace("-", "")
    )
    directory = parent.absolute() / stamp
    try:
        directory.mkdir(parents=True)
    except OSError as exc:
        raise Misconfigured(f"no directory can be made below {parent}: {exc.strerror}") from exc
    port = next(port for port in secrets.SystemRandom().sample(PORTS, len(PORTS)) if is_free(port))
    signing = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    return Place(directory=directory, port=port, api_key=secrets.token_urlsafe(32), webhook_secret=signing)


def forget_strangers() -> None:
    """Take the settings of the person who starts the demo out of our environment."""
    for name in [name for name in os.environ if name.upper().startswith(STRANGERS)]:
        del os.environ[name]


def differing(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the settings that are not the defaults, secrets masked; what several accounts share is named once."""
    of_accounts: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, value in _changed(settings):
        if name != "accounts":
            yield f"RECEIVER_{name.upper()}", _shown(value)
    for account, its in settings.accounts.items():
        for inner, given in _changed(its):
            of_accounts[inner, _shown(given)].append(account)
    for (name, value), accounts in of_accounts.items():
        whose = accounts[0].upper() if len(accounts) == 1 else "{" + ",".join(map(str.upper, accounts)) + "}"
        shared = len(accounts) > 1 and len(accounts) == len(settings.accounts)
        yield account_variable("*" if shared else whose, name), value


def _changed(model: BaseModel) -> Iterator[tuple[str, object]]:
    for name, info in type(model).model_fields.items():
        value: object = getattr(model, name)
        if info.is_required() or value != info.get_default(call_default_factory=True, validated_data={}):
            yield name, value


def _shown(value: object) -> str:
    match value:
        case SecretStr():
            return str(value)
        case tuple():
            return json.dumps([_shown(each) for each in value])
        case bool():
            return str(value).lower()
        case _:
            return str(value)


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return our environment with *variables* in it."""
    return {**os.environ, **variables}
