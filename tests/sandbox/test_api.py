import json
import socket
import time
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
import pytest

from tests.sandbox.rig import ACCESS, API, KEY, SECRET, Sandbox, token, wait_for

GOOD = {"prompt": "rain", "duration": 5.0}


def bare(sandbox: Sandbox, header: str | None) -> httpx.Response:
    headers = {} if header is None else {"authorization": header}
    return httpx.get(f"{sandbox.url}{API}", headers=headers, trust_env=False)


def test_create_answers_as_the_sample(shared: Sandbox) -> None:
    external = str(uuid.uuid4())
    answer = shared.create(external_task_id=external)
    body = answer.json()
    assert answer.status_code == 200
    assert set(body) == {"code", "message", "request_id", "data"}
    assert (body["code"], body["message"]) == (0, "SUCCEED")
    assert str(uuid.UUID(body["request_id"])) == body["request_id"]
    data = body["data"]
    assert set(data) == {"task_id", "task_info", "task_status", "created_at", "updated_at"}
    assert (len(data["task_id"]), data["task_id"].isdigit()) == (18, True)
    assert data["task_info"] == {"external_task_id": external}
    assert data["task_status"] == "submitted"
    assert abs(data["created_at"] / 1000 - time.time()) < 60
    assert data["updated_at"] == data["created_at"]


def test_a_finished_task_is_told_by_either_id(shared: Sandbox) -> None:
    external = str(uuid.uuid4())
    task_id = shared.make(external_task_id=external)
    data = shared.ended(external)
    assert data["task_id"] == shared.get(task_id)["task_id"] == task_id
    assert data["task_status"] == "succeed"
    assert data["task_status_msg"] == ""
    assert data["task_info"] == {"external_task_id": external}
    assert data["final_unit_deduction"] == "0.25"
    assert data["final_balance_deduction"] == {"quota": "0", "list_price": "0"}
    assert data["updated_at"] > data["created_at"]
    (audio,) = data["task_result"]["audios"]
    assert set(audio) == {"id", "url_mp3", "url_wav", "duration_mp3", "duration_wav"}
    assert audio["duration_wav"] == "3.0"
    assert abs(float(audio["duration_mp3"]) - 3) < 0.1


def test_an_open_task_has_no_result_and_no_charge(start: Callable[..., Sandbox]) -> None:
    sandbox = start("--run-seconds", "600")
    data = sandbox.get(sandbox.make())
    assert data["task_status"] == "submitted"
    assert data["task_result"] == {}
    assert "final_unit_deduction" not in data
    assert sandbox.ledger()["charges"] == 0


def test_a_task_passes_through_processing(start: Callable[..., Sandbox]) -> None:
    sandbox = start("--run-seconds", "3")
    task_id = sandbox.make()
    wait_for(lambda: sandbox.get(task_id)["task_status"] == "processing")
    assert sandbox.ended(task_id)["task_status"] == "succeed"


def test_a_prompt_with_the_mark_fails_without_a_charge(shared: Sandbox) -> None:
    task_id = shared.make(prompt="thunder [fail]")
    data = shared.ended(task_id)
    assert (data["task_status"], data["task_status_msg"]) == ("failed", "risk control")
    assert data["task_result"] == {}
    assert "final_unit_deduction" not in data
    entry = shared.entry(task_id)
    assert (entry["status"], entry["charged"], entry["audios"]) == ("failed", "0", [])


@pytest.mark.parametrize("change", [{"external_task_id": ""}, {"callback_url": ""}, {"duration": 3}, {"duration": 9.9}])
def test_what_the_vendor_tolerates_is_taken(shared: Sandbox, change: dict[str, Any]) -> None:
    assert shared.create(**change).status_code == 200


def test_a_prompt_is_measured_in_code_points(shared: Sandbox) -> None:
    assert shared.create(prompt="🌧" * 200).status_code == 200
    assert shared.create(prompt="🌧" * 201).json()["code"] == 1201


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x" * 201}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": "\ud800"}, "prompt"),
        ({"duration": "5"}, "duration"),
        ({"duration": True}, "duration"),
        ({"duration": None}, "duration"),
        ({"duration": 2.9}, "duration"),
        ({"duration": 10.1}, "duration"),
        ({"duration": 5.05}, "duration"),
        ({"duration": 10**400}, "duration"),
        ({"external_task_id": 7}, "external_task_id"),
        ({"external_task_id": None}, "external_task_id"),
        ({"callback_url": ["http://127.0.0.1/"]}, "callback_url"),
        ({"callback_url": "no url"}, "callback_url"),
        ({"callback_url": "ftp://127.0.0.1/"}, "callback_url"),
        ({"callback_url": "http://[::1"}, "callback_url"),
        ({"model_name": "kling-v2"}, "model_name"),
    ],
)
def test_a_wrong_field_is_refused_by_name(shared: Sandbox, change: dict[str, Any], named: str) -> None:
    answer = shared.client.post(API, content=json.dumps(GOOD | change))
    assert answer.status_code == 400
    assert answer.json()["code"] == 1201
    assert named in answer.json()["message"]
    assert set(answer.json()) == {"code", "message", "request_id"}


@pytest.mark.parametrize("missing", ["prompt", "duration"])
def test_a_missing_field_is_refused_by_name(shared: Sandbox, missing: str) -> None:
    answer = shared.client.post(API, json={name: value for name, value in GOOD.items() if name != missing})
    assert (answer.status_code, answer.json()["code"]) == (400, 1201)
    assert missing in answer.json()["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"\xff\xfe{\x00}\x00",
        b'{"prompt":"a","prompt":"b","duration":5}',
        b'{"prompt":"a","duration":NaN}',
        b"[" * 5000 + b"]" * 5000,
    ],
)
def test_what_is_no_json_object_is_refused(shared: Sandbox, body: bytes) -> None:
    answer = shared.client.post(API, content=body)
    assert (answer.status_code, answer.json()["code"]) == (400, 1200)


def test_an_oversized_body_is_refused(shared: Sandbox) -> None:
    answer = shared.client.post(API, json=GOOD | {"prompt": "x" * 100_000})
    assert answer.status_code == 413


def test_a_repeated_external_id_is_refused_and_not_charged(shared: Sandbox) -> None:
    external = str(uuid.uuid4())
    task_id = shared.make(external_task_id=external)
    for _ in range(2):
        answer = shared.create(external_task_id=external)
        assert (answer.status_code, answer.json()["code"]) == (400, 1201)
        assert answer.json()["message"] == f"External_task_id {external} already exists"
    shared.ended(task_id)
    assert shared.create(external_task_id=external).status_code == 400
    entries = [task for task in shared.ledger()["tasks"] if task["external_task_id"] == external]
    assert [(entry["charged"], entry["creates"]) for entry in entries] == [("0.25", 4)]


def test_an_unknown_task_is_a_1201(shared: Sandbox) -> None:
    for given in ("nobody", "9" * 18, "9" * 40):
        answer = shared.client.get(f"{API}/{given}")
        assert (answer.status_code, answer.json()["code"]) == (400, 1201)
        assert answer.json()["message"] == f"Task not found by id/external id: {given}"


def test_a_create_over_the_concurrency_is_refused_until_a_task_ends(start: Callable[..., Sandbox]) -> None:
    sandbox = start("--concurrency", "2", "--run-seconds", "3")
    first = sandbox.make()
    sandbox.make()
    answer = sandbox.create(external_task_id="third")
    assert (answer.status_code, answer.json()["code"]) == (429, 1303)
    assert answer.json()["message"] == "parallel task over resource pack limit"
    assert "data" not in answer.json()
    assert sandbox.client.get(f"{API}/third").json()["code"] == 1201
    sandbox.ended(first)
    wait_for(lambda: sandbox.create(external_task_id="third").status_code == 200)


def test_a_list_is_paged_newest_first(start: Callable[..., Sandbox]) -> None:
    sandbox = start("--run-seconds", "600", "--concurrency", "0")
    ids = [sandbox.make() for _ in range(5)]

    def listed(**params: int) -> list[str]:
        return [task["task_id"] for task in sandbox.client.get(API, params=params).json()["data"]]

    assert listed() == ids[::-1]
    assert listed(pageSize=2) == ids[:2:-1]
    assert listed(pageSize=2, pageNum=3) == ids[:1]
    assert listed(pageNum=2) == []


@pytest.mark.parametrize(
    "query", ["pageNum=0", "pageNum=1001", "pageSize=501", "pageSize=x", "pageSize=-1", "page=1", "pageNum=1&pageNum=2"]
)
def test_a_wrong_page_is_refused(shared: Sandbox, query: str) -> None:
    answer = shared.client.get(f"{API}?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, 1201)


@pytest.mark.parametrize("header", [f"Bearer {KEY}", f"bearer {KEY}"])
def test_the_api_key_opens(shared: Sandbox, header: str) -> None:
    assert bare(shared, header).status_code == 200


def test_a_jwt_opens(shared: Sandbox) -> None:
    assert bare(shared, f"Bearer {token()}").status_code == 200


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, 1001),
        ("", 1001),
        ("Basic abc", 1002),
        ("Bearer", 1002),
        (KEY, 1002),
        (f"Bearer {KEY}x", 1002),
        ("Bearer a.b.c", 1000),
    ],
)
def test_a_wrong_key_is_refused(shared: Sandbox, header: str | None, code: int) -> None:
    answer = bare(shared, header)
    assert (answer.status_code, answer.json()["code"]) == (401, code)


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"iss": "another"}, 1000),
        ({"iss": None}, 1000),
        ({"exp": None}, 1000),
        ({"nbf": None}, 1000),
    ],
)
def test_a_wrong_jwt_is_refused(shared: Sandbox, claims: dict[str, Any], code: int) -> None:
    answer = bare(shared, f"Bearer {token(**claims)}")
    assert (answer.status_code, answer.json()["code"]) == (401, code)


@pytest.mark.parametrize(("claim", "seconds", "code"), [("nbf", 3000, 1003), ("exp", -1, 1004)])
def test_a_jwt_before_or_after_its_time_is_refused(shared: Sandbox, claim: str, seconds: int, code: int) -> None:
    claims: dict[str, Any] = {claim: int(time.time()) + seconds}
    answer = bare(shared, f"Bearer {token(**claims)}")
    assert (answer.status_code, answer.json()["code"]) == (401, code)


def test_a_jwt_of_another_secret_or_algorithm_is_refused(shared: Sandbox) -> None:
    now = int(time.time())
    claims = {"iss": ACCESS, "exp": now + 1800, "nbf": now - 5}
    unsigned = jwt.encode(claims, None, "none")
    other = jwt.encode(claims, SECRET * 2, "HS512")
    for wrong in (token(SECRET[::-1]), unsigned, other):
        answer = bare(shared, f"Bearer {wrong}")
        assert (answer.status_code, answer.json()["code"]) == (401, 1000)


def test_a_jwt_is_no_key_where_none_was_issued(start: Callable[..., Sandbox]) -> None:
    assert bare(start(), f"Bearer {token()}").json()["code"] == 1002


def test_a_wrong_method_is_a_1202(shared: Sandbox) -> None:
    for method, path in (("PUT", API), ("DELETE", f"{API}/1"), ("POST", f"{API}/1"), ("POST", "/control/ledger")):
        answer = shared.client.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (404, 1202)


@pytest.mark.parametrize("path", ["/", f"{API}/", "/v1/videos/text-to-audio", f"{API}/1/2", "/docs"])
def test_a_wrong_path_is_a_404_in_json(shared: Sandbox, path: str) -> None:
    answer = shared.client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, 1203)


def test_the_control_needs_its_own_key(start: Callable[..., Sandbox]) -> None:
    sandbox = start("--control-key", "of the judge")
    for path in ("/control/health", "/control/ledger"):
        assert sandbox.client.get(path).status_code == 401
        answer = sandbox.client.get(path, headers={"authorization": "Bearer of the judge"})
        assert answer.status_code == 200
    assert sandbox.client.get(API, headers={"authorization": "Bearer of the judge"}).status_code == 401


def test_the_control_opens_with_the_api_key_by_default(shared: Sandbox) -> None:
    assert shared.client.get("/control/health").json() == {"status": "ok"}
    assert httpx.get(f"{shared.url}/control/ledger", trust_env=False).status_code == 401


def test_requests_are_counted_refused_ones_too(start: Callable[..., Sandbox]) -> None:
    sandbox = start("--run-seconds", "0.1")
    clip = sandbox.clip(sandbox.make(external_task_id="one"))
    sandbox.create(external_task_id="one")
    sandbox.client.get(API)
    sandbox.client.get(clip["url_mp3"])
    sandbox.client.get(clip["url_mp3"] + "0")
    queries = sandbox.ledger()["requests"]["query"]
    sandbox.client.get(f"{API}/nobody")
    counted = {"create": 2, "query": queries + 1, "list": 1, "media": 2, "stranger": 0, "source": 0}
    assert sandbox.ledger()["requests"] == counted


def test_a_client_that_goes_after_its_request_leaves_a_task(shared: Sandbox) -> None:
    external = str(uuid.uuid4())
    body = json.dumps(GOOD | {"external_task_id": external}).encode()
    head = f"POST {API} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
    address = urlsplit(shared.url)
    assert address.hostname is not None
    with socket.create_connection((address.hostname, address.port or 0)) as connection:
        connection.sendall(head.encode() + body)
    wait_for(lambda: shared.client.get(f"{API}/{external}").status_code == 200)
