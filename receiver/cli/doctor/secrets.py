"""Secrets: whether open tasks have theirs, and whether signatures can be checked."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from receiver.cli.doctor.findings import Finding, broken, ok, warning
from receiver.cli.keyring import Known, webhook_variable
from receiver.core.model import AccountId, SignatureMode, Verdict
from receiver.core.tokens import key_id
from receiver.flow.services import Deal

NAME: Final = "callback secrets"
#: A console's test that is older says little of today.
RECENT: Final = timedelta(days=30)


def check_callbacks(known: Known) -> Iterator[Finding]:
    """Compare the secrets that are there with those that open callback URLs were made with."""
    have = [key_id(secret) for secret in known.callbacks]
    if known.agreed and not known.agreed & set(have):
        yield broken(
            NAME,
            f"none of {', '.join(have)} is one that this database's callback URLs were made with",
            f"add those that were used before ({', '.join(sorted(known.agreed))}), or web and worker do not start",
        )
    for name, need in known.missing().items():
        yield broken(
            NAME,
            f"{need.tasks} open task(s) need {name}, which is not set: their callbacks get 404 and they are polled",
            f"add it again, after the first, until {need.until:%Y-%m-%d %H:%M} UTC",
        )
    spare = [name for name in have[1:] if name not in known.needs and None not in known.needs]
    text = f"{have[0]} signs, {len(have)} accepted"
    if spare:
        text += f"; needed by no open task: {', '.join(spare)} (receiver secrets retire; their play_urls end with them)"
    yield ok(NAME, text)


def check_signatures(known: Known) -> Iterator[Finding]:
    """Say for each account what its signatures are worth, and when one was last seen."""
    for account, deal in known.deals.items():
        yield _signature(known, account, deal)


def _signature(known: Known, account: AccountId, deal: Deal) -> Finding:
    name, mode = f"signatures {account}", deal.account.signature_mode
    if mode is SignatureMode.NONE:
        return ok(name, "not checked; a callback is a hint, and the provider is asked")
    if not deal.account.webhook_secrets:
        return ok(name, f"{mode}, without a secret: a callback is a hint, and the provider is asked")
    text = f"{mode}, {len(deal.account.webhook_secrets)} secret(s); {_seen(known, account)}"
    test, weather = known.tests[account], known.weather[account]
    variable = webhook_variable(deal)
    if test is not None and test.verdict is Verdict.BAD and known.now - test.at < RECENT:
        return broken(name, text, f"the secret in {variable} is not the console's: set that one")
    if test is not None and test.verdict is Verdict.STALE and known.now - test.at < RECENT:
        return warning(name, text, "the provider's clock and ours differ by minutes; synchronise the clocks")
    if weather.received and not weather.signed:
        return warning(name, text, f"switch signing on in the provider's console, or unset {variable}")
    return ok(name, text)


def _seen(known: Known, account: AccountId) -> str:
    test, weather = known.tests[account], known.weather[account]
    signed = weather.last_signed_at
    told = f"{weather.signed} of {weather.received} callbacks of the last day signed"
    if signed is not None:
        told += f", the last {signed:%Y-%m-%d %H:%M} UTC"
    if test is None:
        return f"{told}; no test callback yet"
    return f"{told}; test callback {test.at:%Y-%m-%d %H:%M} UTC: signature {test.verdict}"
