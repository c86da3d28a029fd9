"""The ledger: what became of every accepted task."""

from __future__ import annotations

from datetime import date

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from receiver.core.model import State
from receiver.flow import query
from receiver.flow.query import Sums
from receiver.flow.services import Services
from receiver.web.auth import owner_of
from receiver.web.bodies import Given, Moment, answer, moment


class CallbackCounts(Given):
    """Callbacks of the whole deployment."""

    received: int = Field(description="Kept, each once")
    duplicates: int = Field(description="Repeats of one that was kept")


class LedgerLine(Given):
    """The tasks of one account, kind and day (UTC)."""

    account: str
    kind: str
    day: date
    accepted: int = Field(description="Counted from the events")
    states: dict[State, int] = Field(description="Counted from the tasks; a state without any is left out")


class UnarchivedTask(Given):
    """A task that is not archived, and why."""

    id: str
    state: State
    reason: str | None
    attention: str | None = Field(description="Why a person must look")
    due_at: Moment | None = Field(description="When it will have ended at the latest; null once it has")


class LedgerView(Given):
    """The sum of all accepted tasks."""

    accepted: int = Field(description="Counted from the events")
    states: dict[State, int] = Field(description="Tasks in each state; their sum is `accepted`")
    callbacks: CallbackCounts
    lines: tuple[LedgerLine, ...]
    not_archived_total: int = Field(description="How many tasks are not archived")
    not_archived: tuple[UnarchivedTask, ...] = Field(description="The newest 1,000 of them")


async def show(request: Request) -> Response:
    """
    Sum up all accepted tasks.

    By state, and by account, kind and day (UTC), with the tasks that are not archived.
    """
    services: Services = request.app.state.services
    return answer(_view(await query.sums(services, await owner_of(request))))


def _view(sums: Sums) -> LedgerView:
    totals = {state: sum(line.states.get(state, 0) for line in sums.lines) for state in State}
    return LedgerView(
        accepted=sum(line.accepted for line in sums.lines),
        states=totals,
        callbacks=CallbackCounts(received=sums.received, duplicates=sums.repeats),
        lines=tuple(
            LedgerLine(account=line.account, kind=line.kind, day=line.day, accepted=line.accepted, states=line.states)
            for line in sums.lines
        ),
        not_archived_total=sum(number for state, number in totals.items() if state is not State.ARCHIVED),
        not_archived=tuple(
            UnarchivedTask(
                id=str(task.id),
                state=task.state,
                reason=task.reason,
                attention=task.attention,
                due_at=moment(task.due_at),
            )
            for task in sums.not_archived
        ),
    )
