"""Read a request's body: bounded, once, and strictly what the route takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from receiver.core.errors import BodyTooLarge, FieldError, InvalidInput, MalformedBody

#: Bytes. A callback carries URLs, never audio.
MAX_BODY: Final = 256 * 1024

_Model = TypeVar("_Model", bound=BaseModel)


class TaskBody(BaseModel):
    """What `POST /v1/tasks` takes; `input` is checked against the account's profile later."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    account: str = Field(min_length=1, max_length=63, description="Which configured account pays")
    kind: str = Field(min_length=1, max_length=63, description="What is made, such as text-to-audio")
    input: dict[str, Any] = Field(description="What the provider needs, by its own field names")
    reference: str | None = Field(default=None, max_length=255, description="Your own id; not unique")
    labels: dict[str, str] = Field(default_factory=dict, max_length=32, description="Your own names and values")


class AdoptBody(BaseModel):
    """What `POST /v1/tasks:adopt` takes."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    account: str = Field(min_length=1, max_length=63, description="The account that made it")
    kind: str = Field(min_length=1, max_length=63, description="What was made, such as text-to-audio")
    provider_task_id: str = Field(min_length=1, max_length=256, description="The provider's own id")
    reference: str | None = Field(default=None, max_length=255, description="Your own id; not unique")
    labels: dict[str, str] = Field(default_factory=dict, max_length=32, description="Your own names and values")


class RetryBody(BaseModel):
    """What `POST /v1/tasks/{id}/retry` takes."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    may_charge_twice: bool = Field(default=False, description="Send again where the provider may charge again")


async def read_body(receive: Receive, *, limit: int = MAX_BODY) -> bytes:
    """
    Read at most *limit* bytes; the raw bytes are what was signed.

    Raises:
        BodyTooLarge: More came.
        ClientDisconnect: The sender went away before the end.
    """
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > limit:
            raise BodyTooLarge(f"more than {limit} bytes")
        if not message.get("more_body", False):
            return bytes(body)


async def read_model(request: Request, model: type[_Model], *, empty: bool = False) -> _Model:
    """
    Read a JSON body into *model*; with *empty*, no body at all means the defaults.

    Raises:
        MalformedBody: It is no JSON.
        InvalidInput: Each field that is missing, unknown or of the wrong type is named.
        BodyTooLarge: More than `MAX_BODY` bytes came.
    """
    raw = await read_body(request.receive)
    if empty and not raw:
        raw = b"{}"
    try:
        document = json.loads(raw, parse_constant=_refuse_constant, object_pairs_hook=_unique)
        if not isinstance(document, dict):
            raise MalformedBody("the body must be a JSON object")
        return model.model_validate(document)
    except ValidationError as exc:
        raise InvalidInput([_field_error(dict(error)) for error in exc.errors()]) from exc
    except (ValueError, RecursionError) as exc:
        raise MalformedBody("the body must be JSON in UTF-8, with each key once") from exc


def check_text(field: str, value: str | None) -> None:
    """
    Refuse text that the database cannot hold.

    Raises:
        InvalidInput: It holds NUL or half a surrogate pair.
    """
    if value is not None and ("\0" in value or any("\ud800" <= char <= "\udfff" for char in value)):
        raise InvalidInput([FieldError(field, "must not hold NUL or lone surrogates")])


def check_names(reference: str | None, labels: Mapping[str, str]) -> None:
    """
    Refuse a reference or labels that the database cannot hold.

    Raises:
        InvalidInput: Names the one that is wrong.
    """
    check_text("reference", reference)
    for name, value in labels.items():
        check_text(f"labels.{name[:40]}", name + value)


def _field_error(error: dict[str, Any]) -> FieldError:
    return FieldError(".".join(str(part) for part in error["loc"]), str(error["msg"]))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found
