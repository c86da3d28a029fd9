from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from receiver.cli.demonstration.board import Row
from receiver.cli.demonstration.checking import Fetched, Judged, Ledger, Made
from receiver.cli.demonstration.orders import Order, Placed
from receiver.cli.demonstration.providers import Sum
from receiver.cli.demonstration.report import Outcome
from receiver.core.model import State

FILE = Fetched(task="1", clip="2", format="mp3", bytes=3, sha256="ab", verified=True, faults=())
AGREED = Outcome(
    placed=1,
    rows=(),
    ledger=Ledger(accepted=1, states={State.ARCHIVED: 1}, received=3, duplicates=1),
    judged=Judged(charges=1, files={("1", "2", "mp3"): Made(bytes=3, sha256="ab")}, lost=2),
    fetched=(FILE,),
    seconds=1.23456,
)
ROW = Row(
    number=1,
    placed=Placed(task="1", order=Order(account="new_api", prompt="", seconds=3.0)),
    state=State.ARCHIVED,
    reason=None,
    attention=None,
    slack=None,
    assets=(),
)
SUM = Sum(placed=1, accepted=1, archived=1, charges=1, spoilt=2, attention=0, refreshed=0)
OF_ALL = replace(AGREED, rows=(ROW,), judged=replace(AGREED.judged, charged={"1": 1}), profiles={"new-api": SUM})
UNCUT = replace(OF_ALL, rows=(replace(ROW, attention="sound_not_cut"),))


def ledger(**changes: Any) -> Outcome:
    return replace(AGREED, ledger=replace(AGREED.ledger, **changes))


def test_all_that_agrees_agrees() -> None:
    assert AGREED.agrees
    assert OF_ALL.agrees


def test_sound_that_cannot_be_cut_is_no_fault_and_is_told() -> None:
    outcome = replace(UNCUT, cuts=False)
    assert (outcome.agrees, outcome.uncut) == (True, 1)
    assert ("0 tasks call for a person, beside those whose sound is not cut", True) in outcome.checks()


def test_the_object_tells_of_each_provider() -> None:
    told = json.loads(OF_ALL.as_json())
    assert told["profiles"] == {"new-api": {"accepted": 1, "archived": 1, "charges": 1, "attention": 0}}
    assert told.keys() - json.loads(AGREED.as_json()).keys() == {"profiles"}


@pytest.mark.parametrize(
    "outcome",
    [
        pytest.param(replace(AGREED, placed=2), id="an order that the service does not know"),
        pytest.param(ledger(accepted=2), id="a task that has no state"),
        pytest.param(ledger(states={State.PARTIAL: 1}), id="a partial task"),
        pytest.param(ledger(states={State.PROCESSING: 1}), id="an open task"),
        pytest.param(replace(AGREED, judged=replace(AGREED.judged, charges=2)), id="a second charge"),
        pytest.param(replace(AGREED, fetched=()), id="a file that is missing"),
        pytest.param(replace(AGREED, fetched=(FILE, FILE)), id="a file too many"),
        pytest.param(replace(AGREED, fetched=(replace(FILE, verified=False),)), id="another hash"),
        pytest.param(replace(AGREED, fetched=(replace(FILE, faults=("silent",)),)), id="no sound"),
        pytest.param(replace(OF_ALL, profiles={"a": SUM, "b": replace(SUM, charges=2)}), id="a charge too many there"),
        pytest.param(replace(OF_ALL, profiles={"a": replace(SUM, placed=2)}), id="an order that is lost there"),
        pytest.param(replace(OF_ALL, profiles={"a": replace(SUM, archived=0)}), id="a task not archived there"),
        pytest.param(replace(OF_ALL, judged=replace(OF_ALL.judged, charged={"2": 1})), id="another task's charge"),
        pytest.param(replace(OF_ALL, judged=replace(OF_ALL.judged, charged={"1": 2})), id="a task charged twice"),
        pytest.param(replace(OF_ALL, rows=(replace(ROW, attention="no_media"),)), id="a task that calls for a person"),
        pytest.param(UNCUT, id="sound that could be cut and is not"),
    ],
)
def test_whatever_disagrees_is_seen(outcome: Outcome) -> None:
    assert not outcome.agrees


def test_the_object_has_every_number_once() -> None:
    assert json.loads(AGREED.as_json()) == {
        "accepted": 1,
        "archived": 1,
        "partial": 0,
        "failed": 0,
        "rejected": 0,
        "expired": 0,
        "cancelled": 0,
        "open": 0,
        "assets": [{"task": "1", "clip": "2", "format": "mp3", "bytes": 3, "sha256": "ab", "verified": True}],
        "callbacks": {"received": 3, "duplicates": 1, "lost": 2},
        "charges": 1,
        "seconds": 1.235,
    }


def test_tasks_that_have_not_ended_are_open() -> None:
    told = json.loads(ledger(accepted=6, states={State.ARCHIVED: 1, State.ACCEPTED: 2, State.SUCCEEDED: 3}).as_json())
    assert (told["archived"], told["open"]) == (1, 5)
