"""What a media link tells about itself, without following it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qsl, urlsplit

_HEX: Final = re.compile(r"[0-9a-fA-F]{8,10}")
_DIGITS: Final = re.compile(r"[0-9]{1,12}")
_STAMP: Final = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_HOST: Final = re.compile(r"[a-z0-9._:-]{1,253}")
#: Seconds since 1970.
_EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC).timestamp()
_LATEST: Final = datetime(2100, 1, 1, tzinfo=UTC).timestamp()
#: Seconds. Ten years: a longer life is garbage.
_LONGEST_LIFE: Final = 10 * 366 * 24 * 3600

_Names = Mapping[str, Sequence[str]]


def expires_at(url: str) -> datetime | None:
    """
    Return when the link's own signature lapses (UTC); None when it does not say.

    Forms: `ksTime` (hexadecimal seconds, providers.md 2.7), `Expires`, `x-oss-expires`
    (seconds since 1970, or after `x-oss-date` where that is given), `X-Amz-Date` with
    `X-Amz-Expires` (providers.md D17). Of several the earliest counts. Times before
    2000 or from 2100 on, and lives of more than ten years, are garbage.
    """
    try:
        pairs = parse_qsl(urlsplit(url).query)
    except ValueError:
        return None
    names: dict[str, list[str]] = {}
    for name, value in pairs:
        names.setdefault(name.lower(), []).append(value)
    return min(_moments(names), default=None)


def _moments(names: _Names) -> Iterator[datetime]:
    for value in names.get("kstime", ()):
        if _HEX.fullmatch(value):
            yield from _sensible(int(value, 16))
    for value in names.get("expires", ()):
        if _DIGITS.fullmatch(value):
            yield from _sensible(int(value))
    if "x-oss-date" in names:
        yield from _after(names, "x-oss-date", "x-oss-expires")
    else:
        for value in names.get("x-oss-expires", ()):
            if _DIGITS.fullmatch(value):
                yield from _sensible(int(value))
    yield from _after(names, "x-amz-date", "x-amz-expires")


def _after(names: _Names, date: str, seconds: str) -> Iterator[datetime]:
    for start in names.get(date, ()):
        signed_at = _stamp(start)
        for life in names.get(seconds, ()):
            if signed_at is not None and _DIGITS.fullmatch(life) and 0 < int(life) <= _LONGEST_LIFE:
                yield from _sensible(int(signed_at.timestamp()) + int(life))


def _stamp(text: str) -> datetime | None:
    if not _STAMP.fullmatch(text):
        return None
    try:
        return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def _sensible(seconds: int) -> Iterator[datetime]:
    if _EARLIEST <= seconds < _LATEST:
        yield datetime.fromtimestamp(seconds, UTC)


def host(url: str) -> str:
    """Return the host of *url* for logs: no path, no query, no user; "unreadable" where there is none."""
    try:
        name = urlsplit(url).hostname or ""
    except ValueError:
        return "unreadable"
    return name if _HOST.fullmatch(name) else "unreadable"
