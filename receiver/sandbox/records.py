"""The nouns of the sandbox. Times are milliseconds since 1970, as Kling writes them."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

#: Units taken for a task that succeeds (providers.md 2.2); decimal text.
PRICE: Final = "0.25"
NO_CHARGE: Final = "0"


class Status(StrEnum):
    """Kling's words, legacy standard (providers.md 2.6)."""

    SUBMITTED = "submitted"
    PROCESSING = "processing"
    SUCCEED = "succeed"
    FAILED = "failed"


class Format(StrEnum):
    """Each clip comes in both."""

    MP3 = "mp3"
    WAV = "wav"


class Counted(StrEnum):
    """The requests that the ledger counts, refused ones included."""

    CREATE = "create"
    QUERY = "query"
    LIST = "list"
    MEDIA = "media"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A create request that passed every check of its body."""

    prompt: str
    #: Seconds, 3.0 to 10.0, at most one decimal.
    duration: Decimal
    external_id: str | None = None
    callback_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What will become of a task; drawn once, at its create, and kept."""

    #: Milliseconds from create to `processing`, and from create to the end.
    starts_after: int
    ends_after: int
    #: The reason it fails for; None: it succeeds.
    failure: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Audio:
    """One file of a task's clip."""

    #: The clip's id; both formats share it.
    clip: int
    format: Format
    bytes: int
    #: Lower-case hex.
    sha256: str
    #: Seconds, as text in the reply.
    duration: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task as it stands; `audios` is empty until it succeeds."""

    id: int
    order: Order
    status: Status
    failure: str | None
    created_at: int
    updated_at: int
    starts_at: int
    ends_at: int
    audios: tuple[Audio, ...] = ()

    @property
    def charged(self) -> str:
        """Units taken, decimal text: only success costs."""
        return PRICE if self.status is Status.SUCCEED else NO_CHARGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """One status change that has to be told."""

    task_id: int
    #: 0 for the first change of a task.
    position: int
    #: Sent as `webhook-id`.
    webhook_id: int
    status: Status
    changed_at: int
