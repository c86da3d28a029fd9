from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from receiver.core import schedule

jitters = st.floats(0, 1, exclude_max=True)
spans = st.timedeltas(timedelta(days=-1), timedelta(days=40))


@given(attempt=st.integers(0, 10_000), remaining=spans, jitter=jitters)
def test_a_retry_comes_within_ten_minutes_and_sooner_as_the_deadline_nears(
    attempt: int, remaining: timedelta, jitter: float
) -> None:
    pause = schedule.retry_after(attempt, remaining=remaining, jitter=jitter)
    assert timedelta(seconds=0.5) <= pause <= schedule.LONGEST_PAUSE
    assert remaining <= timedelta() or pause <= max(remaining / 8, schedule.SECOND)


def test_an_outage_of_a_day_costs_a_bounded_number_of_tries_and_none_is_the_last() -> None:
    outage, gone, tries = timedelta(days=1), timedelta(), 0
    while gone < outage:
        tries += 1
        gone += schedule.retry_after(tries, remaining=timedelta(days=30) - gone, jitter=0.5)
    assert 144 < tries < 250
    assert gone - outage <= schedule.LONGEST_PAUSE


@given(polls=st.integers(0, 10_000), remaining=spans, jitter=jitters, awaited=st.booleans())
def test_a_poll_comes_within_its_longest_pause(
    polls: int, remaining: timedelta, jitter: float, *, awaited: bool
) -> None:
    pause = schedule.next_poll(
        polls, usual=timedelta(seconds=15), remaining=remaining, jitter=jitter, slots_awaited=awaited
    )
    longest = schedule.BUSY_PAUSE if awaited else schedule.LONGEST_PAUSE
    assert schedule.SECOND <= pause <= longest * 1.25


def test_polls_begin_when_a_task_is_usually_done_and_back_off() -> None:
    usual, remaining = timedelta(seconds=15), timedelta(days=1)
    pauses = [schedule.next_poll(n, usual=usual, remaining=remaining, jitter=0.5) for n in range(12)]
    assert pauses[0] == usual
    assert pauses == sorted(pauses)
    assert pauses[-1] == schedule.LONGEST_PAUSE
