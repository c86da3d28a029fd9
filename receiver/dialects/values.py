"""
Reads single values out of what strangers send: bytes to JSON, JSON to clean texts, times, numbers, URLs.

Nothing that leaves this module holds a NUL or half a surrogate pair: PostgreSQL's
text cannot hold them. Sizes are bounded by whoever read the bytes.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final
from urllib.parse import urlsplit

JsonObject = Mapping[str, object]

#: Characters. Ids are opaque text (providers.md D26).
MAX_ID: Final = 256
#: Bytes.
MAX_URL: Final = 8 * 1024
#: Characters of a provider's words that are kept.
MAX_WORDS: Final = 500

#: Below it a time is in seconds, from it on in milliseconds (providers.md 7).
_FIRST_MILLISECONDS: Final = 10**11
_EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC).timestamp()
_LATEST: Final = datetime(2100, 1, 1, tzinfo=UTC).timestamp()
_MAX_CLIP: Final = timedelta(days=1)

_NUMBER: Final = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?")
_UNITS: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,18})?")
_URL: Final = re.compile(r"https?://[^\s\\\x00-\x20\x7f-\x9f\ud800-\udfff]+", re.IGNORECASE)
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
_DOMAIN: Final = re.compile(r"localhost|[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+")
_BASE_URL: Final = re.compile(
    r"https?://([a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(:(?P<port>[0-9]{1,5}))?(/[a-z0-9._~%!$&'()*+,;=:@-]+)*",
    re.IGNORECASE,
)
_LINK_IN_WORDS: Final = re.compile(r"(https?://[^\s/?#]*)[/?#]\S*", re.IGNORECASE)


class Unreadable(ValueError):
    """What was sent is not what the protocol says; the text repeats nothing of it."""


def json_object(body: bytes) -> JsonObject:
    """
    Parse *body* strictly: UTF-8, one object, no NaN, no key twice.

    Raises:
        Unreadable: It is anything else, or nested too deeply.
    """
    try:
        value = _STRICT.decode(body.decode())
    except UnicodeDecodeError as exc:
        raise Unreadable("not UTF-8") from exc
    except (json.JSONDecodeError, RecursionError) as exc:
        raise Unreadable("not JSON") from exc
    except Unreadable:
        raise
    except ValueError as exc:
        # A number with more digits than Python converts.
        raise Unreadable("a number is too long") from exc
    if not isinstance(value, dict):
        raise Unreadable("not a JSON object")
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Unreadable("a key comes twice")
    return found


def _no_constant(_: str) -> object:
    raise Unreadable("not JSON: NaN or Infinity")


_STRICT: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def first(record: JsonObject, *names: str) -> object:
    """Return the value of the first of *names* that is there and neither null nor an empty text, else None."""
    for name in names:
        value = record.get(name)
        # Gateways that marshal a record anew fill what they do not know with empty texts.
        if value is not None and value != "":
            return value
    return None


def identifier(value: object) -> str | None:
    """
    Return *value* as an opaque id; None where there is none (null or empty).

    A whole number is taken digit by digit: some gateways forget the quotes.

    Raises:
        Unreadable: It is something else, too long, holds control characters, or nothing but dots.
    """
    if value is None or value == "":
        return None
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str):
        raise Unreadable("an id is neither text nor number")
    if len(text) > MAX_ID or _UNPRINTABLE.search(text) or not text.strip(". "):
        raise Unreadable("an id is too long or holds characters that no id has")
    return text


def words(value: object) -> str:
    """
    Return a provider's message fit to be shown and kept: one line, clipped, URLs cut to their host.

    A path may hold the token of a callback URL, a query the signature of a link.
    """
    if not isinstance(value, str):
        return ""
    # Clipped first as well, so that the patterns never run over megabytes.
    clean = _UNPRINTABLE.sub(" ", value[: 4 * MAX_WORDS]).strip()
    return _LINK_IN_WORDS.sub(r"\1/...", clean)[:MAX_WORDS]


def moment(value: object) -> datetime | None:
    """Return a time given as number or text, in seconds or milliseconds (providers.md 7); None where it is none."""
    number = _number(value)
    if number is None:
        return None
    seconds = number if number < _FIRST_MILLISECONDS else number / 1000
    return datetime.fromtimestamp(seconds, UTC) if _EARLIEST <= seconds < _LATEST else None


def duration(value: object) -> timedelta | None:
    """Return a clip's length given in seconds, as number or text; None where it is none or absurd."""
    number = _number(value)
    if number is None or not 0 < number <= _MAX_CLIP.total_seconds():
        return None
    return timedelta(seconds=number)


def _number(value: object) -> float | None:
    if isinstance(value, str):
        return float(value) if _NUMBER.fullmatch(value) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Compared before any conversion: an int may be too long for a float.
    return value if 0 <= value < 10**18 and math.isfinite(value) else None


def units(value: object) -> str | None:
    """Return an amount as decimal text, as sent (providers.md D25); None where it is none."""
    text = value
    if isinstance(value, float):
        # The shortest text that reads back as the same number, but without an exponent.
        text = f"{Decimal(repr(value)):f}"
    elif isinstance(value, int) and not isinstance(value, bool):
        text = str(value)
    return text if isinstance(text, str) and _UNITS.fullmatch(text) else None


def is_domain(text: str) -> bool:
    """Return whether *text* is a domain as lists of media hosts have it: lower case, no wildcard, no port."""
    return _DOMAIN.fullmatch(text) is not None


def is_base_url(text: str) -> bool:
    """Return whether *text* is `http(s)://host[:port][/path]`, in ASCII and without a slash at the end."""
    found = _BASE_URL.fullmatch(text)
    if found is None or not 0 < int(found["port"] or 1) < 2**16:
        return False
    try:
        return bool(urlsplit(text).hostname)
    except ValueError:
        return False


def link(value: object) -> str | None:
    """
    Return *value* unchanged when it is an http(s) URL that can be fetched and kept, else None.

    At most 8 KiB, with a host, without white space, backslashes or control characters. The
    text is never re-encoded: that would break its signature (providers.md 2.7).
    """
    if not isinstance(value, str) or len(value) > MAX_URL or not _URL.fullmatch(value):
        return None
    try:
        parts = urlsplit(value)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return value if usable and len(value.encode()) <= MAX_URL else None
