"""Many tasks of which no callback ever tells are settled with few questions, with a provider's list and without."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from tests.system.deployment import Deployment, Stopwatch
from tests.system.processes import until
from tests.system.sellers import DEERAPI, KLING, SOUND, Shopping, variables

#: The one has a list, the other none.
QUIET = ((replace(KLING, orders=(SOUND,)), 400), (replace(DEERAPI, orders=(SOUND,)), 60))
#: Pages that 400 tasks may cost, also where creates go out slowly; and single questions for each task without a list.
PAGES = 10
QUESTIONS = 2.5
SETTLED = "SELECT account, count(*) FROM task WHERE state IN ('succeeded', 'archived') GROUP BY 1"


def test_quiet_tasks_cost_few_questions_with_a_list_and_without(deployment: Deployment, watch: Stopwatch) -> None:
    deployment.sandbox.restart_with("--concurrency=0", "--clips=8", "--lose=1")
    settings = variables(deployment, [seller for seller, _ in QUIET], slots=1000, usual=5)
    service = deployment.serve(callbacks=None, more=settings)
    shopping = Shopping(service=service)
    for seller, number in QUIET:
        shopping.order(number, [seller])
    watch.lap("ordered")

    expected = Counter({seller.account: number for seller, number in QUIET})
    until(lambda: Counter(dict(deployment.rows(SETTLED))) == expected, what="all are settled", pause=0.5)
    watch.lap("settled")

    ledger = deployment.sandbox.ledger()
    asked = {house: shown["requests"] for house, shown in ledger["houses"].items() if shown["tasks"]}
    watch.lap(f"{asked}")
    assert ledger["charges"] == expected.total()
    assert not any(told["outcome"] != "lost" for task in ledger["tasks"] for told in task["callbacks"])
    assert asked["kling"]["query"] + asked["kling"]["list"] <= PAGES
    assert asked["deerapi"]["list"] == 0
    assert asked["deerapi"]["query"] <= QUESTIONS * expected["deerapi"]
