"""What a demo of all providers orders, adds up, and has the service ask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from receiver.cli import api
from receiver.cli.demonstration import orders, providers, sellers
from receiver.cli.demonstration.board import Board, Row
from receiver.cli.demonstration.checking import Judged, Ledger
from receiver.cli.demonstration.orders import Order, Placed
from receiver.cli.demonstration.providers import Refreshing, Sum
from receiver.core.model import State
from receiver.dialects import spec
from receiver.sandbox.houses import HOUSES
from tests.cli.asking import own_task
from tests.cli.rig import Demo

EVERY = sellers.every()


def row(task: str, account: str, state: State, **changes: Any) -> Row:
    placed = Placed(task=task, order=Order(account=account, prompt="", seconds=3.0))
    given = {"reason": None, "attention": None, "slack": None, "assets": (), **changes}
    return Row(number=1, placed=placed, state=state, **given)


def test_every_profile_of_the_catalog_is_played_by_the_house_of_its_name() -> None:
    assert {seller.profile.name for seller in EVERY} == spec.catalog().keys() - {"sandbox"}
    assert all(seller.path == f"/{seller.profile.name}" and seller.profile.name in HOUSES for seller in EVERY)
    assert [seller.profile.name for seller in EVERY if seller.is_slow] == ["kling-text2video", "new-api"]


def test_several_of_every_kind_are_ordered_at_every_provider() -> None:
    placed = Counter((order.account, order.kind) for order in orders.orders_of_all(EVERY, None))
    assert placed == {(seller.account, kind): 3 for seller in EVERY for kind in seller.profile.kinds}


def test_fewer_orders_than_kinds_are_refused() -> None:
    assert len(list(orders.orders_of_all(EVERY, 12))) == 12
    with pytest.raises(typer.BadParameter, match="at least 12"):
        list(orders.orders_of_all(EVERY, 11))


def test_what_comes_of_each_provider_is_added_up_from_both_ledgers() -> None:
    rows = [
        row("1", "new_api", State.ARCHIVED),
        row("2", "new_api", State.FAILED, attention="no_media"),
        row("3", "kling", State.ARCHIVED),
    ]
    states = {State.ARCHIVED: 1, State.FAILED: 1}
    ledger = Ledger(accepted=3, states={}, received=0, duplicates=0, by_account={"new_api": (2, states)})
    judged = Judged(charges=3, files={}, lost=0, houses={"new-api": 3}, spoilt={"new-api": 4})
    found = providers.sums(EVERY, rows, ledger, judged, {"2", "3"})
    assert found["new-api"] == Sum(placed=2, accepted=2, archived=1, charges=3, spoilt=4, attention=1, refreshed=1)
    assert found["kling"] == Sum(placed=1, accepted=0, archived=0, charges=0, spoilt=0, attention=0, refreshed=1)


@pytest.fixture
def service(kept: Demo) -> Iterator[api.Client]:
    with api.connected(kept.url, kept.key) as client:
        yield client


@pytest.mark.system
@pytest.mark.timeout(400)
def test_a_task_of_a_slow_provider_is_asked_about_once_when_its_time_has_come(service: api.Client, kept: Demo) -> None:
    task = own_task(kept)

    def asked() -> int:
        events = service.get(f"/v1/tasks/{task}").document["events"]
        return sum(event["type"] == "task.refresh_asked" for event in events)

    assert asked() == 0
    board = Board(service)
    refreshing = Refreshing(service, board, EVERY)
    board.rows = (row(task, "new_api", State.SUBMITTED),)
    refreshing.look()
    assert (asked(), refreshing.asked) == (0, set())

    board._began -= providers.WAIT.total_seconds()
    for rows in [row(task, "kling", State.SUBMITTED)], [row(task, "new_api", State.SUBMITTING)]:
        board.rows = tuple(rows)
        refreshing.look()
    assert asked() == 0

    board.rows = (row(task, "new_api", State.SUBMITTED),)
    refreshing.look()
    refreshing.look()
    assert (asked(), refreshing.asked) == (1, {task})
