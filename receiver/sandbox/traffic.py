"""Remembers the requests to the API as they came, the newest of them; gone with the process."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import count
from types import MappingProxyType
from typing import Any, Final

from starlette.requests import Request

from receiver.sandbox.records import Counted

#: Requests that are remembered.
MOST: Final = 50_000

#: Headers whose values are not shown.
SECRET: Final = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key"})
#: What stands for such a value.
HIDDEN: Final = MappingProxyType({True: "Bearer ***", False: "***"})


@dataclass(slots=True, kw_only=True)
class Seen:
    """One request."""

    id: int
    #: Seconds since 1970.
    time: float
    house: str
    kind: Counted
    method: str
    path: str
    query: str
    headers: dict[str, str]
    #: Of the body, lower-case hex; None when it was not read.
    body_sha256: str | None = None
    body_bytes: int | None = None
    #: Of the answer; None when there was none yet, or the connection was cut.
    status: int | None = None

    def body(self, body: bytes) -> None:
        """Remember the body."""
        self.body_sha256, self.body_bytes = hashlib.sha256(body).hexdigest(), len(body)


class Traffic:
    """What came."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: deque[Seen] = deque(maxlen=MOST)
        self._ids = count(1)

    def see(self, request: Request, house: str, kind: Counted) -> Seen:
        """Remember a request; its body and the answer's status follow."""
        seen = Seen(
            id=next(self._ids),
            time=self._clock(),
            house=house,
            kind=kind,
            method=request.method,
            path=request.scope.get("raw_path", b"").decode("latin-1"),
            query=request.scope["query_string"].decode("latin-1"),
            headers={name: _shown(name, value) for name, value in request.headers.items()},
        )
        self._seen.append(seen)
        return seen

    def shown(self, *, house: str | None, since: int) -> Iterator[dict[str, Any]]:
        """Yield what is remembered of requests with a higher id than *since*, the oldest first."""
        return (asdict(one) for one in self._seen if one.id > since and house in {None, one.house})


def _shown(name: str, value: str) -> str:
    return HIDDEN[value.lower().startswith("bearer ")] if name in SECRET else value
