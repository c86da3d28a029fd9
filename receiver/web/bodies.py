"""
What goes over the wire: bodies and queries are read into models, answers are written from models.

The models stand beside the handlers that use them, and the OpenAPI document is
made from them, so a route that takes or gives something declares three things:

    class ClipQuery(Taken):                    # unknown keys are refused
        account: str | None = Field(default=None, description="Only of this account")
        state: tuple[State, ...] = Field(default=(), description="May be given more than once")
        limit: Whole = Field(default=50, ge=1, le=200, description="Clips of one page")

    class ClipView(Given):                     # what the answer holds, and no more
        id: str = Field(description="The clip's id")
        at: Moment | None = Field(description="When it was made")

    async def listing(request: Request) -> Response:
        'List clips, newest first.'  # the summary in the document
        wanted = read_query(request, ClipQuery)
        ...
        return answer(ClipPage(clips=...), headers={"Location": ...})

and one line in `receiver.web.operations.OPERATIONS`, without which it is not served.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Annotated, Any, Final, NoReturn, TypeVar, get_origin, overload

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError, to_json
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive

from receiver.core.errors import BodyTooLarge, FieldError, InvalidInput, MalformedBody

#: Bytes. A callback carries URLs, never audio.
MAX_BODY: Final = 256 * 1024
#: Labels of a task, and so of a filter.
MOST_LABELS: Final = 32
#: Characters of a label; a page of many tasks is written in one go, while callbacks wait for their answer.
LONGEST_NAME: Final = 63
LONGEST_VALUE: Final = 255
#: Of a whole number in a query; all of them fit in PostgreSQL's bigint.
_DIGITS: Final = 18
_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
#: Of a moment in a query: what can be reckoned with.
_FIRST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(3000, 1, 1, tzinfo=UTC)

#: What is wrong with a field, by pydantic's name of it, where its own words are those of Python.
_WORDS: Final = {
    "extra_forbidden": "no such field",
    "missing": "is required",
    "string_type": "must be a text",
    "string_unicode": "must be a text; half a surrogate pair is none",
    "bool_type": "must be true or false",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "list_type": "must be a list",
}

_Model = TypeVar("_Model", bound=BaseModel)


#: RFC 3339 in UTC with milliseconds, as `moment` writes it.
Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


#: Labels as a task is given them; `check_names` looks at what is in them.
Labels = Annotated[
    dict[str, str],
    Field(
        max_length=MOST_LABELS,
        description=f"Your own names and values: a name has 1 to {LONGEST_NAME} characters, none of them a colon, and a"
        f" value has at most {LONGEST_VALUE}",
        json_schema_extra={
            "propertyNames": {"minLength": 1, "maxLength": LONGEST_NAME, "pattern": "^[^:]*$"},
            "additionalProperties": {"type": "string", "maxLength": LONGEST_VALUE},
        },
    ),
]


class Taken(BaseModel):
    """What a route takes, as JSON or as a query: unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Given(BaseModel):
    """What a route answers; built by our own code from values of the right types."""

    model_config = ConfigDict(frozen=True)


def _digits(value: object) -> object:
    if isinstance(value, str) and not (value.isascii() and value.isdigit() and len(value) <= _DIGITS):
        raise PydanticCustomError("whole_number", "must be a whole number in digits")
    return value


#: A whole number in a query; more than `int` would take, such as "1_000" or " 5.0", is refused.
Whole = Annotated[int, BeforeValidator(_digits)]


def _signed(value: object) -> object:
    if isinstance(value, str):
        _digits(value.removeprefix("-"))
    return value


#: Of a whole number in a query that may be below zero; stands after its bounds, or the document has none of them.
SIGNED: Final = BeforeValidator(_signed)


def _within_reach(value: datetime) -> datetime:
    if not _FIRST <= value < _LAST:
        raise PydanticCustomError("instant", "must lie between the years 2000 and 3000")
    return value


def _spelled(value: object) -> object:
    if isinstance(value, str) and not _INSTANT.fullmatch(value):
        raise PydanticCustomError("instant", "must be like 2026-01-31T12:00:00Z; in a URL a + is written %2B")
    return value


#: A moment in a query, RFC 3339.
Instant = Annotated[AwareDatetime, BeforeValidator(_spelled), AfterValidator(_within_reach)]


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


def read_query(request: Request, model: type[_Model]) -> _Model:
    """
    Read the query of the URL into *model*; only parameters declared as tuples may repeat.

    Raises:
        InvalidInput: Each parameter that is unknown, repeated or wrong is named.
    """
    several = _several(model)
    found: dict[str, Any] = {}
    errors = []
    for name, value in request.query_params.multi_items():
        if name in several:
            found.setdefault(name, []).append(value)
        elif name in found:
            errors.append(FieldError(name, "may be given once"))
        else:
            found[name] = value
    errors += [each for name, value in request.query_params.multi_items() for each in _unstorable(name, value)]
    try:
        read = model.model_validate(found)
    except ValidationError as exc:
        known = ", ".join(each.alias or name for name, each in model.model_fields.items())
        errors += [_parameter_error(dict(error), known) for error in exc.errors()]
        raise InvalidInput(errors) from exc
    if errors:
        raise InvalidInput(errors)
    return read


async def read_model(request: Request, model: type[_Model], *, empty: bool = False, limit: int = MAX_BODY) -> _Model:
    """
    Read a JSON body into *model*; with *empty*, no body at all means the defaults.

    Raises:
        MalformedBody: It is no JSON.
        InvalidInput: Each field that is missing, unknown or of the wrong type is named.
        BodyTooLarge: More than *limit* bytes came.
    """
    raw = await read_body(request.receive, limit=limit)
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


def answer(given: Given, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return *given* as JSON."""
    return Response(to_json(given), status_code=status, headers=headers, media_type="application/json")


@overload
def moment(at: datetime) -> str: ...
@overload
def moment(at: datetime | None) -> str | None: ...
def moment(at: datetime | None) -> str | None:
    """Return a time as RFC 3339 in UTC with milliseconds."""
    return None if at is None else at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds(span: timedelta | None) -> float | None:
    """Return a duration in seconds, to the millisecond."""
    return None if span is None else round(span.total_seconds(), 3)


def check_text(field: str, value: str | None) -> None:
    """
    Refuse text that the database cannot hold.

    Raises:
        InvalidInput: It holds NUL or half a surrogate pair.
    """
    errors = [] if value is None else _unstorable(field, value)
    if errors:
        raise InvalidInput(errors)


def check_names(reference: str | None, labels: Mapping[str, str]) -> None:
    """
    Refuse a reference or labels that the database cannot hold, or of which no filter could ask.

    Raises:
        InvalidInput: Names each that is wrong.
    """
    errors = _unstorable("reference", reference or "")
    for name, value in labels.items():
        field = f"labels.{name[:40]}"
        errors += _unstorable(field, name + value)
        if not 0 < len(name) <= LONGEST_NAME or ":" in name:
            errors.append(FieldError(field, f"a name has 1 to {LONGEST_NAME} characters, none of them a colon"))
        if len(value) > LONGEST_VALUE:
            errors.append(FieldError(field, f"a value has at most {LONGEST_VALUE} characters"))
    if errors:
        raise InvalidInput(errors)


def _unstorable(field: str, value: str) -> list[FieldError]:
    if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
        return [FieldError(field, "must not hold NUL or lone surrogates")]
    return []


@cache
def _several(model: type[BaseModel]) -> frozenset[str]:
    """Return the names of the parameters that may be given more than once."""
    return frozenset(
        each.alias or name for name, each in model.model_fields.items() if get_origin(each.annotation) is tuple
    )


def _parameter_error(error: dict[str, Any], known: str) -> FieldError:
    name = str(error["loc"][0]) if error["loc"] else "query"
    if error["type"] == "extra_forbidden":
        return FieldError(name, f"unknown parameter; known: {known}")
    return FieldError(name, str(error["msg"]))


def _field_error(error: dict[str, Any]) -> FieldError:
    # A key that is no text has no place of its own.
    where = ".".join(str(part) for part in error["loc"]) or "body"
    return FieldError(where, _WORDS.get(error["type"], str(error["msg"])))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found
