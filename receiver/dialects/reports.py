"""
From a task record, in whatever shape, to a `Report`.

The shapes differ in names only (providers.md 7), so each value is looked up under
all of its names; which shape it is never has to be decided (providers.md D6, D7).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import chain
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from receiver.core.model import Format, Media, ProviderStatus, Report
from receiver.dialects.values import (
    JsonObject,
    Unreadable,
    duration,
    first,
    identifier,
    link,
    moment,
    units,
    words,
)

#: Every status that a provider is known to send, in lower case (providers.md 7).
STATUSES: Final[Mapping[str, ProviderStatus]] = MappingProxyType(
    {
        "submitted": ProviderStatus.SUBMITTED,
        "not_start": ProviderStatus.SUBMITTED,
        "queued": ProviderStatus.SUBMITTED,
        "processing": ProviderStatus.PROCESSING,
        "in_progress": ProviderStatus.PROCESSING,
        "succeed": ProviderStatus.SUCCEEDED,
        "succeeded": ProviderStatus.SUCCEEDED,
        "success": ProviderStatus.SUCCEEDED,
        "completed": ProviderStatus.SUCCEEDED,
        "ok": ProviderStatus.SUCCEEDED,
        "failed": ProviderStatus.FAILED,
        "failure": ProviderStatus.FAILED,
        "error": ProviderStatus.FAILED,
    },
)

#: Names of an audio link and what it leads to (providers.md 2.5).
MEDIA_FORMATS: Final[Mapping[str, Format]] = MappingProxyType(
    {"url_mp3": Format.MP3, "mp3_url": Format.MP3, "url_wav": Format.WAV, "wav_url": Format.WAV},
)

_LINK_NAMES: Final = {
    Format.MP3: (("url_mp3", "mp3_url"), ("duration_mp3", "mp3_duration", "duration")),
    Format.WAV: (("url_wav", "wav_url"), ("duration_wav", "wav_duration", "duration")),
}
#: Levels below `task_result` in which a list of audio is looked for.
_MAX_DEPTH: Final = 6


def status_of(record: JsonObject) -> ProviderStatus | None:
    """Return the normalised status of a task record; None when it has none that is known."""
    text = first(record, "task_status", "status")
    return STATUSES.get(text.strip().lower()) if isinstance(text, str) else None


def task_id_of(record: JsonObject) -> str | None:
    """
    Return the provider's id of a task record; None when it has none.

    Raises:
        Unreadable: There is one that no id can look like.
    """
    return identifier(first(record, "task_id", "id"))


def innermost(root: JsonObject, *, levels: int) -> JsonObject:
    """
    Return the innermost object that says a known status, *root* or up to *levels* of `data` below it.

    Gateways wrap the provider's own record in theirs (providers.md 4.1); the innermost
    has the media and the provider's own id.

    Raises:
        Unreadable: There is none.
    """
    found = None
    node: object = root
    for _ in range(levels + 1):
        if not isinstance(node, dict):
            break
        if status_of(node) is not None:
            found = node
        node = node.get("data")
    if found is None:
        raise Unreadable("no status that is known")
    return found


def report(record: JsonObject, *, results: tuple[str, ...]) -> Report:
    """
    Read one task record; *results* names the lists that hold the audio.

    Raises:
        Unreadable: The status is none that is known, or an id is malformed. Everything
            else that is missing or odd is left out.
    """
    status = status_of(record)
    if status is None:
        raise Unreadable("no status that is known")
    reason = first(record, "task_status_msg", "message", "fail_reason")
    return Report(
        status=status,
        provider_task_id=task_id_of(record),
        external_task_id=_external_id(record),
        # On success some gateways put the link here (providers.md 4.1).
        reason=words(reason) if status is ProviderStatus.FAILED else "",
        media=_media(record, results),
        units=_units(record),
        created_at=moment(first(record, "created_at", "create_time", "submit_time")),
        updated_at=moment(first(record, "updated_at", "update_time", "finish_time")),
    )


def _external_id(record: JsonObject) -> str | None:
    """Look in every place of providers.md D8."""
    info = record.get("task_info")
    inside = first(info, "external_task_id", "external_id") if isinstance(info, dict) else None
    return identifier(inside or first(record, "external_task_id", "external_id"))


def _units(record: JsonObject) -> str | None:
    whole = units(first(record, "final_unit_deduction"))
    billing = record.get("billing")
    if whole is not None or not isinstance(billing, list):
        return whole
    amounts = [
        units(item.get("amount")) for item in billing if isinstance(item, dict) and item.get("charge_type") == "unit"
    ]
    return f"{sum((Decimal(amount) for amount in amounts if amount), Decimal(0)):f}" if any(amounts) else None


def _media(record: JsonObject, results: tuple[str, ...]) -> tuple[Media, ...]:
    """
    Return every clip that has a usable link, with its position in the provider's list.

    A clip without an id is named by its position; so is, behind a `#`, one whose id
    an earlier clip has taken. A link that cannot be used is left out.
    """
    found: list[Media] = []
    names: set[str] = set()
    for position, clip in enumerate(chain(_clips(record.get("task_result"), results), _outputs(record))):
        name = _clip_name(clip) or str(position)
        if name in names:
            name = f"#{position}"
        while name in names:
            name = f"#{name}"
        names.add(name)
        found.extend(_offers(clip, name, position))
    return tuple(found)


def _clip_name(clip: JsonObject) -> str | None:
    try:
        return identifier(clip.get("id"))
    except Unreadable:
        # The bytes are worth more than their name.
        return None


def _offers(clip: JsonObject, name: str, position: int) -> Iterator[Media]:
    plain = link(clip.get("url"))
    named = {kind: link(first(clip, *names)) for kind, (names, _) in _LINK_NAMES.items()}
    if plain is not None and not any(named.values()):
        named[_format_of(plain)] = plain
    for kind, url in named.items():
        if url is not None:
            length = duration(first(clip, *_LINK_NAMES[kind][1]))
            yield Media(clip=name, position=position, format=kind, url=url, duration=length)


def _format_of(url: str) -> Format:
    """Read the format off the path; a link without a suffix is MP3, as that of text-to-speech is (providers.md 2.7)."""
    return Format.WAV if urlsplit(url).path.lower().endswith(".wav") else Format.MP3


def _clips(node: object, results: tuple[str, ...], depth: int = 0) -> Iterator[JsonObject]:
    """Find the lists of audio anywhere in a result (providers.md D5)."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(node, dict):
        for key, value in node.items():
            if key in results and isinstance(value, list):
                # An odd entry keeps its place: positions name clips that have no id.
                yield from (clip if isinstance(clip, dict) else {} for clip in value)
            else:
                yield from _clips(value, results, depth + 1)
    elif isinstance(node, list):
        for value in node:
            yield from _clips(value, results, depth + 1)


def _outputs(record: JsonObject) -> Iterator[JsonObject]:
    outputs = record.get("outputs")
    for output in outputs if isinstance(outputs, list) else ():
        if isinstance(output, dict) and _is_audio(output):
            yield output


def _is_audio(output: JsonObject) -> bool:
    kind = output.get("type")
    return kind == "audio" or (kind is None and any(name in output for name in MEDIA_FORMATS))
