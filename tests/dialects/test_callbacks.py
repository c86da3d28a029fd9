"""What a callback's body says, in every shape that is known."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.core.errors import CallbackUnreadable
from receiver.core.model import Format, Media, ProviderStatus, Report
from receiver.dialects import wire
from receiver.dialects.reports import STATUSES
from receiver.dialects.spec import catalog
from receiver.dialects.wire import MEDIA_FORMATS

CREATED = datetime(2026, 6, 10, 8, 39, 38, 802000, UTC)
UPDATED = datetime(2026, 6, 10, 8, 39, 54, 151000, UTC)
HOST = "https://v15-kling.klingai.com/example"
#: providers.md 6.3
LEGACY: dict[str, Any] = {
    "task_id": "900000000000000001",
    "task_status": "succeed",
    "task_status_msg": "",
    "task_info": {"external_task_id": "kaa-000001"},
    "task_result": {
        "audios": [
            {
                "id": "900000000000000002",
                "url_mp3": f"{HOST}/a.mp3",
                "url_wav": f"{HOST}/a.wav",
                "duration_mp3": "5.04",
                "duration_wav": "5.0",
            },
        ],
    },
    "created_at": 1781080778802,
    "updated_at": 1781080794151,
}
#: providers.md 6.6
NEW: dict[str, Any] = {
    "id": "900000000000000021",
    "status": "succeeded",
    "message": "",
    "create_time": 1781080778802,
    "update_time": 1781080794151,
    "external_id": "kaa-000003",
    "outputs": [
        {
            "type": "audio",
            "id": "900000000000000022",
            "mp3_url": f"{HOST}/n.mp3",
            "wav_url": f"{HOST}/n.wav",
            "mp3_duration": "5.04",
            "wav_duration": "5.0",
        },
    ],
    "billing": [{"charge_type": "unit", "amount": "0.25", "package_type": "audio"}],
}


def read_callback(body: bytes) -> Report:
    return wire.read_callback(catalog()["kling"], "text-to-audio", body)


def read(value: object) -> Report:
    return read_callback(json.dumps(value).encode())


def with_audio(*clips: object) -> Report:
    return read({**LEGACY, "task_result": {"audios": list(clips)}})


def test_the_legacy_shape_is_read() -> None:
    assert read(LEGACY) == Report(
        status=ProviderStatus.SUCCEEDED,
        provider_task_id="900000000000000001",
        external_task_id="kaa-000001",
        media=(
            Media(
                clip="900000000000000002",
                position=0,
                format=Format.MP3,
                url=f"{HOST}/a.mp3",
                duration=timedelta(seconds=5.04),
            ),
            Media(
                clip="900000000000000002",
                position=0,
                format=Format.WAV,
                url=f"{HOST}/a.wav",
                duration=timedelta(seconds=5),
            ),
        ),
        created_at=CREATED,
        updated_at=UPDATED,
    )


def test_d6_the_new_shape_is_read_at_the_same_place() -> None:
    report = read(NEW)

    assert report.provider_task_id == "900000000000000021"
    assert report.external_task_id == "kaa-000003"
    assert report.units == "0.25"
    assert (report.created_at, report.updated_at) == (CREATED, UPDATED)
    assert [(media.clip, media.format) for media in report.media] == [
        ("900000000000000022", Format.MP3),
        ("900000000000000022", Format.WAV),
    ]


def test_d7_both_name_orders_give_the_same_media() -> None:
    clip = {"id": "1", "url_mp3": f"{HOST}/a.mp3", "duration_mp3": "5.04", "url_wav": f"{HOST}/a.wav"}
    other = {"id": "1", "mp3_url": f"{HOST}/a.mp3", "mp3_duration": "5.04", "wav_url": f"{HOST}/a.wav"}

    assert with_audio(clip).media == with_audio(other).media
    assert with_audio(clip).media == read({**NEW, "outputs": [{"type": "audio", **clip}]}).media


def test_d7_media_formats_know_both_name_orders() -> None:
    assert MEDIA_FORMATS == {
        "url_mp3": Format.MP3,
        "mp3_url": Format.MP3,
        "url_wav": Format.WAV,
        "wav_url": Format.WAV,
    }


def test_d5_a_success_without_audio_is_a_success_without_media() -> None:
    forwarded = {
        "task_id": "900000000000000001",
        "task_status": "succeed",
        "created_at": 1781080778802,
        "updated_at": 1781080794151,
        "task_result": {"videos": None},
        "final_unit_deduction": "0.25",
    }

    report = read(forwarded)

    assert report.status is ProviderStatus.SUCCEEDED
    assert report.media == ()
    assert report.units == "0.25"


def test_d5_audio_is_found_anywhere_in_the_result() -> None:
    audios = LEGACY["task_result"]["audios"]

    for result in ({"more": {"audios": audios}}, [{"audios": audios}], {"videos": [{"audios": audios}]}):
        assert read({**LEGACY, "task_result": result}).media == read(LEGACY).media


@pytest.mark.parametrize(
    "place",
    [
        {"task_info": {"external_task_id": "kaa-1"}},
        {"external_task_id": "kaa-1"},
        {"external_id": "kaa-1"},
        {"task_info": {}, "external_task_id": "kaa-1"},
        {"task_info": {"external_task_id": ""}, "external_task_id": "kaa-1"},
        {"task_info": None, "external_task_id": "kaa-1"},
    ],
)
def test_d8_the_external_id_is_found_in_each_place(place: dict[str, object]) -> None:
    assert read({"task_id": "1", "task_status": "processing", **place}).external_task_id == "kaa-1"


def test_d8_a_callback_without_any_id_is_still_read() -> None:
    assert read({"task_status": "failed"}) == Report(status=ProviderStatus.FAILED)


def test_an_empty_text_hides_nothing() -> None:
    blank = {"task_status": "", "task_id": "", "created_at": "", "task_info": {"external_task_id": ""}}
    clip = {"id": "1", "url_mp3": "", "mp3_url": f"{HOST}/a.mp3", "duration_mp3": "", "duration": "3.0"}

    report = read({**NEW, **blank, "task_result": {"audios": [clip]}, "outputs": []})

    assert report.provider_task_id == NEW["id"]
    assert report.external_task_id == NEW["external_id"]
    assert report.created_at == CREATED
    assert [(item.url, item.duration) for item in report.media] == [(f"{HOST}/a.mp3", timedelta(seconds=3))]


def test_one_clip_may_stand_where_a_list_of_one_should() -> None:
    clip = LEGACY["task_result"]["audios"][0]

    assert read({**LEGACY, "task_result": {"audios": clip}}).media == read(LEGACY).media
    assert read({**LEGACY, "task_result": {"audios": {"audios": [clip]}}}).media == read(LEGACY).media
    assert read({**LEGACY, "task_result": {"audios": {"id": "1"}}}).media == ()


def test_the_console_test_is_read() -> None:
    test = {
        "id": "900000000000000099",
        "status": "submitted",
        "outputs": [],
        "message": "",
        "create_time": 1785901861504,
        "update_time": 1785901861504,
    }

    report = read(test)

    assert (report.status, report.media) == (ProviderStatus.SUBMITTED, ())


@pytest.mark.parametrize(
    "failure",
    [
        {"task_id": "900000000000000031", "task_status": "failed", "task_status_msg": "risk control"},
        {"id": "900000000000000031", "status": "failed", "message": "risk control"},
        {"task_id": "900000000000000031", "status": "FAILURE", "fail_reason": "risk control"},
        {"task_id": "900000000000000031", "task_status": "failed", "task_status_msg": "", "message": "risk control"},
    ],
)
def test_a_failure_brings_its_reason(failure: dict[str, object]) -> None:
    report = read(failure)

    assert (report.status, report.reason) == (ProviderStatus.FAILED, "risk control")


def test_a_success_has_no_reason() -> None:
    assert read({**LEGACY, "fail_reason": "https://gw.example/x.mp4?sig=1", "task_status_msg": None}).reason == ""


def test_a_single_data_object_is_unwrapped() -> None:
    assert read({"event": "done", "data": LEGACY}) == read(LEGACY)
    with pytest.raises(CallbackUnreadable):
        read({"data": {"data": LEGACY}})


@pytest.mark.parametrize(("text", "status"), [*STATUSES.items(), (" SUCCEED ", ProviderStatus.SUCCEEDED)])
def test_every_known_status_has_one_meaning(text: str, status: ProviderStatus) -> None:
    assert read({"task_id": "1", "task_status": text}).status is status
    assert read({"id": "1", "status": text.upper()}).status is status


@pytest.mark.parametrize("status", ["", "UNKNOWN", "pondering", None, 7, {}, ["succeed"]])
def test_an_unknown_status_is_unreadable(status: object) -> None:
    with pytest.raises(CallbackUnreadable):
        read({"task_id": "1", "task_status": status})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1781080778802, CREATED),
        ("1781080778802", CREATED),
        (1781080778, CREATED.replace(microsecond=0)),
        ("1781080778", CREATED.replace(microsecond=0)),
        (1781080778.802, CREATED),
        (0, None),
        (-1, None),
        ("", None),
        ("yesterday", None),
        (True, None),
        (1e300, None),
        (10**30, None),
        ([], None),
    ],
)
def test_times_come_in_seconds_or_milliseconds_as_number_or_text(value: object, expected: datetime | None) -> None:
    assert read({**LEGACY, "created_at": value}).created_at == expected
    assert read({**NEW, "update_time": value}).updated_at == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0.25", "0.25"),
        ("0.250", "0.250"),
        (0.25, "0.25"),
        (3, "3"),
        (0.1 + 0.2, "0.30000000000000004"),
        (0.00001, "0.00001"),
        (1e300, None),
        ("-1", None),
        ("1e9", None),
        ("x", None),
        ({}, None),
    ],
)
def test_d25_units_are_kept_as_sent(value: object, expected: str | None) -> None:
    assert read({**LEGACY, "final_unit_deduction": value}).units == expected


def test_d25_units_of_several_bills_are_added() -> None:
    bills = [
        {"charge_type": "unit", "amount": "0.10"},
        {"charge_type": "unit", "amount": "0.000000005"},
        {"charge_type": "cash", "amount": "9"},
        None,
    ]

    assert read({**NEW, "billing": bills}).units == "0.100000005"


@pytest.mark.parametrize("left", range(32))
def test_every_audio_field_is_optional(left: int) -> None:
    clip = LEGACY["task_result"]["audios"][0]
    names = ("id", "url_mp3", "url_wav", "duration_mp3", "duration_wav")
    kept = {name: clip[name] for bit, name in enumerate(names) if left & (1 << bit)}

    media = with_audio(kept).media

    assert {item.format for item in media} == {
        kind for name, kind in (("url_mp3", Format.MP3), ("url_wav", Format.WAV)) if name in kept
    }
    assert all(item.clip == kept.get("id", "0") for item in media)
    assert all((item.duration is not None) == (f"duration_{item.format}" in kept) for item in media)


def test_clips_without_an_id_are_named_by_their_position() -> None:
    url = f"{HOST}/a.mp3"

    media = with_audio({"url_mp3": url}, None, {"url_mp3": url}, {"id": "a\0", "url_mp3": url}).media

    assert [(item.clip, item.position) for item in media] == [("0", 0), ("2", 2), ("3", 3)]


def test_no_two_clips_have_the_same_name() -> None:
    url = f"{HOST}/a.mp3"
    clips = [{"id": name, "url_mp3": url} for name in ("1", "", "1", "#3", "#3")]

    names = [item.clip for item in with_audio(*clips).media]

    assert len(set(names)) == len(names) == 5


def test_a_single_link_tells_its_format_by_its_path() -> None:
    media = with_audio({"id": "1", "url": f"{HOST}/a.WAV?x=1"}, {"id": "2", "url": f"{HOST}/b", "duration": 3}).media

    assert [(item.format, item.duration) for item in media] == [
        (Format.WAV, None),
        (Format.MP3, timedelta(seconds=3)),
    ]


def test_outputs_that_are_no_audio_are_left_out() -> None:
    outputs = [{"type": "video", "url": f"{HOST}/a.mp4"}, "x", {"mp3_url": f"{HOST}/a.mp3"}, {"url": f"{HOST}/z"}]

    assert [item.url for item in read({**NEW, "outputs": outputs}).media] == [f"{HOST}/a.mp3"]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://v15-kling.klingai.com/a.mp3",
        "file:///etc/passwd",
        "//v15-kling.klingai.com/a.mp3",
        "https://",
        "https:///a.mp3",
        f"{HOST}/a b.mp3",
        f"{HOST}/a\n.mp3",
        f"{HOST}/a\0.mp3",
        f"{HOST}/a\u2028.mp3",
        f"{HOST}/a\ud800.mp3",
        "https://good.example\\@evil.example/a.mp3",
        "https://[::1/a.mp3",
        "https://a.example:0/a.mp3",
        "https://a.example:99999/a.mp3",
        HOST + "/" + "a" * 8192,
        HOST + "/" + "\u00e9" * 5000,
        5,
        {"href": HOST},
    ],
)
def test_a_link_that_cannot_be_used_is_left_out(url: object) -> None:
    media = with_audio({"id": "1", "url_mp3": url, "url_wav": f"{HOST}/a.wav"}).media

    assert [item.format for item in media] == [Format.WAV]


def test_a_signed_link_is_kept_byte_for_byte() -> None:
    url = f"{HOST}/a%2Fb.mp3?cacheKey=ab%3D%3d+&x=,;~'é&ksTime=6953fa63"

    assert with_audio({"id": "1", "url_mp3": url}).media[0].url == url


@pytest.mark.parametrize("value", ["-1", "0", "five", "1e3", 86401, None, True, [], "nan"])
def test_an_odd_duration_is_left_out(value: object) -> None:
    (media,) = with_audio({"id": "1", "url_mp3": f"{HOST}/a.mp3", "duration_mp3": value}).media

    assert media.duration is None


@pytest.mark.parametrize("name", ["task_id", "external_task_id"])
@pytest.mark.parametrize("value", ["a\0b", "a\nb", "a\x85b", "\ud800", "x" * 257, "..", 1.5, True, ["1"], {}])
def test_d26_an_id_that_cannot_be_one_is_unreadable(name: str, value: object) -> None:
    with pytest.raises(CallbackUnreadable):
        read({"task_status": "processing", name: value})


@pytest.mark.parametrize("value", ["x" * 256, "CjNP/w==", "kling-v1123", "900000000000000001"])
def test_d26_ids_are_opaque_text(value: str) -> None:
    assert read({"task_id": value, "task_status": "processing"}).provider_task_id == value


def test_d26_a_number_is_taken_digit_by_digit() -> None:
    assert read_callback(b'{"task_id":900000000000000001,"task_status":"submitted"}').provider_task_id == (
        "900000000000000001"
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"succeed"',
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        b"{}",
        b'{"task_status":"succeed","created_at":NaN}',
        b'{"task_status":"succeed","created_at":-Infinity}',
        b'{"task_status":"succeed","created_at":' + b"9" * 5000 + b"}",
        b'{"task_status":"failed","task_status":"succeed"}',
        b'{"task_status":"succeed","task_result":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"a":' * 100_000,
        b"task_status=succeed",
    ],
)
def test_what_is_no_report_is_unreadable_and_repeats_nothing(body: bytes) -> None:
    with pytest.raises(CallbackUnreadable) as caught:
        read_callback(body)

    assert len(str(caught.value)) < 60


def test_a_deep_result_within_the_parsers_reach_is_read() -> None:
    body = b'{"task_status":"succeed","task_result":' + b"[" * 400 + b"]" * 400 + b"}"

    assert read_callback(body).media == ()


def test_an_overflowing_number_is_left_out() -> None:
    assert read_callback(b'{"task_status":"succeed","created_at":1e999}').created_at is None


def clean(report: Report) -> bool:
    """Tell whether PostgreSQL's text can hold every part."""
    text = repr(asdict(report)) + "".join(item.url + item.clip for item in report.media)
    texts = [report.reason, report.provider_task_id or "", report.external_task_id or "", text]
    return all("\0" not in part and part.encode() for part in texts if part)


@given(st.binary())
def test_any_bytes_are_read_or_unreadable(body: bytes) -> None:
    try:
        report = read_callback(body)
    except CallbackUnreadable:
        return
    assert clean(report)


ANY = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(st.characters()),
        st.text(st.characters(categories=["Cs", "Cc"])),
        st.just(f"{HOST}/a.mp3"),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["audios", "id", "url", *MEDIA_FORMATS, "duration", "type"]), inner, max_size=5
        ),
    ),
    max_leaves=20,
)
FIELDS = [
    *("task_id", "id", "task_status_msg", "message", "task_info", "external_task_id", "external_id", "task_result"),
    *("outputs", "billing", "final_unit_deduction", "created_at", "update_time", "data"),
]


@given(st.sampled_from(sorted(STATUSES)), st.dictionaries(st.sampled_from(FIELDS), ANY))
def test_any_json_is_read_or_unreadable(status: str, record: dict[str, object]) -> None:
    try:
        report = read({**record, "task_status": status})
    except CallbackUnreadable:
        return
    assert clean(report)
    assert len({(item.clip, item.format) for item in report.media}) == len(report.media)
