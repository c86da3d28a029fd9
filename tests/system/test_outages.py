"""What is lost, late or away for a while costs time, and no task."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest

from tests.system.deployment import ACCOUNT, Deployment, Order, Service, Stopwatch
from tests.system.judging import require_all_archived
from tests.system.objects import bucket_behind_proxy
from tests.system.processes import until
from tests.system.proxy import Fate

pytestmark = pytest.mark.long

TASKS = 24
MANY = 200
#: Seconds; outages last longer than links live.
LINKS = 20
OUTAGE = 25
ROOM = {f"RECEIVER_ACCOUNTS__{ACCOUNT.upper()}__CONCURRENCY": "20"}


def lasting(seconds: float) -> None:
    """Let an outage last that long: it is the time itself that is tried here."""
    threading.Event().wait(seconds)


def is_met(deployment: Deployment, fault: str) -> bool:
    return any(fault in found for found in deployment.sandbox.ledger()["incidents"].values())


def always(fate: Fate) -> Callable[[str, str], Fate]:
    return lambda _method, _path: fate


def await_link_known(deployment: Deployment, number: int) -> None:
    """Wait until that many tasks have media that are not stored; while more of them do, a slow machine has time."""

    def more() -> int | None:
        count: int = deployment.rows("SELECT count(*) FROM task WHERE state = 'succeeded'")[0][0]
        return count if count > found else None

    found = 0
    while found < number:
        found = until(more, what=f"after {found} of {number} tasks another one waits for its media")


def require_nothing_given_up(deployment: Deployment, service: Service, number: int) -> None:
    """No job is dead and no task has failed, whatever could not be reached."""
    assert deployment.rows("SELECT kind, subject FROM job WHERE state = 'dead'") == []
    states = Counter(state for (state,) in deployment.rows("SELECT state FROM task"))
    assert states.total() == number
    assert not states.keys() & {"failed", "expired", "partial", "rejected"}
    assert service.ledger()["accepted"] == number


def test_all_tasks_are_archived_when_every_callback_is_lost(deployment: Deployment, watch: Stopwatch) -> None:
    deployment.sandbox.tell("faults", lose=1)
    service = deployment.serve(more=ROOM)
    orders = service.submit(TASKS)
    service.await_end(TASKS)
    watch.lap("ended")

    require_all_archived(deployment, orders)
    assert service.ledger()["callbacks"] == {"received": 0, "duplicates": 0}
    told = [one["outcome"] for task in deployment.sandbox.ledger()["tasks"] for one in task["callbacks"]]
    assert told == ["lost"] * TASKS * 3


def test_none_of_200_tasks_expires_although_all_their_links_lapse(deployment: Deployment, watch: Stopwatch) -> None:
    deployment.sandbox.tell("faults", expire_links=f"{LINKS}s")
    deployment.sandbox.tell("down", mode="5xx", what="media")
    service = deployment.serve(more=ROOM)
    orders = service.submit(MANY)
    await_link_known(deployment, MANY)
    watch.lap("all links are known")
    lasting(LINKS)
    deployment.sandbox.tell("up")
    service.await_end(MANY)
    watch.lap("ended")

    require_all_archived(deployment, orders)
    assert deployment.rows("SELECT count(*) FROM asset WHERE state <> 'stored'") == [(0,)]
    assert deployment.sandbox.ledger()["requests"]["query"] >= MANY


def test_an_outage_of_the_provider_kills_no_job_and_fails_no_task(deployment: Deployment, watch: Stopwatch) -> None:
    service = deployment.serve(more=ROOM)
    orders: list[Order] = []
    for first, mode in ((0, "5xx"), (TASKS // 2, "cut"), (None, "hang")):
        deployment.sandbox.tell("down", mode=mode)
        orders += [] if first is None else service.submit(TASKS // 2, first=first)
        lasting(OUTAGE / 3)
        # The circuit lets a request through now and then.
        until(partial(is_met, deployment, f"down_{mode}"), what=f"{mode} is met", patience=60)
    require_nothing_given_up(deployment, service, TASKS)
    deployment.sandbox.tell("up")
    watch.lap("the provider is back")
    service.await_end(TASKS)
    watch.lap("ended")

    require_all_archived(deployment, orders)


def test_an_outage_of_the_bucket_kills_no_job_and_fails_no_task(deployment: Deployment, watch: Stopwatch) -> None:
    with bucket_behind_proxy(deployment) as (_, proxy, variables):
        service = deployment.serve(more={**ROOM, **variables})
        proxy.change(lambda _method, _path: Fate.CUT)
        orders = service.submit(TASKS)
        await_link_known(deployment, TASKS)
        proxy.refuse()
        lasting(OUTAGE / 3)
        proxy.listen()
        for fate in (Fate.HANG, Fate.BUSY):
            proxy.change(always(fate))
            lasting(OUTAGE / 3)
        require_nothing_given_up(deployment, service, TASKS)
        proxy.change(lambda _method, _path: Fate.PASS)
        watch.lap("the bucket is back")
        service.await_end(TASKS)
        watch.lap("ended")

        require_all_archived(deployment, orders)
        assert all(proxy.counts[fate] for fate in (Fate.CUT, Fate.HANG, Fate.BUSY))
