"""Reads what the control is told: the house, and the fields of a JSON object."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from starlette.requests import Request

from receiver.sandbox.answers import Refusal, bad_parameter
from receiver.sandbox.auth import authorize_control
from receiver.sandbox.houses import HOUSES
from receiver.sandbox.parts import Sandbox
from receiver.sandbox.visit import read_body


class Given:
    """The fields of a control request."""

    def __init__(self, fields: dict[str, Any], house: str | None) -> None:
        self.fields = fields
        #: None: all houses, or any.
        self.house = house

    def has(self, name: str) -> bool:
        """Tell whether it is given and not null."""
        return self.fields.get(name) is not None

    def word(self, name: str, words: Collection[str]) -> str:
        """Return one of *words*."""
        value = self.fields.get(name)
        if not isinstance(value, str) or value not in words:
            raise bad_parameter(f"{name} must be one of {', '.join(words)}")
        return value

    def text(self, name: str) -> str | None:
        """Return text; None when it is not given."""
        value = self.fields.get(name)
        if value is not None and not isinstance(value, str):
            raise bad_parameter(f"{name} must be a string")
        return value

    def number(self, name: str, default: int, least: int, most: int) -> int:
        """Return a whole number."""
        value = self.fields.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise bad_parameter(f"{name} must be a whole number from {least} to {most}")
        return value

    def flag(self, name: str) -> bool:
        """Return a boolean, false when it is not given."""
        value = self.fields.get(name, False)
        if not isinstance(value, bool):
            raise bad_parameter(f"{name} must be true or false")
        return value

    def texts(self, name: str) -> Mapping[str, str]:
        """Return an object of texts, empty when it is not given."""
        value = self.fields.get(name) or {}
        if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
            raise bad_parameter(f"{name} must be an object of strings")
        return value


async def told(request: Request, names: Collection[str] | None) -> tuple[Sandbox, Given]:
    """
    Check the key, and that the body is a JSON object with no other *names*; None takes any.

    The house is in the query or in the body.

    Raises:
        Refusal: 400, 401.
    """
    sandbox = sandbox_of(request)
    try:
        fields = json.loads(await read_body(request))
    except (ValueError, RecursionError) as exc:
        raise Refusal(400, 1200, "the body is not valid JSON") from exc
    if not isinstance(fields, dict):
        raise Refusal(400, 1200, "the body is not a JSON object")
    house = _house(fields.pop("house", None)) or house_of(request)
    for name in sorted(fields.keys() - (fields if names is None else names)):
        raise bad_parameter(f"unknown field: {name!a}")
    return sandbox, Given(fields, house)


def sandbox_of(request: Request) -> Sandbox:
    """
    Check the key.

    Raises:
        Refusal: 401.
    """
    sandbox: Sandbox = request.app.state.sandbox
    authorize_control(sandbox.config, request.headers.get("authorization"))
    return sandbox


def house_of(request: Request) -> str | None:
    """
    Return the house that the query names; None: it names none.

    Raises:
        Refusal: 400: there is no such house.
    """
    return _house(request.query_params.get("house"))


def _house(name: object) -> str | None:
    if name is not None and (not isinstance(name, str) or name not in HOUSES):
        raise bad_parameter(f"house must be one of {', '.join(HOUSES)}")
    return name
