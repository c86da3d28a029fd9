"""Each row of each provider's error table, as its documents give it: what a create and a query make of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import pytest

from receiver.dialects.answers import request_id
from receiver.dialects.spec import catalog
from receiver.dialects.wire import (
    AccountRefused,
    AlreadyExists,
    Busy,
    CreateAnswer,
    QueryAnswer,
    Refused,
    UnknownTask,
    Unsure,
    read_create,
    read_list,
    read_query,
)

JSON: Final = "application/json; charset=utf-8"
EXISTS: Final = "External_task_id kaa-000001 already exists"
NOT_FOUND: Final = "Task not found by id/external id: kaa-999999"
#: Where Kling's own codes reach us.
PASS_THROUGH: Final = (
    "kling",
    "sandbox",
    "cometapi",
    "deerapi",
    "kkiai",
    "kling-videos",
    "kling-text2video",
    "new-api",
)
WORDS: Final = {
    AccountRefused: "account",
    AlreadyExists: "exists",
    Busy: "busy",
    Refused: "refused",
    UnknownTask: "unknown",
    Unsure: "unsure",
}

Row = tuple[int, Any, str, str, str]


def bare(code: object, message: str = "no") -> dict[str, object]:
    return {"code": code, "message": message, "request_id": "5f1b2c3d-0000-4000-8000-000000000003"}


def comet(code: object, message: str = "no (request id: 20260205132859798638387SIHCnxzJ)") -> dict[str, object]:
    return {"error": {"message": message, "type": "comet_api_error", "param": "", "code": code}}


#: providers.md 2.8: status, body, then the class for a create and for a query.
KLING: Final[Sequence[Row]] = [
    *[(401, bare(code), "account authentication", "account authentication", "") for code in (1000, 1001, 1002)],
    *[(401, bare(code), "account authentication clock", "account authentication clock", "") for code in (1003, 1004)],
    *[(429, bare(code), "account", "account", "") for code in (1100, 1101, 1102, 1304)],
    (403, bare(1103), "account", "account", ""),
    (400, bare(1200), "refused", "unsure", ""),
    (400, bare(1201), "refused", "unsure", ""),
    (400, bare(1201, EXISTS), "exists", "unsure", ""),
    (400, bare(1201, NOT_FOUND), "refused", "unknown", ""),
    (404, bare(1202), "unsure", "unsure", ""),
    (404, bare(1203), "refused", "unknown", ""),
    *[(400, bare(code), "refused", "unsure", "") for code in (1300, 1301)],
    (429, bare(1302), "busy", "busy", ""),
    (429, bare(1303, "parallel task over resource pack limit"), "busy concurrency", "busy concurrency", ""),
    *[(status, bare(code), "unsure", "unsure", "") for status, code in ((500, 5000), (503, 5001), (504, 5002))],
    (200, bare(1303), "busy concurrency", "busy concurrency", ""),
    (200, bare("1301"), "refused", "unsure", ""),
    (200, bare(5000), "unsure", "unsure", ""),
]
#: providers.md 3.2 and the page on error codes.
COMETAPI: Final[Sequence[Row]] = [
    (400, comet("invalid_request"), "refused", "unsure", ""),
    (400, comet(""), "refused", "unsure", "code left empty"),
    (400, comet(None), "refused", "unsure", "no code"),
    (401, comet(""), "account authentication", "account authentication", ""),
    (403, comet("odd"), "unsure", "unsure", "the account or the request"),
    (429, comet(""), "busy", "busy", "a status that says later outweighs a refusal"),
    (429, comet("odd"), "busy", "busy", ""),
    (500, comet("invalid_request"), "refused", "unsure", "the code decides under this status"),
    *[
        (400, comet(code, "Task not found (request id: 20260205132859798638387SIHCnxzJ)"), "refused", "unknown", "")
        for code in ("", "invalid_request")
    ],
    (400, comet("", "task_not_exist (request id: 20260205132859798638387SIHCnxzJ)"), "refused", "unknown", ""),
    (400, comet("", EXISTS), "exists", "unsure", "the words decide, in whose envelope they come"),
    (503, comet("model_not_found"), "busy", "busy", "no channel: nothing was sent on"),
    (500, comet("do_request_failed"), "unsure", "unsure", ""),
    *[(status, comet(""), "unsure", "unsure", "") for status in (500, 503, 504, 524)],
]
#: providers.md 3.3.
DEERAPI: Final[Sequence[Row]] = [
    (429, comet("odd"), "busy", "busy", "repeat with back-off"),
    (500, comet("odd"), "unsure", "unsure", "repeat with back-off, after a question"),
    (503, comet("odd"), "unsure", "unsure", "the same"),
    (500, comet("invalid_request"), "unsure", "unsure", "a rule of CometAPI, not of DeerAPI"),
    (401, comet("odd"), "account authentication", "account authentication", ""),
    (400, comet("odd"), "unsure", "unsure", "not documented"),
    (400, comet("odd", "task_not_exist"), "unsure", "unknown", "the words suffice for a question, not for a refusal"),
    (404, comet("odd", NOT_FOUND), "unsure", "unknown", ""),
]
#: providers.md 4.1: codes are text.
GATEWAY: Final[Sequence[Row]] = [
    (400, bare("task_not_exist"), "refused", "unknown", ""),
    (400, {"error": {"code": "task_not_exist", "message": "x"}}, "refused", "unknown", ""),
    (429, bare("odd"), "busy", "busy", ""),
    (401, bare("odd"), "account authentication", "account authentication", ""),
    (500, bare("task_not_exist"), "unsure", "unsure", "nothing is sure above 500"),
    (200, {}, "unsure", "unsure", "the sample of a success is empty"),
    (400, bare("odd", "task_not_exist"), "unsure", "unknown", ""),
]
NEW_API: Final[Sequence[Row]] = [
    (400, bare("fail_to_fetch_task", json.dumps(bare(1201, EXISTS))), "exists", "unsure", "Kling's words within"),
    (400, bare("fail_to_fetch_task", json.dumps(bare(1301))), "refused", "unsure", ""),
    (429, bare("fail_to_fetch_task", json.dumps(bare(1303))), "busy", "busy", "Kling's status is handed on"),
    (429, bare("fail_to_fetch_task", json.dumps(bare(1102))), "busy", "busy", "an account of the gateway's, not ours"),
    (500, bare("fail_to_fetch_task", json.dumps(bare(5000))), "unsure", "unsure", ""),
    (500, bare("do_request_failed"), "unsure", "unsure", ""),
    (400, bare("task_failed", "risk control"), "refused", "unsure", ""),
    (400, bare("invalid_request"), "refused", "unsure", ""),
    (403, bare("insufficient_user_quota"), "account", "account", ""),
    (429, bare("token_concurrency_limit_reached"), "busy concurrency", "busy concurrency", ""),
]
#: An empty purse at any gateway of that family.
POOR: Final[Sequence[Row]] = [
    (
        403,
        comet(code, "user quota is not enough (request id: 202502281247138307582052662997)"),
        "account",
        "account",
        "",
    )
    for code in ("insufficient_user_quota", "pre_consume_token_quota_failed")
]
TABLES: Final = [
    *[(profile, row) for profile in ("cometapi", "deerapi", "kkiai", "new-api") for row in POOR],
    *[(profile, row) for profile in PASS_THROUGH for row in KLING],
    *[("cometapi", row) for row in COMETAPI],
    *[("deerapi", row) for row in DEERAPI],
    *[(profile, row) for profile in ("kkiai", "new-api") for row in GATEWAY],
    *[("new-api", row) for row in NEW_API],
]


def described(answer: CreateAnswer | QueryAnswer) -> str:
    text = WORDS[type(answer)]
    if isinstance(answer, AccountRefused):
        text += " authentication" * answer.authentication + " clock" * answer.clock
    if isinstance(answer, Busy):
        text += " concurrency" * answer.concurrency
    return text


@pytest.mark.parametrize(("profile", "row"), TABLES)
def test_each_row_of_a_providers_error_table_has_its_class(profile: str, row: Row) -> None:
    status, body, create, query, why = row
    spec, raw = catalog()[profile], json.dumps(body).encode()
    kind = next(iter(spec.kinds))

    made = read_create(spec, status=status, content_type=JSON, body=raw)
    asked = read_query(spec, kind, status=status, content_type=JSON, body=raw)

    assert described(made) == create, why
    assert described(asked) == query, why


def test_every_packaged_profile_has_its_table_tried() -> None:
    assert {profile for profile, _ in TABLES} == set(catalog())


@pytest.mark.parametrize("profile", sorted(catalog()))
def test_every_listed_code_settles_a_create_as_its_class_says(profile: str) -> None:
    spec = catalog()[profile]
    expected = {
        "authentication": "account authentication",
        "clock": "account authentication clock",
        "account": "account",
        "task": "refused",
        "message": "refused",
        "missing": "refused",
        "rate": "busy",
        "concurrency": "busy concurrency",
        "unsure": "unsure",
    }
    for code, problem in spec.codes.items():
        raw = json.dumps(bare(code)).encode()
        assert described(read_create(spec, status=400, content_type=JSON, body=raw)) == expected[problem], code


@pytest.mark.parametrize("profile", sorted(catalog()))
@pytest.mark.parametrize(
    ("status", "content_type", "body"),
    [
        (301, "text/html", b"<html>"),
        (302, JSON, b"{}"),
        (200, "text/html", b'{"code":0,"data":{"task_id":"1","task_status":"submitted"}}'),
        (404, "text/html", b"<html>"),
        (429, "text/html", b"<html>"),
        (502, "text/html", b"<html>"),
        (524, "", b""),
        (200, JSON, b""),
        (200, JSON, b"{"),
    ],
)
def test_d24_redirects_pages_and_what_is_no_json_settle_nothing(
    profile: str, status: int, content_type: str, body: bytes
) -> None:
    spec, wait = catalog()[profile], timedelta(seconds=7)
    kind = next(iter(spec.kinds))
    given: dict[str, Any] = {"status": status, "content_type": content_type, "body": body, "retry_after": wait}

    for answer in (read_create(spec, **given), read_query(spec, kind, **given), read_list(spec, kind, size=5, **given)):
        assert isinstance(answer, Unsure)
        assert answer.retry_after == wait


@pytest.mark.parametrize("body", [bare(1302), bare(1303), bare(4242)])
def test_a_wait_that_the_provider_asks_for_is_told(body: dict[str, object]) -> None:
    raw, wait = json.dumps(body).encode(), timedelta(minutes=2)
    given: dict[str, Any] = {"status": 429, "content_type": JSON, "body": raw, "retry_after": wait}

    answers = [
        read_create(catalog()["kling"], **given),
        read_query(catalog()["kling"], "text-to-audio", **given),
        read_list(catalog()["kling"], "text-to-audio", size=5, **given),
    ]

    assert all(isinstance(answer, Busy | Unsure) and answer.retry_after == wait for answer in answers)


@pytest.mark.parametrize(
    ("header", "body", "expected"),
    [
        ("req-12345678", b"", "req-12345678"),
        (None, json.dumps(bare(1200)).encode(), "5f1b2c3d-0000-4000-8000-000000000003"),
        (None, json.dumps(comet("")).encode(), "20260205132859798638387SIHCnxzJ"),
        (None, b'{"error":{"request_id":"abcdefgh"}}', "abcdefgh"),
        ("bad\nheader id", json.dumps(bare(1200)).encode(), "5f1b2c3d-0000-4000-8000-000000000003"),
        (None, b'{"request_id":"no\\nline"}', None),
        (None, b'{"code":1,"message":"no"}', None),
        (None, b"<html>", None),
        ("", b"{}", None),
    ],
)
def test_the_providers_name_of_a_request_is_found_for_the_log(
    header: str | None, body: bytes, expected: str | None
) -> None:
    assert request_id(header=header, body=body) == expected
