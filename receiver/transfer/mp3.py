"""MPEG audio layer III: every frame is stepped over, from the tags in front to those behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import BinaryIO, Final

from receiver.core.model import Format
from receiver.transfer.sniffed import Completeness, Sniffed

#: Frames in a row before anything is called MP3.
MIN_FRAMES: Final = 3
#: Tags in front of the audio that are skipped.
MAX_TAGS: Final = 8
#: Bytes of padding between the tags and the audio.
MAX_PADDING: Final = 64 * 1024

_WINDOW: Final = 256 * 1024
#: kbit/s by index 1 to 14: of MPEG 1, and of MPEG 2 and 2.5.
_BITRATES: Final = (
    (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
#: Hz by index, by the two version bits (00 is MPEG 2.5, 10 is 2, 11 is 1).
_RATES: Final[Mapping[int, tuple[int, int, int]]] = {
    0b00: (11025, 12000, 8000),
    0b10: (22050, 24000, 16000),
    0b11: (44100, 48000, 32000),
}
_MPEG1: Final = 0b11
_MONO: Final = 0b11


@dataclass(frozen=True, slots=True)
class _Kind:
    """What all frames of one stream share."""

    version: int
    #: Hz.
    rate: int

    @property
    def samples(self) -> int:
        """Per frame and channel."""
        return 1152 if self.version == _MPEG1 else 576


@dataclass(frozen=True, slots=True)
class _Count:
    """What the first frame of many streams says of all the others."""

    #: None: it does not say.
    frames: int | None
    #: From its own first byte on.
    size: int | None
    #: Samples that are no music, at both ends.
    silent: int = 0


@dataclass(frozen=True, slots=True)
class _Run:
    """Frames in a row."""

    kind: _Kind
    frames: int
    count: _Count | None
    #: Where the last of them ends.
    end: int
    #: What stands there in the place of the end; None at the end.
    stopped: str | None


def _table() -> dict[int, tuple[int, _Kind]]:
    """Give length and kind of a frame by the second and third byte of its header."""
    table = {}
    for version, rates in _RATES.items():
        for rate_index, rate in enumerate(rates):
            kind = _Kind(version, rate)
            for index, kilobits in enumerate(_BITRATES[version != _MPEG1], start=1):
                for low in range(4):
                    length = kind.samples // 8 * kilobits * 1000 // rate + (low >> 1)
                    third = index << 4 | rate_index << 2 | low
                    for protection in (0, 1):
                        table[(0xE0 | version << 3 | 0b01 << 1 | protection) << 8 | third] = (length, kind)
    return table


_FRAMES: Final = _table()


def walk(file: BinaryIO, size: int) -> Sniffed | None:
    """Walk the file; None when it is no MP3."""
    start = _skip_tags(file, size)
    end = _before_tags(file, size)
    run = _run(file, start, end)
    if run is None or run.frames < MIN_FRAMES:
        return None
    audio = run.frames - (run.count is not None)
    completeness, why = _judged(run, audio, start, tagged=end < size)
    samples = audio * run.kind.samples
    if run.count is not None and completeness is Completeness.COMPLETE and run.count.silent < samples:
        samples -= run.count.silent
    duration = timedelta(microseconds=samples * 1_000_000 // run.kind.rate)
    return Sniffed(format=Format.MP3, completeness=completeness, duration=duration, why=why)


def _judged(run: _Run, audio: int, start: int, *, tagged: bool) -> tuple[Completeness, str]:
    if run.stopped is not None:
        return Completeness.INCOMPLETE, run.stopped
    expected = None if run.count is None else run.count.frames
    if expected is None:
        # A tag behind the audio is only there when the end is; without one, a cut between frames cannot be seen.
        return (Completeness.COMPLETE, "tag_at_the_end") if tagged else (Completeness.UNKNOWN, "no_frame_count")
    # Some writers count the counting frame itself; then the size must tell.
    counts_itself = audio == expected - 1 and run.count is not None and run.count.size == run.end - start
    if audio == expected or counts_itself:
        return Completeness.COMPLETE, "walked_to_the_end"
    if audio < expected:
        return Completeness.INCOMPLETE, "frames_missing"
    return Completeness.UNKNOWN, "more_frames_than_said"


def _run(file: BinaryIO, start: int, end: int) -> _Run | None:
    """Step over the frames from *start*; None when there is none."""
    position, frames, base, window = start, 0, start, b""
    kind: _Kind | None = None
    count: _Count | None = None
    stopped: str | None = None
    while position < end:
        at = position - base
        if at + 4 > len(window):
            file.seek(position)
            window, base, at = file.read(min(_WINDOW, end - position)), position, 0
        length, found = _FRAMES.get(int.from_bytes(window[at + 1 : at + 3], "big"), (0, None))
        if found is None or window[at] != 0xFF or (kind is not None and found != kind):
            stopped = None if _only_zeros(file, position, end) else "lost_sync"
            break
        if position + length > end:
            stopped = "cut_frame"
            break
        if kind is None:
            kind, count = found, _count(_read(file, position, length), found)
        frames += 1
        position += length
    return None if kind is None else _Run(kind, frames, count, position, stopped)


def _count(frame: bytes, kind: _Kind) -> _Count | None:
    """Read the Xing, Info or VBRI header of a first frame."""
    mono = frame[3] >> 6 == _MONO
    side = (17 if mono else 32) if kind.version == _MPEG1 else (9 if mono else 17)
    if frame[36:40] == b"VBRI":
        return _Count(frames=int.from_bytes(frame[50:54], "big"), size=int.from_bytes(frame[46:50], "big"))
    tag = frame[4 + side :]
    if tag[:4] not in {b"Xing", b"Info"} or len(tag) < 8:
        return None
    flags, at = tag[7], 8
    fields: list[int | None] = []
    for bit, width in ((1, 4), (2, 4), (4, 100), (8, 4)):
        fields.append(int.from_bytes(tag[at : at + 4], "big") if flags & bit else None)
        at += width if flags & bit else 0
    gaps = int.from_bytes(tag[at + 21 : at + 24], "big")
    known = tag[at : at + 4] in {b"LAME", b"Lavc", b"Lavf"}
    return _Count(frames=fields[0], size=fields[1], silent=(gaps >> 12) + (gaps & 0xFFF) if known else 0)


def _skip_tags(file: BinaryIO, size: int) -> int:
    """Give where the audio begins, behind ID3v2 tags and padding."""
    position = 0
    for _ in range(MAX_TAGS):
        head = _read(file, position, 10)
        if len(head) < 10 or head[:3] != b"ID3" or any(byte & 0x80 for byte in head[6:]):
            break
        length = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        position += 10 + length + (10 if head[5] & 0x10 else 0)
    if position == 0 or position >= size:
        return position
    padding = _read(file, position, MAX_PADDING)
    return position + len(padding) - len(padding.lstrip(b"\x00"))


def _before_tags(file: BinaryIO, size: int) -> int:
    """Give where the audio ends, before ID3v1 and APE tags."""
    end = size
    if end >= 128 and _read(file, end - 128, 3) == b"TAG":
        end -= 128
    footer = _read(file, end - 32, 32) if end >= 32 else b""
    if footer[:8] == b"APETAGEX":
        length = int.from_bytes(footer[12:16], "little") + (32 if footer[23] & 0x80 else 0)
        end = end - length if length <= end else end
    return end


def _only_zeros(file: BinaryIO, position: int, end: int) -> bool:
    file.seek(position)
    while position < end:
        window = file.read(min(_WINDOW, end - position))
        if not window or window.strip(b"\x00"):
            return False
        position += len(window)
    return True


def _read(file: BinaryIO, position: int, length: int) -> bytes:
    file.seek(position)
    return file.read(length)
