"""
Every setting, read once from the environment.

`RECEIVER_` comes before each name; accounts are nested with two underscores:
`RECEIVER_ACCOUNTS__STUDIO__DIALECT=kling`. One key alone makes an account too:
`KLING_API_KEY`, or `KLING_ACCESS_KEY` with `KLING_SECRET_KEY`.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class AccountSettings(BaseModel):
    """One contract with one provider; what is not set is taken from the provider's profile."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dialect: str = Field(description="The provider's profile, such as kling")
    base_url: str | None = Field(default=None, description="Another host of the same API")
    api_key: SecretStr | None = Field(default=None, description="Sent as a Bearer token")
    access_key: str | None = Field(default=None, description="AK of a key pair, with secret_key")
    secret_key: SecretStr | None = Field(default=None, description="SK of a key pair")
    webhook_secrets: tuple[SecretStr, ...] = Field(default=(), description="JSON list of whsec_ secrets, newest first")
    signature_mode: Literal["required", "opportunistic", "none"] | None = Field(
        default=None, description="What is demanded of a callback's signature"
    )
    concurrency: int | None = Field(default=None, ge=1, description="Tasks in flight at the provider")
    asset_hosts: tuple[str, ...] | None = Field(
        default=None, description="JSON list of host suffixes from which media may come"
    )
    daily_tasks: int | None = Field(default=None, ge=0, description="Tasks accepted per day (UTC) at most")
    daily_units: Decimal | None = Field(default=None, ge=0, description="Units charged per day (UTC) at most")
    allow_cidrs: tuple[str, ...] = Field(
        default=(), description="JSON list of private networks that may be fetched from"
    )
    allow_http: bool = Field(default=False, description="Let media and the API come without TLS")
    keep_video: bool = Field(default=False, description="Keep the mp4 beside the sound, where a result has both")


class Settings(BaseSettings):
    """The whole configuration of one process."""

    model_config = SettingsConfigDict(
        env_prefix="RECEIVER_", env_nested_delimiter="__", env_ignore_empty=True, frozen=True, extra="ignore"
    )

    data_dir: Path = Field(
        default=Path("receiver-data"), description="Directory of the embedded parts, the spool and generated secrets"
    )
    spool_quota_mb: int = Field(
        default=2048, ge=100, description="Megabytes (10^6 bytes) that one worker's downloads may take on disk"
    )
    host: str = Field(default="127.0.0.1", description="Address that web listens on")
    port: int = Field(default=8080, ge=0, le=65535, description="Port that web listens on; 0 takes a free one")
    worker_port: int = Field(
        default=8081, ge=0, le=65535, description="Port of a worker's health and metrics, on the loopback address"
    )
    public_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^/?#\s]+[^?#\s]*$",
        description="Where providers reach web, such as https://hooks.example.com; without it tasks are only polled",
    )
    callback_secrets: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(),
        description="Secrets of the callback URLs, at least 32 characters each, newest first, separated by commas; "
        "made once and kept in the data directory when the database is embedded",
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
    accounts: dict[str, AccountSettings] = Field(default_factory=dict, description="Accounts by name, see above")
    kling_api_key: SecretStr | None = Field(
        default=None, validation_alias="KLING_API_KEY", description="Makes the account kling"
    )
    kling_access_key: str | None = Field(
        default=None, validation_alias="KLING_ACCESS_KEY", description="Makes the account kling, with KLING_SECRET_KEY"
    )
    kling_secret_key: SecretStr | None = Field(
        default=None, validation_alias="KLING_SECRET_KEY", description="The secret key of the pair"
    )
    kling_webhook_secret: SecretStr | None = Field(
        default=None, validation_alias="KLING_WEBHOOK_SECRET", description="Checks the signatures of Kling's callbacks"
    )

    @field_validator("callback_secrets", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    def contracts(self) -> dict[str, AccountSettings]:
        """Return all accounts, those made by one key alone among them."""
        found = dict(self.accounts)
        if self.kling_api_key is not None or self.kling_access_key is not None:
            secrets = () if self.kling_webhook_secret is None else (self.kling_webhook_secret,)
            found.setdefault(
                "kling",
                AccountSettings(
                    dialect="kling",
                    api_key=self.kling_api_key,
                    access_key=self.kling_access_key,
                    secret_key=self.kling_secret_key,
                    webhook_secrets=secrets,
                ),
            )
        return found
