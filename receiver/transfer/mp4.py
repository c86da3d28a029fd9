"""
MP4 and QuickTime: every box is stepped over to the end of the file; no sample is ever read.

The tables of chunks must not name bytes behind the end either: a file that was
cut between two boxes looks whole otherwise.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import BinaryIO, Final, Literal

from receiver.core.model import Format
from receiver.transfer.sniffed import Completeness, Sniffed, unrecognised

#: Boxes before the walk is given up; a film has some dozens, one in fragments two for each second.
MAX_BOXES: Final = 20_000
#: Boxes within boxes on the way to the tables are five.
MAX_DEPTH: Final = 8

_WINDOW: Final = 256 * 1024
#: Boxes that are entered.
_PARENTS: Final = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"mvex"})
#: Still pictures in the same container.
_IMAGES: Final = frozenset({b"heic", b"heix", b"heim", b"mif1", b"msf1", b"avif", b"avis"})
#: Seconds; what says more is no length of a film.
_LONGEST: Final = 10**7
_LONG: Final = 1
_OPEN: Final = 0


class _Broken(Exception):
    """The boxes do not end as they say; the text is a stable word."""


@dataclass(frozen=True, slots=True)
class _Box:
    """One box: its kind, and where its content begins and ends in the file."""

    kind: bytes
    start: int
    end: int
    #: It does not say where it ends, so that the end of the file is its end.
    is_open: bool = False


@dataclass(slots=True)
class _Movie:
    """What the boxes have said so far."""

    steps: int = 0
    kinds: set[bytes] = field(default_factory=set)
    #: Of the tracks: b"soun", b"vide", others.
    handlers: list[bytes] = field(default_factory=list)
    duration: timedelta | None = None
    #: The greatest offset at which a table says that a chunk begins; -1 when none does.
    furthest: int = -1
    ends_open: bool = False

    @property
    def format(self) -> Format:
        """Only a file of nothing but sound is M4A."""
        return Format.M4A if set(self.handlers) == {b"soun"} else Format.MP4


def walk(file: BinaryIO, size: int) -> Sniffed | None:
    """Walk the file; None when it is no MP4."""
    head = _read(file, 0, min(size, 12))
    if head[4:8] != b"ftyp":
        return None
    movie = _Movie()
    try:
        for box in _boxes(file, 0, size, movie, top=True):
            movie.kinds.add(box.kind)
            movie.ends_open |= box.is_open
            if box.kind in _PARENTS:
                _enter(file, box, movie, depth=1)
    except _Broken as exc:
        completeness, why = Completeness.INCOMPLETE, str(exc)
    else:
        if b"moov" not in movie.kinds and head[8:12] in _IMAGES:
            return unrecognised("container_heif")
        completeness, why = _judged(movie, size)
    return Sniffed(
        format=movie.format,
        completeness=completeness,
        duration=movie.duration,
        why=why,
        has_sound=b"soun" in movie.handlers,
    )


def _judged(movie: _Movie, size: int) -> tuple[Completeness, str]:
    """Judge a file whose boxes end where it ends."""
    missing = {"no_moov": b"moov" not in movie.kinds, "no_mdat": b"mdat" not in movie.kinds}
    missing |= {"no_tracks": not movie.handlers, "media_missing": movie.furthest >= size}
    for why, is_missing in missing.items():
        if is_missing:
            return Completeness.INCOMPLETE, why
    if movie.ends_open:
        return Completeness.UNKNOWN, "runs_to_the_end"
    # The index of the fragments comes last; without it, a cut between two of them cannot be seen.
    if b"moof" in movie.kinds and b"mfra" not in movie.kinds:
        return Completeness.UNKNOWN, "no_fragment_index"
    if movie.furthest < 0 and b"moof" not in movie.kinds:
        return Completeness.INCOMPLETE, "no_chunks"
    return Completeness.COMPLETE, "walked_to_the_end"


def _boxes(file: BinaryIO, start: int, end: int, movie: _Movie, *, top: bool) -> Iterator[_Box]:
    """
    Yield each box from *start* to *end*.

    Raises:
        _Broken: One ends behind *end*, or has no sensible header.
    """
    while start < end:
        if not top and end - start < 8:  # old writers end a list with four zero bytes
            return
        movie.steps += 1
        if movie.steps > MAX_BOXES:
            raise _Broken("too_many_boxes")
        header = _read(file, start, min(16, end - start))
        if len(header) < 8:
            raise _Broken("cut_box")
        length, kind, begin = int.from_bytes(header[:4], "big"), header[4:8], 8
        if not all(0x20 <= byte < 0x7F or byte == 0xA9 for byte in kind):
            raise _Broken("bad_box")
        if length == _LONG:
            if len(header) < 16:
                raise _Broken("cut_box")
            length, begin = int.from_bytes(header[8:], "big"), 16
        is_open = length == _OPEN and begin == 8 and top
        length = end - start if is_open else length
        if length < begin:
            raise _Broken("bad_box")
        if start + length > end:
            raise _Broken("cut_mdat" if kind == b"mdat" else "cut_box")
        yield _Box(kind, start + begin, start + length, is_open)
        start += length


def _enter(file: BinaryIO, parent: _Box, movie: _Movie, *, depth: int) -> None:
    """
    Take in what the boxes within *parent* say.

    Raises:
        _Broken: One of them cannot be read.
    """
    if depth > MAX_DEPTH:
        raise _Broken("too_deep")
    for box in _boxes(file, parent.start, parent.end, movie, top=False):
        if box.kind in _PARENTS:
            _enter(file, box, movie, depth=depth + 1)
        elif (take := _READERS.get((parent.kind, box.kind))) is not None:
            take(file, box, movie)


def _movie_header(file: BinaryIO, box: _Box, movie: _Movie) -> None:
    """Read the length of the whole, in either version of the box."""
    body = _read(file, box.start, min(32, box.end - box.start))
    long = body[:1] == b"\x01"
    if len(body) < (32 if long else 20):
        raise _Broken("cut_box")
    scale = int.from_bytes(body[20:24] if long else body[12:16], "big")
    length = body[24:32] if long else body[16:20]
    unknown = length == b"\xff" * len(length)
    units = 0 if unknown else int.from_bytes(length, "big")
    # In fragments, zero stands for a length that the writer did not know yet.
    if scale and units and units // scale < _LONGEST:
        movie.duration = timedelta(microseconds=units * 1_000_000 // scale)


def _handler(file: BinaryIO, box: _Box, movie: _Movie) -> None:
    body = _read(file, box.start, min(12, box.end - box.start))
    if len(body) < 12:
        raise _Broken("cut_box")
    movie.handlers.append(body[8:12])


def _offsets(file: BinaryIO, box: _Box, movie: _Movie, *, code: Literal["I", "Q"]) -> None:
    """Find the greatest offset in a table of chunks."""
    width = array(code).itemsize
    count = int.from_bytes(_read(file, box.start + 4, 4), "big") if box.end - box.start >= 8 else -1
    start = box.start + 8
    end = start + count * width
    if count < 0 or end > box.end:
        raise _Broken("cut_box")
    while start < end:
        window = _read(file, start, min(_WINDOW, end - start))
        if not window or len(window) % width:
            raise _Broken("cut_box")
        offsets = array(code, window)
        if sys.byteorder == "little":
            offsets.byteswap()
        furthest = max(offsets)
        movie.furthest = max(movie.furthest, furthest)
        start += len(offsets) * width


def _short_offsets(file: BinaryIO, box: _Box, movie: _Movie) -> None:
    _offsets(file, box, movie, code="I")


def _long_offsets(file: BinaryIO, box: _Box, movie: _Movie) -> None:
    _offsets(file, box, movie, code="Q")


_Reader = Callable[[BinaryIO, _Box, _Movie], None]
#: By the box around it and its own kind: a handler in another place is not that of a track.
_READERS: Final[Mapping[tuple[bytes, bytes], _Reader]] = MappingProxyType(
    {
        (b"moov", b"mvhd"): _movie_header,
        (b"mdia", b"hdlr"): _handler,
        (b"stbl", b"stco"): _short_offsets,
        (b"stbl", b"co64"): _long_offsets,
    },
)


def _read(file: BinaryIO, position: int, length: int) -> bytes:
    file.seek(position)
    return file.read(length)
