"""The public URL: whether providers can reach web by it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

import httpcore
import httpx

from receiver.cli.doctor.findings import Finding, broken, ok, warning
from receiver.core.errors import FetchBlocked
from receiver.core.model import Account, AccountId
from receiver.flow.services import Deal
from receiver.transfer.guard import FetchPolicy, address_allowed, resolve, target_of

NAME: Final = "public URL"
#: Seconds for each step; a sender of callbacks waits 3 s for all of them.
PATIENCE: Final = 5.0
#: No secret makes it.
WRONG: Final = "00000000.wrong"

_OK, _NOT_FOUND = 200, 404
_CHECK: Final = "the proxy must pass /callbacks/ and /healthz to web as they are; from inside a network the public "
_FROM_OUTSIDE: Final = _CHECK + "address may be closed: then try it from outside"


async def check(url: str | None, deals: Mapping[AccountId, Deal]) -> list[Finding]:
    """Look at the address, then call ourselves by it: once in good health, once with a wrong token."""
    if url is None:
        return [
            warning(
                NAME,
                "not set: no callback comes, every task is polled",
                "set RECEIVER_PUBLIC_URL to where the providers reach web, such as https://hooks.example.com",
            )
        ]
    if unreachable := await _address(url, deals):
        return unreachable
    return [*_scheme(url, deals), await _call(url.rstrip("/"), deals)]


def _scheme(url: str, deals: Mapping[AccountId, Deal]) -> Iterator[Finding]:
    if urlsplit(url).scheme != "https" and not all(deal.account.allow_http for deal in deals.values()):
        yield warning(
            NAME, "is not https: callbacks and their tokens travel in clear", "put a proxy with TLS before web"
        )


async def _address(url: str, deals: Mapping[AccountId, Deal]) -> list[Finding]:
    try:
        target = target_of(url, FetchPolicy(hosts=None, allow_http=True, allow_cidrs=("0.0.0.0/0", "::/0"), ports=()))
        addresses = await resolve(target.host, target.port)
    except FetchBlocked as exc:
        return [broken(NAME, str(exc), "correct RECEIVER_PUBLIC_URL")]
    except httpcore.ConnectError:
        return [broken(NAME, "its name has no address", "correct RECEIVER_PUBLIC_URL, or its entry in the DNS")]
    shut = [name for name, deal in deals.items() if not _open_to(deal.account, addresses)]
    if shut or (not deals and not _public(addresses)):
        whom = f"the providers of {', '.join(shut)}" if shut else "no provider"
        text = f"leads to a private address, where {whom} cannot reach it" if shut else "leads to a private address"
        return [broken(NAME, text, "set RECEIVER_PUBLIC_URL to a public address, or unset it to poll only")]
    return []


def _public(addresses: list[str]) -> bool:
    return all(address_allowed(ip_address(address)) for address in addresses)


def _open_to(account: Account, addresses: list[str]) -> bool:
    """Say whether the provider of *account*, which may be on a network of ours, can reach *addresses*."""
    return all(address_allowed(ip_address(address), account.allow_cidrs) for address in addresses)


async def _call(url: str, deals: Mapping[AccountId, Deal]) -> Finding:
    account = next(iter(deals), AccountId("doctor"))
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client:
            alive = await client.get(f"{url}/healthz")
            refused = await client.post(f"{url}/callbacks/{account}/1/{WRONG}", content=b"{}")
    except httpx.HTTPError as exc:
        why = type(exc).__name__
        return broken(NAME, f"nobody answers there ({why})", "start web; " + _FROM_OUTSIDE)
    if alive.status_code != _OK or _word(alive, "alive") is not True:
        return broken(NAME, f"GET /healthz is answered {alive.status_code}, and not by receiver", _FROM_OUTSIDE)
    if refused.status_code != _NOT_FOUND or _word(refused, "code") != "token_unknown":
        return broken(NAME, f"a callback with a wrong token is answered {refused.status_code}, not 404", _FROM_OUTSIDE)
    return ok(NAME, "answers from here, and refuses a callback with a wrong token")


def _word(response: httpx.Response, name: str) -> object:
    try:
        document = response.json()
    except ValueError:
        return None
    return document.get(name) if isinstance(document, dict) else None
