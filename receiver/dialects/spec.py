"""
Provider profiles: TOML in, `Profile` out, and the check of an input against one.

A profile is one file. `extends` takes over all of a packaged profile (one level);
tables are merged key by key, everything else is replaced.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from receiver.core.errors import Misconfigured
from receiver.core.model import CreateId, Format, SignatureMode
from receiver.dialects.clips import VIDEOS
from receiver.dialects.inputs import check_input
from receiver.dialects.profile import (
    AudioIn,
    CredentialKind,
    ErrorClass,
    FieldSpec,
    FieldType,
    KindSpec,
    Profile,
    SendAs,
)
from receiver.dialects.tables import Document, Scalar, Table

__all__ = [
    "AudioIn",
    "CredentialKind",
    "ErrorClass",
    "FieldSpec",
    "FieldType",
    "KindSpec",
    "Profile",
    "SendAs",
    "catalog",
    "check_input",
    "load",
]

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_FIELD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_PLACE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_PATH: Final = re.compile(r"/[A-Za-z0-9._~/?&=,{}-]*")
_HOST: Final = re.compile(r"localhost|[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+")
_HTTP_STATUS: Final = re.compile(r"4[0-9]{2}")
#: A bare status says nothing of the task itself, so it can never reject one.
_BY_STATUS: Final = frozenset(
    {ErrorClass.AUTHENTICATION, ErrorClass.ACCOUNT, ErrorClass.RATE, ErrorClass.CONCURRENCY},
)


def load(text: str, *, origin: str) -> Profile:
    """
    Read one profile; *origin* is the file name for complaints.

    Raises:
        Misconfigured: The text is no profile; names *origin*, the line and the key.
    """
    document = Document(origin, text)
    data = _parsed(text, origin)
    parent = data.pop("extends", None)
    if parent is not None:
        data = _merged(_parent(parent, document), data)
    return _profile(Table(data, path="", document=document))


@cache
def catalog() -> Mapping[str, Profile]:
    """
    Return the profiles that ship with the package, by name.

    Raises:
        Misconfigured: A file of the package is broken.
    """
    found = {}
    for file in sorted(_folder().iterdir(), key=lambda entry: entry.name):
        if file.name.endswith(".toml"):
            profile = load(file.read_text("utf-8"), origin=file.name)
            if file.name != f"{profile.name}.toml":
                raise Misconfigured(f"{file.name}: name: must be the name of the file")
            found[profile.name] = profile
    return MappingProxyType(found)


def _folder() -> Traversable:
    return files("receiver.dialects") / "catalog"


def _parsed(text: str, origin: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise Misconfigured(f"{origin}: {exc}") from exc


def _parent(name: object, document: Document) -> dict[str, object]:
    known = {file.name.removesuffix(".toml"): file for file in _folder().iterdir() if file.name.endswith(".toml")}
    if not isinstance(name, str) or name not in known:
        raise document.wrong("extends", f"must name a packaged profile: {', '.join(sorted(known))}")
    data = _parsed(known[name].read_text("utf-8"), known[name].name)
    if "extends" in data:
        raise document.wrong("extends", f"{name} extends another profile itself; only one level is allowed")
    # Each profile has its own name; everything else may be taken over.
    del data["name"]
    return data


def _merged(below: Mapping[str, object], above: Mapping[str, object]) -> dict[str, object]:
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = _merged(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return merged


def _profile(table: Table) -> Profile:
    query = table.flag("query", default=True)
    envelope, errors = table.table("envelope"), table.table("errors")
    messages = errors.table("messages")
    profile = Profile(
        name=_matching(table, "name", _NAME, "lower-case letters, digits and hyphens"),
        base_url=_base_url(table),
        create_id=table.choice("create_id", CreateId),
        query=query,
        rewrites_ids=table.flag("rewrites_ids", default=False),
        kinds=_kinds(table.table("kinds"), query=query),
        credentials=table.words("credentials", CredentialKind, empty=False),
        signature_mode=table.choice("signature_mode", SignatureMode, SignatureMode.NONE),
        ok_codes=frozenset(envelope.texts("ok", empty=False)),
        bare=envelope.flag("bare", default=False),
        codes=_codes(errors.table("codes")),
        statuses=_statuses(errors.table("statuses")),
        exists=_pattern(messages, "exists"),
        unknown=_pattern(messages, "unknown"),
        asset_hosts=_hosts(table),
        window=table.duration("window_hours"),
        usual=table.duration("usual_seconds"),
        longest=table.duration("longest_hours"),
        concurrency=_needed(table, "concurrency"),
        create_timeout=table.duration("create_timeout_seconds"),
        sources=table.texts("sources", empty=False),
    )
    for part in (messages, errors, envelope, table):
        part.close()
    _check_times(profile, table)
    return profile


def _check_times(profile: Profile, table: Table) -> None:
    if profile.usual > profile.longest:
        raise table.wrong("usual_seconds", "must not be longer than longest_hours")
    if profile.create_timeout > timedelta(minutes=10):
        raise table.wrong("create_timeout_seconds", "must be at most 600")


def _kinds(table: Table, *, query: bool) -> Mapping[str, KindSpec]:
    names = table.names()
    if not names:
        raise table.wrong("", "at least one kind is needed")
    kinds = {}
    for name in names:
        if not _NAME.fullmatch(name):
            raise table.wrong(name, "a kind's name is made of lower-case letters, digits and hyphens")
        kinds[name] = _kind(name, table.table(name), query=query)
    return MappingProxyType(kinds)


def _kind(name: str, table: Table, *, query: bool) -> KindSpec:
    fields = _fields(table.table("fields"))
    kind = KindSpec(
        name=name,
        create_path=_matching(table, "create_path", _PATH, "a path that begins with a slash"),
        query_path=_query_path(table, "query_path", query=query),
        external_query_path=_query_path(table, "external_query_path", query=query, needed=False),
        ids_per_query=_needed(table, "ids_per_query", 1),
        list_path=_optional(table, "list_path", _PATH, "a path that begins with a slash"),
        page_size=_needed(table, "page_size", 500),
        fields=fields,
        exactly_one=_groups(table, {field.name for field in fields}),
        constants=_constants(table.table("constants")),
        external_id_path=_place(table, "external_id_path", "external_task_id"),
        callback_path=_place(table, "callback_path", "callback_url"),
        results=table.texts("results") or ("audios",),
        audio_in=table.choice("audio_in", AudioIn, AudioIn.AUDIOS),
        formats=table.words("formats", Format, empty=False),
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
        choices=table.texts("choices"),
        default=table.scalar("default"),
        path=_matching(table, "path", _PLACE, "names joined by dots", default=name),
        send_as=table.choice("send_as", SendAs, SendAs.NUMBER),
    )
    table.close()
    _check_field(field, table)
    return field


def _check_field(field: FieldSpec, table: Table) -> None:
    text_only = {"max_chars": field.max_chars is not None, "choices": bool(field.choices)}
    number_only = {
        "min": field.min is not None,
        "max": field.max is not None,
        "decimals": field.decimals is not None,
        "send_as": field.send_as is not SendAs.NUMBER,
    }
    foreign = {} if field.type is FieldType.STRING else text_only
    if field.type is not FieldType.NUMBER:
        foreign = {**foreign, **number_only}
    for key, given in foreign.items():
        if given:
            raise table.wrong(key, f"means nothing for a {field.type}")
    if field.min is not None and field.max is not None and field.min > field.max:
        raise table.wrong("min", "must not be more than max")
    if field.default is not None and not _is_of(field.type, field.default):
        raise table.wrong("default", f"must be a {field.type}")


def _is_of(kind: FieldType, value: Scalar) -> bool:
    match kind:
        case FieldType.STRING:
            return isinstance(value, str)
        case FieldType.NUMBER:
            return isinstance(value, int | float) and not isinstance(value, bool)
        case FieldType.BOOLEAN:
            return isinstance(value, bool)


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


def _codes(table: Table) -> Mapping[str, ErrorClass]:
    return MappingProxyType({code: table.choice(code, ErrorClass) for code in table.names()})


def _statuses(table: Table) -> Mapping[int, ErrorClass]:
    found = {}
    for key in table.names():
        if not _HTTP_STATUS.fullmatch(key):
            raise table.wrong(key, "must be an HTTP status from 400 to 499")
        found[int(key)] = table.choice(key, ErrorClass)
        if found[int(key)] not in _BY_STATUS:
            raise table.wrong(key, f"must be one of {', '.join(sorted(_BY_STATUS))}: a bare status rejects no task")
    return MappingProxyType(found)


def _pattern(table: Table, key: str) -> re.Pattern[str] | None:
    text = table.optional_text(key)
    if not text:
        return None
    try:
        return re.compile(text, re.IGNORECASE)
    except re.error as exc:
        raise table.wrong(key, f"is no regular expression: {exc}") from exc


def _base_url(table: Table) -> str:
    url = table.text("base_url")
    try:
        parts = urlsplit(url)
        wrong = parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None
        wrong = wrong or bool(parts.query or parts.fragment) or url.endswith("/") or parts.port == 0
    except ValueError as exc:
        raise table.wrong("base_url", "is no URL") from exc
    if wrong:
        raise table.wrong("base_url", "must be http(s)://host[:port][/path], without a slash at the end")
    return url


def _hosts(table: Table) -> tuple[str, ...]:
    hosts = table.texts("asset_hosts")
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise table.wrong("asset_hosts", "each must be a domain such as klingai.com: lower case, no wildcard")
    return hosts


def _query_path(table: Table, key: str, *, query: bool, needed: bool = True) -> str | None:
    path = _optional(table, key, _PATH, "a path that begins with a slash")
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


def _matching(table: Table, key: str, pattern: re.Pattern[str], what: str, default: str | None = None) -> str:
    value = table.text(key, default)
    if not pattern.fullmatch(value):
        raise table.wrong(key, f"must be {what}")
    return value


def _needed(table: Table, key: str, default: int | None = None) -> int:
    value = table.count(key, least=1)
    value = default if value is None else value
    if value is None:
        raise table.wrong(key, "a whole number is needed")
    return value
