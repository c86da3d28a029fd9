"""
Provider profiles: TOML in, `Profile` out, and the check of an input against one.

A profile is one file. `extends` takes over all of a packaged profile, `without` names
what of it does not hold here; tables are merged key by key, everything else is replaced.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from types import MappingProxyType
from typing import Final

from receiver.core.errors import Misconfigured
from receiver.core.model import CreateId, SignatureMode
from receiver.dialects.inputs import check_input
from receiver.dialects.kinds import NAME, read_kinds
from receiver.dialects.listing import describe
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
from receiver.dialects.tables import Document, Table
from receiver.dialects.values import is_base_url, is_domain

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
    "describe",
    "load",
    "load_directory",
]

_HTTP_STATUS: Final = re.compile(r"[45][0-9]{2}")
#: A bare status says nothing of the task itself, so it can never reject one.
_BY_STATUS: Final = frozenset(
    {ErrorClass.AUTHENTICATION, ErrorClass.ACCOUNT, ErrorClass.RATE, ErrorClass.CONCURRENCY, ErrorClass.UNSURE},
)


def load(text: str, *, origin: str) -> Profile:
    """
    Read one profile; *origin* is the file name for complaints.

    Raises:
        Misconfigured: The text is no profile; names *origin*, the line and the key.
    """
    document = Document(origin, text)
    data = _inherited(_parsed(document), document, ())
    return _profile(Table(data, path="", document=document))


@cache
def catalog() -> Mapping[str, Profile]:
    """
    Return the profiles that ship with the package, by name.

    Raises:
        Misconfigured: A file of the package is broken.
    """
    return MappingProxyType(_loaded((file.name, file) for file in _folder().iterdir()))


def load_directory(folder: Path) -> Mapping[str, Profile]:
    """
    Read a user's profiles, by name: every `*.toml` in *folder* that is not hidden, each named as its profile.

    One may have the name of a packaged profile, and extend it: it then stands in its place.

    Raises:
        Misconfigured: The folder cannot be read, or a file is no profile (names it, the line and the key).
    """
    try:
        return MappingProxyType(_loaded((str(file), file) for file in folder.iterdir()))
    except OSError as exc:
        raise Misconfigured(f"{folder}: profiles cannot be read: {exc.strerror}") from exc


def _loaded(entries: Iterable[tuple[str, Path | Traversable]]) -> dict[str, Profile]:
    found = {}
    for origin, file in sorted(entries, key=lambda entry: entry[0]):
        # Hidden ones are what editors and copying leave behind.
        if file.name.endswith(".toml") and not file.name.startswith("."):
            text = _text(file, origin)
            profile = load(text, origin=origin)
            if file.name != f"{profile.name}.toml":
                raise Document(origin, text).wrong("name", "must be the name of the file")
            found[profile.name] = profile
    return found


def _text(file: Path | Traversable, origin: str) -> str:
    try:
        if not file.is_file():
            raise Misconfigured(f"{origin}: is no file, or a link that leads to none")
        raw = file.read_bytes()
    except OSError as exc:
        raise Misconfigured(f"{origin}: cannot be read: {exc.strerror}") from exc
    try:
        # Some editors put a mark at the start.
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = raw.count(b"\n", 0, exc.start) + 1
        raise Misconfigured(f"{origin}, line {line}: must be UTF-8") from exc


def _folder() -> Traversable:
    return files("receiver.dialects") / "catalog"


def _parsed(document: Document) -> dict[str, object]:
    try:
        return tomllib.loads(document.text)
    except tomllib.TOMLDecodeError as exc:
        raise document.unparsed(str(exc)) from exc
    except RecursionError as exc:
        raise document.wrong("", "is nested too deeply") from exc
    except ValueError as exc:
        raise document.wrong("", "holds a number that is too long") from exc


def _inherited(data: dict[str, object], document: Document, heirs: tuple[str, ...]) -> dict[str, object]:
    """Put *data* on top of the profile that it extends; *heirs* are the packaged ones below which it stands."""
    parent, without = data.pop("extends", None), data.pop("without", [])
    if parent is None:
        if without:
            raise document.wrong("without", "means nothing without extends")
        return data
    known = {file.name.removesuffix(".toml"): file for file in _folder().iterdir() if file.name.endswith(".toml")}
    if not isinstance(parent, str) or parent not in known:
        raise document.wrong("extends", f"must name a packaged profile: {', '.join(sorted(known))}")
    if parent in heirs:
        raise document.wrong("extends", f"{parent} extends itself")
    text = known[parent].read_text("utf-8")
    packaged = Document(f"{parent}.toml", text)
    below = _inherited(_parsed(packaged), packaged, (*heirs, parent))
    # Each profile has its own name; everything else may be taken over.
    del below["name"]
    _remove(below, without, document)
    if data.get("query") is False:
        _forget_queries(below)
    return _merged(below, data)


def _forget_queries(below: Mapping[str, object]) -> None:
    kinds = below.get("kinds")
    for kind in kinds.values() if isinstance(kinds, dict) else ():
        kind.pop("query_path", None)
        kind.pop("external_query_path", None)


def _remove(below: dict[str, object], without: object, document: Document) -> None:
    if not isinstance(without, list) or not all(isinstance(place, str) for place in without):
        raise document.wrong("without", "must be a list of places such as kinds.text-to-audio.fields.duration")
    for place in without:
        *parents, last = place.split(".")
        here: object = below
        for name in parents:
            here = here.get(name) if isinstance(here, dict) else None
        if not isinstance(here, dict) or last not in here:
            raise document.wrong("without", f"{place} is not in the profile that this one extends")
        del here[last]


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
        name=table.matching("name", NAME, "lower-case letters, digits and hyphens"),
        base_url=_url(table, "base_url") if "base_url" in table.names() else None,
        regions=_regions(table.table("regions")),
        create_id=table.choice("create_id", CreateId),
        query=query,
        rewrites_ids=table.flag("rewrites_ids", default=False),
        kinds=read_kinds(table.table("kinds"), query=query),
        credentials=table.words("credentials", CredentialKind, empty=False),
        signature_mode=table.choice("signature_mode", SignatureMode, SignatureMode.NONE),
        ok_codes=frozenset(envelope.texts("ok", empty=False)),
        bare=envelope.flag("bare", default=False),
        sure_on_5xx=frozenset(errors.texts("sure_on_5xx")),
        codes=_codes(errors.table("codes")),
        statuses=_statuses(errors.table("statuses")),
        exists=_pattern(messages, "exists"),
        unknown=_pattern(messages, "unknown"),
        asset_hosts=_hosts(table),
        window=table.duration("window_hours"),
        usual=table.duration("usual_seconds"),
        longest=table.duration("longest_hours"),
        concurrency=table.needed_count("concurrency"),
        requests_per_minute=table.count("requests_per_minute", least=1),
        create_timeout=table.duration("create_timeout_seconds"),
        sources=table.texts("sources", empty=False),
    )
    for part in (messages, errors, envelope, table):
        part.close()
    _check(profile, table, errors)
    return profile


def _check(profile: Profile, table: Table, errors: Table) -> None:
    if profile.usual > profile.longest:
        raise table.wrong("usual_seconds", "must not be longer than longest_hours")
    if profile.create_timeout > timedelta(minutes=10):
        raise table.wrong("create_timeout_seconds", "must be at most 600")
    if unlisted := profile.sure_on_5xx - profile.codes.keys():
        raise errors.wrong("sure_on_5xx", f"codes must list {', '.join(sorted(unlisted))}")


def _codes(table: Table) -> Mapping[str, ErrorClass]:
    return MappingProxyType({code: table.choice(code, ErrorClass) for code in table.names()})


def _statuses(table: Table) -> Mapping[int, ErrorClass]:
    found = {}
    for key in table.names():
        if not _HTTP_STATUS.fullmatch(key):
            raise table.wrong(key, "must be an HTTP status from 400 to 599")
        found[int(key)] = table.choice(key, ErrorClass)
        if found[int(key)] not in _BY_STATUS:
            raise table.wrong(key, f"must be one of {', '.join(sorted(_BY_STATUS))}: a bare status rejects no task")
        if key.startswith("5") and found[int(key)] is not ErrorClass.UNSURE:
            raise table.wrong(key, "must be unsure: a create that ends so may have arrived")
    return MappingProxyType(found)


def _pattern(table: Table, key: str) -> re.Pattern[str] | None:
    text = table.optional_text(key)
    if not text:
        return None
    try:
        return re.compile(text, re.IGNORECASE)
    except (re.error, OverflowError, RecursionError) as exc:
        raise table.wrong(key, f"is no regular expression: {exc}") from exc


def _regions(table: Table) -> Mapping[str, str]:
    found = {}
    for name in table.names():
        if not NAME.fullmatch(name):
            raise table.wrong(name, "a region's name is made of lower-case letters, digits and hyphens")
        found[name] = _url(table, name)
    return MappingProxyType(found)


def _url(table: Table, key: str) -> str:
    url = table.text(key)
    if not is_base_url(url):
        raise table.wrong(key, "must be http(s)://host[:port][/path], without a slash at the end")
    return url


def _hosts(table: Table) -> tuple[str, ...]:
    hosts = table.texts("asset_hosts", empty=False)
    for host in hosts:
        if not is_domain(host):
            raise table.wrong("asset_hosts", "each must be a domain such as klingai.com: lower case, no wildcard")
    return hosts
