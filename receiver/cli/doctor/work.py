"""The work: whether anybody does it, and what waits for a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Final

import httpx

from receiver.cli import reading
from receiver.cli.doctor.findings import Finding, broken, ok, warning
from receiver.settings import Settings
from receiver.store.health import Work

#: A job that could be taken is taken within seconds.
BACKLOG: Final = timedelta(minutes=5)
#: Seconds.
PATIENCE: Final = 5.0

_OK: Final = 200
_NOT_NOW: Final = 503


async def check_web(settings: Settings) -> Finding:
    """Ask the web process of this machine whether it is ready."""
    if not settings.port:
        return ok("web", "takes any free port, so it cannot be asked here")
    where = reading.address(settings.host, settings.port)
    mend = "run `receiver serve` or `receiver web`, unless web runs on another machine"
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client:
            answer = await client.get(f"http://{where}/readyz")
    except httpx.HTTPError as exc:
        return warning("web", f"does not answer at {where} ({type(exc).__name__})", mend)
    if answer.status_code != _OK:
        mend = "mend what its database suffers from" if answer.status_code == _NOT_NOW else "see what listens there"
        return broken("web", f"answers {answer.status_code} at {where}/readyz", mend)
    return ok("web", f"ready at {where}")


def check(work: Work) -> Iterator[Finding]:
    """Judge workers, jobs, accounts and tasks."""
    yield _workers(work)
    yield from _accounts(work)
    if work.dead:
        yield warning("jobs", f"given up: {_list(work.dead)}", "see the log for job.dead, then `receiver tasks retry`")
    if work.overdue:
        yield warning("tasks", f"{work.overdue} open past their due time", "see that a worker runs; it ends them")
    if work.attention:
        mend = "look at each (`receiver tasks list`, `receiver tasks events`), then retry or wait for its due time"
        yield warning("tasks", f"a person must look at some: {_list(work.attention)}", mend)
    if not (work.dead or work.overdue or work.attention):
        yield ok("tasks", f"{work.open_tasks} open, none overdue, none in need of a person")


def _workers(work: Work) -> Finding:
    mend = "run `receiver serve` or `receiver worker`"
    if not work.workers and work.open_tasks:
        return broken("workers", f"none was seen in the last minute, and {work.open_tasks} task(s) are open", mend)
    if not work.workers:
        return warning("workers", "none was seen in the last minute", mend)
    if work.backlog > BACKLOG:
        minutes = int(work.backlog.total_seconds() // 60)
        return warning("workers", f"{work.workers} alive, behind by {minutes} minutes", "run more of them")
    return ok("workers", f"{work.workers} alive")


def _accounts(work: Work) -> Iterator[Finding]:
    for each in work.paused:
        waiting = work.held.get(each.account, 0)
        text = f"submits are paused ({each.reason}{f': {each.detail}' if each.detail else ''}); {waiting} wait"
        if each.reason == "paused_by_operator":
            yield warning(f"account {each.account}", text, f"receiver accounts resume {each.account}")
        else:
            mend = f"mend it with the provider; it is probed each minute, or: receiver accounts resume {each.account}"
            yield broken(f"account {each.account}", text, mend)


def _list(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {what}" for what, number in counts.items())
