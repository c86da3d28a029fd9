"""
Where the documents contradict each other: the reading that was chosen (providers.md 8).

D04 and D19 to D22 are about what the service does and are tried in `tests/flow/test_contradictions.py`.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from receiver.core.deadlines import gone_at
from receiver.core.errors import InvalidInput
from receiver.core.model import Asset, AssetId, AssetState, Format, Secret, SignatureMode, TaskId, Trust, Verdict
from receiver.dialects import links, signature, wire
from receiver.dialects.answers import AlreadyExists, Busy, Created, Refused, UnknownTask, Unsure
from receiver.dialects.spec import catalog, check_input, load

OFFICIAL: Final = ("kling", "kling-text2video")
SOLD: Final = ("cometapi", "deerapi", "kkiai", "kling-videos", "new-api")
KLING: Final = catalog()["kling"]
JSON: Final = "application/json"
MP3: Final = "https://v15-kling.klingai.com/a.mp3"
NOW: Final = datetime(2026, 6, 10, 8, 40, tzinfo=UTC)
#: providers.md 2.6
VECTOR_SECRET: Final = Secret("whsec_dGVzdHNlY3JldHRlc3RzZWNyZXR0ZXN0c2VjcmV0MTI=")
VECTOR_BODY: Final = (
    b'{"id":"1234567890","status":"succeeded","message":"","create_time":1781080778802,"update_time":1781080794151}'
)
VECTOR: Final[dict[str, Any]] = {
    "webhook_id": "9876543210",
    "timestamp": "1781080794",
    "signatures": "v1,UsKlJP00XoQyOn410NM9xv34sP+Gl0jnOO9Lcpr7NJ4=",
    "body": VECTOR_BODY,
    "now": datetime.fromtimestamp(1781080800, UTC),
}


def body_of(profile: str, kind: str, given: dict[str, Any]) -> dict[str, Any]:
    spec = catalog()[profile]
    values = check_input(spec, kind, given)
    request = wire.create_request(spec, kind, values, external_task_id="7", callback_url=None)
    found: dict[str, Any] = json.loads(request.body or b"")
    return found


def heard(record: dict[str, Any]) -> Any:
    return wire.read_callback(KLING, "text-to-audio", json.dumps(record).encode())


def refused(code: object, message: str, status: int = 400) -> dict[str, Any]:
    raw = json.dumps({"code": code, "message": message}).encode()
    return {"status": status, "content_type": JSON, "body": raw}


def asset(url: str) -> Asset:
    return Asset(
        id=AssetId(1),
        task_id=TaskId(1),
        clip="0",
        position=0,
        format=Format.MP3,
        state=AssetState.PENDING,
        url=url,
        trust=Trust.CONFIRMED,
        link_expires_at=links.expires_at(url),
        gone_at=NOW + KLING.window,
    )


def test_d01_audio_is_asked_for_under_v1_audio_and_never_with_the_notes_fields() -> None:
    for profile in catalog().values():
        kind = profile.kinds.get("video-to-audio")
        if kind is None or profile.name == "kling-videos":
            continue
        assert kind.create_path.endswith("/v1/audio/video-to-audio")
        assert not {"prompt", "audio_type"} & {field.name for field in kind.fields}
    assert catalog()["kling-videos"].kinds["video-to-audio"].create_path == "/v1/videos/video-to-audio"


def test_d02_the_profile_says_how_callbacks_are_signed() -> None:
    assert {catalog()[name].signature_mode for name in OFFICIAL} == {SignatureMode.OPPORTUNISTIC}
    assert {catalog()[name].signature_mode for name in SOLD} == {SignatureMode.NONE}
    assert signature.verify([], **VECTOR) is Verdict.ABSENT, "headers alone choose no scheme"


@pytest.mark.parametrize("lost", ["webhook_id", "timestamp", "signatures"])
def test_d03_all_three_headers_or_none(lost: str) -> None:
    assert signature.verify([VECTOR_SECRET], **VECTOR) is Verdict.GOOD
    assert signature.verify([VECTOR_SECRET], **(VECTOR | {lost: None})) is Verdict.ABSENT
    assert signature.verify([VECTOR_SECRET], **(VECTOR | {"body": b"{}"})) is Verdict.BAD


@pytest.mark.parametrize("result", [{"audios": [{"url_mp3": MP3}]}, {"deep": [{"audios": [{"url_mp3": MP3}]}]}])
def test_d05_audios_are_found_anywhere_in_the_result(result: dict[str, Any]) -> None:
    found = heard({"task_id": "1", "task_status": "succeed", "task_result": result})

    assert [media.url for media in found.media] == [MP3]


def test_d06_the_shapes_are_told_apart_by_their_keys() -> None:
    legacy = heard({"task_id": "1", "task_status": "succeed", "task_result": {"audios": [{"url_mp3": MP3}]}})
    new = heard({"id": "1", "status": "succeeded", "outputs": [{"type": "audio", "mp3_url": MP3}]})

    assert legacy == new
    console = {"id": "1", "status": "submitted", "outputs": [], "message": "", "create_time": 1785901861504}
    assert heard(console).status == "submitted"


def test_d07_the_order_of_a_name_means_nothing() -> None:
    legacy = {"id": "c", "url_mp3": MP3, "url_wav": MP3 + "w", "duration_mp3": "5.04", "duration_wav": "5.0"}
    new = {"id": "c", "mp3_url": MP3, "wav_url": MP3 + "w", "mp3_duration": "5.04", "wav_duration": 5.0}

    reports = [
        heard(
            {"task_id": "1", "task_status": "succeed", "created_at": 1781080778802, "task_result": {"audios": [legacy]}}
        ),
        heard({"id": "1", "status": "succeeded", "create_time": "1781080778802", "outputs": [{"type": "audio"} | new]}),
    ]

    assert asdict(reports[0]) == asdict(reports[1])
    assert len(reports[0].media) == 2


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ({"task_info": {"external_task_id": "7"}}, "7"),
        ({"external_task_id": "7"}, "7"),
        ({"external_id": "7"}, "7"),
        ({"task_info": {}, "external_task_id": "7"}, "7"),
        ({"task_info": None}, None),
        ({}, None),
    ],
)
def test_d08_the_external_id_is_looked_for_in_all_places(place: dict[str, Any], expected: str | None) -> None:
    found = heard({"task_id": "1", "task_status": "processing"} | place)

    assert (found.external_task_id, found.provider_task_id) == (expected, "1")


@pytest.mark.parametrize("profile", ["kling", "cometapi", "deerapi", "kkiai"])
def test_d09_a_duration_is_a_number_and_a_whole_one_has_no_point(profile: str) -> None:
    for given, sent in ((5, "5"), (5.0, "5"), (3.5, "3.5"), (10.0, "10")):
        values = check_input(catalog()[profile], "text-to-audio", {"prompt": "rain", "duration": given})
        request = wire.create_request(
            catalog()[profile], "text-to-audio", values, external_task_id="7", callback_url=None
        )
        assert f'"duration":{sent},'.encode() in (request.body or b"")
    for wrong in (2.9, 10.1, 5.25, "5"):
        with pytest.raises(InvalidInput, match="duration"):
            check_input(catalog()[profile], "text-to-audio", {"prompt": "rain", "duration": wrong})


@pytest.mark.parametrize(
    ("changes", "given", "sent"),
    [('send_as = "text"', 5.0, "5"), ('send_as = "text"', 3.5, "3.5"), ("decimals = 0", 5, 5)],
)
def test_d09_a_profile_may_send_a_duration_as_text_or_whole(changes: str, given: float, sent: object) -> None:
    text = f'extends = "kling"\nname = "x"\n[kinds.text-to-audio.fields.duration]\n{changes}\n'
    profile = load(text, origin="x.toml")
    values = check_input(profile, "text-to-audio", {"prompt": "rain", "duration": given})

    request = wire.create_request(profile, "text-to-audio", values, external_task_id="7", callback_url=None)

    assert json.loads(request.body or b"")["duration"] == sent
    if "decimals" in changes:
        with pytest.raises(InvalidInput, match="0 digits"):
            check_input(profile, "text-to-audio", {"prompt": "rain", "duration": 3.5})


def test_d10_a_resolution_is_not_asked_for_and_not_enforced() -> None:
    for name in ("kling", "cometapi", "deerapi", "kkiai"):
        names = {field.name for field in catalog()[name].kinds["video-to-audio"].fields}
        assert names <= {"video_id", "video_url", "sound_effect_prompt", "bgm_prompt", "asmr_mode"}


@pytest.mark.parametrize("profile", ["kling", "cometapi", "deerapi", "kkiai"])
def test_d11_exactly_one_of_video_id_and_video_url_is_sent(profile: str) -> None:
    by_url, by_id = {"video_url": "https://a.example/v.mp4"}, {"video_id": "861034216165875784"}

    assert set(body_of(profile, "video-to-audio", by_url)) == {"video_url", "external_task_id"}
    assert set(body_of(profile, "video-to-audio", by_id)) == {"video_id", "external_task_id"}
    for wrong in ({}, by_url | by_id):
        with pytest.raises(InvalidInput, match="exactly one of video_id, video_url"):
            check_input(catalog()[profile], "video-to-audio", wrong)


def test_d12_unused_fields_are_left_out_and_not_sent_empty() -> None:
    example = {
        "video_id": "825406034503692376",
        "video_url": "",
        "sound_effect_prompt": "Human voice sounds that match the video.",
        "bgm_prompt": "",
        "asmr_mode": False,
    }

    sent = body_of("kkiai", "video-to-audio", example)

    assert sent == {key: value for key, value in example.items() if value != ""} | {"external_task_id": "7"}


@pytest.mark.parametrize("field", ["sound_effect_prompt", "bgm_prompt"])
@pytest.mark.parametrize("letter", ["a", "ä", "雨", "🌧"])
def test_d13_two_hundred_characters_are_code_points(field: str, letter: str) -> None:
    given = {"video_id": "1", field: letter * 200}

    assert body_of("kling", "video-to-audio", given)[field] == letter * 200
    with pytest.raises(InvalidInput, match="201 characters"):
        check_input(KLING, "video-to-audio", given | {field: letter * 201})


def test_d14_too_fast_and_too_many_are_both_honoured() -> None:
    assert wire.read_create(KLING, **refused(1302, "no", 429)) == Busy("1302", "no", concurrency=False)
    assert wire.read_create(KLING, **refused(1303, "no", 429)) == Busy("1303", "no", concurrency=True)
    assert all(profile.concurrency >= 1 for profile in catalog().values())


def test_d15_the_words_of_a_1201_decide_and_are_the_profiles() -> None:
    exists, unknown = "External_task_id 7 already exists", "Task not found by id/external id: 7"

    assert wire.read_create(KLING, **refused(1201, exists)) == AlreadyExists(exists)
    assert wire.read_create(KLING, **refused(1201, "voice not found")) == Refused("1201", "voice not found")
    assert wire.read_query(KLING, "text-to-audio", **refused(1201, unknown)) == UnknownTask()
    other = load('extends = "kling"\nname = "x"\n[errors.messages]\nexists = "d.j. vu"', origin="x.toml")
    assert wire.read_create(other, **refused(1201, "DEJA VU")) == AlreadyExists("DEJA VU")
    assert wire.read_create(other, **refused(1201, exists)) == Refused("1201", exists)


@pytest.mark.parametrize("profile", ["kling", "cometapi", "deerapi", "kkiai", "kling-videos"])
def test_d16_either_form_of_unknown_is_unknown(profile: str) -> None:
    spec = catalog()[profile]

    for answer in (refused(1203, "resource", 404), refused(1201, "Task not found by id/external id: 7")):
        assert wire.read_query(spec, "video-to-audio", **answer) == UnknownTask()


def test_d17_what_ends_first_counts() -> None:
    assert {catalog()[name].window for name in OFFICIAL} == {timedelta(days=30)}
    assert {catalog()[name].window for name in SOLD} == {timedelta(hours=24)}
    lapses = NOW + timedelta(hours=1)
    stamp = f"{int(lapses.timestamp()):x}"

    assert asset(f"{MP3}?ksSecret=0&ksTime={stamp}").deliver_by == lapses
    assert asset(MP3).deliver_by == NOW + timedelta(days=30)
    late = f"{int((NOW + timedelta(days=90)).timestamp()):x}"
    assert asset(f"{MP3}?ksTime={late}").deliver_by == NOW + timedelta(days=30)


def test_d18_the_window_counts_from_the_earlier_time() -> None:
    created, ended = NOW - timedelta(hours=3), NOW - timedelta(hours=1)

    assert gone_at(KLING.window, created, ended, now=NOW) == created + timedelta(days=30)
    assert gone_at(KLING.window, None, ended, now=NOW) == ended + timedelta(days=30)


def test_d23_the_published_vector_verifies_and_the_pages_example_does_not() -> None:
    assert signature.verify([VECTOR_SECRET], **VECTOR) is Verdict.GOOD
    # The page's own sample: its body is later than its header.
    sample = VECTOR | {"body": VECTOR_BODY.replace(b"1781080778802", b"1785901861504")}
    assert signature.verify([VECTOR_SECRET], **sample) is Verdict.BAD


def test_d23_the_legacy_sample_verifies_with_the_vector_made_for_it() -> None:
    body = (
        b'{"task_id":"900000000000000001","task_status":"succeed","task_status_msg":"","task_info":{"external_task_id":'
        b'"kaa-000001"},"task_result":{"audios":[{"id":"900000000000000002","url_mp3":'
        b'"https://v15-kling.klingai.com/example/a.mp3","url_wav":"https://v15-kling.klingai.com/example/a.wav",'
        b'"duration_mp3":"5.04","duration_wav":"5.0"}]},"created_at":1781080778802,"updated_at":1781080794151}'
    )
    given = VECTOR | {
        "webhook_id": "8674665223082153551",
        "signatures": "v1,ciNEv/FhszUcfdl+JYCHN1JNn67xnTq/wu/PkexFNis=",
        "body": body,
    }

    assert signature.verify([VECTOR_SECRET], **given) is Verdict.GOOD


@pytest.mark.parametrize("code", [1301, "1301"])
def test_d24_an_envelope_decides_whatever_the_status_says(code: object) -> None:
    assert wire.read_create(KLING, **refused(code, "no", 200)) == Refused("1301", "no")
    ok = {"code": str(0) if isinstance(code, str) else 0, "data": {"task_id": "1", "task_status": "submitted"}}
    raw = json.dumps(ok).encode()
    assert isinstance(wire.read_create(KLING, status=200, content_type=JSON, body=raw), Created)
    assert isinstance(wire.read_create(KLING, status=200, content_type="text/html", body=raw), Unsure)
    assert isinstance(wire.read_create(KLING, status=302, content_type=JSON, body=raw), Unsure)


@pytest.mark.parametrize("amount", ["0.25", "0", "12.5"])
def test_d25_units_are_kept_as_they_were_sent(amount: str) -> None:
    assert heard({"task_id": "1", "task_status": "failed", "final_unit_deduction": amount}).units == amount


@pytest.mark.parametrize("given", ["900000000000000001", "CjNP/w==", "kling-v1123", "task_abcDEF", "9" * 200, "ä/?#"])
def test_d26_an_id_is_opaque_text_and_encoded_in_paths(given: str) -> None:
    assert heard({"task_id": given, "task_status": "submitted"}).provider_task_id == given
    path = wire.query_request(KLING, "text-to-audio", id=given).path
    assert path.startswith("/v1/audio/text-to-audio/")
    assert path.count("/") == 4
    assert not {"?", "#"} & set(path)


def test_every_contradiction_has_a_test_named_after_it() -> None:
    elsewhere = {4, 19, 20, 21, 22}
    here = {int(name[6:8]) for name in globals() if name.startswith("test_d")}

    assert here == set(range(1, 27)) - elsewhere
