"""
Calls to a provider's API: one request, one bounded answer.

Nothing is followed, retried or logged here: what a repeat may cost is for the
caller to know.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from ssl import SSLContext
from typing import Any, Final

import httpcore

from receiver import telemetry
from receiver.core.errors import FetchBlocked, Misconfigured, ProviderUnreachable
from receiver.core.model import Account
from receiver.dialects.answers import REQUEST_ID_HEADERS
from receiver.dialects.wire import WireRequest
from receiver.transfer.client import TRANSPORT_ERRORS, GuardedClient, guarded_client, headers_of
from receiver.transfer.guard import FetchPolicy, target_of

#: Bytes of an answer. A page of 500 tasks is under 700,000.
MAX_BODY: Final = 1024 * 1024

_CONNECT: Final = timedelta(seconds=5)
#: Never the shorter one: the time-out of the whole call decides.
_READ: Final = timedelta(hours=1)
#: Printable ASCII; anything else would end in an error message that quotes it.
_HEADER: Final = re.compile(r"[\x21-\x7e]+(?: [\x21-\x7e]+)*")
_SECONDS: Final = re.compile(r"[0-9]{1,7}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WireAnswer:
    """What came back, unjudged."""

    status: int
    #: As sent; empty when it was not.
    content_type: str
    #: At most `MAX_BODY`. Holds signed links: never logged.
    body: bytes = field(repr=False)
    #: How long the provider asks us to wait; None when it does not, or not readably.
    retry_after: timedelta | None = None
    #: The provider's clock, to the second (UTC); None where it does not say.
    date: datetime | None = None
    #: The header in which the provider names the request, as sent; None where it does not.
    request_id: str | None = None


class ProviderClient:
    """The connections to every provider; one per process. *tls* replaces the trusted authorities."""

    def __init__(self, *, tls: SSLContext | None = None) -> None:
        self._tls = tls
        self._clients: dict[FetchPolicy, GuardedClient] = {}

    async def send(
        self,
        account: Account,
        request: WireRequest,
        *,
        authorization: str,
        timeout: timedelta,  # noqa: ASYNC109
    ) -> WireAnswer:
        """
        Send *request* to the account's provider, once; *timeout* bounds all of it.

        A redirect is an answer like any other. Errors quote nothing of the request.

        Raises:
            ProviderUnreachable: No whole answer. Its `sent` is False only when nothing of the request can
                have reached the provider.
            Misconfigured: The credentials hold characters that no header can carry.
        """
        if not _HEADER.fullmatch(authorization):
            raise Misconfigured(f"account {account.id}: the credentials hold characters that no header can carry")
        progress, outcome = _Progress(), "unreachable"
        began = asyncio.get_running_loop().time()
        url = account.base_url.rstrip("/") + request.path
        try:
            client = self._client(account)
            async with asyncio.timeout(timeout.total_seconds()):
                answer = await _exchange(client, url, request, authorization, progress)
        except FetchBlocked as exc:
            raise ProviderUnreachable(f"the provider's address is not allowed: {exc}", sent=progress.sent) from exc
        except (TimeoutError, *TRANSPORT_ERRORS) as exc:
            raise ProviderUnreachable(f"no answer: {type(exc).__name__}", sent=progress.sent) from exc
        else:
            outcome = "answered"
            return answer
        finally:
            took = asyncio.get_running_loop().time() - began
            telemetry.PROVIDER_SECONDS.labels(account=account.id, method=request.method, outcome=outcome).observe(took)

    async def aclose(self) -> None:
        """Close every connection, also busy ones."""
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()

    def _client(self, account: Account) -> GuardedClient:
        policy = policy_of(account)
        if policy not in self._clients:
            self._clients[policy] = guarded_client(policy, connect=_CONNECT, read=_READ, tls=self._tls)
        return self._clients[policy]


def policy_of(account: Account) -> FetchPolicy:
    """
    Allow the host and port of the account's base URL, and nothing else.

    Raises:
        FetchBlocked: The base URL is none that the account's opt-ins allow.
    """
    anywhere = FetchPolicy(
        hosts=None,
        allow_cidrs=account.allow_cidrs,
        allow_http=account.allow_http,
        ports=range(1, 65536),
    )
    target = target_of(account.base_url, anywhere)
    return FetchPolicy(
        hosts=(target.host,),
        allow_cidrs=account.allow_cidrs,
        allow_http=account.allow_http,
        ports=(target.port,),
    )


class _Progress:
    """How far a request came, as the transport tells it."""

    def __init__(self) -> None:
        self.sent = False

    async def note(self, step: str, info: Mapping[str, Any]) -> None:
        del info
        if step.endswith(".send_request_headers.started"):
            self.sent = True


async def _exchange(
    client: GuardedClient, url: str, request: WireRequest, authorization: str, progress: _Progress
) -> WireAnswer:
    headers = {"Accept": "application/json", "Authorization": authorization}
    if request.body is not None:
        headers["Content-Type"] = "application/json"
    async with client.stream(
        request.method, url, headers=headers, content=request.body, trace=progress.note
    ) as response:
        said = headers_of(response)
        if said.get("content-encoding", "identity").lower() not in {"", "identity"}:
            raise ProviderUnreachable("the answer is compressed unasked")
        return WireAnswer(
            status=response.status,
            content_type=said.get("content-type", ""),
            body=await _body(response),
            retry_after=_retry_after(said),
            date=_date(said),
            request_id=next((said[name] for name in REQUEST_ID_HEADERS if name in said), None),
        )


async def _body(response: httpcore.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise ProviderUnreachable("the answer is larger than allowed")
    return bytes(body)


def _retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """Read Retry-After in both its forms; a date is counted from the answer's own, so that no clock is needed."""
    value = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(value):
        return timedelta(seconds=int(value))
    try:
        wait = parsedate_to_datetime(value) - parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, TypeError):
        return None
    return max(wait, timedelta())


def _date(headers: Mapping[str, str]) -> datetime | None:
    try:
        at = parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, TypeError):
        return None
    # "-0000" makes it naive; an HTTP date is always UTC.
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
