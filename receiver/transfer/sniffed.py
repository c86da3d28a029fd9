"""What a look at the bytes can find."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from receiver.core.model import Format


class Completeness(StrEnum):
    """Whether the container says that it is whole."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    #: It does not say where it ends; how the bytes came must vouch for it.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sniffed:
    """What the bytes are."""

    #: None when they are nothing that we store.
    format: Format | None
    completeness: Completeness
    #: Of what was found; None when nothing was.
    duration: timedelta | None = None
    #: Whether a video has a track of sound.
    has_sound: bool = True
    #: A stable word for the finding ("walked_to_the_end", "error_page", "container_flac").
    why: str


def unrecognised(why: str) -> Sniffed:
    """Say that the bytes are nothing that we store."""
    return Sniffed(format=None, completeness=Completeness.UNKNOWN, why=why)
