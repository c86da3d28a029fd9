"""Checks a submitter's input against a profile; every wrong field is named, with the way to mend it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from receiver.core.errors import FieldError, InvalidInput
from receiver.dialects.profile import FieldSpec, FieldType, KindSpec, Profile

#: Beyond it a float no longer tells neighbouring whole numbers apart.
_MAX_NUMBER: Final = 2**53
#: Characters of a stranger's key that a message repeats.
_SHOWN: Final = 64

Value = str | int | float | bool


def check_input(profile: Profile, kind: str, raw: Mapping[str, object]) -> dict[str, Value]:
    """
    Return *raw* normalised: in the profile's order, with defaults, optional empty texts left out.

    A number stays a number; a whole one becomes an int, so that 5 and 5.0 are the
    same request, and providers that take integers only are served too (providers.md D9).

    Raises:
        InvalidInput: Something is wrong; every wrong field is named as `input.<name>`, or `kind`.
    """
    spec = profile.kinds.get(kind)
    if spec is None:
        known = ", ".join(sorted(profile.kinds))
        raise InvalidInput([FieldError("kind", f"{profile.name} has no such kind; it has {known}")])
    errors = _unknown_fields(spec, raw)
    values: dict[str, Value] = {}
    for field in spec.fields:
        try:
            value = _value(field, raw)
        except _Wrong as exc:
            errors.append(FieldError(f"input.{field.name}", str(exc)))
        else:
            if value is not None:
                values[field.name] = value
    errors += _one_of_each(spec, values, errors)
    if errors:
        raise InvalidInput(errors)
    return values


class _Wrong(ValueError):
    """One field is wrong; the text says how to mend it."""


def _unknown_fields(spec: KindSpec, raw: Mapping[str, object]) -> list[FieldError]:
    known = [field.name for field in spec.fields]
    ours = {spec.external_id_path, spec.callback_path}
    errors = []
    for key in raw:
        if key in known:
            continue
        hint = "leave it out: the service sets it" if key in ours else f"no such field; there are {', '.join(known)}"
        # A stranger's key may hold what neither a log nor a JSON answer can carry.
        shown = key[:_SHOWN].encode("ascii", "backslashreplace").decode("ascii")
        errors.append(FieldError(f"input.{''.join(c if c.isprintable() else '?' for c in shown)}", hint))
    return errors


def _value(field: FieldSpec, raw: Mapping[str, object]) -> Value | None:
    if field.name not in raw or (raw[field.name] == "" and not field.required):
        if field.required and field.default is None:
            raise _Wrong("is required")
        return field.default
    return fitting(field, raw[field.name])


def fitting(field: FieldSpec, value: object) -> Value:
    """
    Return *value* normalised as *field* has it.

    Raises:
        ValueError: It does not fit; the text says how to mend it.
    """
    match field.type:
        case FieldType.STRING:
            return _text(field, value)
        case FieldType.NUMBER:
            return _number(field, value)
        case FieldType.BOOLEAN:
            if not isinstance(value, bool):
                raise _Wrong("must be true or false")
            return value


def _text(field: FieldSpec, value: object) -> str:
    if not isinstance(value, str):
        raise _Wrong("must be a text")
    if not value.strip():
        raise _Wrong("must not be blank")
    if "\0" in value or any("\ud800" <= c <= "\udfff" for c in value):
        raise _Wrong("holds a NUL or half a surrogate pair, which is no text; leave it out")
    if field.max_chars is not None and len(value) > field.max_chars:
        raise _Wrong(f"has {len(value)} characters; at most {field.max_chars} are allowed")
    if field.choices and value not in field.choices:
        raise _Wrong(_one_of(field))
    return value


def _number(field: FieldSpec, value: object) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Wrong("must be a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise _Wrong("must be a finite number")
    if field.choices and value not in field.choices:
        raise _Wrong(_one_of(field))
    if (field.min is not None and value < field.min) or (field.max is not None and value > field.max):
        raise _Wrong(_range(field))
    if abs(value) > _MAX_NUMBER:
        raise _Wrong("is too large")
    # repr is the shortest text that reads back as the same number: what the submitter wrote.
    exponent = Decimal(repr(value)).normalize().as_tuple().exponent
    if field.decimals is not None and isinstance(exponent, int) and -exponent > field.decimals:
        raise _Wrong(f"may have at most {field.decimals} digits after the point")
    return int(value) if value == int(value) else value


def _one_of(field: FieldSpec) -> str:
    return f"must be one of {', '.join(map(str, field.choices))}"


def _range(field: FieldSpec) -> str:
    if field.min is None:
        return f"must be at most {field.max}"
    if field.max is None:
        return f"must be at least {field.min}"
    return f"must be from {field.min} to {field.max}"


def _one_of_each(spec: KindSpec, values: Mapping[str, Value], errors: list[FieldError]) -> list[FieldError]:
    named = {error.field for error in errors}
    return [
        FieldError(f"input.{group[0]}", f"give exactly one of {', '.join(group)}")
        for group in spec.exactly_one
        if sum(name in values for name in group) != 1 and not any(f"input.{name}" in named for name in group)
    ]
