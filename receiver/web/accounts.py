"""The configured accounts: how they stand, and whether their submits go on."""

from __future__ import annotations

from datetime import date

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from receiver.core.model import AccountId, SignatureMode, Verdict
from receiver.flow import account
from receiver.flow.account import ConsoleTest, Standing, Weather
from receiver.flow.services import Services
from receiver.web.auth import owner_of
from receiver.web.bodies import Given, Moment, answer, moment


class DayView(Given):
    """What an account has cost on one day."""

    day: date = Field(description="From midnight to midnight (UTC)")
    tasks: int = Field(ge=0, description="Tasks accepted on it")
    units: str = Field(description="Units charged for the tasks that ended on it, as decimal text")


class WeatherView(Given):
    """
    How callbacks came in the last 24 hours.

    A callback tells a task's end when it can be read, is about that task, and says
    that it succeeded or failed; the end is known when a signed callback or an
    answer to our own question has said so. A late callback is not lost any more.
    Of a busy service the newest 20,000 callbacks and 5,000 tasks are counted.
    """

    received: int = Field(ge=0, description="Callbacks that were kept")
    repeated: int = Field(ge=0, description="Copies of those, byte for byte, which have no effect")
    signed: int = Field(ge=0, description="Of those received, how many had a good signature")
    last_received_at: Moment | None
    last_signed_at: Moment | None = Field(description="The last one with a good signature")
    expected: int = Field(ge=0, description="Tasks whose end became known and whose create had named a callback URL")
    late: int = Field(
        ge=0, description="Of those expected, how many were told their end after we had learnt it by asking"
    )
    lost: int = Field(ge=0, description="Of those expected, how many no callback told their end: they ended by polling")


class ConsoleTestView(Given):
    """The last test callback from the provider's console; `receiver callbacks test-url` prints the URL for it."""

    at: Moment
    verified: bool = Field(description="Its signature was good")
    verdict: Verdict = Field(description="What its signature was")
    secret: str | None = Field(description="The key id of the webhook secret that had signed it")


class AccountView(Given):
    """A contract with a provider, as configured, and how it stands."""

    id: str = Field(description="The account's name in the settings")
    dialect: str = Field(description="The provider's profile")
    host: str = Field(description="Where its API is")
    concurrency: int = Field(description="Tasks that the provider works on at once")
    in_flight: int = Field(description="Tasks that hold a place at the provider")
    waiting: int = Field(description="Tasks that wait for a place")
    tasks_today: int = Field(description="Tasks accepted since midnight (UTC)")
    daily_tasks: int | None = Field(description="How many may be accepted on a day; null is no limit")
    units_today: str = Field(description="Units that the provider charged since midnight (UTC), as decimal text")
    daily_units: str | None = Field(description="How many may be charged on a day; null is no limit")
    days: tuple[DayView, ...] = Field(description="The last seven days, the newest first")
    signature_mode: SignatureMode
    webhook_secrets: tuple[str, ...] = Field(
        description="The key ids of the secrets that check signatures, the newest first; they reveal nothing"
    )
    callbacks: WeatherView
    console_test: ConsoleTestView | None = Field(description="Null when there was none")
    paused: bool = Field(description="Submits wait; queries and archiving go on")
    paused_reason: str | None
    paused_detail: str | None
    paused_at: Moment | None
    probed_at: Moment | None = Field(
        description="When it was last tried, by a question or a waiting task, whether the pause may end"
    )


class AccountList(Given):
    """Every configured account."""

    accounts: tuple[AccountView, ...]


async def listing(request: Request) -> Response:
    """
    List the accounts.

    Each comes with its limits and what the last days have cost, its tasks in
    flight and waiting, the reason of a pause, and how its callbacks came.
    """
    services: Services = request.app.state.services
    await owner_of(request)
    return answer(AccountList(accounts=tuple(_view(each) for each in await account.all_of(services))))


async def show(request: Request) -> Response:
    """Show one account."""
    services: Services = request.app.state.services
    await owner_of(request)
    return answer(_view(await account.one(services, AccountId(request.path_params["account"]))))


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
        host=standing.host,
        concurrency=standing.account.concurrency,
        in_flight=standing.in_flight,
        waiting=standing.waiting,
        tasks_today=standing.spent.tasks,
        daily_tasks=standing.account.daily_tasks,
        units_today=str(standing.spent.units),
        daily_units=None if standing.account.daily_units is None else str(standing.account.daily_units),
        days=tuple(DayView(day=each.day, tasks=each.tasks, units=str(each.units)) for each in standing.days),
        signature_mode=standing.account.signature_mode,
        webhook_secrets=standing.secrets,
        callbacks=_weather(standing.weather),
        console_test=None if standing.test is None else _test(standing.test),
        paused=standing.pause.paused_at is not None,
        paused_reason=standing.pause.paused_reason,
        paused_detail=standing.pause.paused_detail,
        paused_at=moment(standing.pause.paused_at),
        probed_at=moment(standing.pause.probed_at),
    )


def _weather(told: Weather) -> WeatherView:
    return WeatherView(
        received=told.received,
        repeated=told.repeated,
        signed=told.signed,
        last_received_at=moment(told.last_received_at),
        last_signed_at=moment(told.last_signed_at),
        expected=told.expected,
        late=told.late,
        lost=told.lost,
    )


def _test(test: ConsoleTest) -> ConsoleTestView:
    good = test.verdict is Verdict.GOOD
    return ConsoleTestView(at=moment(test.at), verified=good, verdict=test.verdict, secret=test.secret)
