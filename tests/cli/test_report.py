from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from receiver.cli.demonstration.checking import Fetched, Judged, Ledger, Made
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


def ledger(**changes: Any) -> Outcome:
    return replace(AGREED, ledger=replace(AGREED.ledger, **changes))


def test_all_that_agrees_agrees() -> None:
    assert AGREED.agrees


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
