"""What the flows work with, opened once by `wiring` and passed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from receiver.core.errors import FieldError, InvalidInput
from receiver.core.model import Account, AccountId, TaskId
from receiver.core.tokens import TokenKeys
from receiver.dialects.profile import Profile
from receiver.store.db import Database
from receiver.transfer.bucket import Bucket, Proof
from receiver.transfer.download import Downloader
from receiver.transfer.provider import ProviderClient


@dataclass(frozen=True, slots=True)
class Deal:
    """An account and the profile of the provider that it is with."""

    account: Account
    profile: Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The open database, bucket and clients of one process, and the configured accounts."""

    database: Database
    deals: Mapping[AccountId, Deal]
    tokens: TokenKeys
    #: Where providers reach `web`; None is poll-only mode.
    public_url: str | None
    bucket: Bucket
    proof: Proof
    downloader: Downloader
    provider: ProviderClient
    #: Aware UTC, corrected by the offset to the database.
    clock: Callable[[], datetime]
    #: A random number in [0, 1).
    random: Callable[[], float]

    def deal(self, account: AccountId) -> Deal:
        """
        Return the account that a request names.

        Raises:
            InvalidInput: There is no such account; the known ones are listed.
        """
        deal = self.deals.get(account)
        if deal is None:
            known = ", ".join(sorted(self.deals)) or "none is configured"
            raise InvalidInput([FieldError("account", f"unknown account; known: {known}")])
        return deal

    def callback_url(self, account: AccountId, task: TaskId) -> str | None:
        """Return the URL that a create of *task* names; None in poll-only mode. Holds a secret: never logged."""
        if self.public_url is None:
            return None
        token = self.tokens.callback_token(account, task)
        return f"{self.public_url}/callbacks/{account}/{task}/{token}"
