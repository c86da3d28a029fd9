"""What the answers to a create and a query mean."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.core.model import Format, ProviderStatus, Report
from receiver.dialects.spec import catalog, load
from receiver.dialects.wire import (
    AccountRefused,
    AlreadyExists,
    Busy,
    CreateAnswer,
    Created,
    QueryAnswer,
    Refused,
    UnknownTask,
    Unsure,
    read_create,
    read_query,
)

KLING = catalog()["kling"]
GATEWAY = load(
    """\
extends = "kling"
name = "gateway"
[envelope]
ok = ["0", "success"]
bare = true
[errors.codes]
task_not_exist = "missing"
[errors.statuses]
429 = "rate"
""",
    origin="gateway.toml",
)
CREATED = {
    "code": 0,
    "message": "SUCCEED",
    "request_id": "5f1b2c3d-0000-4000-8000-000000000001",
    "data": {
        "task_id": "900000000000000001",
        "task_info": {"external_task_id": "kaa-000001"},
        "task_status": "submitted",
        "created_at": 1781080778802,
        "updated_at": 1781080778802,
    },
}
#: providers.md 6.5
DONE = (
    b'{"code":0,"message":"SUCCEED","request_id":"5f1b2c3d-0000-4000-8000-000000000002","data":{"task_id":'
    b'"900000000000000011","task_status":"succeed","task_status_msg":"","task_info":{"external_task_id":"kaa-000002",'
    b'"parent_video":{"id":"900000000000000010","url":"https://v15-kling.klingai.com/example/src.mp4","duration":"5.1"'
    b'}},"task_result":{"videos":[{"id":"900000000000000012","url":"https://v15-kling.klingai.com/example/out.mp4",'
    b'"duration":"5.1"}],"audios":[{"id":"900000000000000013","url_mp3":"https://v15-kling.klingai.com/example/out.mp3'
    b'","url_wav":"https://v15-kling.klingai.com/example/out.wav","duration_mp3":"5.12","duration_wav":"5.1"}]},'
    b'"final_unit_deduction":"0.25","final_balance_deduction":{"quota":"0","list_price":"0"},'
    b'"created_at":1781080778802,"updated_at":1781080794151}}'
)
#: providers.md 6.10
FETCHED = (
    b'{"code":"success","message":"","data":{"task_id":"task_abcdefghijklmnopqrstuvwxyz012345","status":"SUCCESS",'
    b'"fail_reason":"","result_url":"https://gw.example/x.mp4","progress":"100%","submit_time":1781080778,'
    b'"finish_time":1781080794,"data":{"code":0,"message":"SUCCEED","data":{"task_id":"900000000000000001",'
    b'"task_status":"succeed","task_result":{"audios":[{"id":"900000000000000002",'
    b'"url_mp3":"https://v15-kling.klingai.com/example/a.mp3"}]}}}}}'
)
EXISTS = "External_task_id kaa-000001 already exists"
NOT_FOUND = "Task not found by id/external id: kaa-999999"
JSON = "application/json; charset=utf-8"


def created(status: int, body: Any, content_type: str = JSON) -> CreateAnswer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_create(KLING, status=status, content_type=content_type, body=raw)


def queried(status: int, body: Any, content_type: str = JSON) -> QueryAnswer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_query(KLING, "text-to-audio", status=status, content_type=content_type, body=raw)


def refusal(code: object, message: str = "no") -> dict[str, object]:
    return {"code": code, "message": message, "request_id": "5f1b2c3d-0000-4000-8000-000000000003"}


def test_a_create_reply_names_the_task() -> None:
    assert created(200, CREATED) == Created("900000000000000001", ProviderStatus.SUBMITTED)


@pytest.mark.parametrize(
    "data",
    [
        {"task_id": "9", "task_info": {}, "task_status": "submitted"},
        {"id": "9", "status": "submitted", "create_time": "1", "external_id": "x"},
        {"task_id": 9},
        {"task_id": "9", "task_status": "pondering"},
    ],
)
def test_a_create_is_certain_as_soon_as_there_is_an_id(data: dict[str, object]) -> None:
    assert created(200, {"code": 0, "message": "SUCCEED", "data": data}) == Created("9", ProviderStatus.SUBMITTED)


@pytest.mark.parametrize("data", [None, [], {}, "9", {"task_id": ""}, {"task_id": "a\0"}, {"task_id": {"a": 1}}])
def test_a_success_without_a_usable_id_is_unsure(data: object) -> None:
    assert isinstance(created(200, {"code": 0, "message": "SUCCEED", "data": data}), Unsure)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        *[(401, code, AccountRefused(str(code), "no", authentication=True)) for code in (1000, 1001, 1002)],
        *[(401, code, AccountRefused(str(code), "no", authentication=True, clock=True)) for code in (1003, 1004)],
        *[(429, code, AccountRefused(str(code), "no", authentication=False)) for code in (1100, 1101, 1102, 1304)],
        (403, 1103, AccountRefused("1103", "no", authentication=False)),
        (400, 1200, Refused("1200", "no")),
        (400, 1201, Refused("1201", "no")),
        (404, 1202, Unsure("http 404, code 1202")),
        (404, 1203, Refused("1203", "no")),
        (400, 1300, Refused("1300", "no")),
        (400, 1301, Refused("1301", "no")),
        (429, 1302, Busy("1302", "no", concurrency=False)),
        (429, 1303, Busy("1303", "no", concurrency=True)),
        (500, 5000, Unsure("http 500, application/json")),
        (503, 5001, Unsure("http 503, application/json")),
        (504, 5002, Unsure("http 504, application/json")),
        (401, 4242, AccountRefused("4242", "no", authentication=True)),
        (400, 4242, Unsure("http 400, code 4242")),
        (429, 4242, Unsure("http 429, code 4242")),
        (200, 4242, Unsure("http 200, code 4242")),
        (200, 1301, Refused("1301", "no")),
        (200, 1303, Busy("1303", "no", concurrency=True)),
        (400, 0, Unsure("http 400, code 0")),
        (500, 1201, Unsure("http 500, application/json")),
        (302, 0, Unsure("http 302, application/json")),
        (400, "1201", Refused("1201", "no")),
        (400, None, Unsure("http 400, no code")),
        (400, True, Unsure("http 400, no code")),
        (400, "x\ny", Unsure("http 400, no code")),
    ],
)
def test_each_code_of_the_error_table_has_one_meaning_for_a_create(
    status: int,
    code: object,
    expected: CreateAnswer,
) -> None:
    assert created(status, refusal(code)) == expected


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (401, 1002, AccountRefused("1002", "no", authentication=True)),
        (401, 1004, AccountRefused("1004", "no", authentication=True, clock=True)),
        (429, 1101, AccountRefused("1101", "no", authentication=False)),
        (400, 1200, Unsure("http 400, code 1200")),
        (400, 1201, Unsure("http 400, code 1201")),
        (404, 1203, UnknownTask()),
        (400, 1301, Unsure("http 400, code 1301")),
        (429, 1302, Busy("1302", "no", concurrency=False)),
        (429, 1303, Busy("1303", "no", concurrency=True)),
        (500, 5000, Unsure("http 500, application/json")),
        (404, None, Unsure("http 404, no code")),
    ],
)
def test_each_code_of_the_error_table_has_one_meaning_for_a_query(
    status: int,
    code: object,
    expected: QueryAnswer,
) -> None:
    assert queried(status, refusal(code)) == expected


def test_d15_the_message_tells_what_1201_means() -> None:
    assert created(400, refusal(1201, EXISTS)) == AlreadyExists(EXISTS)
    assert created(400, refusal(1201, NOT_FOUND)) == Refused("1201", NOT_FOUND)
    assert queried(400, refusal(1201, NOT_FOUND)) == UnknownTask()
    assert queried(400, refusal(1201, EXISTS)) == Unsure("http 400, code 1201")


def test_d16_both_forms_of_unknown_are_unknown() -> None:
    assert queried(404, refusal(1203)) == queried(400, refusal(1201, NOT_FOUND)) == UnknownTask()


@pytest.mark.parametrize(
    ("status", "content_type", "body", "why"),
    [
        (502, "text/html; charset=utf-8", b"<html>secret</html>", "http 502, text/html"),
        (200, "text/html", json.dumps(CREATED).encode(), "http 200, text/html"),
        (301, "", b"", "http 301, no content type"),
        (200, "application/json", b"", "http 200, application/json, not JSON"),
        (200, "application/json", b'{"code":0,"data":{"task_id"', "http 200, application/json, not JSON"),
        (200, "application/json", b"[]", "http 200, application/json, not a JSON object"),
        (200, "application/json", b"\xff", "http 200, application/json, not UTF-8"),
        (200, "application/json", b'{"code":NaN}', "http 200, application/json, not JSON: NaN or Infinity"),
        (200, "application/json", b'{"code":0,"code":0}', "http 200, application/json, a key comes twice"),
        (200, "application/json", b'{"code":' + b"1" * 5000 + b"}", "http 200, application/json, a number is too long"),
        (500, "x\n<script>", b"", "http 500, odd content type"),
        (200, "application/json", b'{"code":0}', "http 200, code 0, no data"),
    ],
)
def test_d24_what_is_no_answer_is_unsure_and_repeats_nothing(
    status: int,
    content_type: str,
    body: bytes,
    why: str,
) -> None:
    assert created(status, body, content_type) == Unsure(why)
    assert queried(status, body, content_type) == Unsure(why)


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "", "application/problem+json"])
def test_json_is_read_under_any_name_but_html(content_type: str) -> None:
    assert isinstance(created(200, CREATED, content_type), Created)


def test_a_finished_task_is_reported_with_its_audio_only() -> None:
    report = queried(200, DONE)

    assert isinstance(report, Report)
    assert report.status is ProviderStatus.SUCCEEDED
    assert report.provider_task_id == "900000000000000011"
    assert report.external_task_id == "kaa-000002"
    assert report.units == "0.25"
    assert report.created_at == datetime(2026, 6, 10, 8, 39, 38, 802000, UTC)
    assert [(media.clip, media.position, media.format, media.url, media.duration) for media in report.media] == [
        (
            "900000000000000013",
            0,
            Format.MP3,
            "https://v15-kling.klingai.com/example/out.mp3",
            timedelta(seconds=5.12),
        ),
        (
            "900000000000000013",
            0,
            Format.WAV,
            "https://v15-kling.klingai.com/example/out.wav",
            timedelta(seconds=5.1),
        ),
    ]


@pytest.mark.parametrize(
    "data",
    [
        {"task_id": "9", "task_status": "processing", "task_info": {}, "task_result": {}},
        {"id": "9", "status": "processing"},
        [{"id": "9", "status": "processing"}],
    ],
)
def test_a_running_task_is_reported(data: object) -> None:
    assert queried(200, {"code": 0, "message": "SUCCEED", "data": data}) == Report(
        status=ProviderStatus.PROCESSING,
        provider_task_id="9",
    )


@pytest.mark.parametrize(
    "data",
    [None, {}, "x", [1], [{}, {}], {"task_id": "9"}, {"task_id": "9", "task_status": "pondering"}],
)
def test_a_query_without_a_known_status_is_unsure(data: object) -> None:
    assert isinstance(queried(200, {"code": 0, "message": "SUCCEED", "data": data}), Unsure)


def test_a_query_with_a_malformed_id_is_unsure() -> None:
    assert isinstance(queried(200, {"code": 0, "data": {"task_id": "\0", "task_status": "succeed"}}), Unsure)


def test_a_list_that_leaves_the_task_out_does_not_know_it() -> None:
    assert queried(200, {"code": 0, "data": []}) == UnknownTask()


def test_a_wrapped_fetch_is_read_to_the_providers_own_record() -> None:
    report = read_query(GATEWAY, "text-to-audio", status=200, content_type=JSON, body=FETCHED)

    assert isinstance(report, Report)
    assert report.provider_task_id == "900000000000000001"
    assert [media.format for media in report.media] == [Format.MP3]


def test_a_wrapped_failure_without_a_record_is_still_a_failure() -> None:
    body = b'{"code":"success","data":{"task_id":"task_1","status":"FAILURE","fail_reason":"risk control","data":null}}'

    report = read_query(GATEWAY, "text-to-audio", status=200, content_type=JSON, body=body)

    assert report == Report(status=ProviderStatus.FAILED, provider_task_id="task_1", reason="risk control")


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, {"id": "task_1", "status": "queued"}, Created("task_1", ProviderStatus.SUBMITTED)),
        (200, {"data": {"task_id": "9", "task_status": "submitted"}}, Created("9", ProviderStatus.SUBMITTED)),
        (200, {"code": 0, "data": {"data": {"task_id": "9"}}}, Created("9", ProviderStatus.SUBMITTED)),
        (200, {"code": 0, "data": {"task_id": "", "id": "9"}}, Created("9", ProviderStatus.SUBMITTED)),
        (200, {"task_id": "task_1", "data": {"task_id": "9"}}, Created("task_1", ProviderStatus.SUBMITTED)),
        (200, {"message": "ok", "data": {"x": {"task_id": "9"}}}, Unsure("http 200, no code, no task id")),
        (200, {"data": {"data": {"data": {"task_id": "9"}}}}, Unsure("http 200, no code, no task id")),
        (200, {"error": {"message": "slow"}, "id": "task_1"}, Created("task_1", ProviderStatus.SUBMITTED)),
        (200, {"error": {"code": "odd", "message": "x"}}, Unsure("http 200, code odd")),
        (400, {"error": {"code": 1301, "message": "x"}}, Refused("1301", "x")),
        (400, {"code": "task_not_exist", "message": "x"}, Refused("task_not_exist", "x")),
        (429, {"error": {"message": "slow down"}}, Busy("http_429", "slow down", concurrency=False)),
    ],
)
def test_d24_gateways_may_answer_in_their_own_envelope(status: int, body: object, expected: CreateAnswer) -> None:
    raw = json.dumps(body).encode()
    if isinstance(expected, Created) and isinstance(body, dict) and "error" in body:
        expected = Unsure(f"http {status}, no code")
    assert read_create(GATEWAY, status=status, content_type=JSON, body=raw) == expected


def test_messages_are_kept_clean() -> None:
    message = "bad\0 callback_url https://hooks.example.net/callbacks/a/1/k1.mac?x=1 \ud800" + "z" * 9999

    answer = created(400, refusal(1200, message))

    assert isinstance(answer, Refused)
    assert answer.message.startswith("bad  callback_url https://hooks.example.net/...")
    assert len(answer.message) <= 500
    answer.message.encode()


@given(st.integers(100, 599), st.text(), st.binary())
def test_any_bytes_get_an_answer(status: int, content_type: str, body: bytes) -> None:
    assert isinstance(created(status, body, content_type), get_args(CreateAnswer))
    assert isinstance(queried(status, body, content_type), get_args(QueryAnswer))


KEYS = st.sampled_from(["code", "message", "data", "error", "task_id", "task_status", "status", "id", "task_result"])
JSON_VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
        st.sampled_from([0, 1201, "succeed", "failed", EXISTS, NOT_FOUND]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(KEYS, st.text()), inner, max_size=6)
    ),
    max_leaves=25,
)


@given(st.sampled_from([200, 201, 400, 401, 404, 429]), JSON_VALUES)
def test_any_json_gets_an_answer(status: int, value: object) -> None:
    body = json.dumps(value).encode()
    for profile in (KLING, GATEWAY):
        answer = read_create(profile, status=status, content_type=JSON, body=body)
        report = read_query(profile, "text-to-audio", status=status, content_type=JSON, body=body)
        assert isinstance(answer, get_args(CreateAnswer))
        assert isinstance(report, get_args(QueryAnswer))
        repr((answer, report)).encode()
