"""The nouns. Pure data: no clock, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Final, NewType

#: 63 bits: milliseconds since 2025 x 10^6 + random; text in JSON; never reused.
TaskId = NewType("TaskId", int)
AssetId = NewType("AssetId", int)
AccountId = NewType("AccountId", str)
CallbackId = NewType("CallbackId", int)
JobId = NewType("JobId", int)


class State(StrEnum):
    """Where a task stands; the values are the stored text."""

    ACCEPTED = "accepted"
    SUBMITTING = "submitting"
    SUBMITTED = "submitted"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    ARCHIVED = "archived"
    PARTIAL = "partial"
    FAILED = "failed"
    REJECTED = "rejected"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


ENDS: Final = frozenset(
    {State.ARCHIVED, State.PARTIAL, State.FAILED, State.REJECTED, State.EXPIRED, State.CANCELLED},
)
OPEN: Final = frozenset(State) - ENDS
#: States in which the provider counts the task against its concurrency.
HOLDING_SLOT: Final = frozenset({State.SUBMITTING, State.SUBMITTED, State.PROCESSING})


class AssetState(StrEnum):
    """Where one file of a task stands."""

    PENDING = "pending"
    STORED = "stored"
    EXPIRED = "expired"
    INVALID = "invalid"


class Trust(StrEnum):
    """How well an observation is vouched for."""

    TOKEN = "token"  #: it came to the right URL, unsigned: a hint
    CONFIRMED = "confirmed"  #: we asked, with our key
    SIGNED = "signed"  #: good signature


class CreateId(StrEnum):
    """Whether the provider refuses a second create with the same external id."""

    ENFORCED = "enforced"
    NONE = "none"


class SignatureMode(StrEnum):
    """What an account demands of a callback's signature."""

    REQUIRED = "required"
    OPPORTUNISTIC = "opportunistic"
    NONE = "none"


class Verdict(StrEnum):
    """What a signature check found."""

    GOOD = "good"
    STALE = "stale"  #: the MAC is right, its timestamp is not within five minutes or unreadable
    BAD = "bad"
    ABSENT = "absent"


class JobKind(StrEnum):
    """What a job does; each kind has its own slots in a worker."""

    SUBMIT = "submit"
    QUERY = "query"
    ADVANCE = "advance"
    ARCHIVE = "archive"


class Format(StrEnum):
    """What the file is, as promised by the provider and proven by the sniffer."""

    MP3 = "mp3"
    WAV = "wav"
    MP4 = "mp4"  #: video, kept by option
    M4A = "m4a"  #: a video's own sound, cut out of it here


class ProviderStatus(StrEnum):
    """The provider's own statuses, normalised."""

    # providers.md 7.
    SUBMITTED = "submitted"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """One clip in one format, as a provider offers it."""

    #: The provider's clip id; its position as text where the provider gives none.
    clip: str
    position: int
    format: Format
    #: Carries a signature in its query: never logged.
    url: str = field(repr=False)
    #: What the provider says; None when it says nothing.
    duration: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a provider says of one task, from a callback or an answer to a query."""

    status: ProviderStatus
    provider_task_id: str | None = None
    external_task_id: str | None = None
    #: The provider's words for a failure, else empty.
    reason: str = ""
    media: tuple[Media, ...] = ()
    #: Units charged, decimal text as sent; None when not said.
    units: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class Secret:
    """Text that must never be shown; `reveal` is the only way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the text itself."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """Sent as it is: `Authorization: Bearer <key>`."""

    key: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """Kling's access key and secret key; a JWT is made of them for each request."""

    access_key: str
    secret_key: Secret


Credentials = ApiKey | KeyPair


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One contract with one provider, as configured; its id never changes."""

    id: AccountId
    dialect: str
    base_url: str
    credentials: Credentials
    webhook_secrets: tuple[Secret, ...] = ()
    signature_mode: SignatureMode = SignatureMode.OPPORTUNISTIC
    #: Tasks in flight at the provider.
    concurrency: int
    #: Registrable suffixes ("klingai.com") from which media may come.
    asset_hosts: tuple[str, ...]
    #: Tasks accepted, and units charged, per day (UTC); None is no limit.
    daily_tasks: int | None = None
    daily_units: Decimal | None = None
    #: Opt-ins of the sandbox's account; empty and False everywhere else.
    allow_cidrs: tuple[str, ...] = ()
    allow_http: bool = False
    #: Keep the mp4 beside the sound, where a result has both.
    keep_video: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One clip in one format: wanted, or stored and proven."""

    id: AssetId
    task_id: TaskId
    clip: str
    position: int
    format: Format
    state: AssetState
    #: The last link that a provider gave: never logged.
    url: str = field(repr=False)
    #: How well the last answer that named it was vouched for.
    trust: Trust
    #: Read from the link; None when it does not say.
    link_expires_at: datetime | None
    #: The end of the provider's delivery window.
    gone_at: datetime
    key: str | None = None
    #: Bytes.
    size: int | None = None
    sha256: bytes | None = None
    media_type: str | None = None
    duration: timedelta | None = None
    #: How the bytes in the bucket were proven: "checksum" or "readback".
    verified: str | None = None
    stored_at: datetime | None = None
    #: Why it is expired or invalid, or why the last try failed.
    error: str | None = None
    #: Fetches in a row that gave other bytes than the promised audio.
    invalid_fetches: int = 0

    @property
    def deliver_by(self) -> datetime:
        """Return the earlier of the link's expiry and the end of the window (UTC)."""
        return min(self.link_expires_at or self.gone_at, self.gone_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One accepted job and all that is known of it; times are aware UTC."""

    id: TaskId
    owner: str
    account: AccountId
    kind: str
    input: Mapping[str, str | int | float | bool]
    state: State
    created_at: datetime
    submit_by: datetime
    reference: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    #: Made elsewhere; we only ask after it and archive its media.
    adopted: bool = False
    #: Why it ended, or None while it is open or archived.
    reason: str | None = None
    #: The provider's words, or ours, that explain the reason.
    detail: str | None = None
    #: A person must look; never stops a deadline.
    attention: str | None = None
    #: 1, and one more each time an archived task grew.
    revision: int = 1
    provider_task_id: str | None = None
    #: The provider's id as an unsigned callback has it: good to ask by, and proven by the answer.
    hinted_id: str | None = None
    first_sent_at: datetime | None = None
    #: Of the last create; None again once it is settled and a person has it sent anew.
    last_sent_at: datetime | None = None
    #: Creates begun, never reset.
    sends: int = 0
    #: A create may have reached the provider without a reply that settles it.
    unsure: bool = False
    settle_by: datetime | None = None
    #: Known for every open task, None for an ended one.
    due_at: datetime | None = None
    ended_at: datetime | None = None
    #: Answered queries so far; starts the back-off of polling.
    polls: int = 0
    last_polled_at: datetime | None = None
    #: Trusted answers "succeeded" that named no media.
    no_media: int = 0
    #: A query was answered after media were known, so that a missing format is truly missing.
    asked_again: bool = False
    #: Something was seen that only the provider's own answer can settle; an answer clears it.
    query_wanted: bool = False
    #: The due time was put off once because the provider or the bucket could not be reached.
    grace_given: bool = False
    units: str | None = None
    trust: Trust | None = None
    assets: tuple[Asset, ...] = ()
