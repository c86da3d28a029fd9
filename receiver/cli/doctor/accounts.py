"""Each account's credentials, by a question that costs nothing: after a task that cannot exist."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final

from receiver.cli.doctor import clocks
from receiver.cli.doctor.findings import Finding, broken, ok, warning
from receiver.core.errors import Misconfigured, ProviderUnreachable
from receiver.core.model import AccountId, Report
from receiver.dialects import answers, auth, wire
from receiver.dialects.answers import AccountRefused, QueryAnswer, UnknownTask
from receiver.flow.services import Deal
from receiver.transfer.provider import ProviderClient, WireAnswer

#: For one question.
PATIENCE: Final = timedelta(seconds=15)
#: No provider's id.
NOBODY: Final = "1"


async def check(deals: Mapping[AccountId, Deal], now: Callable[[], datetime]) -> list[Finding]:
    """Ask every provider, side by side; *now* is the service's clock."""
    client = ProviderClient()
    try:
        found = await asyncio.gather(*(_one(client, deal, now) for deal in deals.values()))
    finally:
        await client.aclose()
    return [finding for findings in found for finding in findings]


async def _one(client: ProviderClient, deal: Deal, now: Callable[[], datetime]) -> list[Finding]:
    name, profile = f"account {deal.account.id}", deal.profile
    if not profile.query:
        text = f"{profile.name} has no query route, so its key cannot be tried without paying"
        return [warning(name, text, "submit one task and watch it")]
    kind, began = next(iter(profile.kinds)), now()
    try:
        raw = await client.send(
            deal.account,
            wire.query_request(profile, kind, id=NOBODY, ours=True),
            authorization=auth.bearer(deal.account.credentials, now=began),
            timeout=PATIENCE,
        )
    except ProviderUnreachable as exc:
        mend = "look at the network, its firewalls and the DNS; correct the account's base_url if it is set"
        return [broken(name, f"{profile.name} at {deal.account.base_url} is not reached: {exc}", mend)]
    except Misconfigured as exc:
        return [broken(name, str(exc), "set the key again, without spaces or line breaks")]
    answer = answers.read_query(profile, kind, status=raw.status, content_type=raw.content_type, body=raw.body)
    return [_judged(name, deal, raw, answer), *_clock(deal, raw, began, now())]


def _judged(name: str, deal: Deal, raw: WireAnswer, answer: QueryAnswer) -> Finding:
    match answer:
        case Report() | UnknownTask():
            return ok(name, f"{deal.profile.name} at {deal.account.base_url} takes the key")
        case AccountRefused(clock=True):
            return broken(name, f"the times of our token are refused (code {answer.code})", clocks.SYNC)
        case AccountRefused(authentication=True):
            return broken(name, f"the key is refused (code {answer.code})", "set the account's key anew")
        case AccountRefused():
            mend = "settle it with the provider: the balance, the pack or the whitelist"
            return broken(name, f"the account is refused (code {answer.code}: {answer.message})", mend)
        case _:
            text = f"the answer says nothing of the key (HTTP {raw.status})"
            return warning(name, text, "try again; if it stays, look at the account's base_url, or ask the provider")


def _clock(deal: Deal, raw: WireAnswer, began: datetime, ended: datetime) -> Iterator[Finding]:
    if raw.date is not None:
        # It was written at some moment of the question, however long the answer took.
        yield from clocks.check_provider(deal, raw.date - min(max(raw.date, began), ended))
