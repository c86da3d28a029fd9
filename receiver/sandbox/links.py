"""Media links of the form that Kling's CDN uses (providers.md 2.7, form A), and their check."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from typing import Final

from receiver.sandbox.records import Audio, Task

#: The query exactly as it was given out; a re-encoded one is another one.
QUERY: Final = re.compile(
    r"cacheKey=(?P<cache>[A-Za-z0-9+/=]+)&ksSecret=(?P<secret>[0-9a-f]{32})&ksTime=(?P<time>[0-9a-f]{1,16})"
)


class Links:
    """Makes links that lapse, and tells good ones from others. Keeps nothing."""

    def __init__(self, *, key: bytes, base: str, lifetime: int, clock: Callable[[], float]) -> None:
        self._key = key
        self._base = base
        self._lifetime = lifetime
        self._clock = clock

    def make(self, task: Task, audio: Audio) -> str:
        """Return a link to one file, good for the lifetime (seconds) from now."""
        path = f"/media/{task.id}/{audio.clip}.{audio.format}"
        return f"{self._base}{path}?{self._query(path, int(self._clock()) + self._lifetime)}"

    def good(self, path: str, query: str) -> bool:
        """Tell whether *query* was made here for *path* and has not lapsed."""
        match = QUERY.fullmatch(query)
        if match is None:
            return False
        expires = int(match["time"], 16)
        return hmac.compare_digest(query, self._query(path, expires)) and self._clock() < expires

    def _query(self, path: str, expires: int) -> str:
        cache = base64.b64encode(self._mac("cache", path)[:20]).decode()
        secret = self._mac("link", path, str(expires)).hex()[:32]
        return f"cacheKey={cache}&ksSecret={secret}&ksTime={expires:x}"

    def _mac(self, *parts: str) -> bytes:
        return hmac.digest(self._key, "\n".join(parts).encode(), hashlib.sha256)
