from collections import Counter
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.sandbox import units
from receiver.sandbox.faults import NO_FAULTS, Faults, Odds
from receiver.sandbox.plan import CONTRADICTION, END, FORGERY, SUBMITTED, Plan, Unsure
from receiver.sandbox.records import Format
from receiver.sandbox.units import Delay

PLACES = FORGERY + 1
RATES = st.floats(0, 1)
DELAYS = st.builds(Delay, rate=RATES, seconds=st.floats(0.1, 100))


def faults_of(rates: st.SearchStrategy[float]) -> st.SearchStrategy[Faults]:
    """Build every rate from *rates*."""
    given = {one.name: rates for one in fields(Faults) if one.metadata["read"] is units.rate}
    return st.builds(Faults, late=DELAYS, slow=DELAYS, **given)


ODDS = st.builds(Odds, seed=st.integers(0, 2**32), faults=faults_of(RATES))
NUMBERS = st.integers(1, 10_000)


def drawn(odds: Odds, number: int) -> list[object]:
    """Return everything that is drawn for one number."""
    return [
        odds.plan(number, told=True, fails=False),
        odds.plan(number, told=True, fails=True),
        odds.plan(number, told=False, fails=False),
        *(odds.unsure(number, attempt) for attempt in (1, 2)),
        *(odds.fetch(number, form, nth) for form in Format for nth in (1, 2)),
        *(odds.query(kind, number) for kind in ("query", "list")),
    ]


@given(odds=ODDS, number=NUMBERS)
def test_the_same_seed_draws_the_same(odds: Odds, number: int) -> None:
    assert drawn(odds, number) == drawn(replace(odds), number)


@given(seed=st.integers(0, 2**32), number=NUMBERS)
def test_without_rates_nothing_goes_wrong(seed: int, number: int) -> None:
    odds = Odds(seed=seed, faults=NO_FAULTS)
    assert drawn(odds, number) == [Plan()] * 3 + [None] * (4 + 2 * len(Format))


@given(odds=ODDS, number=NUMBERS, name=st.sampled_from([one.name for one in fields(Faults)]))
def test_one_rate_moves_the_draws_of_no_other(odds: Odds, number: int, name: str) -> None:
    without = replace(odds, faults=replace(odds.faults, **{name: getattr(NO_FAULTS, name)}))
    mine = {"dead_links": {"dead_mp3", "dead_wav"}, "contradict": {"contradict"}}.get(name, {name})
    for fails in (False, True):
        before = odds.plan(number, told=True, fails=fails).names()
        after = without.plan(number, told=True, fails=fails).names()
        assert set(before) - mine == set(after) - mine
        assert not mine & set(after)


@given(odds=ODDS, number=NUMBERS, more=faults_of(st.just(1.0)))
def test_higher_rates_only_add(odds: Odds, number: int, more: Faults) -> None:
    highest = replace(odds, faults=more)
    assert set(odds.plan(number, told=True, fails=False).names()) <= set(
        highest.plan(number, told=True, fails=False).names()
    )
    if odds.unsure(number, 1) is not None:
        assert odds.unsure(number, 1) == highest.unsure(number, 1)


@given(odds=ODDS, number=NUMBERS, fails=st.booleans(), told=st.booleans())
def test_a_plan_outlives_its_process(odds: Odds, number: int, *, fails: bool, told: bool) -> None:
    plan = odds.plan(number, told=told, fails=fails)
    assert Plan.from_json(plan.to_json()) == plan


@given(odds=ODDS, number=NUMBERS, fails=st.booleans())
def test_every_callback_of_a_plan_has_its_turn(odds: Odds, number: int, *, fails: bool) -> None:
    plan = odds.plan(number, told=True, fails=fails)
    told: set[int] = set()
    for _ in range(PLACES):
        told |= {place for place in range(PLACES) if told.issuperset(plan.before(place))}
    assert told == set(range(PLACES))
    assert plan.before(CONTRADICTION) == plan.before(FORGERY) == ()


@given(seed=st.integers(0, 2**32), number=NUMBERS, faults=faults_of(st.just(1.0)))
def test_a_contradiction_is_followed_by_the_truth(seed: int, number: int, faults: Faults) -> None:
    plan = Odds(seed=seed, faults=faults).plan(number, told=True, fails=False)
    truth = plan.telling(END)
    assert plan.contradict_at is not None
    assert CONTRADICTION in plan.before(END)
    assert (truth.lost, truth.bad_signature, truth.unsigned) == (False, False, False)


@given(seed=st.integers(0, 2**32), number=NUMBERS, faults=faults_of(st.just(1.0)))
def test_what_comes_first_is_neither_lost_nor_late_nor_behind(seed: int, number: int, faults: Faults) -> None:
    plan = Odds(seed=seed, faults=faults).plan(number, told=True, fails=False)
    assert plan.sequence[0] == SUBMITTED
    assert (plan.telling(SUBMITTED).lost, plan.telling(SUBMITTED).late) == (False, 0)


@given(odds=ODDS, number=NUMBERS)
def test_a_failing_task_has_no_lie_and_no_media(odds: Odds, number: int) -> None:
    plan = odds.plan(number, told=True, fails=True)
    assert (plan.contradict_at, plan.strip_audios, plan.dead) == (None, False, ())


def test_rates_come_out_as_given() -> None:
    odds = Odds(seed=3, faults=Faults(unsure_create=0.5, lose=0.25, reorder=0.75, truncate=0.1))
    plans = [odds.plan(number, told=True, fails=False) for number in range(1, 2001)]
    assert abs(sum("reorder" in plan.names() for plan in plans) - 1500) < 100
    assert abs(sum(telling.lost for plan in plans for telling in plan.tellings) - 1500) < 150
    unsure = Counter(odds.unsure(number, 1) for number in range(1, 2001))
    assert set(unsure) == {None, *Unsure}
    assert abs(unsure[None] - 1000) < 100
    assert abs(unsure[Unsure.UNMADE] - 200) < 60
    fetches = [odds.fetch(number, Format.MP3, 1) for number in range(1, 2001)]
    assert abs(sum(fetch is not None for fetch in fetches) - 200) < 60


def test_another_seed_draws_otherwise() -> None:
    faults = Faults(lose=0.5, reorder=0.5)
    plans = [[Odds(seed=seed, faults=faults).plan(n, told=True, fails=False) for n in range(20)] for seed in (1, 2)]
    assert plans[0] != plans[1]


@pytest.mark.parametrize(
    ("text", "seconds"), [("20s", 20), ("500ms", 0.5), ("2m", 120), ("1h", 3600), ("7", 7), ("0.5s", 0.5)]
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert units.seconds(text) == pytest.approx(seconds)


def test_a_delay_is_a_rate_and_a_duration() -> None:
    assert units.late("0.1:30s") == Delay(rate=0.1, seconds=30)
    assert units.late("0.1") == Delay(rate=0.1, seconds=30)
    assert units.slow("1:200ms") == Delay(rate=1, seconds=0.2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("lose", wrong) for wrong in (1.1, -0.1, "x", True, None)],
        *[("late", "0.1:x"), ("late", ":3s"), ("expire_links", "5 days")],
        *[("rate_limit", "fast"), ("hang_seconds", "nan"), ("losing", 0.1)],
    ],
)
def test_a_senseless_fault_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        NO_FAULTS.changed({name: value})


@given(faults=faults_of(st.sampled_from([0.0, 0.05, 0.5, 1.0])))
def test_faults_are_shown_as_they_are_taken(faults: Faults) -> None:
    shown = NO_FAULTS.changed(faults.shown())
    assert shown.shown() == faults.shown()
