"""Reads requests strictly: what is not documented is refused, with a message that names it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from decimal import Decimal
from typing import Any, Final

import httpx
from starlette.datastructures import QueryParams

from receiver.sandbox.answers import Refusal, bad_parameter

#: Pages of a list (providers.md 2.4).
MAX_PAGE: Final = 1000
MAX_PAGE_SIZE: Final = 500
DEFAULT_PAGE_SIZE: Final = 30


class Fields:
    """The members of a JSON object, read by name; what is wrong is refused with 1201."""

    def __init__(self, values: dict[str, Any], *, within: str = "") -> None:
        self._values = values
        self._within = within

    def refuse_others(self, names: Collection[str]) -> None:
        """
        See that there are no other *names*.

        Raises:
            Refusal: 1201.
        """
        for name in sorted(self._values.keys() - set(names)):
            raise bad_parameter(f"unknown field: {self._full(name)!a}")

    def has(self, name: str) -> bool:
        """Tell whether it is given."""
        return name in self._values

    def require(self, *names: str) -> None:
        """
        See that they are given.

        Raises:
            Refusal: 1201.
        """
        for name in names:
            if name not in self._values:
                raise bad_parameter(f"{self._full(name)} is required")

    def value(self, name: str) -> object:
        """Return it as it was parsed, None when it is not given."""
        return self._values.get(name)

    def text(self, name: str, most: int | None = None, *, least: int = 0) -> str | None:
        """
        Return text of *least* to *most* Unicode code points (providers.md D13); None when it is not given or empty.

        Raises:
            Refusal: 1201.
        """
        if name not in self._values:
            return None
        value = self._values[name]
        if not isinstance(value, str):
            raise bad_parameter(f"{self._full(name)} must be a string")
        try:
            value.encode()
        except UnicodeEncodeError as exc:
            raise bad_parameter(f"{self._full(name)} holds half a surrogate pair") from exc
        if most is not None and not least <= len(value) <= most:
            raise bad_parameter(f"{self._full(name)} must have {least} to {most} characters")
        return value or None

    def word(self, name: str, words: Iterable[str], default: str) -> str:
        """
        Return one of *words*.

        Raises:
            Refusal: 1201.
        """
        value = self._values.get(name, default)
        known = tuple(words)
        if value not in known:
            raise bad_parameter(f"{self._full(name)} must be one of {', '.join(known)}")
        return str(value)

    def flag(self, name: str) -> bool:
        """
        Return a boolean, false when it is not given.

        Raises:
            Refusal: 1201.
        """
        value = self._values.get(name, False)
        if not isinstance(value, bool):
            raise bad_parameter(f"{self._full(name)} must be true or false")
        return value

    def url(self, name: str) -> str | None:
        """
        Return an absolute http or https URL; the vendor names no rule (providers.md 2.6).

        Raises:
            Refusal: 1201.
        """
        text = self.text(name)
        if text is None:
            return None
        try:
            url = httpx.URL(text)
        except (httpx.InvalidURL, UnicodeError) as exc:
            raise bad_parameter(f"{self._full(name)} is not a URL") from exc
        if url.scheme not in {"http", "https"} or not url.host:
            raise bad_parameter(f"{self._full(name)} must be an absolute http or https URL")
        return text

    def inside(self, name: str) -> Fields:
        """
        Return the members of an object, none when it is not given.

        Raises:
            Refusal: 1201.
        """
        value = self._values.get(name, {})
        if not isinstance(value, dict):
            raise bad_parameter(f"{self._full(name)} must be an object")
        return Fields(value, within=f"{self._full(name)}.")

    def _full(self, name: str) -> str:
        return f"{self._within}{name}"


def read_object(body: bytes) -> Fields:
    """
    Read a JSON object; numbers with a point come as `Decimal`.

    Raises:
        Refusal: 1200: it is none, or a name is given twice.
    """
    try:
        fields = json.loads(
            body.decode(),
            parse_float=Decimal,
            parse_constant=_refuse_constant,
            object_pairs_hook=_without_repeats,
        )
    except (ValueError, RecursionError) as exc:
        raise Refusal(400, 1200, "the body is not valid JSON") from exc
    if not isinstance(fields, dict):
        raise Refusal(400, 1200, "the body is not a JSON object")
    return Fields(fields)


def read_page(query: QueryParams) -> tuple[int, int]:
    """
    Return page number, from 1, and page size of a list.

    Raises:
        Refusal: 1201: a parameter is unknown, repeated, no number or out of range.
    """
    check_parameters(query, {"pageNum", "pageSize"})
    return _number(query, "pageNum", 1, MAX_PAGE), _number(query, "pageSize", DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def check_parameters(query: QueryParams, names: Collection[str]) -> None:
    """
    See that there are no other parameters than *names*, and none twice.

    Raises:
        Refusal: 1201.
    """
    for name in query:
        if name not in names:
            raise bad_parameter(f"unknown parameter: {name!a}")
        if len(query.getlist(name)) > 1:
            raise bad_parameter(f"{name} is given twice")


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _without_repeats(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            raise ValueError("repeated key")
        fields[name] = value
    return fields


def _number(query: QueryParams, name: str, default: int, most: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and 1 <= int(text) <= most):
        raise bad_parameter(f"{name} must be a whole number from 1 to {most}")
    return int(text)
