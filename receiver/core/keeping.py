"""Which of the media that a provider offers are kept, and as what. Pure: no clock, no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from receiver.core.model import Asset, Format, Media

#: Sound in files of its own, as a provider offers it.
SOUND: Final = frozenset({Format.MP3, Format.WAV})
#: What can become of a video.
OF_VIDEO: Final = frozenset({Format.MP4, Format.M4A})

#: On a task that is archived with its sound still inside the video.
NOT_CUT: Final = "sound_not_cut"


def wanted(offered: Iterable[Media], *, only_videos: bool, keep_video: bool, cuts: bool) -> tuple[Media, ...]:
    """
    Choose among *offered* media, and add the sound that is cut out of a video.

    Sound is always wanted. Where *only_videos* hold it, it is cut out of them, or
    they are kept as they are where nobody here can cut. *keep_video* keeps them in any case.
    """
    found: list[Media] = []
    for media in offered:
        if media.format is not Format.MP4:
            found.append(media)
            continue
        if only_videos and cuts:
            found.append(replace(media, format=Format.M4A))
        if keep_video or (only_videos and not cuts):
            found.append(media)
    return tuple(found)


def lacks_format(assets: Iterable[Asset], promised: Iterable[Format]) -> bool:
    """Return whether a clip misses a format that is promised for clips of its kind, or no clip is of that kind."""
    have: dict[str, set[Format]] = {}
    for asset in assets:
        have.setdefault(asset.clip, set()).add(asset.format)
    return any(_is_missing(have, frozenset(promised) & kind, kind) for kind in (SOUND, OF_VIDEO)) if have else False


def _is_missing(have: dict[str, set[Format]], promised: frozenset[Format], kind: frozenset[Format]) -> bool:
    clips = [formats & kind for formats in have.values() if formats & kind]
    return bool(promised) and (not clips or any(promised - formats for formats in clips))


def is_uncut(assets: Iterable[Asset]) -> bool:
    """Return whether videos are all that there is."""
    return {asset.format for asset in assets} == {Format.MP4}
