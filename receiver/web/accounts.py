"""The configured accounts: how they stand, and whether their submits go on."""

from __future__ import annotations

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from receiver.core.model import AccountId, SignatureMode
from receiver.flow import account
from receiver.flow.account import Standing
from receiver.flow.services import Services
from receiver.web.auth import owner_of
from receiver.web.bodies import Given, Moment, answer, moment


class AccountView(Given):
    """A contract with a provider, as configured, and how it stands."""

    id: str = Field(description="The account's name in the settings")
    dialect: str = Field(description="The provider's profile")
    concurrency: int = Field(description="Tasks that the provider works on at once")
    in_flight: int = Field(description="Tasks that hold a place at the provider")
    waiting: int = Field(description="Tasks that wait for a place")
    tasks_today: int = Field(description="Tasks accepted since midnight (UTC)")
    daily_tasks: int | None = Field(description="How many may be accepted on a day; null is no limit")
    units_today: str = Field(description="Units that the provider charged since midnight (UTC), as decimal text")
    daily_units: str | None = Field(description="How many may be charged on a day; null is no limit")
    signature_mode: SignatureMode
    paused: bool = Field(description="Submits wait; queries and archiving go on")
    paused_reason: str | None
    paused_detail: str | None
    paused_at: Moment | None


class AccountList(Given):
    """Every configured account."""

    accounts: tuple[AccountView, ...]


async def listing(request: Request) -> Response:
    """
    List the accounts.

    Each comes with its limits and what today (UTC) has cost, its tasks in flight
    and waiting, and the reason of a pause.
    """
    services: Services = request.app.state.services
    await owner_of(request)
    return answer(AccountList(accounts=tuple(_view(each) for each in await account.all_of(services))))


async def pause(request: Request) -> Response:
    """
    Pause an account: its submits wait, queries and archiving go on.

    A pause by hand ends by hand.
    """
    services: Services = request.app.state.services
    await owner_of(request)
    return answer(_view(await account.pause(services, AccountId(request.path_params["account"]))))


async def resume(request: Request) -> Response:
    """End an account's pause: its submits go on, the longest waiting first."""
    services: Services = request.app.state.services
    await owner_of(request)
    return answer(_view(await account.resume(services, AccountId(request.path_params["account"]))))


def _view(standing: Standing) -> AccountView:
    return AccountView(
        id=standing.account.id,
        dialect=standing.account.dialect,
        concurrency=standing.account.concurrency,
        in_flight=standing.in_flight,
        waiting=standing.waiting,
        tasks_today=standing.spent.tasks,
        daily_tasks=standing.account.daily_tasks,
        units_today=str(standing.spent.units),
        daily_units=None if standing.account.daily_units is None else str(standing.account.daily_units),
        signature_mode=standing.account.signature_mode,
        paused=standing.pause.paused_at is not None,
        paused_reason=standing.pause.paused_reason,
        paused_detail=standing.pause.paused_detail,
        paused_at=moment(standing.pause.paused_at),
    )
