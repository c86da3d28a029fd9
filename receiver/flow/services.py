"""What the flows work with, opened once by `wiring` and passed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from receiver.core import keeping
from receiver.core.errors import FieldError, InvalidInput, NotConfigured
from receiver.core.model import Account, AccountId, Format, Media, Report, Task, Trust
from receiver.core.tokens import TokenKeys
from receiver.dialects.clips import VIDEOS
from receiver.dialects.profile import AudioIn, Profile
from receiver.store.db import Database
from receiver.transfer.bucket import Bucket, Proof
from receiver.transfer.cut import Cutter
from receiver.transfer.download import Downloader
from receiver.transfer.provider import ProviderClient


@dataclass(frozen=True, slots=True)
class Deal:
    """An account and the profile of the provider that it is with."""

    account: Account
    profile: Profile
    #: Whether sound can be cut out of a video here.
    cuts: bool = False

    def takes(self, task: Task) -> bool:
        """Return whether all that was ordered can be asked for; a profile may have changed since."""
        return task.input.keys() <= {field.name for field in self.profile.kinds[task.kind].fields}

    def wanted(self, kind: str, report: Report, trust: Trust) -> tuple[Media, ...]:
        """Return what to want of the media in *report*; where its answer has no sound, that of the videos is taken."""
        spec = self.profile.kinds[kind]
        is_answer = trust is Trust.CONFIRMED or not self.profile.query
        silent = is_answer and not any(media.format in keeping.SOUND for media in report.media)
        return keeping.wanted(
            report.media,
            only_videos=spec.audio_in is AudioIn.VIDEOS or silent,
            keep_video=self.account.keep_video,
            cuts=self.cuts,
        )

    def promised(self, kind: str) -> frozenset[Format]:
        """Return the formats without which a clip is not whole."""
        spec = self.profile.kinds[kind]
        videos = {Format.MP4} if self.account.keep_video and VIDEOS in spec.results else set()
        return (keeping.SOUND & frozenset(spec.formats)) | videos


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The open database, bucket and clients of one process, and the configured accounts."""

    database: Database
    deals: Mapping[AccountId, Deal]
    #: By kind, the account of a task that names none.
    defaults: Mapping[str, AccountId] = field(default_factory=dict)
    tokens: TokenKeys
    #: Where providers reach `web`; None is poll-only mode.
    public_url: str | None
    bucket: Bucket
    proof: Proof
    downloader: Downloader
    cutter: Cutter
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

    def deal_of(self, task: Task) -> Deal:
        """
        Return the account of a task.

        Raises:
            NotConfigured: This process has no such account, or none that offers the task's kind.
        """
        if not self.knows(task):
            raise NotConfigured(f"account {task.account} is not configured here, or does not offer {task.kind}")
        return self.deals[task.account]

    def knows(self, task: Task) -> bool:
        """Return whether this process has the account of *task*, and that offers its kind."""
        deal = self.deals.get(task.account)
        return deal is not None and task.kind in deal.profile.kinds

    def deal_for(self, account: AccountId | None, kind: str) -> Deal:
        """
        Return the account that a task of *kind* goes to: the one that is named, else the only one, else the default.

        Raises:
            InvalidInput: There is no such account, or which of several is meant is not known.
        """
        if account is not None:
            return self.deal(account)
        offering = [name for name, deal in self.deals.items() if kind in deal.profile.kinds]
        chosen = self.defaults.get(kind, offering[0] if len(offering) == 1 else None)
        if chosen is not None:
            return self.deals[chosen]
        if offering:
            names = ", ".join(sorted(offering))
            message = f"needed, since several accounts offer {kind} and RECEIVER_DEFAULT_ACCOUNTS names none: {names}"
            raise InvalidInput([FieldError("account", message)])
        kinds = ", ".join(sorted({each for deal in self.deals.values() for each in deal.profile.kinds}))
        raise InvalidInput([FieldError("kind", f"no configured account offers it; known: {kinds or 'none'}")])

    def callback_url(self, deal: Deal, task: Task) -> str | None:
        """
        Return the URL that a create of *task* names; None in poll-only mode, and where the provider takes none.

        It holds a secret: never logged.
        """
        if self.public_url is None or deal.profile.kinds[task.kind].callback_path is None:
            return None
        token = self.tokens.callback_token(task.account, task.id)
        return f"{self.public_url}/callbacks/{task.account}/{task.id}/{token}"
