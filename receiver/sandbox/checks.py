"""Reads requests strictly: what is not documented is refused, with a message that names it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final

import httpx
from starlette.datastructures import QueryParams

from receiver.sandbox.answers import Refusal, bad_parameter
from receiver.sandbox.records import Order

KEYS: Final = frozenset({"prompt", "duration", "external_task_id", "callback_url"})

#: Unicode code points (providers.md D13).
MAX_PROMPT: Final = 200
#: Seconds.
SHORTEST: Final = Decimal("3.0")
LONGEST: Final = Decimal("10.0")

#: Pages of a list (providers.md 2.4).
MAX_PAGE: Final = 1000
MAX_PAGE_SIZE: Final = 500
DEFAULT_PAGE_SIZE: Final = 30


def read_order(body: bytes) -> Order:
    """
    Read the body of a create.

    Empty text counts as absent for the optional fields, as in the vendor's own
    example (providers.md 2.2).

    Raises:
        Refusal: 1200 when it is no JSON object, 1201 when a field is wrong.
    """
    fields = _parse(body)
    for name in sorted(fields.keys() - KEYS):
        raise bad_parameter(f"unknown field: {name!a}")
    for name in ("prompt", "duration"):
        if name not in fields:
            raise bad_parameter(f"{name} is required")
    callback_url = _optional_text(fields, "callback_url")
    if callback_url is not None:
        _check_url(callback_url)
    return Order(
        prompt=_prompt(fields["prompt"]),
        duration=_duration(fields["duration"]),
        external_id=_optional_text(fields, "external_task_id"),
        callback_url=callback_url,
    )


def read_page(query: QueryParams) -> tuple[int, int]:
    """
    Return page number, from 1, and page size of a list.

    Raises:
        Refusal: 1201: a parameter is unknown, repeated, no number or out of range.
    """
    for name in query:
        if name not in {"pageNum", "pageSize"}:
            raise bad_parameter(f"unknown parameter: {name!a}")
        if len(query.getlist(name)) > 1:
            raise bad_parameter(f"{name} is given twice")
    return _number(query, "pageNum", 1, MAX_PAGE), _number(query, "pageSize", DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def _parse(body: bytes) -> dict[str, Any]:
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
    return fields


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _without_repeats(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            raise ValueError("repeated key")
        fields[name] = value
    return fields


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise bad_parameter(f"{name} must be a string")
    try:
        value.encode()
    except UnicodeEncodeError as exc:
        raise bad_parameter(f"{name} holds half a surrogate pair") from exc
    return value


def _prompt(value: object) -> str:
    prompt = _text(value, "prompt")
    if not 1 <= len(prompt) <= MAX_PROMPT:
        raise bad_parameter(f"prompt must have 1 to {MAX_PROMPT} characters")
    return prompt


def _optional_text(fields: dict[str, Any], name: str) -> str | None:
    return (_text(fields[name], name) or None) if name in fields else None


def _duration(value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise bad_parameter("duration must be a number")
    duration = Decimal(value)
    if not SHORTEST <= duration <= LONGEST:
        raise bad_parameter(f"duration must be from {SHORTEST} to {LONGEST}")
    tenths = duration.quantize(Decimal("0.1"))
    if tenths != duration:
        raise bad_parameter("duration must have at most one decimal")
    return tenths


def _check_url(text: str) -> None:
    """Take absolute http and https only; the vendor names no rule (providers.md 2.6)."""
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, UnicodeError) as exc:
        raise bad_parameter("callback_url is not a URL") from exc
    if url.scheme not in {"http", "https"} or not url.host:
        raise bad_parameter("callback_url must be an absolute http or https URL")


def _number(query: QueryParams, name: str, default: int, most: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and 1 <= int(text) <= most):
        raise bad_parameter(f"{name} must be a whole number from 1 to {most}")
    return int(text)
