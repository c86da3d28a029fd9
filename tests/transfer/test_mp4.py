from __future__ import annotations

import io
import struct
from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from receiver.core.errors import MediaInvalid
from receiver.core.model import Format
from receiver.transfer.media import Completeness, Sniffed, judge, sniff
from tests.transfer.films import FAST, FRAGMENTS, LAST, film

COMPLETE, INCOMPLETE, UNKNOWN = Completeness.COMPLETE, Completeness.INCOMPLETE, Completeness.UNKNOWN
SECOND = timedelta(seconds=1)


def look(data: bytes) -> Sniffed:
    return sniff(io.BytesIO(data), len(data))


def box(kind: bytes, *parts: bytes, length: int | None = None, long: bool = False) -> bytes:
    body = b"".join(parts)
    if long:
        return struct.pack(">I4sQ", 1, kind, len(body) + 16) + body
    return struct.pack(">I4s", len(body) + 8 if length is None else length, kind) + body


def header(seconds: int = 3, *, version: int = 0) -> bytes:
    if version:
        return box(b"mvhd", struct.pack(">IQQIQ", 1 << 24, 0, 0, 1000, seconds * 1000), bytes(80))
    return box(b"mvhd", struct.pack(">IIIII", 0, 0, 0, 1000, seconds * 1000), bytes(80))


def track(handler: bytes = b"soun", offsets: tuple[int, ...] = (40,), *, wide: bool = False) -> bytes:
    form, kind = ("Q", b"co64") if wide else ("I", b"stco")
    table = box(kind, struct.pack(f">II{len(offsets)}{form}", 0, len(offsets), *offsets))
    inner = box(b"hdlr", struct.pack(">II4s", 0, 0, handler), bytes(12)) + box(b"minf", box(b"stbl", table))
    return box(b"trak", box(b"mdia", inner))


def movie(*parts: bytes) -> bytes:
    return box(b"moov", *(parts or (header(), track(b"vide"), track())))


BRAND = box(b"ftyp", b"isom", bytes(4), b"isom")
MEDIA = box(b"mdat", bytes(3000))

WALKED = "walked_to_the_end"
SHORT = track().replace(struct.pack(">III", 0, 1, 40), struct.pack(">III", 0, 9, 40))

LAYOUTS: list[tuple[str, bytes, Format, Completeness, str]] = [
    ("plain", BRAND + MEDIA + movie(), Format.MP4, COMPLETE, WALKED),
    ("sound alone", BRAND + MEDIA + movie(header(), track()), Format.M4A, COMPLETE, WALKED),
    ("64 bits", BRAND + box(b"mdat", bytes(900), long=True) + movie(), Format.MP4, COMPLETE, WALKED),
    ("long table", BRAND + MEDIA + movie(header(), track(wide=True)), Format.M4A, COMPLETE, WALKED),
    ("something else", BRAND + box(b"free") + MEDIA + box(b"wide") + movie(), Format.MP4, COMPLETE, WALKED),
    ("zeros behind a list", BRAND + MEDIA + movie(header(), track(), bytes(4)), Format.M4A, COMPLETE, WALKED),
    ("to the end", BRAND + movie() + box(b"mdat", bytes(900), length=0), Format.MP4, UNKNOWN, "runs_to_the_end"),
    (
        "second media gone",
        BRAND + movie(header(), track(offsets=(40, 9000))) + MEDIA,
        Format.M4A,
        INCOMPLETE,
        "media_missing",
    ),
    ("no media", BRAND + movie(), Format.MP4, INCOMPLETE, "no_mdat"),
    ("no movie", BRAND + MEDIA, Format.MP4, INCOMPLETE, "no_moov"),
    ("no tracks", BRAND + MEDIA + movie(header()), Format.MP4, INCOMPLETE, "no_tracks"),
    ("nothing to play", BRAND + MEDIA + movie(header(), track(offsets=())), Format.M4A, INCOMPLETE, "no_chunks"),
    ("junk behind", BRAND + MEDIA + movie() + b"junk", Format.MP4, INCOMPLETE, "cut_box"),
    ("a page behind", BRAND + MEDIA + movie() + b"<html></html>", Format.MP4, INCOMPLETE, "cut_box"),
    ("zeros behind", BRAND + MEDIA + movie() + bytes(16), Format.MP4, INCOMPLETE, "bad_box"),
    (
        "half a long header",
        BRAND + MEDIA + movie() + struct.pack(">I4s", 1, b"mdat"),
        Format.MP4,
        INCOMPLETE,
        "cut_box",
    ),
    ("shorter than its header", BRAND + MEDIA + movie() + box(b"free", length=4), Format.MP4, INCOMPLETE, "bad_box"),
    ("cut in the media", BRAND + movie() + MEDIA[:-1], Format.MP4, INCOMPLETE, "cut_mdat"),
    ("short table", BRAND + MEDIA + movie(header(), SHORT), Format.M4A, INCOMPLETE, "cut_box"),
    ("no end of boxes", BRAND + box(b"free") * 30_000, Format.MP4, INCOMPLETE, "too_many_boxes"),
]


@pytest.mark.parametrize(
    ("data", "form", "completeness", "why"), [case[1:] for case in LAYOUTS], ids=[case[0] for case in LAYOUTS]
)
def test_boxes_end_where_they_say(data: bytes, form: Format, completeness: Completeness, why: str) -> None:
    found = look(data)
    assert (found.format, found.completeness, found.why) == (form, completeness, why)


@pytest.mark.parametrize(("flags", "form"), [(FAST, "mp4"), (LAST, "mp4"), (LAST, "mov"), (FAST, "mov")])
def test_a_film_is_complete_wherever_its_tables_are_and_as_long_as_it_plays(flags: str, form: str) -> None:
    found = look(film(flags=flags, form=form))
    assert (found.format, found.completeness, found.duration, found.has_sound) == (Format.MP4, COMPLETE, SECOND, True)


def test_a_film_without_sound_says_so() -> None:
    found = look(film(codec=None))
    assert (found.format, found.completeness, found.has_sound) == (Format.MP4, COMPLETE, False)


def test_sound_alone_is_m4a() -> None:
    found = look(film(picture=False, form="ipod"))
    assert (found.format, found.completeness, found.duration) == (Format.M4A, COMPLETE, SECOND)


def test_fragments_are_complete_with_their_index_alone() -> None:
    data = film(flags=FRAGMENTS)
    index = data.rindex(b"mfra") - 4
    assert (look(data).completeness, look(data).duration) == (COMPLETE, None)
    assert (look(data[:index]).completeness, look(data[:index]).why) == (UNKNOWN, "no_fragment_index")


@pytest.mark.parametrize("version", [0, 1])
def test_the_length_is_read_from_either_version_of_the_header(version: int) -> None:
    found = look(BRAND + MEDIA + movie(header(5, version=version), track()))
    assert (found.completeness, found.duration) == (COMPLETE, timedelta(seconds=5))


@pytest.mark.parametrize("seconds", [0xFFFFFFFF, 0xFFFFFFFF // 1000])
@pytest.mark.parametrize("scale", [0, 1])
def test_a_length_that_is_none_is_left_out(seconds: int, scale: int) -> None:
    odd = box(b"mvhd", struct.pack(">IIIII", 0, 0, 0, scale, seconds), bytes(80))
    found = look(BRAND + MEDIA + movie(odd, track()))
    assert (found.completeness, found.duration is None) == (COMPLETE, scale == 0 or seconds == 0xFFFFFFFF)


def test_the_longest_number_is_no_length() -> None:
    odd = box(b"mvhd", struct.pack(">IQQIQ", 1 << 24, 0, 0, 1, 2**64 - 2), bytes(80))
    assert look(BRAND + MEDIA + movie(odd, track())).duration is None


def test_boxes_within_boxes_without_end_are_given_up() -> None:
    deep = b""
    for _ in range(5000):
        deep = box(b"moov", deep)
    assert look(BRAND + deep + MEDIA).why == "too_deep"


def test_pictures_in_the_same_container_are_named() -> None:
    still = box(b"ftyp", b"heic", bytes(8)) + box(b"meta", bytes(20)) + MEDIA
    assert (look(still).format, look(still).why) == (None, "container_heif")


@pytest.mark.parametrize(("flags", "form"), [(FAST, "mp4"), (LAST, "mp4"), (FRAGMENTS, "mp4"), (LAST, "mov")])
def test_no_truncation_is_ever_complete(flags: str, form: str) -> None:
    data = film(seconds=0.5, flags=flags, form=form)
    assert look(data).completeness is COMPLETE
    assert [cut for cut in range(len(data)) if look(data[:cut]).completeness is COMPLETE] == []


def mutated(data: bytes) -> st.SearchStrategy[bytes]:
    def apply(changes: list[tuple[int, int]], cut: int) -> bytes:
        copy = bytearray(data)
        for at, value in changes:
            copy[at] = value
        return bytes(copy[:cut])

    change = st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255))
    return st.builds(apply, st.lists(change, max_size=8), st.integers(0, len(data)))


@given(
    mutated(LAYOUTS[0][1]) | mutated(film(seconds=0.3)[:1500]) | st.binary(max_size=300).map(lambda tail: BRAND + tail)
)
@example(BRAND)
@example(BRAND[:8])
@example(BRAND + b"\0\0\0\0moov")
def test_no_bytes_whatever_make_it_stumble(data: bytes) -> None:
    found = look(data)
    assert found.format is not None or found.completeness is UNKNOWN
    assert found.duration is None or found.duration >= timedelta(0)


@given(st.integers(0, 6000))
def test_a_size_that_lies_does_not_make_it_stumble(size: int) -> None:
    sniff(io.BytesIO(LAYOUTS[0][1]), size)
    sniff(io.BytesIO(LAYOUTS[0][1][: size // 2]), size)


@pytest.mark.parametrize(
    ("data", "expected", "why"),
    [
        (film(), Format.MP3, "wrong_format_mp4"),
        (film(), Format.M4A, "wrong_format_mp4"),
        (film(picture=False, form="ipod"), Format.MP4, "wrong_format_m4a"),
        (film()[:-1], Format.MP4, "incomplete_cut_mdat"),
        (b"<html>403 Forbidden</html>", Format.MP4, "error_page"),
        (b'{"code": 1203}', Format.MP4, "error_page"),
    ],
)
def test_what_was_not_promised_is_refused(data: bytes, expected: Format, why: str) -> None:
    with pytest.raises(MediaInvalid) as caught:
        judge(look(data), expected=expected, length_verified=True, size=len(data), min_bytes=0)
    assert str(caught.value) == why
