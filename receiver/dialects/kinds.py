"""The part of a profile that describes its products: TOML tables in, `KindSpec` and `FieldSpec` out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from receiver.core.model import Format
from receiver.dialects.clips import VIDEOS
from receiver.dialects.inputs import fitting
from receiver.dialects.profile import AudioIn, FieldSpec, FieldType, KindSpec, SendAs
from receiver.dialects.tables import Scalar, Table

#: The name of a profile, a kind or a region.
NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")

_FIELD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_PLACE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_A_PATH: Final = "a path that begins with one slash, without braces"
_PATH: Final = re.compile(r"/(?!/)[A-Za-z0-9._~/?&=,-]*")
_A_QUERY: Final = "a path that begins with one slash, with {id} where the task's id stands"
_QUERY: Final = re.compile(r"/(?!/)([A-Za-z0-9._~/?&=,-]|\{id\})*")


def read_kinds(table: Table, *, query: bool) -> Mapping[str, KindSpec]:
    """
    Read the products of a profile; *query* is whether it has query routes.

    Raises:
        Misconfigured: Names the line and the key.
    """
    names = table.names()
    if not names:
        raise table.wrong("", "at least one kind is needed")
    kinds = {}
    for name in names:
        if not NAME.fullmatch(name):
            raise table.wrong(name, "a kind's name is made of lower-case letters, digits and hyphens")
        kinds[name] = _kind(name, table.table(name), query=query)
    return MappingProxyType(kinds)


def _kind(name: str, table: Table, *, query: bool) -> KindSpec:
    fields = _fields(table.table("fields"))
    kind = KindSpec(
        name=name,
        create_path=table.matching("create_path", _PATH, _A_PATH),
        query_path=_query_path(table, "query_path", query=query),
        external_query_path=_query_path(table, "external_query_path", query=query, needed=False),
        ids_per_query=table.needed_count("ids_per_query", 1),
        list_path=_optional(table, "list_path", _PATH, _A_PATH),
        page_size=table.needed_count("page_size", 500),
        fields=fields,
        exactly_one=_groups(table, {field.name for field in fields}),
        constants=_constants(table.table("constants")),
        external_id_path=_place(table, "external_id_path", "external_task_id"),
        callback_path=_place(table, "callback_path", "callback_url"),
        results=table.texts("results") or ("audios",),
        audio_in=table.choice("audio_in", AudioIn, AudioIn.AUDIOS),
        formats=table.words("formats", Format, empty=False),
        source=table.optional_text("source"),
    )
    table.close()
    if kind.audio_in is AudioIn.VIDEOS and VIDEOS not in kind.results:
        raise table.wrong("audio_in", f"results must name {VIDEOS}")
    _check_places(kind, table)
    return kind


def _check_places(kind: KindSpec, table: Table) -> None:
    places = [field.path for field in kind.fields] + list(kind.constants)
    places += [path for path in (kind.external_id_path, kind.callback_path) if path is not None]
    for number, place in enumerate(places):
        for other in places[number + 1 :]:
            if f"{place}.".startswith(f"{other}.") or f"{other}.".startswith(f"{place}."):
                raise table.wrong("", f"{place} and {other} would stand in the same place of the body")


def _fields(table: Table) -> tuple[FieldSpec, ...]:
    return tuple(_field(name, table, table.table(name)) for name in table.names())


def _field(name: str, parent: Table, table: Table) -> FieldSpec:
    if not _FIELD.fullmatch(name):
        raise parent.wrong(name, "a field's name is made of letters, digits and underscores")
    field = FieldSpec(
        name=name,
        type=table.choice("type", FieldType),
        required=table.flag("required", default=False),
        max_chars=table.count("max_chars", least=1),
        min=table.number("min"),
        max=table.number("max"),
        decimals=table.count("decimals", least=0),
        choices=_choices(table),
        default=table.scalar("default"),
        help=table.optional_text("help") or "",
        path=table.matching("path", _PLACE, "names joined by dots", default=name),
        send_as=table.choice("send_as", SendAs, SendAs.NUMBER),
    )
    table.close()
    _check_field(field, table)
    if field.default is None:
        return field
    return replace(field, default=_fitting(field, "default", field.default, table))


def _check_field(field: FieldSpec, table: Table) -> None:
    text_only = {"max_chars": field.max_chars is not None}
    number_only = {
        "min": field.min is not None,
        "max": field.max is not None,
        "decimals": field.decimals is not None,
        "send_as": field.send_as is not SendAs.NUMBER,
    }
    foreign = {} if field.type is FieldType.STRING else text_only
    if field.type is not FieldType.NUMBER:
        foreign = {**foreign, **number_only}
    if field.type is FieldType.BOOLEAN:
        foreign = {**foreign, "choices": bool(field.choices)}
    for key, given in foreign.items():
        if given:
            raise table.wrong(key, f"means nothing for a {field.type}")
    if field.min is not None and field.max is not None and field.min > field.max:
        raise table.wrong("min", "must not be more than max")
    for choice in field.choices:
        _fitting(field, "choices", choice, table)


def _fitting(field: FieldSpec, key: str, value: Scalar, table: Table) -> Scalar:
    try:
        return fitting(field, value)
    except ValueError as exc:
        raise table.wrong(key, f"{value}: {exc}") from exc


def _choices(table: Table) -> tuple[str | int | float, ...]:
    value = table.take("choices")
    found = [] if value is None else value
    if not isinstance(found, list) or not all(isinstance(item, str | int | float) and item != "" for item in found):
        raise table.wrong("choices", "must be a list of texts or of numbers")
    return tuple(found)


def _groups(table: Table, known: set[str]) -> tuple[tuple[str, ...], ...]:
    value = table.take("exactly_one")
    groups = [] if value is None else value
    if not isinstance(groups, list) or not all(isinstance(group, list) and len(group) > 1 for group in groups):
        raise table.wrong("exactly_one", "must be a list of lists of field names")
    for group in groups:
        if not all(isinstance(name, str) and name in known for name in group):
            raise table.wrong("exactly_one", "names a field that the kind does not have")
    return tuple(tuple(group) for group in groups)


def _constants(table: Table) -> Mapping[str, Scalar]:
    constants = {}
    for key in table.names():
        value = table.scalar(key)
        if value is None or not _PLACE.fullmatch(key):
            raise table.wrong(key, "must be a place in the body and a value")
        constants[key] = value
    return MappingProxyType(constants)


def _query_path(table: Table, key: str, *, query: bool, needed: bool = True) -> str | None:
    path = _optional(table, key, _QUERY, _A_QUERY)
    if query and (needed or path is not None) and (path is None or path.count("{id}") != 1):
        raise table.wrong(key, "must hold {id} once, or the profile must say query = false")
    if path is not None and not query:
        raise table.wrong(key, "means nothing where query = false")
    return path


def _place(table: Table, key: str, default: str) -> str | None:
    """Take a place in the request body; an empty text says that the provider takes no such thing."""
    return _optional(table, key, _PLACE, "names joined by dots, or empty", default)


def _optional(table: Table, key: str, pattern: re.Pattern[str], what: str, default: str | None = None) -> str | None:
    value = table.optional_text(key, default)
    if value and not pattern.fullmatch(value):
        raise table.wrong(key, f"must be {what}")
    return value or None
