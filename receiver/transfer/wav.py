"""RIFF WAVE, also in its 64-bit form (RF64): the chunks are walked to the end of the file."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import timedelta
from typing import BinaryIO, Final

from receiver.core.model import Format
from receiver.transfer.sniffed import Completeness, Sniffed, unrecognised

#: Chunks before the walk is given up; real files have a handful.
MAX_CHUNKS: Final = 1000

_STREAMED: Final = 0xFFFFFFFF
#: WAVE_FORMAT_…: PCM, ADPCM, IEEE_FLOAT, ALAW, MULAW, DVI_ADPCM, MPEGLAYER3, EXTENSIBLE.
_CODECS: Final = frozenset({0x0001, 0x0002, 0x0003, 0x0006, 0x0007, 0x0011, 0x0055, 0xFFFE})
#: Of which a sample block is simply channels times sample width.
_PLAIN: Final = frozenset({0x0001, 0x0003, 0x0006, 0x0007})


@dataclass(slots=True)
class _Wave:
    """What the chunks have said so far."""

    #: Bytes from the start of the file to the end of the container, None when it does not say.
    end: int | None
    #: Bytes per second, and per block of samples.
    rate: int = 0
    block: int = 0
    data_at: int | None = None
    #: Bytes, None when the writer did not know.
    data: int | None = None
    #: Of the 64-bit form.
    long_data: int | None = None
    bad_codec: bool = False


def walk(file: BinaryIO, size: int) -> Sniffed | None:
    """Walk the file; None when it is no WAVE."""
    head = _at(file, 0, 12, size)
    if len(head) < 12 or head[:4] not in {b"RIFF", b"RF64"} or head[8:] != b"WAVE":
        return None
    riff = int.from_bytes(head[4:8], "little")
    wave = _Wave(end=None if riff in (0, _STREAMED) else riff + 8)
    cut = _chunks(file, size, wave)
    if wave.bad_codec:
        return unrecognised("wav_codec")
    return _found(wave, size, cut)


def _chunks(file: BinaryIO, size: int, wave: _Wave) -> str | None:
    """Read every chunk; give what is wrong with the way they end."""
    position = 12
    for _ in range(MAX_CHUNKS):
        limit = size if wave.end is None else min(size, wave.end)
        if position >= limit:
            return None
        header = _at(file, position, 8, size)
        if len(header) < 8 or not header[:4].isascii():
            return "cut_chunk"
        name, length = header[:4], int.from_bytes(header[4:], "little")
        position += 8
        if name == b"data":
            wave.data_at, wave.data = position, _data_length(length, wave)
            if wave.data is None:
                return None
            length = wave.data
        elif not _described(name, _at(file, position, min(length, 40), size), wave):
            return "cut_chunk"
        if position + length > size:
            return "cut_data" if name == b"data" else "cut_chunk"
        position += length + length % 2
    return "too_many_chunks"


def _data_length(length: int, wave: _Wave) -> int | None:
    if length == _STREAMED and wave.long_data is not None:
        return wave.long_data
    return None if length in (0, _STREAMED) else length


def _described(name: bytes, body: bytes, wave: _Wave) -> bool:
    """Take in a chunk that describes; False when it is too short."""
    if name == b"fmt ":
        if len(body) < 16:
            return False
        codec, channels, samples, wave.rate, wave.block, bits = struct.unpack("<HHIIHH", body[:16])
        plain = codec not in _PLAIN or wave.block == channels * ((bits + 7) // 8)
        wave.bad_codec = codec not in _CODECS or not (channels and samples and wave.rate and wave.block and plain)
    elif name == b"ds64":
        if len(body) < 16:
            return False
        riff, wave.long_data = struct.unpack("<QQ", body[:16])
        wave.end = riff + 8
    return True


def _found(wave: _Wave, size: int, cut: str | None) -> Sniffed:
    if wave.data_at is None or not wave.rate:
        return _sniffed(Completeness.INCOMPLETE, cut or "no_data", None)
    there = size - wave.data_at
    data = there if wave.data is None else min(wave.data, there)
    duration = _duration(data, wave.rate)
    if not data:
        return _sniffed(Completeness.INCOMPLETE, "no_data", None)
    if cut is not None or (wave.end is not None and wave.end > size):
        return _sniffed(Completeness.INCOMPLETE, cut or "cut_chunk", duration)
    if wave.data is None:
        whole_blocks = data % wave.block == 0
        return _sniffed(
            Completeness.UNKNOWN if whole_blocks else Completeness.INCOMPLETE,
            "streamed" if whole_blocks else "cut_data",
            duration,
        )
    if wave.end is not None and wave.end < size:
        return _sniffed(Completeness.UNKNOWN, "trailing_bytes", duration)
    return _sniffed(Completeness.COMPLETE, "walked_to_the_end", duration)


def _duration(data: int, rate: int) -> timedelta:
    return timedelta(microseconds=data * 1_000_000 // rate)


def _sniffed(completeness: Completeness, why: str, duration: timedelta | None) -> Sniffed:
    return Sniffed(format=Format.WAV, completeness=completeness, duration=duration, why=why)


def _at(file: BinaryIO, position: int, length: int, size: int) -> bytes:
    """Read at most *length* bytes at *position*, none beyond *size*."""
    file.seek(position)
    return file.read(max(0, min(length, size - position)))
