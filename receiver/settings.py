"""
Every setting, read once from the environment.

`RECEIVER_` comes before each name; accounts are nested with two underscores:
`RECEIVER_ACCOUNTS__STUDIO__DIALECT=kling`. One key alone makes an account too
(`OWN_VARIABLES`). What is secret may lie in a file: `…_FILE` names it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

PREFIX: Final = "RECEIVER_"
#: Between the parts of the name of an account's variable.
NESTED: Final = "__"
#: After the name of a secret: the file that holds it.
FILE: Final = "_FILE"


class Own(NamedTuple):
    """A variable that people have for a provider anyway, and the setting of its account that it stands for."""

    variable: str
    field: str
    description: str


#: By profile, whose name the account takes.
OWN_VARIABLES: Final[Mapping[str, tuple[Own, ...]]] = MappingProxyType(
    {
        "kling": (
            Own("KLING_API_KEY", "api_key", "Makes the account kling"),
            Own("KLING_ACCESS_KEY", "access_key", "Makes the account kling, with KLING_SECRET_KEY"),
            Own("KLING_SECRET_KEY", "secret_key", "The secret key of the pair"),
            Own(
                "KLING_WEBHOOK_SECRET",
                "webhook_secrets",
                "Check the signatures of Kling's callbacks: whsec_ secrets, the newest first, separated by commas",
            ),
        ),
        "cometapi": (Own("COMETAPI_KEY", "api_key", "Makes the account cometapi"),),
        "deerapi": (Own("DEERAPI_KEY", "api_key", "Makes the account deerapi"),),
        "kkiai": (Own("KKIAI_KEY", "api_key", "Makes the account kkiai"),),
    }
)
#: Profiles that speak to the same provider as another one, so that its key serves their accounts too.
SAME_KEY: Final[Mapping[str, str]] = MappingProxyType({"kling-videos": "kling", "kling-text2video": "kling"})

_CREDENTIALS: Final = frozenset({"api_key", "access_key", "secret_key"})
_OF_ACCOUNT: Final = re.compile(r"receiver_accounts__(?P<account>.+?)__(?P<field>[a-z_]+)")


class SettingUnreadable(ValueError):
    """The environment cannot be read; says which variable is wrong."""


def _listed(value: object) -> object:
    """Read a list written as JSON, or with commas or white space between."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return _decoded(value)
    return tuple(part for part in re.split(r"[,\s]+", value) if part)


def _decoded(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        # Not chained: the error would carry the text.
        raise ValueError("must be JSON") from None


Secrets = Annotated[tuple[SecretStr, ...], BeforeValidator(_listed)]
Words = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class AccountSettings(BaseModel):
    """One contract with one provider; what is not set is taken from the provider's profile."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    dialect: str = Field(description="The provider's profile, such as kling")
    base_url: str | None = Field(
        default=None, description="Another host of the same API, or the name of one of the profile's regions"
    )
    api_key: SecretStr | None = Field(default=None, description="Sent as a Bearer token")
    access_key: str | None = Field(default=None, description="AK of a key pair, with secret_key")
    secret_key: SecretStr | None = Field(default=None, description="SK of a key pair")
    webhook_secrets: Secrets = Field(default=(), description="List of whsec_ secrets, all of them accepted")
    signature_mode: Literal["required", "opportunistic", "none"] | None = Field(
        default=None, description="What is demanded of a callback's signature"
    )
    concurrency: int | None = Field(default=None, ge=1, description="Tasks in flight at the provider")
    asset_hosts: Words | None = Field(default=None, description="List of host suffixes from which media may come")
    daily_tasks: int | None = Field(default=None, ge=0, description="Tasks accepted per day (UTC) at most")
    daily_units: Decimal | None = Field(default=None, ge=0, description="Units charged per day (UTC) at most")
    allow_cidrs: Words = Field(default=(), description="List of private networks that may be fetched from")
    allow_http: bool = Field(default=False, description="Let media and the API come without TLS")
    keep_video: bool = Field(default=False, description="Keep the mp4 beside the sound, where a result has both")


class Settings(BaseSettings):
    """The whole configuration of one process."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=NESTED,
        env_ignore_empty=True,
        enable_decoding=False,
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
    )

    data_dir: Path = Field(
        default=Path("receiver-data"), description="Directory of the embedded parts, the spool and generated secrets"
    )
    spool_quota_mb: int = Field(
        default=2048, ge=100, description="Megabytes (10^6 bytes) that one worker's downloads may take on disk"
    )
    host: str = Field(default="127.0.0.1", description="Address that web listens on")
    port: int = Field(default=8080, ge=0, le=65535, description="Port that web listens on; 0 takes a free one")
    worker_host: str = Field(default="127.0.0.1", description="Address of a worker's health and metrics")
    worker_port: int = Field(default=8081, ge=0, le=65535, description="Port of a worker's health and metrics")
    public_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^/?#\s]+[^?#\s]*$",
        description="Where providers reach web, such as https://hooks.example.com; without it tasks are only polled",
    )
    callback_secrets: Secrets = Field(
        default=(),
        description="Secrets of the callback URLs, at least 32 characters each: the first signs, all are accepted; "
        "made once and kept in the data directory when the database is embedded",
    )
    callback_secrets_file: Path | None = Field(
        default=None, description="File that holds them instead; a change of it is taken up without a restart"
    )
    database_url: SecretStr | None = Field(
        default=None, description="PostgreSQL 15 or later; without it one is started in the data directory"
    )
    database_connections: int = Field(default=20, ge=4, le=500, description="Connections of one process at most")
    s3_endpoint: str | None = Field(
        default=None, description="URL of the S3 server; without it one is started over the data directory"
    )
    s3_bucket: str = Field(default="receiver", description="Bucket of the audio")
    s3_prefix: str = Field(default="", description="Put before every key in the bucket")
    s3_region: str = Field(default="us-east-1", description="Region, auto for some vendors")
    s3_access_key: str = Field(default="", description="Access key of the bucket")
    s3_secret_key: SecretStr = Field(default=SecretStr(""), description="Secret key of the bucket")
    s3_addressing: Literal["auto", "path", "virtual"] = Field(default="auto", description="How the bucket is addressed")
    s3_public: bool = Field(
        default=False,
        description="Whether those who get a presigned URL can reach the endpoint; else bytes are streamed",
    )
    log_format: Literal["console", "json"] = Field(default="console", description="How log lines look")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least level logged"
    )
    profiles_dir: Path | None = Field(
        default=None, description="Directory of your own provider profiles, a TOML file each"
    )
    default_accounts: Annotated[dict[str, str], BeforeValidator(_decoded)] = Field(
        default_factory=dict,
        description="JSON object: the account of a kind of task that names none; "
        "needed only where several accounts offer the kind",
    )
    accounts: dict[str, AccountSettings] = Field(default_factory=dict, description="Accounts by name, see above")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the environment, the files that it names, and the providers' own variables."""
        del env_settings, dotenv_settings, file_secret_settings
        environment = EnvSettingsSource(settings_cls)
        environment.env_vars = _with_files(environment.env_vars)
        own = InitSettingsSource(settings_cls, {"accounts": _own_accounts(environment.env_vars)})
        return init_settings, environment, own


def account_variable(account: str, field: str) -> str:
    """Return the variable that sets *field* of *account*."""
    return f"{PREFIX}ACCOUNTS{NESTED}{account.upper()}{NESTED}{field.upper()}"


def own_variable(profile: str, field: str) -> str | None:
    """Return the provider's own variable that sets *field* of accounts of *profile*, if there is one."""
    owns = OWN_VARIABLES.get(SAME_KEY.get(profile, profile), ())
    return next((own.variable for own in owns if own.field == field), None)


def variables(account: str = "STUDIO") -> dict[str, FieldInfo | Own]:
    """Return every variable that is read, those of *account* for all accounts; those ending in `_FILE` apart."""
    found: dict[str, FieldInfo | Own] = {
        f"{PREFIX}{name.upper()}": field for name, field in Settings.model_fields.items() if name != "accounts"
    }
    found |= {account_variable(account, name): field for name, field in AccountSettings.model_fields.items()}
    return found | {own.variable: own for each in OWN_VARIABLES.values() for own in each}


def is_secret(variable: str) -> bool:
    """Say whether what *variable* holds may be given by a file instead."""
    name = variable.lower()
    if any(name == own.variable.lower() for each in OWN_VARIABLES.values() for own in each):
        return True
    if of_account := _OF_ACCOUNT.fullmatch(name):
        field = AccountSettings.model_fields.get(of_account["field"])
    else:
        field = Settings.model_fields.get(name.removeprefix(PREFIX.lower()))
    return field is not None and "SecretStr" in str(field.annotation)


def _with_files(environment: Mapping[str, str | None]) -> dict[str, str | None]:
    """Put the text of each named file in the place of its variable; names are in lower case."""
    found = dict(environment)
    for name, file in environment.items():
        variable = name.removesuffix(FILE.lower())
        if variable == name or file is None or not is_secret(variable):
            continue
        if variable in found:
            raise SettingUnreadable(f"{variable.upper()} and {name.upper()} are both set; keep one")
        try:
            found[variable] = Path(file).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as exc:
            why = exc.strerror if isinstance(exc, OSError) else "is no text in UTF-8"
            raise SettingUnreadable(f"{name.upper()}: {file}: {why}") from exc
        if _OF_ACCOUNT.fullmatch(name):
            # It has done its work; an account knows no such setting.
            del found[name]
    return found


def _own_accounts(environment: Mapping[str, str | None]) -> dict[str, dict[str, Any]]:
    """Make the accounts of the providers' own variables, and give their keys to the accounts that have none."""
    named: dict[str, dict[str, Any]] = {}
    for name, value in environment.items():
        if of_account := _OF_ACCOUNT.fullmatch(name):
            named.setdefault(of_account["account"], {})[of_account["field"]] = value
    made: dict[str, dict[str, Any]] = {}
    for profile, owns in OWN_VARIABLES.items():
        given = {own.field: environment.get(own.variable.lower()) for own in owns}
        given = {field: value for field, value in given.items() if value}
        if not _CREDENTIALS & given.keys():
            continue
        for account in {profile, *named}:
            if _takes(account, named.get(account, {}), profile):
                made[account] = {"dialect": profile, **given}
    return made


def _takes(account: str, settings: Mapping[str, Any], profile: str) -> bool:
    """Say whether *account* is with the provider of *profile* and lacks a key; no key goes to another host."""
    if _CREDENTIALS & settings.keys():
        return False
    dialect = settings.get("dialect", profile if account == profile else "")
    if account == profile:
        return bool(dialect == profile)
    # A base URL may be the name of one of the provider's own regions.
    return SAME_KEY.get(dialect, dialect) == profile and "/" not in (settings.get("base_url") or "")
