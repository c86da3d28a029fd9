"""
The providers that are simulated, each a house below a path of its own, and the quirks of each.

What no document says is marked [INF]; there the choice is the one that is
harder on a client.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from receiver.sandbox.records import Product, Status

#: Seconds. Kling's links live for 30 days (providers.md 2.7).
MONTH: Final = 30 * 24 * 3600
DAY: Final = 24 * 3600


class ExternalIds(StrEnum):
    """What becomes of the ids that clients send."""

    #: A repeat is refused, and not charged; it can be asked for.
    ENFORCED = "enforced"
    #: A repeat makes, and charges, another task; it can be asked for.
    FOUND = "found"
    #: A repeat makes, and charges, another task; nobody finds it again.
    IGNORED = "ignored"


class Ids(StrEnum):
    """The form of the ids that are told."""

    #: 18 digits (providers.md 2.3).
    KLING = "kling"
    #: `kling-v1` and digits (providers.md 3.4).
    PREFIXED = "prefixed"
    #: `task_` and 32 letters and digits, the gateway's own (providers.md 4.1).
    GATEWAY = "gateway"


class Errors(StrEnum):
    """How refusals are rendered."""

    #: `code`, `message`, `request_id` (providers.md 6.9).
    KLING = "kling"
    #: The gateway's own refusals in an `error` object, Kling's as they are (providers.md 3.2).
    OBJECT = "object"
    #: `code` is text (providers.md 4.1).
    TEXT = "text"


class Seconds(StrEnum):
    """How a duration may be given (providers.md D9)."""

    NUMBER = "number"
    #: A number without decimals.
    WHOLE = "whole"
    #: Text, or the number of the document's own example.
    TEXT = "text"


class Body(StrEnum):
    """What callbacks say."""

    #: Kling's own, legacy or new as the order was.
    KLING = "kling"
    #: Kling's legacy body without `task_info`.
    BARE = "bare"
    #: Marshalled again from a record that knows videos alone (providers.md 4.3, 6.4).
    STRIPPED = "stripped"
    #: The gateway's record of the task.
    RECORD = "record"


class Signer(StrEnum):
    """Whose secret signs callbacks."""

    #: The one that was given at the start; without one nobody's.
    OURS = "ours"
    #: The reseller's, which its clients do not have (providers.md 3.5).
    RESELLERS = "resellers"
    NOBODY = "nobody"


KLINGS_WORDS: Final = MappingProxyType({status: status.value for status in Status})


@dataclass(frozen=True, slots=True, kw_only=True)
class Callbacks:
    """How a house tells status changes; each is tried once, for 5 s (providers.md 4.3)."""

    body: Body = Body.KLING
    signer: Signer = Signer.OURS
    #: Only the end is told.
    terminal_only: bool = False
    #: `User-Agent`; None: the library's own.
    agent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """One simulated provider; one account at it."""

    name: str
    about: str
    #: What is ordered at each path.
    paths: Mapping[str, Product]
    #: The fields that an order may have, where they are not Kling's.
    fields: Mapping[Product, frozenset[str]] = field(default_factory=dict)
    seconds: Seconds = Seconds.NUMBER
    #: JWTs are taken beside the key.
    key_pair: bool = False
    ids: Ids = Ids.KLING
    external_ids: ExternalIds = ExternalIds.ENFORCED
    #: `code` of success.
    ok: int | str = 0
    #: The replies have `message`; `request_id` in the reply to a create, and in others.
    message: bool = True
    create_request_id: bool = True
    request_id: bool = True
    #: The reply to a create has nothing but id and status.
    bare_create: bool = False
    #: False: `task_info` is empty.
    task_info: bool = True
    #: There is a list at each path.
    lists: bool = True
    #: `/tasks` of the new standard.
    batches: bool = False
    #: The gateway wraps Kling's answer in a record of its own (providers.md 6.10).
    wraps: bool = False
    errors: Errors = Errors.KLING
    #: Words for the four statuses.
    words: Mapping[Status, str] = field(default_factory=lambda: KLINGS_WORDS)
    callbacks: Callbacks = Callbacks()
    #: Of a link's life; a shorter one can be asked for at the start.
    link_seconds: int = DAY

    @property
    def root(self) -> str:
        """The path below which its media lie, and its API unless it is Kling's own."""
        return "" if self.name == KLING else f"/{self.name}"


KLING: Final = "kling"

_VIDEO_ONLY: Final = frozenset({"video_id", "video_url", "external_task_id", "callback_url"})
_RESOLD: Final = MappingProxyType(
    {
        "/kling/v1/audio/text-to-audio": Product.SOUND,
        "/kling/v1/audio/video-to-audio": Product.VIDEO_SOUND,
    }
)
_GATEWAYS_WORDS: Final = MappingProxyType(
    {
        Status.SUBMITTED: "SUBMITTED",
        Status.PROCESSING: "IN_PROGRESS",
        Status.SUCCEED: "SUCCESS",
        Status.FAILED: "FAILURE",
    }
)
_SHOPS_WORDS: Final = MappingProxyType(
    {
        Status.SUBMITTED: "queued",
        Status.PROCESSING: "processing",
        Status.SUCCEED: "completed",
        Status.FAILED: "failed",
    }
)

_ALL: Final = (
    House(
        name=KLING,
        about="the official API; also without a house in the path",
        paths={"/v1/audio/text-to-audio": Product.SOUND, "/v1/audio/video-to-audio": Product.VIDEO_SOUND},
        key_pair=True,
        link_seconds=MONTH,
    ),
    House(
        name="cometapi",
        # That ids have to be unique is documented, that a repeat is refused is not: [INF].
        about="Kling's callbacks passed through, signed with the reseller's secret",
        paths=_RESOLD,
        fields={Product.VIDEO_SOUND: _VIDEO_ONLY},
        seconds=Seconds.WHOLE,
        external_ids=ExternalIds.IGNORED,
        create_request_id=False,
        task_info=False,
        lists=False,
        errors=Errors.OBJECT,
        callbacks=Callbacks(body=Body.BARE, signer=Signer.RESELLERS),
    ),
    House(
        name="deerapi",
        about="as cometapi, without signatures",
        paths=_RESOLD,
        fields={Product.VIDEO_SOUND: _VIDEO_ONLY},
        seconds=Seconds.WHOLE,
        external_ids=ExternalIds.IGNORED,
        create_request_id=False,
        task_info=False,
        lists=False,
        errors=Errors.OBJECT,
        callbacks=Callbacks(body=Body.BARE, signer=Signer.NOBODY),
    ),
    House(
        name="kkiai",
        about="rewritten ids, bare replies, callbacks forwarded without their audios",
        paths=_RESOLD,
        seconds=Seconds.TEXT,
        ids=Ids.PREFIXED,
        external_ids=ExternalIds.FOUND,
        message=False,
        create_request_id=False,
        request_id=False,
        bare_create=True,
        task_info=False,
        lists=False,
        callbacks=Callbacks(body=Body.STRIPPED, signer=Signer.NOBODY, agent="OneAPI-Kling-Callback/1.0"),
    ),
    House(
        name="kling-videos",
        about="video to audio as the third-party note has it: only a video comes back",
        paths={"/v1/videos/video-to-audio": Product.VIDEO_SOUND_VIDEO},
        # The note calls the id the client's own and says nothing of repeats: [INF].
        external_ids=ExternalIds.FOUND,
        link_seconds=MONTH,
    ),
    House(
        name="kling-text2video",
        about="sound in generated video, by the legacy and by the new standard",
        paths={"/v1/videos/text2video": Product.VIDEO, "/text-to-video/kling-2.6": Product.NEW_VIDEO},
        key_pair=True,
        batches=True,
        link_seconds=MONTH,
    ),
    House(
        name="new-api",
        about="a gateway that wraps Kling's answers and drops external ids",
        paths={**_RESOLD, "/kling/v1/videos/text2video": Product.VIDEO},
        ids=Ids.GATEWAY,
        external_ids=ExternalIds.IGNORED,
        ok="success",
        request_id=False,
        task_info=False,
        lists=False,
        wraps=True,
        errors=Errors.TEXT,
        words=_GATEWAYS_WORDS,
        callbacks=Callbacks(body=Body.RECORD, signer=Signer.NOBODY, terminal_only=True),
    ),
    House(
        name="soundshop",
        about="an invented reseller: code 200, words of its own, callbacks for the end alone",
        paths={"/api/kling/text-to-audio": Product.SOUND},
        external_ids=ExternalIds.IGNORED,
        ok=200,
        request_id=False,
        create_request_id=False,
        task_info=False,
        lists=False,
        words=_SHOPS_WORDS,
        callbacks=Callbacks(body=Body.BARE, signer=Signer.NOBODY, terminal_only=True),
    ),
)

HOUSES: Final = MappingProxyType({house.name: house for house in _ALL})
