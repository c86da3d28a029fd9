import base64
import hashlib
import hmac
import json
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
import pytest

from tests.sandbox.rig import WEBHOOK_SECRET, Arrival, Inbox, Sandbox, start_sandbox, wait_for

LIFE = ["submitted", "processing", "succeed"]
QUICK = ("--run-seconds", "0.2", "--concurrency", "0", "--webhook-secret", WEBHOOK_SECRET)


def well_signed(arrival: Arrival) -> bool:
    key = base64.b64decode(WEBHOOK_SECRET.removeprefix("whsec_"))
    text = f"{arrival.headers['webhook-id']}.{arrival.headers['webhook-timestamp']}.".encode() + arrival.body
    mac = base64.b64encode(hmac.digest(key, text, hashlib.sha256)).decode()
    return arrival.headers["webhook-signature"] == f"v1,{mac}"


def all_succeeded(sandbox: Sandbox) -> bool:
    return all(task["status"] == "succeed" for task in sandbox.ledger()["tasks"])


def shown(callbacks: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(one[name] for name in names) for one in callbacks]


def test_a_lost_callback_is_never_sent(start: Callable[..., Sandbox], inbox: Inbox) -> None:
    sandbox = start(*QUICK, "--lose", "1")
    callbacks = sandbox.told(sandbox.make(callback_url=inbox.url), 3)
    assert shown(callbacks, "status", "outcome", "faults") == [(status, "lost", ["lose"]) for status in LIFE]
    assert inbox.arrivals == []


def test_a_part_of_the_callbacks_is_lost_and_the_ledger_says_which(start: Callable[..., Sandbox], inbox: Inbox) -> None:
    sandbox = start(*QUICK, "--lose", "0.5", "--seed", "3")
    ids = [sandbox.make(callback_url=inbox.url) for _ in range(10)]
    told = [one for task_id in ids for one in sandbox.told(task_id, 3)]
    assert Counter(one["outcome"] for one in told).keys() == {"lost", "200"}
    assert Counter(one["status"] for one in told if one["outcome"] == "200") == Counter(inbox.statuses())


def test_a_duplicate_has_the_same_bytes(start: Callable[..., Sandbox], inbox: Inbox) -> None:
    sandbox = start(*QUICK, "--duplicate", "1")
    callbacks = sandbox.told(sandbox.make(callback_url=inbox.url), 3)
    assert {one["outcome"] for one in callbacks} == {"200"}
    repeats = {one["status"]: len(one["copies"]) for one in callbacks}
    assert set(repeats.values()) <= {1, 2, 3}
    for status in LIFE:
        same = [arrival for arrival in inbox.arrivals if arrival.status == status]
        assert len(same) == repeats[status] + 1
        assert len({(arrival.body, arrival.headers["webhook-id"]) for arrival in same}) == 1
        assert all(well_signed(arrival) for arrival in same)


def test_duplicates_also_come_at_once(start: Callable[..., Sandbox], inbox: Inbox) -> None:
    inbox.answering.clear()
    sandbox = start(*QUICK, "--duplicate", "1")
    for _ in range(12):
        sandbox.make(callback_url=inbox.url)
    # While none is answered, only those that do not wait for the answer to the first can come twice.
    together = wait_for(lambda: [body for body, n in Counter(a.body for a in inbox.arrivals).items() if n > 1])
    assert together
    inbox.answering.set()


def test_reordered_statuses_come_in_the_drawn_order(start: Callable[..., Sandbox], inbox: Inbox) -> None:
    sandbox = start(*QUICK, "--reorder", "1")
    orders = set()
    for _ in range(8):
        task_id = sandbox.make(callback_url=inbox.url)
        sandbox.told(task_id, 3)
        assert sandbox.entry(task_id)["faults"] == ["reorder"]
        orders.add(tuple(a.status for a in inbox.arrivals if json.loads(a.body)["task_id"] == task_id))
    assert all(sorted(order) == sorted(LIFE) and list(order) != LIFE for order in orders)
    assert len(orders) > 1


def test_a_late_callback_comes_later_and_holds_up_none(start: Callable[..., Sandbox], inbox: Inbox) -> None:
    sandbox = start("--run-seconds", "0.2", "--late", "1:8s")
    task_id = sandbox.make(callback_url=inbox.url)
    assert sandbox.ended(task_id)["task_status"] == "succeed"
    assert inbox.arrivals == []
    callbacks = sandbox.told(task_id, 3)
    assert shown(callbacks, "outcome", "faults") == [("200", ["late"])] * 3


def test_the_first_callback_is_delivered_before_the_create_is_answered(
    start: Callable[..., Sandbox], inbox: Inbox
) -> None:
    inbox.answering.clear()
    sandbox = start("--first", "1", "--run-seconds", "600")
    answers: list[httpx.Response] = []
    creating = threading.Thread(target=lambda: answers.append(sandbox.create(callback_url=inbox.url)))
    creating.start()
    wait_for(lambda: inbox.statuses() == ["submitted"])
    assert answers == []
    inbox.answering.set()
    creating.join()
    task_id = answers[0].json()["data"]["task_id"]
    assert json.loads(inbox.arrivals[0].body)["task_id"] == task_id
    assert sandbox.entry(task_id)["faults"] == ["first"]


def test_a_contradiction_comes_before_the_truth_and_queries_never_lie(
    start: Callable[..., Sandbox], inbox: Inbox
) -> None:
    sandbox = start(*QUICK, "--contradict", "1", "--lose", "1")
    for _ in range(6):
        inbox.arrivals.clear()
        task_id = sandbox.make(callback_url=inbox.url)
        assert sandbox.ended(task_id)["task_status"] == "succeed"
        callbacks = sandbox.told(task_id, 4)
        assert shown(callbacks, "kind", "status", "outcome") == [
            ("truth", "submitted", "lost"),
            ("truth", "processing", "lost"),
            ("truth", "succeed", "200"),
            ("contradiction", "failed", "200"),
        ]
        assert inbox.statuses() == ["failed", "succeed"]
        assert all(well_signed(arrival) for arrival in inbox.arrivals)
        lie = json.loads(inbox.arrivals[0].body)
        assert (lie["task_status_msg"], lie["task_result"]) == ("internal error", {})
        assert sandbox.entry(task_id)["charged"] == "0.25"


def test_the_truth_after_a_contradiction_is_told_until_it_is_taken(start: Callable[..., Sandbox], inbox: Inbox) -> None:
    inbox.status = 503
    first = start(*QUICK, "--contradict", "1")
    task_id = first.make(callback_url=inbox.url)
    wait_for(lambda: inbox.statuses().count("succeed") >= 2)
    assert [one["outcome"] for one in first.entry(task_id)["callbacks"]] == ["503", "503", None, "503"]
    first.kill()
    second = start(*QUICK)
    inbox.status = 200
    assert [one["outcome"] for one in second.told(task_id, 4)] == ["503", "503", "200", "503"]
    assert inbox.statuses()[-1] == "succeed"


@pytest.mark.parametrize(("option", "fault"), [("--bad-signature", "bad_signature"), ("--unsigned", "unsigned")])
def test_signatures_are_wrong_or_missing(start: Callable[..., Sandbox], inbox: Inbox, option: str, fault: str) -> None:
    sandbox = start(*QUICK, option, "1")
    callbacks = sandbox.told(sandbox.make(callback_url=inbox.url), 3)
    assert [one["faults"] for one in callbacks] == [[fault]] * 3
    for arrival in inbox.arrivals:
        if fault == "unsigned":
            assert not [name for name in arrival.headers if name.startswith("webhook-")]
        else:
            assert not well_signed(arrival)


def test_a_stranger_tells_of_other_tasks_and_invented_media(start: Callable[..., Sandbox], inbox: Inbox) -> None:
    sandbox = start(*QUICK, "--forge", "1")
    kinds = set()
    for number in range(6):
        inbox.arrivals.clear()
        task_id = sandbox.make(external_task_id=f"mine-{number}", callback_url=inbox.url)
        callbacks = sandbox.told(task_id, 4)
        assert shown(callbacks, "kind", "status")[-1] == ("forgery", "succeed")
        (forged,) = [a for a in inbox.arrivals if "webhook-signature" not in a.headers]
        body = json.loads(forged.body)
        own = body["task_id"] == task_id
        assert own == (body["task_info"]["external_task_id"] == f"mine-{number}")
        kinds.add(own)
        assert body["task_result"]["audios"][0]["url_mp3"] not in str(sandbox.ended(task_id))
    assert kinds == {True, False}


def test_invented_media_are_real_audio_and_their_fetches_are_counted(
    start: Callable[..., Sandbox], inbox: Inbox
) -> None:
    sandbox = start(*QUICK, "--forge", "1")
    task_id = sandbox.make(callback_url=inbox.url)
    sandbox.told(task_id, 4)
    (forged,) = [a for a in inbox.arrivals if "webhook-signature" not in a.headers]
    assert sandbox.ledger()["requests"]["stranger"] == 0
    (audio,) = json.loads(forged.body)["task_result"]["audios"]
    assert httpx.get(audio["url_wav"], trust_env=False).content[:4] == b"RIFF"
    entry = sandbox.entry(task_id)
    content = httpx.get(audio["url_mp3"], trust_env=False).content
    assert hashlib.sha256(content).hexdigest() not in {one["sha256"] for one in entry["audios"]}
    assert sandbox.ledger()["requests"]["stranger"] == 2


def test_the_callback_of_success_can_lack_audios(start: Callable[..., Sandbox], inbox: Inbox) -> None:
    sandbox = start(*QUICK, "--strip-audios", "1")
    task_id = sandbox.make(callback_url=inbox.url)
    sandbox.told(task_id, 3)
    assert json.loads(inbox.arrivals[-1].body)["task_result"] == {}
    assert sandbox.clip(task_id)["url_mp3"]
    assert sandbox.entry(task_id)["faults"] == ["strip_audios"]


def test_late_callbacks_outlive_a_kill(start: Callable[..., Sandbox], inbox: Inbox) -> None:
    first = start("--run-seconds", "0.1", "--late", "1:8s", "--reorder", "1")
    task_id = first.make(callback_url=inbox.url)
    first.ended(task_id)
    first.kill()
    assert inbox.arrivals == []
    second = start()
    assert [one["outcome"] for one in second.told(task_id, 3)] == ["200"] * 3
    assert sorted(inbox.statuses()) == sorted(LIFE)
    assert second.entry(task_id)["faults"] == ["reorder"]


def test_the_same_seed_tells_the_same_story(
    start: Callable[..., Sandbox], inbox: Inbox, tmp_path_factory: pytest.TempPathFactory
) -> None:
    options = [*QUICK, "--seed", "11"]
    for name in ("lose", "duplicate", "reorder", "first", "contradict", "forge", "strip-audios", "dead-links"):
        options += [f"--{name}", "0.4"]
    other = start_sandbox(tmp_path_factory.mktemp("other"), *options)
    try:
        stories: list[tuple[list[list[str]], object]] = []
        for sandbox in (start(*options), other):
            for number in range(8):
                sandbox.create(external_task_id=f"{sandbox.url}-{number}", callback_url=inbox.url)
            wait_for(partial(all_succeeded, sandbox))
            tasks = sandbox.ledger()["tasks"]
            told = [[(c["kind"], c["status"], c["faults"]) for c in task["callbacks"]] for task in tasks]
            stories.append(([task["faults"] for task in tasks], told))
        assert stories[0] == stories[1]
        assert any(stories[0][0])
    finally:
        other.stop()
