from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.core import lifecycle
from receiver.core.errors import MoveRefused
from receiver.core.lifecycle import MOVES, Seen, follow, report_on, settle
from receiver.core.model import (
    ENDS,
    OPEN,
    AccountId,
    Asset,
    AssetId,
    AssetState,
    Format,
    Media,
    ProviderStatus,
    Report,
    State,
    Task,
    TaskId,
    Trust,
)

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def a_task(state: State, *assets: Asset) -> Task:
    return Task(
        id=TaskId(7),
        owner="main",
        account=AccountId("kling"),
        kind="text-to-audio",
        input={"prompt": "rain"},
        state=state,
        created_at=NOW,
        submit_by=NOW + timedelta(hours=24),
        assets=assets,
    )


def an_asset(
    state: AssetState, fmt: Format = Format.MP3, clip: str = "c", url: str = "https://a.example/c.mp3"
) -> Asset:
    return Asset(
        id=AssetId(1),
        task_id=TaskId(7),
        clip=clip,
        position=0,
        format=fmt,
        state=state,
        url=url,
        trust=Trust.CONFIRMED,
        link_expires_at=None,
        gone_at=NOW + timedelta(days=30),
    )


def media(fmt: Format = Format.MP3, url: str = "https://a.example/c.mp3") -> Media:
    return Media(clip="c", position=0, format=fmt, url=url)


def succeeded(*offered: Media) -> Report:
    return Report(status=ProviderStatus.SUCCEEDED, media=offered)


REPORTS = {
    "submitted": Report(status=ProviderStatus.SUBMITTED),
    "processing": Report(status=ProviderStatus.PROCESSING),
    "failed": Report(status=ProviderStatus.FAILED, reason="risk control"),
    "no media": succeeded(),
    "media": succeeded(media()),
}


@pytest.mark.parametrize(("state", "seen"), list(itertools.product(State, Seen)))
def test_each_pair_follows_the_table_or_is_refused(state: State, seen: Seen) -> None:
    if (state, seen) not in MOVES:
        with pytest.raises(MoveRefused, match=f"{seen} cannot follow {state}"):
            follow(a_task(state), seen)
        return
    decision = follow(a_task(state), seen)
    assert decision.state is MOVES[state, seen].to
    assert (decision.event is None) == (decision.state is state and seen is not Seen.SENDING)


@pytest.mark.parametrize(("state", "name"), list(itertools.product(State, REPORTS)))
def test_every_truthful_report_is_legal_in_every_state(state: State, name: str) -> None:
    decision = report_on(a_task(state), REPORTS[name], Trust.CONFIRMED, now=NOW, has_query=True)
    assert (state, decision.seen) in MOVES


@pytest.mark.parametrize(("state", "name"), list(itertools.product(State, REPORTS)))
def test_a_hint_moves_nothing_and_asks_only_when_it_would(state: State, name: str) -> None:
    hint = report_on(a_task(state), REPORTS[name], Trust.TOKEN, now=NOW, has_query=True)
    truth = report_on(a_task(state), REPORTS[name], Trust.CONFIRMED, now=NOW, has_query=True)
    assert hint.state is state
    assert hint.event is None
    assert hint.media == ()
    lost = name == "no media" and state in {State.FAILED, State.REJECTED, State.EXPIRED}
    assert hint.ask == (truth.state is not state or bool(truth.media) or lost)


@pytest.mark.parametrize("trust", [Trust.TOKEN, Trust.SIGNED])
@pytest.mark.parametrize(("state", "name"), list(itertools.product(State, REPORTS)))
def test_where_nothing_can_be_asked_a_callback_is_the_truth(state: State, name: str, trust: Trust) -> None:
    told = report_on(a_task(state), REPORTS[name], trust, now=NOW, has_query=False)
    truth = report_on(a_task(state), REPORTS[name], Trust.CONFIRMED, now=NOW, has_query=True)
    assert told == truth


@pytest.mark.parametrize("state", sorted(ENDS - {State.CANCELLED}))
def test_an_end_is_left_only_by_media_or_an_operator(state: State) -> None:
    ways_out = {seen for (start, seen), move in MOVES.items() if start is state and move.to is not state}
    assert ways_out <= {Seen.MEDIA, Seen.RETRY_SEND, Seen.RETRY_MEDIA}


def test_a_cancelled_task_that_the_provider_knows_is_followed_with_an_alarm() -> None:
    decision = report_on(a_task(State.CANCELLED), REPORTS["processing"], Trust.SIGNED, now=NOW, has_query=True)
    assert (decision.state, decision.attention) == (State.PROCESSING, "cancelled_but_made")


def test_cancel_is_possible_only_before_anything_was_sent() -> None:
    may = {state for state in State if (state, Seen.CANCEL) in MOVES and state in OPEN}
    assert may == {State.ACCEPTED}


@pytest.mark.parametrize(
    ("state", "name"), [(State.SUCCEEDED, "failed"), (State.FAILED, "media")], ids=["failure", "media"]
)
def test_a_signed_contradiction_asks_and_a_confirmed_one_wins(state: State, name: str) -> None:
    signed = report_on(a_task(state), REPORTS[name], Trust.SIGNED, now=NOW, has_query=True)
    confirmed = report_on(a_task(state), REPORTS[name], Trust.CONFIRMED, now=NOW, has_query=True)
    assert (signed.state, signed.ask) == (state, True)
    assert confirmed.state is not state


@pytest.mark.parametrize("state", [State.FAILED, State.REJECTED, State.EXPIRED])
def test_a_signed_success_without_media_after_such_an_end_asks_for_the_media(state: State) -> None:
    signed = report_on(a_task(state), succeeded(), Trust.SIGNED, now=NOW, has_query=True)
    confirmed = report_on(a_task(state), succeeded(), Trust.CONFIRMED, now=NOW, has_query=True)
    assert (signed.state, signed.ask) == (state, True)
    assert (confirmed.state, confirmed.ask) == (state, False)


def test_media_that_an_archived_task_has_change_nothing() -> None:
    task = a_task(State.ARCHIVED, an_asset(AssetState.STORED))
    decision = report_on(task, REPORTS["media"], Trust.SIGNED, now=NOW, has_query=True)
    assert (decision.seen, decision.state, decision.media) == (Seen.MEDIA_KNOWN, State.ARCHIVED, ())


def test_a_new_format_reopens_an_archived_task() -> None:
    task = a_task(State.ARCHIVED, an_asset(AssetState.STORED))
    wav = media(Format.WAV, "https://a.example/c.wav")
    decision = report_on(task, succeeded(media(), wav), Trust.SIGNED, now=NOW, has_query=True)
    assert (decision.state, decision.event, decision.media) == (State.SUCCEEDED, "task.reopened", (wav,))


def test_a_fresh_link_of_an_invalid_file_is_not_tried_again_and_another_file_is() -> None:
    task = a_task(State.PARTIAL, an_asset(AssetState.INVALID))
    same = report_on(task, succeeded(media(url="https://a.example/c.mp3?x=2")), Trust.SIGNED, now=NOW, has_query=True)
    other = report_on(task, succeeded(media(url="https://a.example/d.mp3")), Trust.SIGNED, now=NOW, has_query=True)
    assert same.state is State.PARTIAL
    assert (other.state, other.event) == (State.SUCCEEDED, "task.rescued")


def test_a_repeated_hint_of_wanted_media_asks_nothing() -> None:
    task = a_task(State.SUCCEEDED, an_asset(AssetState.PENDING))
    assert not report_on(task, REPORTS["media"], Trust.TOKEN, now=NOW, has_query=True).ask


asset_states = st.lists(st.sampled_from(AssetState), max_size=4)


@given(states=asset_states, may_lack=st.booleans())
def test_settling_is_exhaustive(states: list[AssetState], *, may_lack: bool) -> None:
    assets = [an_asset(state, clip=str(n)) for n, state in enumerate(states)]
    end = settle(State.SUCCEEDED, assets, may_lack=may_lack)
    stored = states.count(AssetState.STORED)
    if not states or AssetState.PENDING in states:
        assert end is State.SUCCEEDED
    elif stored == len(states):
        assert end is (State.SUCCEEDED if may_lack else State.ARCHIVED)
    elif stored:
        assert end is State.PARTIAL
    else:
        assert end is (State.EXPIRED if AssetState.EXPIRED in states else State.FAILED)


@given(state=st.sampled_from(sorted(set(State) - {State.SUCCEEDED})), states=asset_states)
def test_only_a_succeeded_task_settles(state: State, states: list[AssetState]) -> None:
    assert settle(state, [an_asset(each) for each in states], may_lack=False) is state


def named(clip: str, position: int = 0) -> Media:
    return Media(clip=clip, position=position, format=Format.MP3, url=f"https://a.example/{clip}.mp3")


@pytest.mark.parametrize(("known", "told"), [("0", "clip-7"), ("clip-7", "0"), ("#0", "clip-7")])
def test_a_clip_without_an_id_is_known_by_its_position(known: str, told: str) -> None:
    task = a_task(State.SUCCEEDED, an_asset(AssetState.PENDING, clip=known))
    assert [media.clip for media in lifecycle.align(task, [named(told)])] == [known]


def test_a_clip_with_another_id_at_the_same_place_is_another_clip() -> None:
    task = a_task(State.ARCHIVED, an_asset(AssetState.STORED, clip="clip-7"))
    assert lifecycle.align(task, [named("clip-8")]) == (named("clip-8"),)


def test_a_clip_that_is_named_keeps_its_name_beside_one_that_is_not() -> None:
    task = a_task(State.SUCCEEDED, an_asset(AssetState.PENDING, clip="0"))
    told = [named("0", position=1), named("clip-7", position=0)]
    assert lifecycle.align(task, told) == tuple(told)
