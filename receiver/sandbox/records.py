"""The nouns of the sandbox. Times are milliseconds since 1970, as Kling writes them."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from receiver.sandbox.plan import Plan

#: Units taken for a task that fails, and for an open one; decimal text.
NO_CHARGE: Final = "0"


class Product(StrEnum):
    """What can be ordered."""

    SOUND = "text-to-audio"
    VIDEO_SOUND = "video-to-audio"
    #: As the third-party note has it: only a video comes back (providers.md D1).
    VIDEO_SOUND_VIDEO = "videos/video-to-audio"
    VIDEO = "text2video"
    #: The same by the new standard.
    NEW_VIDEO = "text-to-video"


class Status(StrEnum):
    """Kling's words, legacy standard (providers.md 2.6)."""

    SUBMITTED = "submitted"
    PROCESSING = "processing"
    SUCCEED = "succeed"
    FAILED = "failed"


class Format(StrEnum):
    """Sound comes in the first two."""

    MP3 = "mp3"
    WAV = "wav"
    MP4 = "mp4"


SOUNDS: Final = (Format.MP3, Format.WAV)

#: The files that each product gives.
FORMATS: Final = MappingProxyType(
    {
        Product.SOUND: SOUNDS,
        Product.VIDEO_SOUND: (*SOUNDS, Format.MP4),
        Product.VIDEO_SOUND_VIDEO: (Format.MP4,),
        Product.VIDEO: (Format.MP4,),
        Product.NEW_VIDEO: (Format.MP4,),
    }
)

#: Units taken for a task that succeeds; decimal text. Of sound: providers.md 2.2; of video: invented.
PRICES: Final = MappingProxyType(
    {
        Product.SOUND: "0.25",
        Product.VIDEO_SOUND: "0.25",
        Product.VIDEO_SOUND_VIDEO: "0.25",
        Product.VIDEO: "5",
        Product.NEW_VIDEO: "5",
    }
)


class Counted(StrEnum):
    """The requests that the ledger counts, refused ones included."""

    CREATE = "create"
    QUERY = "query"
    LIST = "list"
    MEDIA = "media"
    #: Fetches of media that a stranger invented; nobody should trust them.
    STRANGER = "stranger"
    #: Fetches of the video that orders may name.
    SOURCE = "source"


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

    product: Product = Product.SOUND
    #: All that it asks for in words.
    prompt: str
    #: Seconds, at most one decimal; None: as long as the video.
    duration: Decimal | None
    #: The video that is to sound.
    video_id: str | None = None
    video_url: str | None = None
    #: False: the video is silent.
    sound: bool = True
    #: As it was sent, whatever the house does with it.
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
class MediaFile:
    """One file of a task."""

    #: The clip's id; both formats of a sound share it.
    clip: int
    #: What it was made of (see `studio`).
    take: int
    format: Format
    bytes: int
    #: Lower-case hex.
    sha256: str
    #: Seconds, as text in the reply.
    duration: str
    #: Of a video's sound: of its AAC packets one after the other; None: there is none.
    sound_sha256: str | None = None
    #: Of its links; 1 once a link of a dead file was tried.
    generation: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task as it stands; `files` is empty until it succeeds."""

    #: Kling's own.
    id: int
    #: Where it was ordered.
    house: str
    #: The id that the house tells.
    told_id: str
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
    files: tuple[MediaFile, ...] = ()

    @property
    def charged(self) -> str:
        """Units taken, decimal text: only success costs."""
        return PRICES[self.order.product] if self.status is Status.SUCCEED else NO_CHARGE


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
