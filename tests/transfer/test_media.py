from __future__ import annotations

import io
import struct
from datetime import timedelta
from functools import cache

import numpy as np
import pytest
import soundfile
from hypothesis import example, given
from hypothesis import strategies as st

from receiver.core.errors import MediaInvalid
from receiver.core.model import Format
from receiver.transfer.media import Completeness, Sniffed, judge, sniff

COMPLETE, INCOMPLETE, UNKNOWN = Completeness.COMPLETE, Completeness.INCOMPLETE, Completeness.UNKNOWN
ID3 = b"ID3\x04\x00\x00\x00\x00\x01\x00" + bytes(128)
ID3V1 = b"TAG" + b"title".ljust(125, b"\x00")
APE = b"APETAGEX" + struct.pack("<IIII", 2000, 32, 0, 0) + bytes(8)
HTML = b"<!DOCTYPE html><html><body>403 Forbidden</body></html>"


@cache
def sound(kind: str, *, rate: int = 8000, channels: int = 1, seconds: float = 1.0, subtype: str | None = None) -> bytes:
    samples = np.random.default_rng(7).normal(0, 0.1, (int(rate * seconds), channels)).astype("float32")
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


def look(data: bytes) -> Sniffed:
    return sniff(io.BytesIO(data), len(data))


@cache
def tagless() -> bytes:
    mp3 = sound("MP3")
    first = next(at for at in range(24, len(mp3)) if look(mp3[at:]).why == "no_frame_count")
    return mp3[first:]


def wav(*chunks: tuple[bytes, bytes], kind: bytes = b"RIFF", riff: int | None = None) -> bytes:
    body = b"".join(name + struct.pack("<I", len(data)) + data + b"\x00" * (len(data) % 2) for name, data in chunks)
    return kind + struct.pack("<I", len(body) + 4 if riff is None else riff) + b"WAVE" + body


def header(codec: int = 1, channels: int = 1, rate: int = 8000, bits: int = 16) -> tuple[bytes, bytes]:
    block = channels * bits // 8
    return b"fmt ", struct.pack("<HHIIHH", codec, channels, rate, rate * block, block, bits)


@pytest.mark.parametrize("kind", ["MP3", "WAV"])
@pytest.mark.parametrize("rate", [8000, 11025, 22050, 24000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_whole_files_are_complete_and_as_long_as_their_sound(kind: str, rate: int, channels: int) -> None:
    found = look(sound(kind, rate=rate, channels=channels, seconds=1.5))
    assert (found.format, found.completeness) == (Format(kind.lower()), COMPLETE)
    assert found.duration == timedelta(seconds=1.5) or (rate == 11025 and found.duration is not None)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
def test_every_usual_sample_format_of_wav_is_known(subtype: str) -> None:
    found = look(sound("WAV", subtype=subtype))
    assert (found.format, found.completeness, found.duration) == (Format.WAV, COMPLETE, timedelta(seconds=1))


@pytest.mark.parametrize("subtype", ["IMA_ADPCM", "MS_ADPCM"])
def test_compressed_wav_is_known(subtype: str) -> None:
    assert look(sound("WAV", subtype=subtype)).completeness is COMPLETE


@pytest.mark.parametrize("kind", ["MP3", "WAV"])
def test_no_truncation_is_ever_complete(kind: str) -> None:
    data = sound(kind, seconds=0.5)
    assert look(data).completeness is COMPLETE
    assert [cut for cut in range(len(data)) if look(data[:cut]).completeness is COMPLETE] == []


@pytest.mark.parametrize("tail", [ID3V1, APE, APE + ID3V1, bytes(500)])
def test_no_truncation_of_a_tagged_mp3_loses_sound_and_is_complete(tail: bytes) -> None:
    sounding = ID3 + sound("MP3", seconds=0.5)
    data = sounding + tail
    assert look(data).completeness is COMPLETE
    assert [cut for cut in range(len(sounding)) if look(data[:cut]).completeness is COMPLETE] == []


def test_an_mp3_without_a_count_cannot_say_that_it_is_whole() -> None:
    found = look(tagless())
    assert (found.format, found.completeness, found.why) == (Format.MP3, UNKNOWN, "no_frame_count")
    cuts = [look(tagless()[:cut]) for cut in range(len(tagless()))]
    assert {cut.completeness for cut in cuts} == {UNKNOWN, INCOMPLETE}
    seen = sum(cut.format is Format.MP3 and cut.completeness is UNKNOWN for cut in cuts)
    assert seen < 40


@pytest.mark.parametrize("tail", [ID3V1, APE, APE + ID3V1])
def test_a_tag_behind_an_mp3_shows_its_end(tail: bytes) -> None:
    assert look(tagless() + tail).completeness is COMPLETE


@pytest.mark.parametrize("lead", [ID3, ID3 * 3, ID3 + bytes(700), ID3[:5] + b"\x10" + ID3[6:] + b"3DI" + bytes(7)])
def test_tags_in_front_are_skipped(lead: bytes) -> None:
    assert look(lead + sound("MP3")).completeness is COMPLETE


@pytest.mark.parametrize("at", [0.2, 0.5, 0.9])
def test_a_hole_in_an_mp3_is_seen(at: float) -> None:
    data = bytearray(sound("MP3"))
    middle = int(len(data) * at)
    data[middle : middle + 2000] = bytes(min(2000, len(data) - middle))
    assert look(bytes(data)).completeness is INCOMPLETE


def test_junk_behind_an_mp3_is_seen() -> None:
    assert look(sound("MP3") + b"junk").why == "lost_sync"


def test_frames_that_the_count_does_not_know_leave_it_open() -> None:
    assert look(sound("MP3") + tagless()).why == "more_frames_than_said"


def test_another_stream_behind_an_mp3_is_no_part_of_it() -> None:
    assert look(sound("MP3") + sound("MP3", rate=44100)).completeness is INCOMPLETE


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "empty"),
        (HTML, "error_page"),
        (b"\xef\xbb\xbf\n  " + HTML, "error_page"),
        (b'{"error": "expired"}', "error_page"),
        (b"[1]", "error_page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "error_page"),
        (b"\x00\x00\x00\x14ftypheic" + bytes(8), "container_heif"),
        (sound("OGG"), "container_ogg"),
        (sound("FLAC"), "container_flac"),
        (sound("AIFF"), "container_aiff"),
        (b"\xff\xf1\x50\x80" + bytes(100), "container_aac"),
        (b"\x1f\x8b\x08" + bytes(100), "compressed"),
        (b"Not found", "unrecognised"),
        (bytes(10_000), "unrecognised"),
        (b"\xff" * 10_000, "unrecognised"),
        (ID3, "unrecognised"),
        (ID3 + HTML, "unrecognised"),
        (b"ID3 is all I am", "unrecognised"),
        (HTML + sound("MP3"), "error_page"),
        (b"junk" + sound("MP3"), "unrecognised"),
        (sound("MP3")[:100], "unrecognised"),
        (b"RIFF\x00\x00\x00\x00AVI " + bytes(100), "unrecognised"),
        (wav(header(codec=0x9999), (b"data", bytes(100))), "wav_codec"),
        (wav(header(channels=0), (b"data", bytes(100))), "wav_codec"),
        (wav(header(rate=0), (b"data", bytes(100))), "wav_codec"),
    ],
)
def test_what_is_no_audio_of_ours_is_named(data: bytes, why: str) -> None:
    found = look(data)
    assert (found.format, found.why) == (None, why)
    with pytest.raises(MediaInvalid) as caught:
        judge(found, expected=Format.MP3, length_verified=True, size=len(data), min_bytes=0)
    assert str(caught.value) == why


WAVES: list[tuple[str, bytes, Completeness, str]] = [
    ("plain", wav(header(), (b"data", bytes(1600))), COMPLETE, "walked_to_the_end"),
    ("odd data", wav(header(bits=8), (b"data", bytes(801))), COMPLETE, "walked_to_the_end"),
    ("odd data, no pad", wav(header(bits=8), (b"data", bytes(801)), riff=837)[:-1], COMPLETE, "walked_to_the_end"),
    ("list behind", wav(header(), (b"data", bytes(1600)), (b"LIST", b"INFO")), COMPLETE, "walked_to_the_end"),
    ("list before", wav((b"LIST", b"INFO"), header(), (b"data", bytes(1600))), COMPLETE, "walked_to_the_end"),
    ("riff unknown", wav(header(), (b"data", bytes(1600)), riff=0), COMPLETE, "walked_to_the_end"),
    ("streamed", wav(header(), (b"data", b""), riff=0xFFFFFFFF) + bytes(1600), UNKNOWN, "streamed"),
    ("streamed, half a sample", wav(header(), (b"data", b""), riff=0) + bytes(1601), INCOMPLETE, "cut_data"),
    ("streamed, nothing", wav(header(), (b"data", b""), riff=0), INCOMPLETE, "no_data"),
    ("behind the end", wav(header(), (b"data", bytes(1600))) + b"more", UNKNOWN, "trailing_bytes"),
    ("riff too long", wav(header(), (b"data", bytes(1600)), riff=5000), INCOMPLETE, "cut_chunk"),
    ("no data", wav(header(), (b"LIST", b"INFO")), INCOMPLETE, "no_data"),
    ("no format", wav((b"data", bytes(1600))), INCOMPLETE, "no_data"),
    ("short format", wav((b"fmt ", bytes(4)), (b"data", bytes(1600))), INCOMPLETE, "cut_chunk"),
    ("many chunks", wav(*[(b"junk", b"")] * 2000), INCOMPLETE, "too_many_chunks"),
    (
        "64 bits",
        wav((b"ds64", struct.pack("<QQQI", 1672, 1600, 800, 0)), header(), kind=b"RF64", riff=0xFFFFFFFF)
        + b"data\xff\xff\xff\xff"
        + bytes(1600),
        COMPLETE,
        "walked_to_the_end",
    ),
]


@pytest.mark.parametrize(("data", "completeness", "why"), [case[1:] for case in WAVES], ids=[case[0] for case in WAVES])
def test_waves_end_where_they_say(data: bytes, completeness: Completeness, why: str) -> None:
    found = look(data)
    assert (found.format, found.completeness, found.why) == (Format.WAV, completeness, why)


def test_a_streamed_wave_is_as_long_as_its_bytes() -> None:
    data = bytearray(sound("WAV", seconds=2.0))
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    found = look(bytes(data))
    assert (found.completeness, found.duration) == (UNKNOWN, timedelta(seconds=2))


def mutated(data: bytes) -> st.SearchStrategy[bytes]:
    """Some bytes of *data* changed, and some of it cut off."""

    def apply(changes: list[tuple[int, int]], cut: int) -> bytes:
        copy = bytearray(data)
        for at, value in changes:
            copy[at] = value
        return bytes(copy[:cut])

    change = st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255))
    return st.builds(apply, st.lists(change, max_size=8), st.integers(0, len(data)))


@given(
    st.binary(max_size=2000)
    | st.builds(lambda lead, rest: lead + rest, st.sampled_from([b"RIFF", b"ID3", b"\xff\xfb", ID3]), st.binary())
    | mutated(sound("MP3", seconds=0.3))
    | mutated(sound("WAV", seconds=0.05))
    | mutated(WAVES[-1][1])
)
@example(b"\xff")
@example(b"\xff\xfb")
@example(b"RIFF\xff\xff\xff\xffWAVE")
@example(APE)
@example(ID3V1)
def test_no_bytes_whatever_make_it_stumble(data: bytes) -> None:
    found = look(data)
    assert found.format is not None or found.completeness is UNKNOWN
    assert found.duration is None or found.duration >= timedelta(0)


@given(st.binary(min_size=1, max_size=500), st.integers(0, 400))
def test_a_size_that_lies_does_not_make_it_stumble(data: bytes, size: int) -> None:
    sniff(io.BytesIO(data), size)
    sniff(io.BytesIO(sound("MP3")), size)
    sniff(io.BytesIO(sound("WAV")[:100]), size + 1000)


def verdict(found: Sniffed, *, expected: Format = Format.MP3, verified: bool = True, size: int = 1000) -> str:
    try:
        judge(found, expected=expected, length_verified=verified, size=size, min_bytes=500)
    except MediaInvalid as exc:
        return str(exc)
    return "accepted"


def made(how: Completeness) -> Sniffed:
    return Sniffed(format=Format.MP3, completeness=how, why="why")


@pytest.mark.parametrize(
    ("found", "options", "expected"),
    [
        (made(COMPLETE), {}, "accepted"),
        (made(COMPLETE), {"verified": False}, "accepted"),
        (made(UNKNOWN), {}, "accepted"),
        (made(UNKNOWN), {"verified": False}, "unproven_why"),
        (made(INCOMPLETE), {}, "incomplete_why"),
        (made(COMPLETE), {"expected": Format.WAV}, "wrong_format_mp3"),
        (made(COMPLETE), {"size": 499}, "too_small"),
        (made(COMPLETE), {"size": 500}, "accepted"),
    ],
)
def test_only_whole_audio_of_the_promised_format_is_accepted(
    found: Sniffed, options: dict[str, object], expected: str
) -> None:
    assert verdict(found, **options) == expected  # type: ignore[arg-type]
