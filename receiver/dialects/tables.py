"""Typed reading of a TOML document; every complaint names the file, the line and the key."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Final, TypeVar

from receiver.core.errors import Misconfigured

_E = TypeVar("_E", bound=StrEnum)

_HEADER: Final = re.compile(r"\s*\[\[?([^\]]+)\]\]?")
#: Where a parser's complaint says that it stands.
_PLACE: Final = re.compile(r" \(at line ([0-9]+), column [0-9]+\)")
_KEY: Final = re.compile(r"\s*([A-Za-z0-9_.\"'-]+)\s*=")
#: Ten years: a longer time is a slip of the unit.
_MAX_SECONDS: Final = 10 * 366 * 24 * 3600

#: More of anything than a provider has; and a database can count so far.
_MAX_COUNT: Final = 10**6
#: JSON's readers tell whole numbers apart up to here.
_MAX_NUMBER: Final = 2**53

Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Document:
    """Where a table came from, for complaints."""

    origin: str
    text: str = field(repr=False)

    def wrong(self, path: str, message: str) -> Misconfigured:
        """Return the error for *path*, with the line that sets it or opens its table."""
        line = self._line(path)
        where = f"{self.origin}, line {line}" if line else self.origin
        # A quoted key may hold anything; the complaint stays one line.
        shown = "".join(character if character.isprintable() else "?" for character in path)
        return Misconfigured(f"{where}: {shown}: {message}" if path else f"{where}: {message}")

    def unparsed(self, why: str) -> Misconfigured:
        """Return the error for text that is no TOML; *why* is what its parser says."""
        if (place := _PLACE.search(why)) is None:
            return Misconfigured(f"{self.origin}: {why}")
        line = int(place[1])
        keys = [known for number, known in self._places() if number == line]
        return Misconfigured(": ".join([f"{self.origin}, line {line}", *keys, _PLACE.sub("", why)]))

    def _line(self, path: str) -> int | None:
        places = tuple(self._places())
        while path:
            exact = (number for number, known in places if known == path)
            # A table that has no header of its own begins with the first one below it.
            below = (number for number, known in places if known.startswith(f"{path}."))
            if (found := next(exact, next(below, None))) is not None:
                return found
            path = path.rpartition(".")[0]
        return None

    def _places(self) -> Iterator[tuple[int, str]]:
        prefix = ""
        for number, line in enumerate(self.text.splitlines(), 1):
            if header := _HEADER.match(line):
                prefix = _plain(header[1])
                yield number, prefix
            elif key := _KEY.match(line):
                yield number, f"{prefix}.{_plain(key[1])}" if prefix else _plain(key[1])


def _plain(dotted: str) -> str:
    return ".".join(part.strip(" \t\"'") for part in dotted.split("."))


def _is_finite(value: object) -> bool:
    # Compared and not converted: an int may be too long for a float.
    return not isinstance(value, int | float) or -_MAX_NUMBER <= value <= _MAX_NUMBER


class Table:
    """
    One TOML table. Each key is taken once; `close` complains about those that nobody took.

    Every method that takes a key raises `Misconfigured` when the value is missing
    (and has no default) or not what it must be.
    """

    def __init__(self, data: Mapping[str, object], *, path: str, document: Document) -> None:
        self._left = dict(data)
        self._path = path
        self._document = document

    def wrong(self, key: str, message: str) -> Misconfigured:
        """Return the error for *key* of this table."""
        return self._document.wrong(".".join(part for part in (self._path, key) if part), message)

    def close(self) -> None:
        """Complain about keys that the format does not have."""
        for key in self._left:
            raise self.wrong(key, "unknown key")

    def take(self, key: str) -> object:
        """Take whatever is there; None when the key is absent (TOML has no null)."""
        return self._left.pop(key, None)

    def names(self) -> tuple[str, ...]:
        """Return the keys that are still to be taken, in the order of the file."""
        return tuple(self._left)

    def text(self, key: str, default: str | None = None) -> str:
        """Take a text that is not empty."""
        value = self.optional_text(key, default)
        if not value:
            raise self.wrong(key, "a text is needed")
        return value

    def optional_text(self, key: str, default: str | None = None) -> str | None:
        """Take a text; *default* where the key is absent."""
        value = self.take(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.wrong(key, "must be a text")
        return value

    def matching(self, key: str, pattern: re.Pattern[str], what: str, default: str | None = None) -> str:
        """Take a text that is *what* the *pattern* says."""
        value = self.text(key, default)
        if not pattern.fullmatch(value):
            raise self.wrong(key, f"must be {what}")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """Take true or false."""
        value = self.take(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.wrong(key, "must be true or false")
        return value

    def number(self, key: str) -> float | None:
        """Take a number; None where the key is absent."""
        value = self.take(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(key, "must be a number")
        if not _is_finite(value):
            raise self.wrong(key, "must be a finite number, and not too large")
        return value

    def count(self, key: str, *, least: int) -> int | None:
        """Take a whole number of at least *least*; None where the key is absent."""
        value = self.number(key)
        if value is None:
            return None
        if not isinstance(value, int) or not least <= value <= _MAX_COUNT:
            raise self.wrong(key, f"must be a whole number from {least} to {_MAX_COUNT}")
        return value

    def needed_count(self, key: str, default: int | None = None) -> int:
        """Take a whole number of at least 1."""
        value = self.count(key, least=1)
        value = default if value is None else value
        if value is None:
            raise self.wrong(key, "a whole number is needed")
        return value

    def duration(self, key: str) -> timedelta:
        """Take a time; the key ends in its unit (`_seconds` or `_hours`)."""
        value = self.number(key)
        if value is None:
            raise self.wrong(key, "a number is needed")
        seconds = value * 3600 if key.endswith("_hours") else value
        if not 0 < seconds <= _MAX_SECONDS:
            raise self.wrong(key, "must be more than 0 and at most ten years")
        return timedelta(seconds=seconds)

    def texts(self, key: str, *, empty: bool = True) -> tuple[str, ...]:
        """Take a list of texts; absent counts as empty."""
        value = self.take(key)
        if value is None:
            value = []
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise self.wrong(key, "must be a list of texts")
        if not value and not empty:
            raise self.wrong(key, "must name at least one")
        return tuple(value)

    def choice(self, key: str, kind: type[_E], default: _E | None = None) -> _E:
        """Take one word of *kind*."""
        return self.word(key, self.optional_text(key, default) or "", kind)

    def words(self, key: str, kind: type[_E], *, empty: bool = True) -> tuple[_E, ...]:
        """Take a list of words of *kind*."""
        return tuple(self.word(key, item, kind) for item in self.texts(key, empty=empty))

    def word(self, key: str, value: str, kind: type[_E]) -> _E:
        """Turn *value* into a word of *kind*, or complain about *key*."""
        try:
            return kind(value)
        except ValueError as exc:
            raise self.wrong(key, f"must be one of {', '.join(kind)}") from exc

    def scalar(self, key: str) -> Scalar | None:
        """Take a text, a number or a boolean; None where the key is absent."""
        value = self.take(key)
        if value is not None and not isinstance(value, str | int | float):
            raise self.wrong(key, "must be a text, a number or a boolean")
        if not _is_finite(value):
            raise self.wrong(key, "must be a finite number, and not too large")
        return value

    def table(self, key: str) -> Table:
        """Take a table; absent counts as empty."""
        value = self.take(key)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise self.wrong(key, "must be a table")
        path = f"{self._path}.{key}" if self._path else key
        return Table(value, path=path, document=self._document)
