"""
Is it the media that was promised, and all of it? Told from the bytes alone.

The container is walked to its end, because no library notices a truncation
(storage.md 3.3). The walk also gives the duration. A song of 20 MB takes some
tens of milliseconds: call it in a thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import BinaryIO, Final

from receiver.core.errors import MediaInvalid
from receiver.core.model import Format
from receiver.transfer import mp3, mp4, wav
from receiver.transfer.sniffed import Completeness, Sniffed, unrecognised

__all__ = ["MEDIA_TYPES", "Completeness", "Sniffed", "judge", "sniff"]

#: The type under which a format is stored: of what was proven, never what a host said.
MEDIA_TYPES: Final[Mapping[Format, str]] = MappingProxyType(
    {Format.MP3: "audio/mpeg", Format.WAV: "audio/wav", Format.MP4: "video/mp4", Format.M4A: "audio/mp4"},
)

#: Other things by their bytes at an offset, named so that people see what a host sends.
_OTHERS: Final = (
    (0, b"OggS", "container_ogg"),
    (0, b"fLaC", "container_flac"),
    (0, b"FORM", "container_aiff"),
    (0, b"\xff\xf0", "container_aac"),
    (0, b"\xff\xf1", "container_aac"),
    (0, b"\xff\xf8", "container_aac"),
    (0, b"\xff\xf9", "container_aac"),
    (0, b"\x1aE\xdf\xa3", "container_matroska"),
    (0, b"\x1f\x8b", "compressed"),
    (0, b"PK\x03\x04", "compressed"),
)
_TEXT_STARTS: Final = (b"<", b"{", b"[")
_BOM: Final = b"\xef\xbb\xbf"
_HEAD: Final = 512


def sniff(file: BinaryIO, size: int) -> Sniffed:
    """
    Walk the *size* bytes of *file*; never raises for what they are.

    A format is named only when the bytes are surely of it; then `completeness`
    says whether the container ends where the bytes end.
    """
    file.seek(0)
    head = file.read(min(_HEAD, size))
    if not head:
        return unrecognised("empty")
    if head.removeprefix(_BOM).lstrip().startswith(_TEXT_STARTS):
        return unrecognised("error_page")
    for offset, magic, why in _OTHERS:
        if head.startswith(magic, offset):
            return unrecognised(why)
    return mp4.walk(file, size) or wav.walk(file, size) or mp3.walk(file, size) or unrecognised("unrecognised")


def judge(sniffed: Sniffed, *, expected: Format, length_verified: bool, size: int, min_bytes: int) -> None:
    """
    Accept bytes that are the promised format and whole; the text of the error is a stable reason.

    Whole means: the container says so; or it cannot say, and the transport
    (*length_verified*) told where the body ends.

    Raises:
        MediaInvalid: With "too_small", "incomplete_<why>", "unproven_<why>", "wrong_format_<format>", or
            what was found in the place of media ("error_page", "empty", "container_flac", "unrecognised", …).
    """
    if sniffed.format is None:
        raise MediaInvalid(sniffed.why)
    if sniffed.format is not expected:
        raise MediaInvalid(f"wrong_format_{sniffed.format}")
    if size < min_bytes:
        raise MediaInvalid("too_small")
    if sniffed.completeness is Completeness.INCOMPLETE:
        raise MediaInvalid(f"incomplete_{sniffed.why}")
    if sniffed.completeness is Completeness.UNKNOWN and not length_verified:
        raise MediaInvalid(f"unproven_{sniffed.why}")
