"""One run: set up, let the storm blow, let all settle, judge."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress

import httpx
import psycopg

from tests.chaos import judge as judging
from tests.chaos.judge import Verdict
from tests.chaos.scene import CALM, Scene, scene
from tests.chaos.storm import Monitor, Storm, calm
from tests.chaos.submitter import Submitter
from tests.system.processes import until

#: Seconds after the last fault by which all must have settled.
SETTLE = 300.0
#: Findings that are told in full.
STORIES = 5
LEASE = 30


def run(seed: int, seconds: float, say: Callable[[str], object]) -> bool:
    """Blow for that long, say what was found, and return whether nothing is wrong."""
    say(f"seed {seed}, {seconds:.0f} s of faults")
    with scene(seed) as made:
        say(f"clock of one pair wrong by {made.shift} s" if made.shift else "skipped: no libfaketime for a wrong clock")
        storm, monitor, submitter = Storm(made, seed), Monitor(made), Submitter(made.services, seed)
        monitor.start()
        submitter.start()
        storm.blow(seconds)
        submitter.stop()
        took = _settle(made, submitter)
        monitor.stop()
        verdict = judging.judge(made, submitter)
        verdict.unexplained += [("", said) for said in storm.broken]
        if monitor.overdue:
            verdict.unexplained.append(("", f"{monitor.overdue} tasks open more than 60 s past due_at"))
        for line in _tell(storm, monitor, submitter, verdict):
            say(line)
        say(f"not settled after {SETTLE:.0f} s" if took is None else f"settled {took:.1f} s after the last fault")
        for task, what in verdict.findings[:STORIES]:
            _tell_story(made, task, what, say)
        for task, what in verdict.findings[STORIES:]:
            say(f"! {task} {what[:300]}")
        say(verdict.line)
        if verdict.findings:
            say(f"again: make chaos MINUTES={seconds / 60:g} SEED={seed}")
    return not verdict.findings


def _settle(made: Scene, submitter: Submitter) -> float | None:
    """Return the seconds until all had settled; None when it took too long."""
    began = time.monotonic()

    def fact() -> bool:
        with suppress(httpx.TransportError, psycopg.OperationalError):
            calm(made)
            made.tell("faults", **CALM)
            return judging.settled(made, submitter)
        return False

    with suppress(AssertionError):
        until(fact, what="all settles", patience=SETTLE, pause=0.5)
        return time.monotonic() - began
    return None


def _tell(storm: Storm, monitor: Monitor, submitter: Submitter, verdict: Verdict) -> Iterator[str]:
    tries = sum(order.tries for order in submitter.orders)
    taken = sum(bool(order.ids) for order in submitter.orders)
    yield f"tasks {taken}, handed in {tries} times, at most {monitor.most_open} open at one time"
    yield f"kills {_counted(storm.kills)}"
    yield f"faults {_counted(storm.faults)}"
    yield f"the provider's faults {_counted(verdict.weather)}"
    yield f"ends {_counted(verdict.ends)}"
    yield f"longest recovery {storm.longest_recovery[0]:.1f} s ({storm.longest_recovery[1]})"
    yield f"longest wait for a dead worker {LEASE + monitor.longest_lapse:.1f} s, its lease included"
    yield f"tasks open more than 60 s past due_at {monitor.overdue}"


def _counted(counts: Counter[str]) -> str:
    return f"{counts.total()} (" + ", ".join(f"{name} {number}" for name, number in sorted(counts.items())) + ")"


def _tell_story(made: Scene, task: str, what: str, say: Callable[[str], object]) -> None:
    say(f"! {task} {what}")
    if not task:
        return
    answer = made.first.client.get(f"/v1/tasks/{task}/events")
    for event in answer.json().get("events", ()):
        say(f"    {event['at']} {event['type']} {event['data']}")
    ledger = made.deployment.sandbox.ledger()
    for known in (*ledger["tasks"], *ledger["unmade"]):
        if known["external_task_id"] == task:
            say(f"    the provider: {known}")
