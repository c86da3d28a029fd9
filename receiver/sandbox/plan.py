"""What goes wrong with one task: drawn once, at its create, and kept with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final, Self

#: Places of a task's callbacks: its three statuses, then what is told beside them.
SUBMITTED: Final = 0
PROCESSING: Final = 1
END: Final = 2
CONTRADICTION: Final = 3
FORGERY: Final = 4


class Unsure(StrEnum):
    """How the reply to a create leaves the client in doubt (providers.md 2.8)."""

    #: The task is made, and the connection cut before the reply.
    CUT = "cut"
    #: The task is made, and the reply says one of the 5xx codes.
    ERROR_5000 = "5000"
    ERROR_5001 = "5001"
    ERROR_5002 = "5002"
    #: The task is made, and a proxy answers 502 with a page.
    HTML = "html"
    #: The task is not made; the reply is the 503 of `ERROR_5001`.
    UNMADE = "unmade"
    #: The task is made, and the reply never comes.
    HANG = "hang"


class Spoilt(StrEnum):
    """What a fetch of media meets in place of the whole file."""

    #: 403: the link's life is over.
    LAPSED = "lapsed"
    #: 404: this link never worked; the next query gives one that does.
    DEAD = "dead"
    #: 503.
    SERVER_ERROR = "5xx"
    #: Half the file: with the whole length announced, or without any length.
    TRUNCATED = "truncated"
    TRUNCATED_LENGTHLESS = "truncated_lengthless"
    #: The whole file, drop by drop.
    SLOW = "slow"
    #: 200 with something else.
    HTML = "html"
    JSON = "json"
    EMPTY = "empty"


class Unanswered(StrEnum):
    """What a query meets in place of its answer."""

    SERVER_ERROR = "5xx"
    HANG = "hang"


class Forgery(StrEnum):
    """What a stranger tells."""

    #: The ids of another task, and invented media.
    OTHER_TASK = "other_task"
    #: The right ids, and invented media.
    MEDIA = "media"


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """How one status is told."""

    lost: bool = False
    #: How often the same bytes are sent again.
    repeats: int = 0
    #: The repeats go out together with the first, over connections of their own.
    at_once: bool = False
    #: Seconds after the change; those behind it do not wait.
    late: float = 0.0
    bad_signature: bool = False
    unsigned: bool = False

    def names(self) -> Iterator[str]:
        """Name what is wrong with it."""
        named = {
            "lose": self.lost,
            "duplicate": self.repeats,
            "late": self.late,
            "bad_signature": self.bad_signature,
            "unsigned": self.unsigned,
        }
        return (name for name, wrong in named.items() if wrong)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The faults of one task."""

    #: `submitted` is told before the create is answered.
    first: bool = False
    #: The order in which the statuses are told.
    sequence: tuple[int, ...] = (SUBMITTED, PROCESSING, END)
    #: The place with which a callback says `failed`, though the task succeeds.
    contradict_at: int | None = None
    #: The callback of success has no `audios`.
    strip_audios: bool = False
    #: The place with which a stranger tells something, and what.
    forge_at: int | None = None
    forgery: Forgery | None = None
    #: Formats whose first links never work.
    dead: tuple[str, ...] = ()
    #: One for each status.
    tellings: tuple[Telling, ...] = (Telling(), Telling(), Telling())

    def telling(self, place: int) -> Telling:
        """Return how the callback at *place* is told."""
        return self.tellings[place] if place < len(self.tellings) else Telling(unsigned=place == FORGERY)

    def before(self, place: int) -> tuple[int, ...]:
        """Return the places that are told before *place*."""
        if place not in self.sequence:
            return ()
        rank = self.sequence.index(place)
        truth_waits = (CONTRADICTION,) if place == END and self.contradict_at is not None else ()
        return self.sequence[max(0, rank - 1) : rank] + truth_waits

    def names(self) -> list[str]:
        """Name what is wrong with the task as a whole; its tellings name theirs."""
        named = {
            "first": self.first,
            "reorder": self.sequence != tuple(sorted(self.sequence)),
            "contradict": self.contradict_at is not None,
            "strip_audios": self.strip_audios,
            "forge": self.forgery is not None,
        }
        return [name for name, wrong in named.items() if wrong] + [f"dead_{form}" for form in self.dead]

    def to_json(self) -> str:
        """Return it as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return what `to_json` wrote."""
        kept: dict[str, Any] = json.loads(text)
        kept |= {
            "sequence": tuple(kept["sequence"]),
            "forgery": None if kept["forgery"] is None else Forgery(kept["forgery"]),
            "dead": tuple(kept["dead"]),
            "tellings": tuple(Telling(**telling) for telling in kept["tellings"]),
        }
        return cls(**kept)
