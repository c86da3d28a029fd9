"""Creates whose fate is unknown, at every provider, with kills between request and reply: nothing is paid twice."""

from __future__ import annotations

import os
import signal
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from tests.system.deployment import ENDS, Deployment, Program, Service, Stopwatch
from tests.system.judging import require_consistent
from tests.system.processes import until
from tests.system.sellers import SELLERS, SOUNDSHOP_SELLER, Shopping, listed, variables

#: Rounds of two kills each, of both workers or of one and of everything else.
ROUNDS = int(os.environ.get("SYSTEM_TESTS_ROUNDS", "10"))
SEED = os.environ.get("SYSTEM_TESTS_SEED", "1")
#: Every so many rounds everything is killed.
EVERYTHING = 5
UNSURE = 20 * ROUNDS
KILLS = 2 * ROUNDS
#: Creates that one worker sends at the same time.
SLOTS = 16
ORDERED = 2 * SLOTS
#: So many at least are held when the kills fall, so that both workers have some of them.
HELD = 20
CLIPS = 6
WEATHER = {
    "--concurrency": "0",
    "--clips": "8",
    "--run-seconds": "1",
    "--hang-seconds": "500ms",
    "--unsure-create": "0.35",
    "--lose": "0.5",
    "--duplicate": "0.4",
    "--seed": SEED,
}
GATES = ("create", "create_reply")


@dataclass(kw_only=True)
class Storm:
    """Orders at every seller, and kills that fall while the provider holds creates of ours."""

    deployment: Deployment
    shopping: Shopping
    second: Program
    kills: Counter[str] = field(default_factory=Counter)
    #: Tasks whose create was held when a kill fell, once for each time.
    caught: Counter[str] = field(default_factory=Counter)

    @property
    def service(self) -> Service:
        return self.deployment.service

    def round(self, number: int) -> None:
        """Let the provider hold creates, half of them before it makes the task and half after; then kill."""
        sandbox = self.deployment.sandbox
        for gate in GATES:
            sandbox.tell("hold", what=gate, count=ORDERED // len(GATES))
        self.shopping.order(ORDERED)
        until(lambda: len(self._held()) >= HELD, what=f"round {number}: {HELD} creates are held")
        everything = number % EVERYTHING == EVERYTHING - 1
        self.second.send(signal.SIGKILL)
        if everything:
            self.service.kill_tree()
        else:
            self.service.kill9("worker")
        self.second.wait()
        self.kills.update(["worker", "everything" if everything else "worker"])
        for n, each in enumerate(self._held()):
            self.caught[each["task"]] += 1
            sandbox.tell("release", id=each["id"], cut=n % 2 == 0)
        for gate in GATES:
            sandbox.tell("release", what=gate)
        if everything:
            self.service.start()
        self.second = self.deployment.worker()

    def _held(self) -> list[dict[str, Any]]:
        return [each for gate in GATES for each in self.deployment.sandbox.held(gate)]


@dataclass(kw_only=True)
class Judge:
    """What the provider's own account says of the creates that we lost."""

    shopping: Shopping
    #: Tasks whose create was under way when a kill fell.
    caught: Counter[str]
    ledger: Mapping[str, Any]

    def __post_init__(self) -> None:
        self.made: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for task in self.ledger["tasks"]:
            self.made[task["external_task_id"]].append(task)

    @property
    def unsure(self) -> int:
        """Creates that a kill or a fault left without a reply that says what became of them; the least number."""
        others = [each for each in self._orders() if each["external_task_id"] not in self.caught]
        return self.caught.total() + sum(bool(tried["faults"]) for each in others for tried in each["attempts"])

    def _orders(self) -> list[dict[str, Any]]:
        return [*self.ledger["tasks"], *self.ledger["unmade"]]

    def is_lost(self, task: str) -> bool:
        """Say whether nothing can tell us what became of its create, and the provider would charge a repeat."""
        seller, made = self.shopping.placed[task], self.made[task]
        if seller.enforced:
            return False
        if not made:
            return True
        taken = [told for told in made[0]["callbacks"] if (told["outcome"] or "").startswith("2")]
        return not seller.finds and not (seller.hints and taken)

    def is_known_lost(self, task: str) -> bool:
        """Say whether, besides, no reply can have come."""
        tried = [attempt for made in self.made[task] for attempt in made["attempts"]]
        replied = any(attempt["made"] and not attempt["faults"] for attempt in tried)
        return self.is_lost(task) and (task in self.caught or not replied)


def settled(storm: Storm) -> Judge | None:
    """Return the judge once no task is open but those of lost creates, and no callback is on its way."""
    shopping = storm.shopping
    left = {each["id"]: each["attention"] for each in listed(storm.service) if each["state"] not in ENDS}
    judge = Judge(shopping=shopping, caught=storm.caught, ledger=storm.deployment.sandbox.ledger())
    waits = any(told["outcome"] is None for task in judge.ledger["tasks"] for told in task["callbacks"])
    known = {task for task in shopping.placed if judge.is_known_lost(task)}
    right = known <= left.keys() and set(left.values()) <= {"create_unknown"}
    return judge if right and not waits and all(judge.is_lost(task) for task in left) else None


@pytest.mark.timeout(300 + 12 * ROUNDS)
def test_no_create_is_paid_twice_whatever_is_lost_or_killed_between_it_and_its_reply(
    deployment: Deployment, watch: Stopwatch
) -> None:
    deployment.sandbox.restart_with(*(f"{name}={value}" for name, value in WEATHER.items()))
    service = deployment.serve(more=variables(deployment))
    shopping = Shopping(service=service)
    storm = Storm(deployment=deployment, shopping=shopping, second=deployment.worker())
    watch.lap("started")
    for number in range(ROUNDS):
        storm.round(number)
    watch.lap(f"kills: {dict(storm.kills)}")
    deployment.sandbox.tell("faults", unsure_create=0)
    deployment.sandbox.tell("faults", house=SOUNDSHOP_SELLER.house, lose=0)
    bought = shopping.order(CLIPS, [SOUNDSHOP_SELLER])

    judge = until(partial(settled, storm), what="all is settled", patience=200, pause=0.5)
    watch.lap(f"{judge.unsure} unsure creates of {len(shopping.placed)} tasks settled")
    assert judge.unsure >= UNSURE
    assert storm.kills.total() >= KILLS

    require_never_paid_twice(judge)
    require_ends(service, judge)
    require_right_sum(service, judge)
    require_bought(service, judge, bought)
    require_consistent(deployment)


def require_never_paid_twice(judge: Judge) -> None:
    """The provider made each task once at most, for somebody who ordered it, and where ids are enforced each."""
    assert {task: len(made) for task, made in judge.made.items() if len(made) > 1} == {}
    assert judge.made.keys() <= judge.shopping.placed.keys()
    enforced = {task for task, seller in judge.shopping.placed.items() if seller.enforced}
    assert {task for task in enforced if not judge.made[task]} == set()


def require_ends(service: Service, judge: Judge) -> None:
    """What is open are lost creates, and a person is called to each; all else ended as the provider says."""
    for task in listed(service):
        made = judge.made[task["id"]]
        expected: tuple[str, str | None, str | None] = ("submitting", None, "create_unknown")
        if task["state"] in ENDS:
            failed = made[0]["status"] == "failed"
            expected = ("failed", "provider_failed", None) if failed else ("archived", None, None)
        else:
            assert judge.is_lost(task["id"]), task
        assert (task["state"], task["reason"], task["attention"]) == expected, (task, made)


def require_right_sum(service: Service, judge: Judge) -> None:
    """The service's sums are those of what was ordered, and of what the provider charged for what has ended."""
    tasks = list(listed(service))
    ledger = service.ledger()
    assert ledger["accepted"] == len(judge.shopping.placed) == len(tasks)
    assert {state: n for state, n in ledger["states"].items() if n} == Counter(task["state"] for task in tasks)
    accepted: Counter[str] = Counter()
    for line in ledger["lines"]:
        accepted[line["account"]] += line["accepted"]
        assert sum(line["states"].values()) == line["accepted"]
    assert accepted == Counter(seller.account for seller in judge.shopping.placed.values())
    charged = {seller.account: Decimal() for seller in SELLERS}
    for task in tasks:
        if task["state"] in ENDS:
            charged[task["account"]] += Decimal(judge.made[task["id"]][0]["charged"])
    shown = service.client.get("/v1/accounts").raise_for_status().json()["accounts"]
    summed = {each["id"]: sum(Decimal(day["units"]) for day in each["days"]) for each in shown}
    assert {seller.account: summed[seller.account] for seller in SELLERS} == charged


def require_bought(service: Service, judge: Judge, bought: list[str]) -> None:
    """A seller whom a file alone describes: each task was told by callbacks, archived and charged once."""
    for task in bought:
        (made,) = judge.made[task]
        assert (made["house"], made["status"], made["charged"]) == ("soundshop", "succeed", "0.25")
        assert [told["outcome"] for told in made["callbacks"]] == ["200"]
        shown = service.task(task)
        assert shown["state"] == "archived"
        assert sorted(asset["format"] for asset in shown["assets"]) == ["mp3", "wav"]
        assert {(asset["bytes"], asset["sha256"]) for asset in shown["assets"]} == {
            (audio["bytes"], audio["sha256"]) for audio in made["audios"]
        }
