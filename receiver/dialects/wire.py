"""Bytes to a provider and from it. The answers' side is in `answers`, the records' in `reports`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import quote

from receiver.core.errors import CallbackUnreadable
from receiver.core.model import Report
from receiver.dialects.answers import (
    AccountRefused,
    AlreadyExists,
    Busy,
    CreateAnswer,
    Created,
    ListAnswer,
    ListPage,
    QueryAnswer,
    Refused,
    UnknownTask,
    Unsure,
    read_create,
    read_list,
    read_query,
)
from receiver.dialects.clips import MEDIA_FORMATS
from receiver.dialects.profile import FieldSpec, Profile, SendAs
from receiver.dialects.reports import read_report
from receiver.dialects.values import Unreadable, json_object

__all__ = [
    "LAST_PAGE",
    "MEDIA_FORMATS",
    "AccountRefused",
    "AlreadyExists",
    "Busy",
    "CreateAnswer",
    "Created",
    "ListAnswer",
    "ListPage",
    "QueryAnswer",
    "Refused",
    "UnknownTask",
    "Unsure",
    "WireRequest",
    "batch_request",
    "create_request",
    "list_request",
    "query_request",
    "read_callback",
    "read_create",
    "read_list",
    "read_query",
]

#: The last page of a list that a provider gives (providers.md 2.4).
LAST_PAGE: Final = 1000

Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class WireRequest:
    """One request to a provider, without host and credentials."""

    method: str
    #: With its query, encoded; begins with a slash.
    path: str
    #: JSON in UTF-8, None where there is none. Holds the callback URL and its token: never logged.
    body: bytes | None = field(repr=False)


def create_request(
    profile: Profile,
    kind: str,
    values: Mapping[str, Value],
    *,
    external_task_id: str,
    callback_url: str | None,
) -> WireRequest:
    """
    Build a create from the *values* that `check_input` has returned.

    What is not given is left out, never sent empty (providers.md D11, D12). The
    same arguments give the same bytes, so that a repeat is a repeat.
    """
    spec = profile.kinds[kind]
    body: dict[str, object] = {}
    for field_spec in spec.fields:
        if field_spec.name in values:
            _put(body, field_spec.path, _sent(field_spec, values[field_spec.name]))
    for path, value in spec.constants.items():
        _put(body, path, value)
    if spec.external_id_path is not None:
        _put(body, spec.external_id_path, external_task_id)
    if spec.callback_path is not None and callback_url is not None:
        _put(body, spec.callback_path, callback_url)
    text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return WireRequest("POST", spec.create_path, text.encode())


def query_request(profile: Profile, kind: str, *, id: str, ours: bool = False) -> WireRequest:  # noqa: A002
    """
    Build a query for one task, by the provider's id or, where *ours* says so, by ours (providers.md 2.4, D26).

    Raises:
        ValueError: The profile has no query route (`profile.query` says so).
    """
    return batch_request(profile, kind, ids=(id,), ours=ours)


def batch_request(profile: Profile, kind: str, *, ids: Sequence[str], ours: bool = False) -> WireRequest:
    """
    Build one query for up to `KindSpec.ids_per_query` tasks; several are answered as a list (`read_list`).

    All *ids* are the provider's or, where *ours* says so, all are ours. Ids that the
    provider does not know are left out of its answer (providers.md 2.4).

    Raises:
        ValueError: The profile has no query route, or one that does not take so many ids.
    """
    spec = profile.kinds[kind]
    path = (spec.external_query_path if ours else None) or spec.query_path
    if path is None:
        raise ValueError(f"{profile.name} has no query route")
    if not 1 <= len(ids) <= spec.ids_per_query:
        raise ValueError(f"{profile.name} takes 1 to {spec.ids_per_query} ids in one query")
    return WireRequest("GET", path.replace("{id}", ",".join(quote(each, safe="") for each in ids)), None)


def list_request(profile: Profile, kind: str, *, page: int, size: int | None = None) -> WireRequest:
    """
    Build a query for a page of the provider's tasks of *kind*, newest first (providers.md 2.4).

    *page* counts from 1 to `LAST_PAGE`. *size* is how many tasks a full page holds: at
    most, and by default, `KindSpec.page_size`. `read_list` takes the same size.

    Raises:
        ValueError: The kind has no list route (`KindSpec.list_path` says so), or a number is out of range.
    """
    spec = profile.kinds[kind]
    size = spec.page_size if size is None else size
    if spec.list_path is None:
        raise ValueError(f"{profile.name} has no list route for {kind}")
    if not 1 <= page <= LAST_PAGE or not 1 <= size <= spec.page_size:
        raise ValueError(f"pages go from 1 to {LAST_PAGE}, sizes from 1 to {spec.page_size}")
    joint = "&" if "?" in spec.list_path else "?"
    return WireRequest("GET", f"{spec.list_path}{joint}pageNum={page}&pageSize={size}", None)


def read_callback(profile: Profile, kind: str, body: bytes) -> Report:
    """
    Read a callback's raw body, in either shape, bare or within one `data` object (providers.md 2.6, 7).

    *kind* is that of the task which the callback's URL names; the body names none.

    Raises:
        CallbackUnreadable: It is no report: not JSON, no status that is known, or a
            malformed id. Other odd values are left out of the report.
    """
    try:
        found = read_report(json_object(body), levels=1, results=profile.kinds[kind].results)
    except Unreadable as exc:
        raise CallbackUnreadable(str(exc)) from exc
    # Kling's own id says nothing to one who knows only the gateway's (providers.md 4.1).
    return replace(found, provider_task_id=None) if profile.rewrites_ids else found


def _sent(spec: FieldSpec, value: Value) -> Value:
    return f"{value}" if spec.send_as is SendAs.TEXT else value


def _put(body: dict[str, object], path: str, value: Value) -> None:
    """Set *value* at the dotted *path*, making the objects on the way."""
    *parents, last = path.split(".")
    here = body
    for name in parents:
        below = here.setdefault(name, {})
        if not isinstance(below, dict):
            raise TypeError(f"{path} lies below a value")
        here = below
    here[last] = value
