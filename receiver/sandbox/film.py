"""
Makes films: the shipped one, with its notes in another order for every task.

The film's picture and its AAC packets are never encoded again: packets move as
whole notes, and the tables that say where they lie move with them. A packet
overlaps with its neighbours alone, so any order of them can be played.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

import numpy as np

#: AAC packets of one note; `tests/sandbox/make_film.py` makes them so.
NOTE_PACKETS: Final = 13
#: Packets that stay in front: the encoder's delay and what leads into the first note.
LEAD: Final = 1

#: Boxes that hold boxes, on the way to the tables.
PARENTS: Final = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl"})
HEADER: Final = 8
#: Bytes before the entries of `stsz`, `stsc` and `stco`, from the box's start.
SIZES_AT: Final = 20
ENTRIES_AT: Final = 16
SOUND: Final = b"soun"
#: Of `hdlr`, from the box's start.
HANDLER: Final = slice(16, 20)
MOVIE_TIME: Final = slice(20, 28)


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """One mp4."""

    data: bytes
    #: Seconds, as text in the reply.
    duration: str
    #: Of the AAC packets one after the other, lower-case hex; None when it is silent.
    sound_sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Track:
    sound: bool
    #: Where the tables lie in the file.
    sizes_at: int
    chunks_at: int
    sizes: tuple[int, ...]
    #: Offset and number of samples of each chunk.
    chunks: tuple[tuple[int, int], ...]

    def samples(self) -> list[tuple[int, int]]:
        """Return offset and size of each sample."""
        found, sizes = [], iter(self.sizes)
        for offset, count in self.chunks:
            at = offset
            for _ in range(count):
                size = next(sizes)
                found.append((at, size))
                at += size
        return found


def shoot(seed: int, *, sound: bool) -> Film:
    """Return the film of *seed*; the same seed gives the same bytes. Costs less than a millisecond."""
    reel = _reel("sound.mp4" if sound else "silent.mp4")
    tracks = _tracks(reel)
    (header,) = [at for kind, at, _ in _boxes(reel, 0, len(reel)) if kind == b"mvhd"]
    scale, length = struct.unpack(">II", reel[header:][MOVIE_TIME])
    packets = _packets(reel, tracks, seed)
    # What nobody reads keeps two films from being the same bytes, also when their notes fall alike.
    mark = struct.pack(">I4sQ", HEADER + 8, b"free", seed)
    return Film(
        data=_laid(reel, tracks, packets) + mark,
        duration=f"{length / scale:.3f}",
        sound_sha256=hashlib.sha256(b"".join(packets)).hexdigest() if sound else None,
    )


@cache
def _reel(name: str) -> bytes:
    return (files("receiver.sandbox") / "reels" / name).read_bytes()


def _packets(reel: bytes, tracks: Sequence[_Track], seed: int) -> list[bytes]:
    """Return the AAC packets with their notes in the order of *seed*."""
    packets = [reel[at : at + size] for track in tracks if track.sound for at, size in track.samples()]
    whole = (len(packets) - LEAD) // NOTE_PACKETS
    starts = [LEAD + NOTE_PACKETS * int(note) for note in np.random.default_rng(seed).permutation(whole)]
    notes = [packet for start in starts for packet in packets[start : start + NOTE_PACKETS]]
    return packets[:LEAD] + notes + packets[LEAD + whole * NOTE_PACKETS :]


def _laid(reel: bytes, tracks: Sequence[_Track], packets: Sequence[bytes]) -> bytes:
    """Return the reel with other packets of the same number: chunk after chunk, each a little longer or shorter."""
    film, at = bytearray(reel), min(offset for track in tracks for offset, _ in track.chunks)
    ahead = {track.chunks_at: _contents(reel, track, packets) for track in tracks}
    order = sorted((offset, number, track) for track in tracks for number, (offset, _) in enumerate(track.chunks))
    for _, number, track in order:
        struct.pack_into(">I", film, track.chunks_at + 4 * number, at)
        chunk = next(ahead[track.chunks_at])
        film[at : at + len(chunk)] = chunk
        at += len(chunk)
    for track in tracks:
        if track.sound:
            struct.pack_into(f">{len(packets)}I", film, track.sizes_at, *map(len, packets))
    return bytes(film)


def _contents(reel: bytes, track: _Track, packets: Sequence[bytes]) -> Iterator[bytes]:
    """Yield the bytes of each chunk of a track."""
    samples = packets if track.sound else [reel[at : at + size] for at, size in track.samples()]
    start = 0
    for _, count in track.chunks:
        yield b"".join(samples[start : start + count])
        start += count


@cache
def _tracks(reel: bytes) -> tuple[_Track, ...]:
    found: list[_Track] = []
    at: dict[bytes, int] = {}
    for kind, start, _ in _boxes(reel, 0, len(reel)):
        at[kind] = start
        if kind == b"stco":
            found.append(_track(reel, at))
    return tuple(found)


def _track(reel: bytes, at: dict[bytes, int]) -> _Track:
    """Read one track; `stco` is the last of its tables."""
    sizes_at, chunks_at = at[b"stsz"] + SIZES_AT, at[b"stco"] + ENTRIES_AT
    sizes = struct.unpack_from(f">{_number(reel, sizes_at - 4)}I", reel, sizes_at)
    offsets = struct.unpack_from(f">{_number(reel, chunks_at - 4)}I", reel, chunks_at)
    runs_at = at[b"stsc"] + ENTRIES_AT
    runs = [struct.unpack_from(">II", reel, runs_at + 12 * run) for run in range(_number(reel, runs_at - 4))]
    counts = [next(count for first, count in reversed(runs) if first <= chunk) for chunk in range(1, len(offsets) + 1)]
    return _Track(
        sound=reel[at[b"hdlr"] :][HANDLER] == SOUND,
        sizes_at=sizes_at,
        chunks_at=chunks_at,
        sizes=sizes,
        chunks=tuple(zip(offsets, counts, strict=True)),
    )


def _boxes(reel: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of each box, those inside after the one that holds them."""
    while start < end:
        size, kind = struct.unpack_from(">I4s", reel, start)
        yield kind, start, start + size
        if kind in PARENTS:
            yield from _boxes(reel, start + HEADER, start + size)
        start += size


def _number(reel: bytes, at: int) -> int:
    number: int = struct.unpack_from(">I", reel, at)[0]
    return number
