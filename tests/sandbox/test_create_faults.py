import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
import pytest

from receiver.sandbox.faults import Faults, Odds
from receiver.sandbox.plan import Unsure
from tests.sandbox.rig import API, ENDS, KEY, Inbox, Sandbox, wait_for

SLOW = ("--run-seconds", "600", "--concurrency", "0")


def outcome(answer: Callable[[], httpx.Response]) -> str:
    """Return what a client sees of a create: the ledger's words."""
    try:
        response = answer()
    except httpx.TransportError:
        return "broken"
    html = response.headers["content-type"].startswith("text/html")
    return f"{response.status_code} {'html' if html else response.json()['code']}"


SEEN = {"cut": "broken", "hang": "broken", "html": "502 html"}
SEEN |= {"5000": "500 5000", "5001": "503 5001", "5002": "504 5002", "unmade": "503 5001"}


def test_an_unsure_create_shows_each_kind_and_the_ledger_knows_what_was_made(start: Callable[..., Sandbox]) -> None:
    sandbox = start(*SLOW, "--unsure-create", "1", "--hang-seconds", "0.2", "--seed", "2")
    names = [f"t{number}" for number in range(40)]
    seen = {name: outcome(partial(sandbox.create, external_task_id=name)) for name in names}
    ledger = sandbox.ledger()
    made = {task["external_task_id"]: task["attempts"] for task in ledger["tasks"]}
    unmade = {task["external_task_id"]: task["attempts"] for task in ledger["unmade"]}
    assert made.keys() | unmade.keys() == seen.keys()
    assert not made.keys() & unmade.keys()
    kinds = set()
    for external, attempts in (made | unmade).items():
        (attempt,) = attempts
        (fault,) = attempt["faults"]
        kinds.add(fault)
        assert attempt["made"] == (external in made)
        assert seen[external] == SEEN[fault]
        assert (sandbox.client.get(f"{API}/{external}").status_code == 200) == attempt["made"]
    assert kinds == SEEN.keys()


def test_a_repeated_create_settles_an_unsure_one_without_a_second_charge(start: Callable[..., Sandbox]) -> None:
    sandbox = start("--unsure-create", "0.8", "--hang-seconds", "0.1", "--run-seconds", "0.2", "--concurrency", "0")

    def settled(external: str) -> bool:
        return outcome(lambda: sandbox.create(external_task_id=external)) in {"200 0", "400 1201"}

    names = [f"t{number}" for number in range(20)]
    for name in names:
        wait_for(partial(settled, name))
    wait_for(lambda: all(task["status"] in ENDS for task in sandbox.ledger()["tasks"]))
    ledger = sandbox.ledger()
    assert sorted(task["external_task_id"] for task in ledger["tasks"]) == sorted(names)
    assert ledger["unmade"] == []
    assert ledger["charges"] == len(names)
    for task in ledger["tasks"]:
        assert [attempt["made"] for attempt in task["attempts"]].count(True) == 1
        assert task["creates"] == len(task["attempts"])


def test_a_hanging_create_ends_when_the_client_gives_up(start: Callable[..., Sandbox]) -> None:
    faults = Faults(unsure_create=1)
    seed = next(seed for seed in range(100) if Odds(seed=seed, faults=faults).unsure(1, 1) is Unsure.HANG)
    sandbox = start(*SLOW, "--unsure-create", "1", "--hang-seconds", "600", "--seed", str(seed))
    with pytest.raises(httpx.ReadTimeout):
        sandbox.client.post(API, json={"prompt": "rain", "duration": 3}, timeout=1)
    (task,) = wait_for(lambda: [each for each in sandbox.ledger()["tasks"] if each["attempts"]])
    assert task["attempts"] == [{"made": True, "reply": "hang", "faults": ["hang"]}]


def test_creates_over_the_rate_are_told_to_slow_down(start: Callable[..., Sandbox]) -> None:
    sandbox = start(*SLOW, "--rate-limit", "0.001/s")
    answers = [sandbox.create(external_task_id=f"t{number}") for number in range(12)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) == len(answers) - 1
    assert {answer.json()["code"] for answer in refused} == {1302}
    unmade = sandbox.ledger()["unmade"]
    assert [task["attempts"] for task in unmade] == [
        [{"made": False, "reply": "429 1302", "faults": ["rate_limit"]}]
    ] * len(refused)
    sandbox.control("faults", rate_limit="20/s")
    wait_for(lambda: sandbox.create(external_task_id=unmade[0]["external_task_id"]).status_code == 200)


@pytest.mark.parametrize(
    ("code", "status", "queries"), [(1102, 429, 200), (1103, 403, 200), (1000, 401, 401), (1304, 429, 429)]
)
def test_an_account_in_a_bad_state_makes_nothing(
    start: Callable[..., Sandbox], code: int, status: int, queries: int
) -> None:
    sandbox = start(*SLOW)
    task_id = sandbox.make()
    sandbox.control("account", code=code)
    answer = sandbox.create(external_task_id="later")
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert sandbox.client.get(f"{API}/{task_id}").status_code == queries
    sandbox.control("account", code=None)
    assert sandbox.create(external_task_id="later").status_code == 200
    assert [one["reply"] for one in sandbox.ledger()["tasks"][1]["attempts"]] == [f"{status} {code}", "200 0"]


ROWS = [(401, 1000), (401, 1001), (401, 1002), (401, 1003), (401, 1004), (429, 1100), (429, 1101), (429, 1102)]
ROWS += [(403, 1103), (400, 1200), (400, 1201), (404, 1202), (404, 1203), (400, 1300), (400, 1301), (429, 1302)]
ROWS += [(429, 1303), (429, 1304), (500, 5000), (503, 5001), (504, 5002)]


@pytest.mark.parametrize("what", ["create", "create_reply", "query", "list", "media"])
def test_each_error_can_be_ordered(start: Callable[..., Sandbox], what: str) -> None:
    sandbox = start("--run-seconds", "0.1", "--concurrency", "0")
    task_id = sandbox.make(external_task_id="made")
    link = sandbox.clip(task_id)["url_mp3"]
    calls: dict[str, Callable[[], httpx.Response]] = {
        "create": lambda: sandbox.create(external_task_id="new"),
        "create_reply": sandbox.create,
        "query": lambda: sandbox.client.get(f"{API}/made"),
        "list": lambda: sandbox.client.get(API),
        "media": lambda: httpx.get(link, trust_env=False),
    }
    for status, code in ROWS:
        sandbox.control("answer", what=what, code=code)
        answer = calls[what]()
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert set(answer.json()) == {"code", "message", "request_id"}
    assert calls[what]().status_code == 200
    assert (len(sandbox.ledger()["tasks"]) == 1 + len(ROWS) + 1) == (what == "create_reply")


def test_an_ordered_answer_is_given_as_often_as_ordered_and_to_whom(start: Callable[..., Sandbox]) -> None:
    sandbox = start(*SLOW)
    sandbox.control("answer", what="create", task="a", status=429, code=1302, retry_after=7, count=2)
    sandbox.control("answer", what="create", task="b", status=502, html=True)
    assert sandbox.create(external_task_id="c").status_code == 200
    answers = [sandbox.create(external_task_id="a") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert answers[0].headers["retry-after"] == "7"
    page = sandbox.create(external_task_id="b")
    assert (page.status_code, page.headers["content-type"]) == (502, "text/html; charset=utf-8")
    entry = next(task for task in sandbox.ledger()["tasks"] if task["external_task_id"] == "a")
    assert [one["reply"] for one in entry["attempts"]] == ["429 1302", "429 1302", "200 0"]


def creating(sandbox: Sandbox, seen: list[str], **fields: Any) -> threading.Thread:
    def go() -> None:
        headers = {"authorization": f"Bearer {KEY}"}
        body = {"prompt": "rain", "duration": 3} | fields
        seen.append(
            outcome(lambda: httpx.post(sandbox.url + API, json=body, headers=headers, trust_env=False, timeout=30))
        )

    thread = threading.Thread(target=go)
    thread.start()
    return thread


def test_a_create_is_held_before_anything_is_made(start: Callable[..., Sandbox]) -> None:
    sandbox = start(*SLOW)
    sandbox.control("hold", what="create", task="held")
    seen: list[str] = []
    thread = creating(sandbox, seen, external_task_id="held")
    (held,) = sandbox.held()
    assert (held["what"], held["task"]) == ("create", "held")
    assert sandbox.create(external_task_id="other").status_code == 200
    assert sandbox.client.get(f"{API}/held").json()["code"] == 1201
    assert sandbox.control("release", what="create") == {"released": 1}
    thread.join()
    assert seen == ["200 0"]
    assert sandbox.client.get(f"{API}/held").status_code == 200


@pytest.mark.parametrize(("what", "made"), [("create", False), ("create_reply", True)])
def test_a_held_create_can_be_cut(start: Callable[..., Sandbox], what: str, *, made: bool) -> None:
    sandbox = start(*SLOW)
    sandbox.control("hold", what=what)
    seen: list[str] = []
    thread = creating(sandbox, seen, external_task_id="held")
    sandbox.held()
    assert (sandbox.client.get(f"{API}/held").status_code == 200) == made
    sandbox.control("release", cut=True)
    thread.join()
    assert seen == ["broken"]
    listed = sandbox.ledger()["tasks" if made else "unmade"]
    assert [task["attempts"] for task in listed] == [[{"made": made, "reply": "cut", "faults": ["held_cut"]}]]


def test_a_task_lives_on_while_its_create_reply_is_held(start: Callable[..., Sandbox], inbox: Inbox) -> None:
    sandbox = start("--run-seconds", "0.2")
    sandbox.control("hold", what="create_reply")
    seen: list[str] = []
    thread = creating(sandbox, seen, external_task_id="held", callback_url=inbox.url)
    wait_for(lambda: inbox.statuses() == ["submitted", "processing", "succeed"])
    assert sandbox.ended("held")["task_status"] == "succeed"
    assert seen == []
    sandbox.control("release")
    thread.join()
    assert seen == ["200 0"]


def test_holds_are_gone_and_charges_right_after_a_kill(start: Callable[..., Sandbox]) -> None:
    first = start("--run-seconds", "0.2")
    first.control("hold", what="create", task="before")
    first.control("hold", what="create_reply", task="after")
    seen: list[str] = []
    threads = [creating(first, seen, external_task_id=name) for name in ("before", "after")]
    first.held(2)
    first.kill()
    for thread in threads:
        thread.join()
    assert seen == ["broken", "broken"]
    second = start("--run-seconds", "0.2")
    assert second.client.get("/control/held").json() == {"held": [], "ordered": []}
    assert second.create(external_task_id="before").status_code == 200
    assert second.create(external_task_id="after").json()["code"] == 1201
    for name in ("before", "after"):
        assert second.ended(name)["task_status"] == "succeed"
    assert second.ledger()["charges"] == 2


def test_a_clean_stop_cuts_what_is_held_and_hangs(start: Callable[..., Sandbox], inbox: Inbox) -> None:
    sandbox = start("--run-seconds", "600", "--query-hang", "1", "--hang-seconds", "600")
    seen: list[str] = []
    sandbox.control("hold", what="callback")
    task_id = sandbox.make(callback_url=inbox.url)
    sandbox.control("hold", what="create_reply")
    threads = [creating(sandbox, seen, external_task_id="held")]
    threads.append(threading.Thread(target=lambda: seen.append(outcome(lambda: sandbox.client.get(f"{API}/held")))))
    threads[-1].start()
    sandbox.held(2)
    wait_for(lambda: sandbox.ledger()["incidents"])
    sandbox.process.terminate()
    for thread in threads:
        thread.join()
    sandbox.stop()
    assert seen == ["broken", "broken"]
    assert inbox.arrivals == []
    again = start("--run-seconds", "600")
    assert again.told(task_id, 1)[0]["outcome"] == "200"
