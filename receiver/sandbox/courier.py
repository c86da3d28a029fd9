"""Sends callbacks as their plans say, signed as Standard Webhooks when there is a secret (providers.md 2.6)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import httpx

from receiver.sandbox import callbacks
from receiver.sandbox.faults import MOST_REPEATS
from receiver.sandbox.plan import Telling
from receiver.sandbox.records import Callback
from receiver.sandbox.state import State

#: Seconds from dialling to the whole answer.
LIMIT: Final = 5.0
#: Callbacks on their way at one time.
AT_ONCE: Final = 32

#: Seconds between attempts at what is sent until it is taken, and how many there are: longer than any outage.
AGAIN_AFTER: Final = 1.0
MOST_ATTEMPTS: Final = 900

TIMED_OUT: Final = "timeout"

#: Signs what is to have a wrong signature.
WRONG_KEY: Final = b"nobody has this key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """What is sent."""

    url: str
    #: Is asked at the last moment, so that its links are fresh.
    body: Callable[[], Mapping[str, Any]]
    #: Whether the house signs, and with what; None: it has no secret.
    signed: bool
    key: bytes | None = field(repr=False)
    #: `User-Agent`; None: the library's.
    agent: str | None


class Courier:
    """Posts a callback and records what became of it."""

    def __init__(self, state: State, client: httpx.AsyncClient, *, clock: Callable[[], float]) -> None:
        self._state = state
        self._client = client
        self._clock = clock
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def send(self, callback: Callback, telling: Telling, letter: Letter) -> None:
        """
        Send *callback*.

        Repeats have the same bytes and headers. The outcome is the HTTP status
        as text, `timeout`, or the name of the error. A kill between the two
        records leaves `unknown`.
        """
        first, *copies = await self._attempt(callback, telling, letter)
        if callback.until_taken:
            for _ in range(MOST_ATTEMPTS):
                if first.startswith("2"):
                    break
                await asyncio.sleep(AGAIN_AFTER)
                first, *copies = await self._attempt(callback, telling, letter)
        await self._state.do(partial(callbacks.end, callback=callback, outcome=first, copies=copies))

    async def _attempt(self, callback: Callback, telling: Telling, letter: Letter) -> list[str]:
        async with self._slots:
            await self._state.do(partial(callbacks.begin, callback=callback))
            content = json.dumps(letter.body(), ensure_ascii=False, separators=(",", ":")).encode()
            headers = self._headers(callback, telling, letter, content)
            if telling.at_once:
                sendings = (self._post(letter.url, content, headers) for _ in range(telling.repeats + 1))
                return list(await asyncio.gather(*sendings))
            return [await self._post(letter.url, content, headers) for _ in range(telling.repeats + 1)]

    async def _post(self, url: str, content: bytes, headers: Mapping[str, str]) -> str:
        try:
            async with asyncio.timeout(LIMIT):
                response = await self._client.post(url, content=content, headers=headers)
        except (TimeoutError, httpx.TimeoutException):
            return TIMED_OUT
        except httpx.HTTPError as exc:
            return type(exc).__name__
        return str(response.status_code)

    def _headers(self, callback: Callback, telling: Telling, letter: Letter, content: bytes) -> dict[str, str]:
        headers = {"content-type": "application/json; charset=utf-8"}
        if letter.agent is not None:
            headers["user-agent"] = letter.agent
        key = WRONG_KEY if telling.bad_signature else letter.key
        if key is None or telling.unsigned or not letter.signed:
            return headers
        webhook_id, timestamp = str(callback.webhook_id), str(int(self._clock()))
        return headers | {
            "webhook-id": webhook_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": sign(key, webhook_id, timestamp, content),
        }


def new_client() -> httpx.AsyncClient:
    """Return a client that takes no settings from the environment and follows no redirect."""
    most = AT_ONCE * (MOST_REPEATS + 1)
    limits = httpx.Limits(max_connections=most, max_keepalive_connections=most)
    return httpx.AsyncClient(timeout=LIMIT, trust_env=False, follow_redirects=False, limits=limits)


def sign(key: bytes, webhook_id: str, timestamp: str, content: bytes) -> str:
    """Return the `webhook-signature` of *content*; *timestamp* is in seconds since 1970."""
    signed = f"{webhook_id}.{timestamp}.".encode() + content
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
