"""
Media from a provider's link onto our disk: bounded, resumable, hashed on the way.

The rules and their reasons are those of storage.md 3.2.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from ssl import SSLContext
from types import TracebackType
from typing import Final, Self
from urllib.parse import urljoin

import httpcore

from receiver.core.errors import DownloadFailed, FetchBlocked, LinkDead
from receiver.transfer.body import Body, Cap, Loan, Shelf
from receiver.transfer.client import TRANSPORT_ERRORS, GuardedClient, guarded_client, headers_of
from receiver.transfer.guard import FetchPolicy, target_of
from receiver.transfer.spool import DEFAULT_FLOOR, Spool

#: Bytes that a download is expected to need at most; larger ones are rare.
DEFAULT_USUAL: Final = 32 * 1024 * 1024
#: How long bytes wait for a next try that does not come.
DEFAULT_KEEP_FOR: Final = timedelta(hours=1)
#: Policies whose connections are kept alive at once.
MAX_CLIENTS: Final = 32

_OK: Final = 200
_PARTIAL: Final = 206
_RANGE_REFUSED: Final = 416
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_CLIENT_ERRORS: Final = range(400, 500)
#: Client errors that time can mend; every other one needs a fresh link.
_PASSING: Final = frozenset({408, 421, 425, 429})
_STRONG_ETAG: Final = re.compile(r'"[\x21\x23-\x7e]*"')
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one download may cost."""

    #: Bytes.
    max_bytes: int = 100 * 1024 * 1024
    connect: timedelta = timedelta(seconds=5)
    #: Longest silence within a body.
    read: timedelta = timedelta(seconds=15)
    #: The whole fetch: every attempt, redirect and wait.
    total: timedelta = timedelta(seconds=120)
    #: Bytes per second, averaged over `rate_window`.
    min_rate: int = 8 * 1024
    rate_window: timedelta = timedelta(seconds=20)
    #: Requests for the media, redirects not counted.
    attempts: int = 4
    redirects: int = 3
    #: Wait before the second attempt; doubled for each further one.
    backoff: timedelta = timedelta(milliseconds=250)


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """A file on our disk, until it is discarded; leaving a `with` block discards it, unless it was kept."""

    path: Path
    #: Bytes.
    size: int
    sha256: bytes
    md5: bytes
    #: Whether the transport said where the body ends, and it ended there.
    length_verified: bool
    #: The host that gave the bytes, after redirects.
    final_host: str
    _loan: Loan = field(repr=False, compare=False)

    def keep(self) -> None:
        """
        Leave the file to the next fetch of the same key; without a key this discards it.

        Do not read it afterwards: it goes when a download needs its room or when
        it has waited too long.
        """
        self._loan.keep()

    def discard(self) -> None:
        """Remove the file, unless it was kept; harmless when repeated."""
        self._loan.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()


class _Again(Exception):
    """This attempt failed, another may not; the text says why."""


class Downloader:
    """
    Fetches media into *spool*; one per process.

    *floor* (bytes) stays free on the disk, *quota* (bytes) bounds what lies in
    the spool at once, kept files included. What failed or was kept under a key
    waits *keep_for* for the next fetch of that key, and yields its room to
    downloads before that. *usual* (bytes) is what a download is expected to need.
    *tls* replaces the trusted authorities; *clock* gives seconds that only grow.
    """

    def __init__(
        self,
        spool: Path,
        limits: Limits | None = None,
        *,
        floor: int = DEFAULT_FLOOR,
        quota: int | None = None,
        usual: int = DEFAULT_USUAL,
        keep_for: timedelta = DEFAULT_KEEP_FOR,
        tls: SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shelf = Shelf(keep_for, clock)
        self._spool = Spool(spool, floor=floor, quota=quota, give_way=self._shelf.drop_oldest)
        self._usual = usual
        self._limits = limits or Limits()
        self._tls = tls
        self._clients: OrderedDict[FetchPolicy, GuardedClient] = OrderedDict()
        self._busy: dict[FetchPolicy, int] = {}

    @property
    def spool(self) -> Spool:
        """Where the files lie."""
        return self._spool

    async def fetch(self, url: str, policy: FetchPolicy, *, key: str | None = None, cap: Cap | None = None) -> Download:
        """
        Fetch *url* whole; the caller discards or keeps the result.

        *key* names the media, whatever link leads to them. A file kept under it is
        returned without a request. What an earlier fetch of it got before the link
        died or the host failed is gone on from, where the host answers with the
        same strong ETag.

        Safe to repeat. Errors never quote the URL.

        Raises:
            FetchBlocked: The URL, or a redirect, leads where *policy* does not.
            LinkDead: The host refuses this link; only a fresh one can help.
            DownloadFailed: Not whole in time, too large, or not what HTTP says.
            SpoolFull: No room on our disk.
        """
        self._shelf.tidy()
        total = (cap or self._limits).total.total_seconds()
        try:
            with self._body(key) as body:
                body.max_bytes = (cap or self._limits).max_bytes
                if not body.whole:
                    target_of(url, policy)
                    self._spool.check_room(0)
                    async with asyncio.timeout(total), self._client(policy) as client:
                        await self._attempts(client, url, policy, body)
                return self._lend(key, body)
        except TimeoutError as exc:
            raise DownloadFailed("not whole within the time allowed") from exc
        except _Again as exc:
            raise DownloadFailed(str(exc)) from exc

    @property
    def used(self) -> int:
        """Bytes that lie in the spool now."""
        return self._spool.used

    @property
    def quota(self) -> int | None:
        """Bytes that may lie in the spool; None leaves that to the disk."""
        return self._spool.quota

    def has_room(self) -> bool:
        """Tell whether one more download of the usual size may begin; what merely waits does not count."""
        return self._spool.has_room(self._usual, spare=self._shelf.size)

    def has_whole(self, key: str) -> bool:
        """Tell whether a fetch of *key* now would need no link."""
        self._shelf.tidy()
        return self._shelf.has_whole(key)

    def forget(self, key: str) -> None:
        """Remove what waits for the next fetch of *key*; harmless when that is nothing."""
        self._shelf.drop(key)

    def tidy(self) -> None:
        """Remove what has waited too long, and all that waits while the disk has too little free space."""
        self._shelf.tidy()
        self._spool.relieve()

    async def aclose(self) -> None:
        """Close the connections and remove the spool's files."""
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()
        self._spool.close()

    @contextmanager
    def _body(self, key: str | None) -> Iterator[Body]:
        """Give what there is of *key*; an end that a later fetch can mend puts it back, any other error drops it."""
        body = self._shelf.take(key) or Body(self._spool.open())
        used = False
        try:
            yield body
            used = True
        except (_Again, TimeoutError, LinkDead):
            used = self._shelf.put(key, body)
            raise
        finally:
            if not used:
                body.file.discard()

    def _lend(self, key: str | None, body: Body) -> Download:
        body.whole = True
        body.file.close()
        return Download(
            path=body.file.path,
            size=body.file.size,
            sha256=body.sha256,
            md5=body.md5,
            length_verified=body.length_verified,
            final_host=body.final_host,
            _loan=Loan(self._shelf, key, body),
        )

    @asynccontextmanager
    async def _client(self, policy: FetchPolicy) -> AsyncIterator[GuardedClient]:
        """Lend the client of *policy*; only idle ones are given up."""
        client = self._clients.pop(policy, None)
        if client is None:
            client = guarded_client(policy, connect=self._limits.connect, read=self._limits.read, tls=self._tls)
        self._clients[policy] = client
        self._busy[policy] = self._busy.get(policy, 0) + 1
        try:
            yield client
        finally:
            self._busy[policy] -= 1
            if not self._busy[policy]:
                del self._busy[policy]
            await self._trim()

    async def _trim(self) -> None:
        idle = [policy for policy in self._clients if policy not in self._busy]
        surplus = [self._clients.pop(policy) for policy in idle[: max(0, len(self._clients) - MAX_CLIENTS)]]
        for client in surplus:
            await client.aclose()

    async def _attempts(self, client: GuardedClient, url: str, policy: FetchPolicy, body: Body) -> None:
        pause = self._limits.backoff.total_seconds()
        for attempt in range(1, self._limits.attempts + 1):
            try:
                await self._attempt(client, url, policy, body)
            except (_Again, *TRANSPORT_ERRORS) as exc:
                if attempt == self._limits.attempts:
                    why = str(exc) if isinstance(exc, _Again) else type(exc).__name__
                    raise _Again(f"{why}, after {attempt} attempts") from exc
                await asyncio.sleep(pause)
                pause *= 2
            else:
                return
        raise DownloadFailed("no attempt is allowed")

    async def _attempt(self, client: GuardedClient, url: str, policy: FetchPolicy, body: Body) -> None:
        """Ask once for what is missing, following redirects by hand."""
        for _ in range(self._limits.redirects + 1):
            next_url = await self._hop(client, url, policy, body)
            if next_url is None:
                return
            url = next_url
        raise DownloadFailed("too many redirects")

    async def _hop(self, client: GuardedClient, url: str, policy: FetchPolicy, body: Body) -> str | None:
        """Make one request; give the URL that it leads to, None when the body is whole."""
        headers = {"Accept": "*/*"}
        if body.etag is not None and body.resumable:
            headers |= {"Range": f"bytes={body.file.size}-", "If-Range": body.etag}
        # A server that drips its headers never falls silent, so the read time-out never fires.
        patience = (self._limits.connect + self._limits.read).total_seconds()
        try:
            async with asyncio.timeout(patience) as headers_due, client.stream("GET", url, headers=headers) as response:
                headers_due.reschedule(None)
                if response.status in _REDIRECTS:
                    return _redirect(url, response, policy)
                self._begin(response, body)
                body.final_host = target_of(url, policy).host
                await self._receive(response, body)
                return None
        except TimeoutError as exc:
            raise _Again("no headers in time") from exc

    def _begin(self, response: httpcore.Response, body: Body) -> None:
        """Judge status and headers; afterwards *body* is ready for what comes."""
        headers = headers_of(response)
        _judge_status(response.status, body)
        if headers.get("content-encoding", "identity").lower() not in {"", "identity"}:
            raise DownloadFailed("the host sends compressed bytes unasked")
        length = int(headers["content-length"]) if "content-length" in headers else None
        etag = headers.get("etag", "")
        if response.status == _PARTIAL:
            _judge_range(headers.get("content-range", ""), etag, body)
        else:
            body.restart()
            body.etag = etag if _STRONG_ETAG.fullmatch(etag) else None
            body.total = length
        body.length_verified = length is not None or "transfer-encoding" in headers
        if length is not None:
            if body.file.size + length > body.max_bytes:
                raise DownloadFailed("larger than allowed")
            self._spool.check_room(length)

    async def _receive(self, response: httpcore.Response, body: Body) -> None:
        """Take the raw body in, under the cap and above the least rate."""
        clock = asyncio.get_running_loop().time
        window = self._limits.rate_window.total_seconds()
        mark, marked = clock(), body.file.size
        async for chunk in response.aiter_stream():
            if body.file.size + len(chunk) > body.max_bytes:
                raise DownloadFailed("larger than allowed")
            body.add(chunk)
            now = clock()
            if now - mark >= window:
                if body.file.size - marked < self._limits.min_rate * (now - mark):
                    raise _Again("slower than allowed")
                mark, marked = now, body.file.size
        if body.total is not None and body.file.size != body.total:
            raise _Again("the body ended early")


def _redirect(url: str, response: httpcore.Response, policy: FetchPolicy) -> str:
    location = headers_of(response).get("location")
    if not location:
        raise DownloadFailed("a redirect to nowhere")
    try:
        next_url = urljoin(url, location)
    except ValueError as exc:
        raise FetchBlocked("a redirect to no URL") from exc
    if target_of(url, policy).scheme == "https" and target_of(next_url, policy).scheme != "https":
        raise FetchBlocked("a redirect from https to http")
    return next_url


def _judge_status(status: int, body: Body) -> None:
    """Pass 200, and 206 where it was asked for."""
    if status == _OK or (status == _PARTIAL and body.resumable):
        return
    if status == _RANGE_REFUSED and body.resumable:
        body.restart()
        raise _Again("the host refuses to resume")
    if status in _CLIENT_ERRORS and status not in _PASSING:
        raise LinkDead(f"the host answered {status}")
    raise _Again(f"the host answered {status}")


def _judge_range(content_range: str, etag: str, body: Body) -> None:
    """Refuse a part that does not continue what we have, to its end; the next attempt starts anew."""
    match = _CONTENT_RANGE.fullmatch(content_range)
    first, last, total = (int(text) for text in match.groups()) if match else (-1, -1, -1)
    fits = first == body.file.size and last == total - 1 and body.total in (None, total)
    if not fits or etag != body.etag:
        body.restart()
        raise _Again("the host resumed with other bytes")
    body.total = total
