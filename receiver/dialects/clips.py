"""
From a task record, in whatever shape, to the media that it offers.

Sound and videos are two lists, each with positions of its own: whether an answer
names the videos of a video-to-audio task or not moves no sound to another place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from receiver.core.model import Format, Media
from receiver.dialects.values import JsonObject, Unreadable, duration, first, identifier, link

#: The list of a result that holds videos; every other one holds sound (providers.md 2.5).
VIDEOS: Final = "videos"

#: Names of an audio link and what it leads to (providers.md 2.5).
MEDIA_FORMATS: Final[Mapping[str, Format]] = MappingProxyType(
    {"url_mp3": Format.MP3, "mp3_url": Format.MP3, "url_wav": Format.WAV, "wav_url": Format.WAV},
)

_LINK_NAMES: Final = {
    Format.MP3: (("url_mp3", "mp3_url"), ("duration_mp3", "mp3_duration", "duration")),
    Format.WAV: (("url_wav", "wav_url"), ("duration_wav", "wav_duration", "duration")),
}
_LINKS: Final = frozenset({"url", *MEDIA_FORMATS})
_SUFFIXES: Final = {"mp3": Format.MP3, "wav": Format.WAV, "mp4": Format.MP4, "mov": Format.MP4}
#: Levels below `task_result` in which a list of media is looked for.
_MAX_DEPTH: Final = 6


def media_of(record: JsonObject, *, results: tuple[str, ...]) -> tuple[Media, ...]:
    """
    Return every clip that has a usable link, with its position in the provider's list.

    *results* names the lists that count; `outputs` of the new shape count by their
    type. A link that cannot be used is left out.
    """
    result = record.get("task_result")
    heard = tuple(name for name in results if name != VIDEOS)
    sounds = chain(_clips(result, heard), _outputs(record, _is_audio)) if heard else ()
    found = [media for clip, name, position in _named(sounds) for media in _sounds(clip, name, position)]
    if VIDEOS in results:
        videos = chain(_clips(result, (VIDEOS,)), _outputs(record, _is_video))
        found += [media for clip, name, position in _named(videos) for media in _videos(clip, name, position)]
    return tuple(found)


def loose_media(records: Iterable[JsonObject], *, results: tuple[str, ...]) -> tuple[Media, ...]:
    """
    Return the single link that some gateways put beside the status, or in the place of the reason.

    Sources: providers.md 4.1 (`result_url`, `fail_reason` on success), 4.4 (`url`).
    The path tells the format; where it does not, it is what the product makes. A
    video is no result of a product that makes sound.
    """
    heard = any(name != VIDEOS for name in results)
    usual = Format.MP3 if heard else Format.MP4
    for record in records:
        for name in ("url", "result_url", "fail_reason"):
            url = link(record.get(name))
            kind = usual if url is None else _SUFFIXES.get(_suffix(url), usual)
            if url is not None and (VIDEOS in results if kind is Format.MP4 else heard):
                length = duration(record.get("duration"))
                return (Media(clip="0", position=0, format=kind, url=url, duration=length),)
    return ()


def _named(clips: Iterable[JsonObject]) -> Iterator[tuple[JsonObject, str, int]]:
    """Name a clip without an id by its position; so, behind a `#`, one whose id an earlier clip has taken."""
    names: set[str] = set()
    for position, clip in enumerate(clips):
        name = _clip_name(clip) or str(position)
        if name in names:
            name = f"#{position}"
        while name in names:
            name = f"#{name}"
        names.add(name)
        yield clip, name, position


def _clip_name(clip: JsonObject) -> str | None:
    try:
        return identifier(clip.get("id"))
    except Unreadable:
        # The bytes are worth more than their name.
        return None


def _sounds(clip: JsonObject, name: str, position: int) -> Iterator[Media]:
    plain = link(clip.get("url"))
    named = {kind: link(first(clip, *names)) for kind, (names, _) in _LINK_NAMES.items()}
    if plain is not None and not any(named.values()):
        named[_format_of(plain)] = plain
    for kind, url in named.items():
        if url is not None:
            length = duration(first(clip, *_LINK_NAMES[kind][1]))
            yield Media(clip=name, position=position, format=kind, url=url, duration=length)


def _videos(clip: JsonObject, name: str, position: int) -> Iterator[Media]:
    url = link(clip.get("url"))
    if url is not None:
        length = duration(clip.get("duration"))
        yield Media(clip=name, position=position, format=Format.MP4, url=url, duration=length)


def _format_of(url: str) -> Format:
    """Read the format off the path; a link without a suffix is MP3, as that of text-to-speech is (providers.md 2.7)."""
    return Format.WAV if _suffix(url) == "wav" else Format.MP3


def _suffix(url: str) -> str:
    return urlsplit(url).path.rpartition(".")[2].lower()


def _clips(node: object, results: tuple[str, ...], depth: int = 0) -> Iterator[JsonObject]:
    """Find the lists of media anywhere in a result (providers.md D5)."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(node, dict):
        for key, value in node.items():
            if key in results and isinstance(value, list):
                # An odd entry keeps its place: positions name clips that have no id.
                yield from (clip if isinstance(clip, dict) else {} for clip in value)
            elif key in results and isinstance(value, dict) and not _LINKS.isdisjoint(value):
                # One clip where a list of one should be.
                yield value
            else:
                yield from _clips(value, results, depth + 1)
    elif isinstance(node, list):
        for value in node:
            yield from _clips(value, results, depth + 1)


def _outputs(record: JsonObject, wanted: Callable[[JsonObject], bool]) -> Iterator[JsonObject]:
    outputs = record.get("outputs")
    for output in outputs if isinstance(outputs, list) else ():
        if isinstance(output, dict) and wanted(output):
            yield output


def _is_audio(output: JsonObject) -> bool:
    kind = output.get("type")
    return kind == "audio" or (kind is None and any(name in output for name in MEDIA_FORMATS))


def _is_video(output: JsonObject) -> bool:
    return output.get("type") == "video"
