"""All faults at once, at every house."""

from collections.abc import Callable
from itertools import count
from typing import Any

import httpx

from tests.sandbox.rig import ENDS, Inbox, Sandbox, wait_for
from tests.sandbox.shopping import SHOPS, body, order

RATES = {
    "lose": 0.2,
    "duplicate": 0.3,
    "reorder": 0.6,
    "late": "0.3:200ms",
    "first": 0.3,
    "contradict": 0.3,
    "bad_signature": 0.3,
    "unsigned": 0.3,
    "forge": 0.6,
    "strip_audios": 0.3,
    "unsure_create": 0.3,
    "dead_links": 0.2,
    "hang_seconds": "50ms",
}


def settled(sandbox: Sandbox) -> list[dict[str, Any]] | None:
    tasks: list[dict[str, Any]] = sandbox.ledger()["tasks"]
    ended = all(task["status"] in ENDS for task in tasks)
    return tasks if ended and all(one["outcome"] for task in tasks for one in task["callbacks"]) else None


def test_under_every_fault_every_task_ends_and_every_callback_has_an_outcome(
    start: Callable[..., Sandbox], inbox: Inbox
) -> None:
    sandbox = start("--run-seconds", "0.2", "--concurrency", "0", "--clips", "3")
    sandbox.control("faults", **RATES)
    numbers = count()
    for shop in SHOPS * 4:
        try:
            order(sandbox, shop, body(shop, f"t{next(numbers)}", inbox.url))
        except httpx.TransportError:
            continue
    first = wait_for(lambda: settled(sandbox))
    assert {task["house"] for task in first} == {shop.house for shop in SHOPS}
    kinds = {one["kind"] for task in first for one in task["callbacks"]}
    assert kinds == {"truth", "contradiction", "forgery"}
    ledger = sandbox.ledger()
    made = {task["external_task_id"] for task in first}
    unmade = {order["external_task_id"] for order in ledger["unmade"]}
    assert made | unmade == {f"t{number}" for number in range(4 * len(SHOPS))}
    assert not made & unmade


def test_what_a_kill_interrupts_goes_on_at_every_house(start: Callable[..., Sandbox], inbox: Inbox) -> None:
    first = start("--run-seconds", "1.5", "--concurrency", "0")
    for shop in SHOPS:
        assert order(first, shop, body(shop, None, inbox.url)).status_code == 200
    assert not settled(first)
    first.kill()
    second = start("--concurrency", "0")
    tasks = wait_for(lambda: settled(second))
    assert [f"{task['house']} {task['status']}" for task in tasks] == [f"{shop.house} succeed" for shop in SHOPS]
    terminal_only = {task["house"] for task in tasks if len(task["callbacks"]) == 1}
    assert terminal_only == {"new-api", "soundshop"}
