from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.core import deadlines
from receiver.core.model import ENDS, AccountId, Asset, AssetId, AssetState, Format, State, Task, TaskId, Trust

NOW = datetime(2026, 11, 20, tzinfo=UTC)
TASK = Task(
    id=TaskId(7),
    owner="main",
    account=AccountId("kling"),
    kind="text-to-audio",
    input={},
    state=State.ACCEPTED,
    created_at=NOW,
    submit_by=NOW + timedelta(hours=1),
    settle_by=NOW + timedelta(hours=2),
)
ASSET = Asset(
    id=AssetId(1),
    task_id=TaskId(7),
    clip="c",
    position=0,
    format=Format.MP3,
    state=AssetState.PENDING,
    url="https://a.example/c.mp3",
    trust=Trust.CONFIRMED,
    link_expires_at=None,
    gone_at=NOW + timedelta(days=30),
)


def test_an_accepted_task_is_due_when_it_should_have_been_sent() -> None:
    assert deadlines.due_at(TASK) == TASK.submit_by


@pytest.mark.parametrize("state", [State.SUBMITTING, State.SUBMITTED, State.PROCESSING])
def test_a_sent_task_is_due_after_the_longest_run(state: State) -> None:
    assert deadlines.due_at(replace(TASK, state=state)) == TASK.settle_by


def test_a_succeeded_task_is_due_when_its_first_pending_asset_is_gone() -> None:
    sooner = replace(ASSET, clip="d", gone_at=NOW + timedelta(days=3))
    stored = replace(ASSET, clip="e", state=AssetState.STORED, gone_at=NOW)
    task = replace(TASK, state=State.SUCCEEDED, assets=(ASSET, sooner, stored))
    assert deadlines.due_at(task) == sooner.gone_at


@pytest.mark.parametrize("state", sorted(ENDS))
def test_an_ended_task_is_not_due(state: State) -> None:
    assert deadlines.due_at(replace(TASK, state=state)) is None


def test_a_lapsing_link_is_the_time_to_deliver_by() -> None:
    lapsing = replace(ASSET, link_expires_at=NOW + timedelta(minutes=5))
    task = replace(TASK, state=State.SUCCEEDED, assets=(ASSET, lapsing), due_at=ASSET.gone_at)
    assert deadlines.deliver_by(task) == lapsing.link_expires_at
    assert deadlines.slack(task, NOW) == timedelta(minutes=5)


moments = st.one_of(st.none(), st.timedeltas(timedelta(days=-90), timedelta(days=90)).map(lambda d: NOW + d))


@given(created=moments, updated=moments)
def test_the_window_counts_from_the_earlier_sensible_time(created: datetime | None, updated: datetime | None) -> None:
    window = timedelta(days=30)
    end = deadlines.gone_at(window, created, updated, now=NOW)
    assert NOW < end <= NOW + window
    sensible = [at for at in (created, updated) if at is not None and NOW - window < at <= NOW]
    assert end == min(sensible, default=NOW) + window
