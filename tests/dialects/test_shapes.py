"""Results in every shape that a provider or a gateway is known to send (providers.md 4, 7)."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from receiver.core.model import Format, Media, ProviderStatus, Report
from receiver.dialects.answers import UnknownTask
from receiver.dialects.spec import catalog, load
from receiver.dialects.wire import Created, QueryAnswer, read_callback, read_create, read_query

JSON: Final = "application/json"
HOST: Final = "https://v15-kling.klingai.com/example"
#: providers.md 6.5
SOUND: Final = {
    "id": "900000000000000013",
    "url_mp3": f"{HOST}/out.mp3",
    "url_wav": f"{HOST}/out.wav",
    "duration_mp3": "5.12",
    "duration_wav": "5.1",
}
VIDEO: Final = {"id": "900000000000000012", "url": f"{HOST}/out.mp4", "duration": "5.1"}
#: A gateway that answers in a shape of its own, as a user would describe it.
ODD: Final = load(
    'extends = "kling"\nname = "odd"\n[envelope]\nok = ["0", "success", "200"]\nbare = true',
    origin="odd.toml",
)


def asked(profile: str, kind: str, body: Any) -> QueryAnswer:
    raw = json.dumps(body).encode()
    return read_query(catalog()[profile], kind, status=200, content_type=JSON, body=raw)


def odd(body: Any, kind: str = "text-to-audio") -> Report:
    answer = read_query(ODD, kind, status=200, content_type=JSON, body=json.dumps(body).encode())
    assert isinstance(answer, Report)
    return answer


def media(answer: object) -> list[tuple[str, int, Format, str]]:
    assert isinstance(answer, Report)
    return [(each.clip, each.position, each.format, each.url) for each in answer.media]


def done(result: Any, **more: Any) -> dict[str, Any]:
    record = {"task_id": "9", "task_status": "succeed", "task_result": result} | more
    return {"code": 0, "message": "SUCCEED", "data": record}


def new_api(status: str, **more: Any) -> dict[str, Any]:
    """Return the wrapped answer of providers.md 4.1."""
    record = {
        "task_id": "task_abcdefghijklmnopqrstuvwxyz012345",
        "status": status,
        "fail_reason": "",
        "progress": "100%",
        "submit_time": 1781080778,
        "finish_time": 1781080794,
    }
    return {"code": "success", "message": "", "data": record | more}


@pytest.mark.parametrize("order", [("videos", "audios"), ("audios", "videos")])
def test_a_video_to_audio_result_has_sound_and_video_each_with_places_of_its_own(order: tuple[str, str]) -> None:
    lists = {"videos": [VIDEO], "audios": [SOUND]}

    answer = asked("kling", "video-to-audio", done({name: lists[name] for name in order}))

    assert media(answer) == [
        ("900000000000000013", 0, Format.MP3, f"{HOST}/out.mp3"),
        ("900000000000000013", 0, Format.WAV, f"{HOST}/out.wav"),
        ("900000000000000012", 0, Format.MP4, f"{HOST}/out.mp4"),
    ]


def test_the_source_video_is_no_result() -> None:
    info = {"parent_video": {"id": "1", "url": f"{HOST}/src.mp4", "duration": "5.1"}}

    answer = asked("kling", "video-to-audio", done({"videos": None, "audios": [SOUND]}, task_info=info))

    assert [format_ for _, _, format_, _ in media(answer)] == [Format.MP3, Format.WAV]


def test_videos_of_a_product_that_makes_sound_are_no_result() -> None:
    assert media(asked("kling", "text-to-audio", done({"videos": [VIDEO]}))) == []


@pytest.mark.parametrize(("profile", "kind"), [("kling-videos", "video-to-audio"), ("kling-text2video", "text2video")])
def test_sound_inside_a_video_comes_as_the_video(profile: str, kind: str) -> None:
    expected = [("900000000000000012", 0, Format.MP4, f"{HOST}/out.mp4")]

    assert media(asked(profile, kind, done({"videos": [VIDEO]}))) == expected
    callback = json.dumps(done({"videos": [VIDEO]})["data"]).encode()
    assert media(read_callback(catalog()[profile], kind, callback)) == expected


def test_the_new_shape_gives_videos_by_their_type() -> None:
    body = {
        "id": "9",
        "status": "succeeded",
        "external_id": "kaa-1",
        "outputs": [
            {"type": "image", "url": f"{HOST}/x.png"},
            {"type": "video", "watermark_url": f"{HOST}/w.mp4"} | VIDEO,
            {"type": "audio", "id": "a", "mp3_url": f"{HOST}/a.mp3"},
        ],
    }

    found = read_callback(catalog()["kling-text2video"], "text-to-video", json.dumps(body).encode())

    assert media(found) == [("900000000000000012", 0, Format.MP4, f"{HOST}/out.mp4")]
    both = read_callback(catalog()["kling"], "video-to-audio", json.dumps(body).encode())
    assert {each.format for each in both.media} == {Format.MP4, Format.MP3}


@pytest.mark.parametrize("clip", [{"url": f"{HOST}/tts.mp3"}, {"id": "t", "url": f"{HOST}/tts", "duration": "2.5"}])
def test_a_sound_with_a_single_link_is_read(clip: dict[str, str]) -> None:
    (found,) = odd(done({"audios": [clip]})).media

    assert (found.format, found.url) == (Format.MP3, clip["url"])
    assert found.duration == (timedelta(seconds=2.5) if "duration" in clip else None)


@pytest.mark.parametrize("left", range(5))
def test_each_of_the_five_fields_of_a_sound_may_be_missing(left: int) -> None:
    clip = {key: value for number, (key, value) in enumerate(SOUND.items()) if number != left}

    assert len(odd(done({"audios": [clip]})).media) == (1 if left in {1, 2} else 2)


@pytest.mark.parametrize("result", [None, {}, [], {"audios": None}, {"audios": []}, {"videos": None}, "x"])
def test_a_success_may_name_no_media(result: object) -> None:
    found = odd(done(result))

    assert (found.status, found.media) == (ProviderStatus.SUCCEEDED, ())


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("completed", ProviderStatus.SUCCEEDED),
        ("OK", ProviderStatus.SUCCEEDED),
        ("SUCCESS", ProviderStatus.SUCCEEDED),
        ("ERROR", ProviderStatus.FAILED),
        ("FAILURE", ProviderStatus.FAILED),
        ("pending", ProviderStatus.SUBMITTED),
        ("staged", ProviderStatus.SUBMITTED),
        ("NOT_START", ProviderStatus.SUBMITTED),
        ("QUEUED", ProviderStatus.SUBMITTED),
        ("IN_PROGRESS", ProviderStatus.PROCESSING),
    ],
)
def test_a_bare_record_with_another_word_for_its_status_is_read(word: str, status: ProviderStatus) -> None:
    assert odd({"task_id": "9", "status": word}).status is status


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_link_beside_the_status_is_the_result(wrapped: bool) -> None:  # noqa: FBT001
    record = {"task_id": "9", "status": "completed", "url": f"{HOST}/out.wav", "duration": "3.0"}

    found = odd({"code": "success", "data": record} if wrapped else record)

    assert found.media == (
        Media(clip="0", position=0, format=Format.WAV, url=f"{HOST}/out.wav", duration=timedelta(seconds=3)),
    )


def test_a_link_beside_the_status_is_of_the_kind_that_the_product_makes() -> None:
    record = {"task_id": "9", "status": "completed", "url": f"{HOST}/out.mp4"}

    assert odd(record).media == ()
    assert media(odd(record, "video-to-audio")) == [("0", 0, Format.MP4, f"{HOST}/out.mp4")]
    assert media(odd(record | {"url": f"{HOST}/out"})) == [("0", 0, Format.MP3, f"{HOST}/out")]


def test_a_link_beside_the_status_counts_only_where_no_list_has_one() -> None:
    found = odd({"task_id": "9", "status": "completed", "url": f"{HOST}/x.mp3", "task_result": {"audios": [SOUND]}})

    assert {each.clip for each in found.media} == {"900000000000000013"}


def test_a_wrapped_answer_is_read_to_the_videos_and_keeps_the_gateways_id() -> None:
    inner = {"code": 0, "data": {"task_id": "900000000000000001", "task_status": "succeed"}}
    inner["data"]["task_result"] = {"videos": [VIDEO]}  # type: ignore[index]

    answer = asked("new-api", "text2video", new_api("SUCCESS", data=inner, fail_reason=f"{HOST}/else.mp4"))

    assert isinstance(answer, Report)
    assert answer.provider_task_id == "task_abcdefghijklmnopqrstuvwxyz012345"
    assert answer.reason == ""
    assert media(answer) == [("900000000000000012", 0, Format.MP4, f"{HOST}/out.mp4")]
    assert answer.created_at == datetime(2026, 6, 10, 8, 39, 38, tzinfo=UTC)
    assert answer.updated_at == datetime(2026, 6, 10, 8, 39, 54, tzinfo=UTC)


@pytest.mark.parametrize("name", ["fail_reason", "result_url"])
def test_a_success_may_have_its_link_in_the_place_of_the_reason(name: str) -> None:
    answer = asked("new-api", "text2video", new_api("SUCCESS", data=None) | {})
    assert media(answer) == []

    answer = asked("new-api", "text2video", new_api("SUCCESS", **{name: f"{HOST}/out.mp4"}))

    assert isinstance(answer, Report)
    assert (answer.reason, media(answer)) == ("", [("0", 0, Format.MP4, f"{HOST}/out.mp4")])


def test_a_gateway_that_gave_up_is_believed_although_its_provider_went_on() -> None:
    inner = {"code": 0, "data": {"task_id": "1", "task_status": "processing"}}

    answer = asked("new-api", "text2video", new_api("FAILURE", data=inner, fail_reason="timed out"))

    assert isinstance(answer, Report)
    assert (answer.status, answer.reason) == (ProviderStatus.FAILED, "timed out")


def test_the_providers_own_failure_counts_before_the_gateways_status() -> None:
    inner = {"code": 0, "data": {"task_id": "1", "task_status": "failed", "task_status_msg": "risk control"}}

    answer = asked("new-api", "text2video", new_api("IN_PROGRESS", data=inner))

    assert isinstance(answer, Report)
    assert (answer.status, answer.reason) == (ProviderStatus.FAILED, "risk control")


def test_the_reason_may_be_an_object_with_a_message() -> None:
    assert odd({"task_id": "9", "status": "ERROR", "error": {"message": "no credit", "code": 1}}).reason == "no credit"


def test_an_external_id_of_the_wrapper_is_taken_where_the_record_has_none() -> None:
    record = {"external_task_id": "kaa-1", "data": {"data": {"task_id": "1", "task_status": "submitted"}}}

    answer = asked("new-api", "text2video", new_api("SUBMITTED", **record))

    assert isinstance(answer, Report)
    assert answer.external_task_id == "kaa-1"


def test_a_gateway_may_know_no_such_task() -> None:
    body = b'{"code":"task_not_exist","message":"task_not_exist","data":null}'

    answer = read_query(catalog()["new-api"], "text2video", status=400, content_type=JSON, body=body)

    assert answer == UnknownTask()


def test_a_create_may_be_answered_with_an_object_of_another_fashion() -> None:
    body = {"id": "task_1", "task_id": "task_1", "object": "video", "model": "kling-v2-6", "status": "queued"}

    raw = json.dumps(body | {"progress": 0, "created_at": 1781080778}).encode()

    answer = read_create(catalog()["new-api"], status=200, content_type=JSON, body=raw)
    assert answer == Created("task_1", ProviderStatus.SUBMITTED)


def test_a_create_needs_neither_a_request_id_nor_a_task_info() -> None:
    body = {"code": 0, "message": "SUCCEED", "data": {"task_id": "861254119619698760", "task_status": "submitted"}}
    body["data"] |= {"task_info": {}, "created_at": 1773367502225, "updated_at": 1773367502225}  # type: ignore[operator]

    answer = read_create(catalog()["cometapi"], status=200, content_type=JSON, body=json.dumps(body).encode())

    assert answer == Created("861254119619698760", ProviderStatus.SUBMITTED)


def test_the_callback_of_a_gateway_that_renames_tasks_names_none() -> None:
    body = b'{"task_id":"900000000000000001","task_status":"failed","external_task_id":"kaa-1"}'

    found = read_callback(catalog()["new-api"], "text2video", body)

    assert (found.provider_task_id, found.external_task_id) == (None, "kaa-1")


def test_a_stripped_callback_is_a_success_without_media() -> None:
    body = (
        b'{"task_id":"900000000000000001","task_status":"succeed","created_at":1781080778802,'
        b'"updated_at":1781080794151,"task_result":{"videos":null},"final_unit_deduction":"0.25"}'
    )

    found = read_callback(catalog()["cometapi"], "text-to-audio", body)

    assert (found.status, found.media, found.units) == (ProviderStatus.SUCCEEDED, (), "0.25")
