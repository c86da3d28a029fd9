"""
The last guard before a line is written: no secret and no signed query passes.

Code that logs names ids, hosts and codes only. This is for what others put into
messages and exception texts, and for the mistake that is made one day.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote, quote_plus

import structlog

#: What stands where something was cut out.
CUT: Final = "***"
#: Characters; a shorter secret would be found in harmless words.
_SHORTEST: Final = 8
_PLAIN: Final = (bool, int, float, type(None))
#: Fields whose value is a secret, whatever it looks like.
_FIELDS: Final = frozenset(
    {"api_key", "authorization", "cookie", "password", "secret", "secret_key", "signature", "signatures", "token"}
)

#: Names of events, codes, times and UUIDs: most of what is logged, and not worth a closer look.
_HARMLESS: Final = re.compile(r"(?!rk_|whsec_)[a-z_.]{0,40}|[\dTZ:.+-]{1,32}|[0-9a-f-]{36}")
#: Each shape keeps what tells the reader which kind it was.
_SHAPES: Final = re.compile(
    r"""
    (?P<query> \? ) [^\s"'<>\\]* = [^\s"'<>\\]*
  | (?P<user> :// ) [^\s/"'<>@?]+ @
  | \b (?P<scheme> (?:Bearer|Basic) \s+ ) [\w.~+/=-]{6,}
  | (?P<webhook> whsec_ ) [\w+/=-]+
  | \b (?P<key> rk_ ) [\w-]{8,}
  | \b eyJ [\w-]{4,} \. [\w-]+ \. [\w-]*
  | \b [0-9a-f]{8} \. [\w-]{43} (?! [\w-] )
  | \b (?: AKIA | ASIA ) [0-9A-Z]{16} \b
  | (?P<callback> /callbacks/ [^/\s"']+ / [^/\s"']+ / ) (?! \{ ) [^\s"'<>\\/]+
  | (?P<capability> /a/ \d+ / ) [^\s"'<>\\/]+
  | (?P<signature> \b Signature [=:] \s* ) [\w+/=%-]{16,}
  | (?P<named> \b (?: password | passwd | secret | secret_key | api_key | apikey | access_key | token | authorization
              | x-amz-[a-z-]+ | kssecret | sig | credential ) (?: = | ["'] \s* : ) \s* ["']? ) [^\s"',;&)}\\]+
    """,
    re.VERBOSE | re.IGNORECASE,
)


class Scrubber:
    """Cuts known secrets and whatever looks like one; a processor of structlog, to stand just before the renderer."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {
            form
            for secret in secrets
            for part in (secret, secret.removeprefix("whsec_"))
            if len(part) >= _SHORTEST
            for form in (part, quote(part, safe=""), quote_plus(part))
        }
        longest_first = sorted(forms, key=len, reverse=True)
        self._known = re.compile("|".join(re.escape(form) for form in longest_first)) if forms else None

    def __call__(self, _: object, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
        """Clean every value of a line."""
        return {name: self._value(name, value) for name, value in line.items()}

    def text(self, text: str) -> str:
        """Return *text* without secrets and without the queries of URLs."""
        if self._known is not None:
            text = self._known.sub(CUT, text)
        return text if _HARMLESS.fullmatch(text) else _SHAPES.sub(_cut, text)

    def _value(self, name: object, value: object) -> object:
        if isinstance(value, _PLAIN):
            return value
        if isinstance(name, str) and name.lower() in _FIELDS:
            return CUT
        # Most values are text: the abstract types are asked last.
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(key)): self._value(key, each) for key, each in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self._value(None, each) for each in value]
        return self.text(str(value))


def _cut(match: re.Match[str]) -> str:
    """Keep the words before the secret."""
    kept = next((text for text in match.groupdict().values() if text is not None), "")
    # The sign that ends a user's name and password belongs to the URL.
    return f"{kept}{CUT}@" if match["user"] else f"{kept}{CUT}"
