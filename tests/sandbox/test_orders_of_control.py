import hashlib
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.sandbox.rig import API, KEY, Sandbox, wait_for
from tests.sandbox.shopping import SHOPS, SOUND, body, buy, order

DEER = next(shop for shop in SHOPS if shop.house == "deerapi")
KKIAI = next(shop for shop in SHOPS if shop.house == "kkiai")


@pytest.fixture(scope="module")
def sandbox(shared: Sandbox) -> Sandbox:
    return shared


def test_the_next_answers_are_given_as_ordered(sandbox: Sandbox) -> None:
    words = {"error": {"message": "slow down (request id: 1)"}}
    sandbox.control(
        "answers", house="deerapi", on="create", status=429, headers={"Retry-After": "3"}, body=words, times=2
    )
    assert order(sandbox, KKIAI, SOUND).status_code == 200
    answers = [order(sandbox, DEER, SOUND) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert (answers[0].json(), answers[0].headers["retry-after"]) == (words, "3")


def test_a_text_is_answered_as_it_is(sandbox: Sandbox) -> None:
    headers = {"Content-Type": "text/html", "Location": "/login"}
    sandbox.control("answers?house=deerapi", on="query", status=302, headers=headers, body="<html>")
    answer = buy(sandbox, DEER).ask()
    assert (answer.status_code, answer.text) == (302, "<html>")
    assert (answer.headers["content-type"], answer.headers["location"]) == ("text/html", "/login")


def test_what_nothing_met_is_forgotten_on_demand(sandbox: Sandbox) -> None:
    sandbox.control("answers", house="kkiai", on="create", status=500, times=9)
    sandbox.control("answers", clear=True)
    assert order(sandbox, KKIAI, SOUND).status_code == 200


@pytest.mark.parametrize(
    "told",
    [
        {"on": "create"},
        {"on": "callback", "status": 500},
        {"on": "create", "status": 500, "headers": ["a"]},
        {"on": "create", "status": 500, "times": 0},
        {"on": "create", "status": 500, "house": "nobody"},
        {"on": "create", "status": 500, "what": "create"},
    ],
)
def test_a_senseless_answer_is_refused(sandbox: Sandbox, told: dict[str, Any]) -> None:
    assert sandbox.client.post("/control/answers", json=told).status_code == 400


def test_requests_are_remembered_as_they_came(start: Callable[..., Sandbox]) -> None:
    sandbox = start("--run-seconds", "0.1")
    sandbox.control("answers", on="query", status=503)
    sent = httpx.Request("POST", f"{sandbox.url}/deerapi{DEER.path}", json=body(DEER, "one"))
    sandbox.client.send(sent, auth=None)
    sandbox.client.post(f"/deerapi{DEER.path}", content=b"{")
    sandbox.client.get(f"{API}/one?x=1")
    httpx.post(f"{sandbox.url}{API}", json=SOUND, headers={"authorization": f"Bearer {KEY}"}, trust_env=False)

    def seen(query: str = "") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = sandbox.client.get(f"/control/requests{query}").json()["requests"]
        return found

    assert [(one["house"], one["kind"], one["method"], one["status"]) for one in seen()] == [
        ("deerapi", "create", "POST", 401),
        ("deerapi", "create", "POST", 400),
        ("kling", "query", "GET", 503),
        ("kling", "create", "POST", 200),
    ]
    assert seen()[1]["body_sha256"] == hashlib.sha256(b"{").hexdigest()
    assert (seen()[2]["path"], seen()[2]["query"], seen()[2]["body_sha256"]) == (f"{API}/one", "x=1", None)
    assert seen()[3]["headers"]["authorization"] == "Bearer ***"
    assert KEY not in str(seen())
    assert [one["id"] for one in seen("?since=2&house=kling")] == [3, 4]


def test_a_request_that_is_held_is_seen_without_an_answer(start: Callable[..., Sandbox]) -> None:
    sandbox = start("--run-seconds", "0.1")
    sandbox.control("down", mode="hang")
    with pytest.raises(httpx.ReadTimeout):
        sandbox.client.post(API, json=SOUND, timeout=1)
    (seen,) = wait_for(lambda: sandbox.client.get("/control/requests").json()["requests"])
    assert (seen["kind"], seen["status"]) == ("create", None)
