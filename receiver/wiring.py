"""The composition root: opens what the flows need, and proves at start that it works."""

from __future__ import annotations

import asyncio
import gc
import random
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import structlog

from receiver.core.errors import Misconfigured, StoreUnavailable
from receiver.core.model import Account, AccountId, ApiKey, Credentials, KeyPair, Secret, SignatureMode
from receiver.core.tokens import TokenKeys, check_secrets, key_id
from receiver.dialects import auth, signature, spec
from receiver.dialects.profile import CredentialKind, Profile
from receiver.dialects.values import is_domain
from receiver.flow.services import Deal, Services
from receiver.settings import AccountSettings, Settings
from receiver.store import accounts, keys, migrate, secrets
from receiver.store.db import Database, clock
from receiver.transfer import cut
from receiver.transfer.bucket import Bucket
from receiver.transfer.cut import Cutter
from receiver.transfer.download import Downloader
from receiver.transfer.provider import ProviderClient
from receiver.transfer.s3 import BucketConfig

log = structlog.get_logger(__name__)

_CLOCK_CHECK: Final = timedelta(minutes=1)
#: Objects of requests and jobs under way are no garbage; looking seldom spares looking at them.
_COLLECT: Final = (10_000, 20, 20)
_ACCOUNT_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class Clock:
    """This machine's time, corrected by its offset to the database's."""

    def __init__(self) -> None:
        self._offset = timedelta()

    def __call__(self) -> datetime:
        """Return the time, aware UTC."""
        return datetime.now(UTC) + self._offset

    async def measure(self, database: Database) -> None:
        """Take the offset to the database's clock, halfway through the question."""
        async with database.connection() as conn:
            before = datetime.now(UTC)
            theirs = await clock(conn)
            after = datetime.now(UTC)
        self._offset = theirs - (before + (after - before) / 2)

    async def follow(self, database: Database) -> None:
        """Measure again each minute until cancelled."""
        while True:
            await asyncio.sleep(_CLOCK_CHECK.total_seconds())
            try:
                await self.measure(database)
            except StoreUnavailable as exc:
                log.warning("clock.not_measured", error=exc.code)


def spare_what_lives() -> None:
    """
    Look for garbage seldom, and never among what lives now: each full collection would walk all of it, for 50 ms.

    Call it once in a process that serves, when it has started.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT)


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """
    Open database, bucket and clients, and prove that they are what we need.

    Raises:
        Misconfigured: A setting is wrong, a migration is missing, or the bucket does not keep what it is given.
        StoreUnavailable: The database does not answer.
        BucketUnavailable: The bucket does not answer.
    """
    log.info("settings.read", **settings.model_dump(mode="json", exclude_defaults=True))
    url, tokens, deals = _database_url(settings), read_tokens(settings), read_deals(settings)
    defaults = read_defaults(settings, deals)
    await asyncio.to_thread(check_migrated, url)
    database, now = Database(url, connections=settings.database_connections), Clock()
    await database.open()
    bucket = Bucket(bucket_config(settings), clock=now)
    downloader = Downloader(settings.data_dir / "spool", quota=settings.spool_quota_mb * 10**6)
    provider = ProviderClient()
    following = None
    try:
        await now.measure(database)
        await _agree(database, tokens, deals)
        proof = await bucket.prove()
        log.info("bucket.proven", verification=proof.verification, conditional=proof.conditional)
        following = asyncio.create_task(now.follow(database))
        yield Services(
            database=database,
            deals=deals,
            defaults=defaults,
            tokens=tokens,
            public_url=settings.public_url.rstrip("/") if settings.public_url else None,
            bucket=bucket,
            proof=proof,
            downloader=downloader,
            cutter=Cutter(downloader.spool),
            provider=provider,
            clock=now,
            random=random.SystemRandom().random,
        )
    finally:
        if following is not None:
            following.cancel()
        await provider.aclose()
        await downloader.aclose()
        bucket.close()
        await database.close()


def check_migrated(database_url: str) -> None:
    """
    Prove that the database has this version's schema.

    Raises:
        Misconfigured: A migration is missing, or the database is newer.
        StoreUnavailable: The database does not answer.
    """
    if missing := migrate.pending(database_url):
        raise Misconfigured(f"the database lacks {', '.join(missing)}; run `receiver migrate`")


def read_deals(settings: Settings) -> Mapping[AccountId, Deal]:
    """
    Read the accounts and match each with its profile.

    Raises:
        Misconfigured: Names the account and what is wrong with it, or the profile's file, line and key.
    """
    profiles = read_profiles(settings.profiles_dir)
    return {AccountId(name): _deal(name, each, profiles) for name, each in settings.accounts.items()}


def read_profiles(directory: Path | None) -> Mapping[str, Profile]:
    """
    Return the profiles by name: those of the package, and the user's own, which come first.

    Raises:
        Misconfigured: A file is no profile; names it with line and key.
    """
    return spec.catalog() if directory is None else {**spec.catalog(), **spec.load_directory(directory)}


def read_defaults(settings: Settings, deals: Mapping[AccountId, Deal]) -> Mapping[str, AccountId]:
    """
    Return the account of each kind for tasks that name none.

    Raises:
        Misconfigured: One is not configured, or does not offer the kind.
    """
    for kind, name in settings.default_accounts.items():
        deal = deals.get(AccountId(name))
        if deal is None:
            raise Misconfigured(f"RECEIVER_DEFAULT_ACCOUNTS: {kind}: there is no account {name!r}")
        if kind not in deal.profile.kinds:
            known = ", ".join(deal.profile.kinds)
            raise Misconfigured(f"RECEIVER_DEFAULT_ACCOUNTS: account {name} offers no {kind}, only {known}")
    return {kind: AccountId(name) for kind, name in settings.default_accounts.items()}


def read_tokens(settings: Settings) -> TokenKeys:
    """
    Read the secrets of the callback URLs; where a file holds them, a change of it is taken up.

    Raises:
        Misconfigured: There is none, or one is too short.
    """
    if not settings.callback_secrets:
        raise Misconfigured("RECEIVER_CALLBACK_SECRETS is not set; make one: openssl rand -hex 32")
    known = tuple(Secret(secret.get_secret_value()) for secret in settings.callback_secrets)
    file = settings.callback_secrets_file
    return TokenKeys(known) if file is None else TokenKeys(known, renew=SecretFile(file))


class SecretFile:
    """The file of the callback secrets, looked at when called, and read when it has changed."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen: tuple[int, ...] | None = None

    def __call__(self) -> tuple[Secret, ...] | None:
        """Return what it holds now; None when it has not changed, or cannot be read."""
        try:
            stat = self._file.stat()
            mark = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
            if mark == self._seen:
                return None
            # The mark is the older of the two, so that a change in between is seen next time.
            self._seen, known = mark, read_secrets(self._file)
        except (OSError, UnicodeDecodeError, Misconfigured) as exc:
            log.warning("callback_secrets.unreadable", error=type(exc).__name__)
            return None
        log.info("callback_secrets.read", fingerprints=[key_id(secret) for secret in known])
        return known


def read_secrets(file: Path) -> tuple[Secret, ...]:
    """
    Read callback secrets from *file*: one a line, the first signs.

    Raises:
        Misconfigured: There is none, or one is too short.
        OSError: It cannot be read.
    """
    known = tuple(Secret(text) for text in file.read_text("utf-8").replace(",", " ").split())
    check_secrets(known)
    return known


def bucket_config(settings: Settings) -> BucketConfig:
    """Return where the objects lie."""
    return BucketConfig(
        endpoint=settings.s3_endpoint,
        region=settings.s3_region,
        bucket=settings.s3_bucket,
        prefix=settings.s3_prefix,
        access_key=settings.s3_access_key,
        secret_key=Secret(settings.s3_secret_key.get_secret_value()),
        addressing=settings.s3_addressing,
        public=settings.s3_public,
    )


def _deal(name: str, account: AccountSettings, profiles: Mapping[str, Profile]) -> Deal:
    if not _ACCOUNT_NAME.fullmatch(name):
        raise Misconfigured(f"account {name!r}: a name has lower-case letters, digits, - and _, at most 63")
    profile = profiles.get(account.dialect)
    if profile is None:
        raise Misconfigured(f"account {name}: unknown dialect {account.dialect!r}; known: {', '.join(profiles)}")
    try:
        checks = tuple(signature.check_secret(secret.get_secret_value()) for secret in account.webhook_secrets)
    except Misconfigured as exc:
        raise Misconfigured(f"account {name}: webhook_secrets: {exc}") from exc
    try:
        base_url = profile.address(account.base_url)
    except Misconfigured as exc:
        raise Misconfigured(f"account {name}: {exc}") from exc
    mode = SignatureMode(account.signature_mode) if account.signature_mode else profile.signature_mode
    if mode is SignatureMode.REQUIRED and not checks:
        raise Misconfigured(f"account {name}: signature_mode required needs webhook_secrets")
    credentials = _credentials(name, account)
    _check_kind(name, credentials, profile)
    return Deal(
        Account(
            id=AccountId(name),
            dialect=account.dialect,
            base_url=base_url,
            credentials=credentials,
            webhook_secrets=checks,
            signature_mode=mode,
            concurrency=account.concurrency or profile.concurrency,
            asset_hosts=_asset_hosts(name, account, profile),
            daily_tasks=account.daily_tasks,
            daily_units=account.daily_units,
            allow_cidrs=account.allow_cidrs,
            allow_http=account.allow_http,
            keep_video=account.keep_video,
        ),
        profile,
        cuts=cut.is_installed(),
    )


def _credentials(name: str, account: AccountSettings) -> Credentials:
    field = "api_key"
    try:
        if account.api_key is not None:
            return ApiKey(key=auth.check_key(account.api_key.get_secret_value()))
        if account.access_key and account.secret_key is not None:
            field = "secret_key"
            secret_key = auth.check_key(account.secret_key.get_secret_value())
            return KeyPair(access_key=account.access_key.strip(), secret_key=secret_key)
    except Misconfigured as exc:
        raise Misconfigured(f"account {name}: {field}: {exc}") from exc
    raise Misconfigured(f"account {name}: set api_key, or access_key and secret_key")


def _asset_hosts(name: str, account: AccountSettings, profile: Profile) -> tuple[str, ...]:
    hosts = profile.asset_hosts if account.asset_hosts is None else account.asset_hosts
    for host in hosts:
        if not is_domain(host):
            raise Misconfigured(f"account {name}: asset_hosts: {host!r} is no domain such as klingai.com in lower case")
    return hosts


def _check_kind(name: str, credentials: Credentials, profile: Profile) -> None:
    kind = CredentialKind.API_KEY if isinstance(credentials, ApiKey) else CredentialKind.KEY_PAIR
    if kind not in profile.credentials:
        raise Misconfigured(f"account {name}: {profile.name} takes no {kind}, only {', '.join(profile.credentials)}")


def _database_url(settings: Settings) -> str:
    if settings.database_url is None:
        raise Misconfigured("RECEIVER_DATABASE_URL is not set; `receiver serve` starts a database of its own")
    return settings.database_url.get_secret_value()


async def _agree(database: Database, tokens: TokenKeys, deals: Mapping[AccountId, Deal]) -> None:
    """Compare with what the other processes of the deployment use, and make the accounts known."""
    async with database.transaction() as conn:
        known = await keys.agree(conn, "callback_secrets", tokens.fingerprint())
        if not set(known.split(",")) & set(tokens.fingerprint().split(",")):
            raise Misconfigured(
                "RECEIVER_CALLBACK_SECRETS has none of the secrets that this database's callback URLs were made with"
            )
        await keys.record(conn, "callback_secrets", tokens.fingerprint())
        await secrets.note(conn, secrets.CALLBACKS, map(key_id, tokens.secrets))
        for deal in deals.values():
            await accounts.enrol(conn, deal.account.id, deal.account.dialect)
            await secrets.note(conn, deal.account.id, map(key_id, deal.account.webhook_secrets))
        check_open(await accounts.in_use(conn), deals)


def check_open(in_use: Sequence[tuple[AccountId, str]], deals: Mapping[AccountId, Deal]) -> None:
    """
    Prove that every open task can come to its end; *in_use* is what they are of.

    Raises:
        Misconfigured: An account is missing, or its profile does not offer a kind any more.
    """
    if missing := sorted({account for account, _ in in_use} - deals.keys()):
        raise Misconfigured(f"account {', '.join(missing)} has open tasks and is not configured")
    for account, kind in in_use:
        profile = deals[account].profile
        if kind not in profile.kinds:
            raise Misconfigured(f"account {account} has open tasks of {kind}, which {profile.name} does not offer")
