"""Media links of the form that Kling's CDN uses (providers.md 2.7, form A), and their check."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from receiver.sandbox.records import Format, MediaFile, Task
from receiver.sandbox.statements import SOURCE

#: The query exactly as it was given out; a re-encoded one is another one.
QUERY: Final = re.compile(
    r"cacheKey=(?P<cache>[A-Za-z0-9+/=]+)&ksSecret=(?P<secret>[0-9a-f]{32})&ksTime=(?P<time>[0-9a-f]{1,16})"
)


#: Of links; those of a dead file work from the second on.
GENERATIONS: Final = (0, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link that was made here."""

    generation: int
    lapsed: bool


class Links:
    """Makes links of one house that lapse, and tells good ones from others. Keeps nothing."""

    def __init__(
        self, *, key: bytes, base: str, root: str, lifetime: Callable[[], float], clock: Callable[[], float]
    ) -> None:
        """
        Prepare to make links.

        Args:
            key: Signs them.
            base: Scheme and host.
            root: The house's path.
            lifetime: Gives their life, in seconds.
            clock: Gives the time, in seconds since 1970.
        """
        self._key = key
        self._base = base
        self._root = root
        self._lifetime = lifetime
        self._clock = clock

    def make(self, task: Task, file: MediaFile) -> str:
        """Return a link to one file, good for the lifetime (seconds) from now."""
        path = f"{self._root}/media/{task.id}/{file.clip}.{file.format}"
        expires = int(self._clock() + self._lifetime())
        return f"{self._base}{path}?{self._query(path, expires, file.generation)}"

    def read(self, path: str, query: str) -> Link | None:
        """Return what *query* is good for; None unless it was made here for *path*."""
        match = QUERY.fullmatch(query)
        if match is None:
            return None
        expires = int(match["time"], 16)
        for generation in GENERATIONS:
            if hmac.compare_digest(query, self._query(path, expires, generation)):
                return Link(generation=generation, lapsed=self._clock() >= expires)
        return None

    def invented(self, task: Task, form: Format) -> str:
        """Return a link to media that no task has."""
        return f"{self._base}{self._root}/stranger/{task.id}.{form}"

    def source(self) -> str:
        """Return the link to the video that orders may name; it never lapses."""
        return f"{self._base}{self._root}/{SOURCE}"

    def _query(self, path: str, expires: int, generation: int) -> str:
        cache = base64.b64encode(self._mac("cache", path, str(generation))[:20]).decode()
        secret = self._mac("link", path, str(expires), str(generation)).hex()[:32]
        return f"cacheKey={cache}&ksSecret={secret}&ksTime={expires:x}"

    def _mac(self, *parts: str) -> bytes:
        return hmac.digest(self._key, "\n".join(parts).encode(), hashlib.sha256)
