"""Bad input: problem details that name the field, and one line in the log, which can be read by a machine."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.system.deployment import ACCOUNT, Deployment, Service
from tests.system.processes import until

GOOD: dict[str, Any] = {"account": ACCOUNT, "kind": "text-to-audio", "input": {"prompt": "rain", "duration": 3}}


def with_input(**changes: Any) -> bytes:
    return json.dumps({**GOOD, "input": {**GOOD["input"], **changes}}).encode()


def with_body(**changes: Any) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


@dataclass(frozen=True)
class Bad:
    """A request and how it is refused."""

    status: int
    code: str
    content: bytes = b""
    fields: tuple[str, ...] = ()
    path: str = "/v1/tasks"
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)


NO_KEY = {"authorization": ""}
#: A task id of the right form that was never given.
UNKNOWN = "/v1/tasks/12345678901234567"

BAD = {
    "no JSON": Bad(400, "malformed_body", b"{'account'"),
    "half a JSON": Bad(400, "malformed_body", with_body()[:-1]),
    "no object": Bad(400, "malformed_body", b"[1, 2]"),
    "no UTF-8": Bad(400, "malformed_body", b'{"account": "\xff"}'),
    "a key twice": Bad(400, "malformed_body", b'{"account": "a", "account": "b"}'),
    "not a number": Bad(400, "malformed_body", with_body().replace(b": 3", b": NaN")),
    "very deep": Bad(400, "malformed_body", b"[" * 100_000),
    "nothing": Bad(400, "malformed_body", b""),
    "empty object": Bad(422, "invalid_input", b"{}", ("kind", "input")),
    "wrong types": Bad(422, "invalid_input", with_body(account=1, kind=None, input=[]), ("account", "kind", "input")),
    "labels of numbers": Bad(422, "invalid_input", with_body(labels={"a": 1}), ("labels.a",)),
    "an unknown field": Bad(422, "invalid_input", with_body(prompt="rain"), ("prompt",)),
    "an unknown account": Bad(422, "invalid_input", with_body(account="nobody"), ("account",)),
    "an unknown kind": Bad(422, "invalid_input", with_body(kind="text-to-opera"), ("kind",)),
    "NUL": Bad(422, "invalid_input", with_body(reference="a\0b"), ("reference",)),
    "half a surrogate pair": Bad(422, "invalid_input", with_body(reference="\ud800"), ("reference",)),
    "201 characters": Bad(422, "invalid_input", with_input(prompt="x" * 201), ("input.prompt",)),
    "no prompt": Bad(422, "invalid_input", with_input(prompt=""), ("input.prompt",)),
    "a prompt that is a number": Bad(422, "invalid_input", with_input(prompt=7), ("input.prompt",)),
    "NUL in the prompt": Bad(422, "invalid_input", with_input(prompt="a\0b"), ("input.prompt",)),
    "a duration that is text": Bad(422, "invalid_input", with_input(duration="3"), ("input.duration",)),
    "too long": Bad(422, "invalid_input", with_input(duration=10.1), ("input.duration",)),
    "two decimals": Bad(422, "invalid_input", with_input(duration=3.25), ("input.duration",)),
    "an unknown input": Bad(422, "invalid_input", with_input(seed=7), ("input.seed",)),
    "several at once": Bad(422, "invalid_input", with_input(prompt=7, duration=11), ("input.prompt", "input.duration")),
    "a stray slash": Bad(404, "not_found", with_body(), path="/v1/tasks/"),
    "a key for a whole batch": Bad(
        422, "invalid_input", b"{}", ("Idempotency-Key",), path="/v1/tasks:batch", headers={"idempotency-key": "k"}
    ),
    "a long key": Bad(422, "invalid_input", with_body(), ("Idempotency-Key",), headers={"idempotency-key": "k" * 256}),
    "oversized": Bad(413, "body_too_large", b" " * (256 * 1024 + 1)),
    "no API key": Bad(401, "unauthorized", with_body(), headers=NO_KEY),
    "a wrong API key": Bad(401, "unauthorized", with_body(), headers={"authorization": "Bearer rk_wrong"}),
    "no API key to look": Bad(401, "unauthorized", path=UNKNOWN, method="GET", headers=NO_KEY),
    "an unknown task": Bad(404, "not_found", path=UNKNOWN, method="GET"),
    "no id": Bad(404, "not_found", path="/v1/tasks/rain", method="GET"),
    "a huge id": Bad(404, "not_found", path="/v1/tasks/" + "9" * 400, method="GET"),
    "an unknown asset": Bad(404, "not_found", path="/v1/assets/12345/content", method="GET"),
    "an unknown state": Bad(422, "invalid_input", fields=("state",), path="/v1/tasks?state=lost", method="GET"),
    "a bad cursor": Bad(422, "invalid_input", fields=("cursor",), path="/v1/tasks?cursor=x", method="GET"),
    "a limit of nothing": Bad(422, "invalid_input", fields=("limit",), path="/v1/tasks?limit=0", method="GET"),
    "an unknown filter": Bad(422, "invalid_input", fields=("colour",), path="/v1/tasks?colour=red", method="GET"),
    "a bad token": Bad(404, "token_unknown", b"{}", path=f"/callbacks/{ACCOUNT}/12345/00000000.wrong"),
    "another account's token": Bad(404, "token_unknown", b"{}", path="/callbacks/nobody/12345/00000000.wrong"),
    "an oversized callback": Bad(
        413, "body_too_large", b" " * (256 * 1024 + 1), path=f"/callbacks/{ACCOUNT}/12345/00000000.wrong"
    ),
    "an unknown path": Bad(404, "not_found", path="/v2/tasks"),
    "an unknown method": Bad(405, "method_not_allowed", path="/v1/tasks", method="DELETE"),
}


def send(service: Service, bad: Bad) -> httpx.Response:
    return service.client.request(bad.method, bad.path, content=bad.content, headers=bad.headers)


def require_refused(answer: httpx.Response, bad: Bad) -> dict[str, Any]:
    """The answer is a problem document that says what is wrong and where."""
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (bad.status, bad.status, bad.code)
    assert {error["field"] for error in problem.get("errors", [])} == set(bad.fields)
    assert all(error["message"] for error in problem.get("errors", []))
    assert problem["detail"]
    assert problem["title"]
    assert problem["type"].endswith(bad.code)
    return problem


def told_of(log: Path, before: int, request_id: str) -> list[dict[str, Any]]:
    """Return what was logged since *before*, in bytes, once it tells of that request."""
    with log.open("rb") as written:
        written.seek(before)
        whole = written.read().rpartition(b"\n")[0]
    lines = [json.loads(line) for line in whole.splitlines()]
    return lines if request_id in {line.get("request_id") for line in lines} else []


def test_bad_input_gets_problem_details_that_name_the_field_and_one_line_in_the_log(deployment: Deployment) -> None:
    service = deployment.serve(more={"RECEIVER_LOG_FORMAT": "json"})
    log = deployment.logs / "service-0.log"
    for what, bad in BAD.items():
        before = log.stat().st_size
        answer = send(service, bad)
        # A request is told after its answer.
        lines = until(partial(told_of, log, before, answer.headers["x-request-id"]), what=f"{what} is told")
        try:
            problem = require_refused(answer, bad)
            ours = [line for line in lines if line["event"] == "request.refused"]
            assert [line["request_id"] for line in ours] == [problem["request_id"]], ours
            assert (ours[0]["error"], ours[0]["status"]) == (bad.code, bad.status)
            assert set(ours[0].get("fields", ())) == set(bad.fields)
        except (AssertionError, KeyError) as exc:
            pytest.fail(f"{what}: {exc!r}\n{answer.status_code} {answer.text[:500]}\n{lines}")
    assert service.ledger()["accepted"] == 0
    assert service.ledger()["callbacks"] == {"received": 0, "duplicates": 0}


def test_every_line_of_a_log_in_json_is_json_from_start_to_stop(deployment: Deployment) -> None:
    service = deployment.serve(more={"RECEIVER_LOG_FORMAT": "json"})
    service.submit(1)
    service.await_end(1)
    victim = service.process("postgres")
    assert victim.kill9()
    assert service.process("web").lives()
    service.submit(1, first=1)
    service.await_end(2)
    service.stop()

    lines = (deployment.logs / "service-0.log").read_text().splitlines()
    wrong = [line for line in lines if not line.startswith("{")]
    assert wrong == []
    events = [json.loads(line) for line in lines]
    assert all({"event", "level", "timestamp", "logger"} <= event.keys() for event in events)
    told = next(event for event in events if event["event"] == "settings.read")
    assert told["data_dir"] == str(service.directory)
    assert set(told["accounts"]["studio"]["api_key"]) == {"*"}
