import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.sandbox.rig import API, KEY, Inbox, Sandbox, wait_for

QUICK = ("--run-seconds", "0.1", "--concurrency", "0")


def broken(call: Callable[[], object]) -> bool:
    try:
        call()
    except httpx.TransportError:
        return True
    return False


def test_queries_fail_or_hang_and_the_ledger_counts_them(start: Callable[..., Sandbox]) -> None:
    sandbox = start(*QUICK, "--query-5xx", "0.5", "--query-hang", "0.3", "--hang-seconds", "0.1")
    task_id = sandbox.make(external_task_id="asked")
    seen: dict[str, int] = {"5xx": 0, "hang": 0}
    for _ in range(40):
        try:
            answer = sandbox.client.get(f"{API}/asked")
        except httpx.TransportError:
            seen["hang"] += 1
            continue
        assert (answer.status_code, answer.json()["code"]) in {(200, 0), (500, 5000)}
        seen["5xx"] += answer.status_code == 500
    assert min(seen.values()) > 0
    ledger = sandbox.ledger()
    assert ledger["incidents"] == {"query": seen}
    assert len(sandbox.entry(task_id)["queries"]) == sum(seen.values())


def test_a_query_is_held_and_then_tells_the_present(start: Callable[..., Sandbox]) -> None:
    sandbox = start("--run-seconds", "1")
    task_id = sandbox.make(external_task_id="asked")
    sandbox.control("hold", what="query", task="asked")
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(sandbox.get(task_id)["task_status"]))
    thread.start()
    sandbox.held()
    wait_for(lambda: sandbox.entry(task_id)["status"] == "succeed")
    sandbox.control("release")
    thread.join()
    assert answers == ["succeed"]


def test_a_list_is_held_and_cut(start: Callable[..., Sandbox]) -> None:
    sandbox = start(*QUICK)
    sandbox.control("hold", what="list")
    cut: list[bool] = []
    thread = threading.Thread(target=lambda: cut.append(broken(lambda: sandbox.client.get(API))))
    thread.start()
    sandbox.held()
    sandbox.control("release", cut=True)
    thread.join()
    assert cut == [True]
    assert sandbox.ledger()["incidents"] == {"list": {"held_cut": 1}}


@pytest.mark.parametrize("cut", [False, True])
def test_a_callback_is_held_before_it_is_sent(start: Callable[..., Sandbox], inbox: Inbox, *, cut: bool) -> None:
    sandbox = start(*QUICK)
    sandbox.control("hold", what="callback", task="told", count=2)
    task_id = sandbox.make(external_task_id="told", callback_url=inbox.url)
    sandbox.make(external_task_id="another", callback_url=inbox.url)
    wait_for(lambda: inbox.statuses() == ["submitted", "processing", "succeed"])
    (held,) = sandbox.held()
    sandbox.control("release", id=held["id"], cut=cut)
    (second,) = wait_for(lambda: held_now if (held_now := sandbox.held())[0]["id"] != held["id"] else None)
    sandbox.control("release", id=second["id"])
    outcomes = [one["outcome"] for one in sandbox.told(task_id, 3)]
    assert outcomes == ["cut" if cut else "200", "200", "200"]


def test_what_was_held_is_resumed_as_due_after_a_kill(start: Callable[..., Sandbox], inbox: Inbox) -> None:
    first = start(*QUICK)
    first.control("hold", what="callback", count=3)
    task_id = first.make(callback_url=inbox.url)
    first.held()
    first.kill()
    second = start(*QUICK)
    assert [one["outcome"] for one in second.told(task_id, 3)] == ["200"] * 3


def test_holds_that_nothing_met_are_forgotten_at_a_release(start: Callable[..., Sandbox]) -> None:
    sandbox = start(*QUICK)
    sandbox.control("hold", what="create", task="a", count=2)
    sandbox.control("hold", what="query")
    ordered = sandbox.client.get("/control/held").json()["ordered"]
    assert ordered == [
        {"what": "create", "house": None, "task": "a", "count": 2},
        {"what": "query", "house": None, "task": None, "count": 1},
    ]
    assert sandbox.control("release", task="a") == {"released": 0}
    assert [one["what"] for one in sandbox.client.get("/control/held").json()["ordered"]] == ["query"]
    sandbox.control("release")
    assert sandbox.client.get("/control/held").json() == {"held": [], "ordered": []}


def test_an_outage_answers_5xx_until_it_is_over(start: Callable[..., Sandbox]) -> None:
    sandbox = start(*QUICK)
    task_id = sandbox.make()
    link = sandbox.clip(task_id)["url_mp3"]
    sandbox.control("down")
    for answer in (sandbox.create(), sandbox.client.get(API), sandbox.client.get(f"{API}/{task_id}")):
        assert (answer.status_code, answer.json()["code"]) == (503, 5001)
    assert httpx.get(link, trust_env=False).status_code == 503
    sandbox.control("up")
    assert sandbox.create().status_code == 200
    assert httpx.get(link, trust_env=False).status_code == 200
    told = {kind: {"down_5xx": 1} for kind in ("create", "list", "query", "media")}
    assert sandbox.ledger()["incidents"] == told


def test_an_outage_can_be_of_one_part_and_for_a_time(start: Callable[..., Sandbox]) -> None:
    sandbox = start(*QUICK)
    link = sandbox.clip(sandbox.make())["url_mp3"]
    sandbox.control("down", what="media", mode="cut")
    assert sandbox.create().status_code == 200
    assert broken(lambda: httpx.get(link, trust_env=False))
    sandbox.control("down", what="media", mode="cut", seconds=1)
    wait_for(lambda: not broken(lambda: httpx.get(link, trust_env=False)))


def test_an_outage_can_hang_until_it_is_over(start: Callable[..., Sandbox]) -> None:
    sandbox = start(*QUICK)
    sandbox.control("down", mode="hang")
    cut: list[bool] = []
    thread = threading.Thread(target=lambda: cut.append(broken(lambda: sandbox.create(external_task_id="hung"))))
    thread.start()
    wait_for(lambda: sandbox.ledger()["incidents"])
    assert cut == []
    sandbox.control("up")
    thread.join()
    assert cut == [True]
    assert sandbox.ledger()["tasks"] == []


def test_callbacks_go_on_while_the_api_is_down(start: Callable[..., Sandbox], inbox: Inbox) -> None:
    sandbox = start("--run-seconds", "0.5")
    sandbox.make(callback_url=inbox.url)
    sandbox.control("down", mode="cut")
    wait_for(lambda: len(inbox.arrivals) == 3)


def test_faults_change_at_run_time_and_tasks_keep_theirs(start: Callable[..., Sandbox], inbox: Inbox) -> None:
    sandbox = start("--run-seconds", "1", "--lose", "1", "--late", "0:5s")
    before = sandbox.make(callback_url=inbox.url)
    faults = sandbox.control("faults", lose=0, late="0.25:2s", rate_limit="100/s", expire_links="20s")
    assert (faults["lose"], faults["late"], faults["rate_limit"], faults["expire_links"]) == (0, "0.25:2s", 100, 20)
    assert sandbox.client.get("/control/faults").json() == faults
    sandbox.control("faults", late=0)
    after = sandbox.make(callback_url=inbox.url)
    assert [one["outcome"] for one in sandbox.told(before, 3)] == ["lost"] * 3
    assert [one["outcome"] for one in sandbox.told(after, 3)] == ["200"] * 3


WRONG: list[tuple[str, Any]] = [
    ("hold", {}),
    ("hold", {"what": "nothing"}),
    ("hold", {"what": "create", "count": 0}),
    ("hold", {"what": "create", "count": True}),
    ("hold", {"what": "create", "task": 5}),
    ("hold", {"what": "create", "more": 1}),
    ("release", {"cut": "yes"}),
    ("release", {"id": "x"}),
    ("faults", {"lose": 2}),
    ("faults", {"losing": 0.1}),
    ("faults", {"lose": None}),
    ("answer", {"what": "callback", "code": 1302}),
    ("answer", {"what": "create"}),
    ("answer", {"what": "create", "status": 99}),
    ("answer", {"what": "create", "code": 9999}),
    ("account", {"code": 1302}),
    ("account", {"code": "1102"}),
    ("account", {"code": [1102]}),
    ("down", {"mode": "sleep"}),
    ("down", {"what": "callbacks"}),
    ("down", {"seconds": "5"}),
    ("down", []),
]


@pytest.mark.parametrize(("route", "body"), WRONG)
def test_a_senseless_order_is_refused(shared: Sandbox, route: str, body: Any) -> None:
    answer = shared.client.post(f"/control/{route}", json=body)
    assert (answer.status_code, answer.json()["code"]) in {(400, 1200), (400, 1201)}


@pytest.mark.parametrize("route", ["hold", "release", "faults", "answer", "account", "down", "up"])
def test_every_order_needs_the_key(shared: Sandbox, route: str) -> None:
    assert httpx.post(f"{shared.url}/control/{route}", json={}, trust_env=False).status_code == 401


@pytest.mark.parametrize("option", [("--lose", "2"), ("--late", "x"), ("--rate-limit", "-1/s"), ("--los", "0.1")])
def test_a_senseless_option_ends_the_program(tmp_path_factory: pytest.TempPathFactory, option: tuple[str, str]) -> None:
    state = str(tmp_path_factory.getbasetemp() / "unused")
    command = [sys.executable, "-m", "receiver.sandbox", "--state-dir", state, "--api-key", KEY, *option]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 2
    assert option[0] in done.stderr


def test_the_command_line_has_the_same_options() -> None:
    programs = (["receiver.sandbox"], ["receiver", "sandbox"])
    helps = [
        subprocess.run([sys.executable, "-m", *program, "--help"], capture_output=True, text=True, check=True).stdout
        for program in programs
    ]
    options = [[line for line in text.partition("options:")[2].splitlines() if "--port" not in line] for text in helps]
    assert "--unsure-create" in helps[0]
    assert [line for line in options[0] if "default" not in line] == [
        line for line in options[1] if "default" not in line
    ]
