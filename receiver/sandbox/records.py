"""The nouns of the sandbox. Times are milliseconds since 1970, as Kling writes them."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

from receiver.sandbox.plan import Plan

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
    #: Fetches of media that a stranger invented; nobody should trust them.
    STRANGER = "stranger"


class Kind(StrEnum):
    """Whose word a callback is."""

    TRUTH = "truth"
    #: The provider's own, and wrong.
    CONTRADICTION = "contradiction"
    #: A stranger's.
    FORGERY = "forgery"


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
    #: Of its links; 1 once a link of a dead file was tried.
    generation: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task as it stands; `audios` is empty until it succeeds."""

    id: int
    #: The place of its order among all orders, from 1: what is drawn for the task depends on it.
    number: int
    order: Order
    plan: Plan
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
    """Something that is told about a task."""

    task_id: int
    #: Its place (see `plan`).
    position: int
    #: Sent as `webhook-id`.
    webhook_id: int
    kind: Kind = Kind.TRUTH
    status: Status
    changed_at: int
    #: Sent until it is answered 2xx: the truth after a contradiction.
    until_taken: bool = False
    #: What became of the first sending: the HTTP status as text, `timeout`, the
    #: name of an error, `lost` (never sent), `cut` (by the control), `unknown`
    #: (killed while sending); None while it is due.
    outcome: str | None = None
