"""Bytes to a provider and from it. The answers' side is in `answers`, the records' in `reports`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from receiver.core.errors import CallbackUnreadable
from receiver.core.model import Report
from receiver.dialects.answers import (
    AccountRefused,
    AlreadyExists,
    Busy,
    CreateAnswer,
    Created,
    QueryAnswer,
    Refused,
    UnknownTask,
    Unsure,
    read_create,
    read_query,
)
from receiver.dialects.clips import MEDIA_FORMATS
from receiver.dialects.profile import FieldSpec, Profile, SendAs
from receiver.dialects.reports import innermost, report
from receiver.dialects.values import Unreadable, json_object

__all__ = [
    "MEDIA_FORMATS",
    "AccountRefused",
    "AlreadyExists",
    "Busy",
    "CreateAnswer",
    "Created",
    "QueryAnswer",
    "Refused",
    "UnknownTask",
    "Unsure",
    "WireRequest",
    "create_request",
    "query_request",
    "read_callback",
    "read_create",
    "read_query",
]

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


def query_request(profile: Profile, kind: str, *, id: str) -> WireRequest:  # noqa: A002
    """
    Build a query for one task, by the provider's id or by ours (providers.md 2.4, D26).

    Raises:
        ValueError: The profile has no query route (`profile.query` says so).
    """
    path = profile.kinds[kind].query_path
    if path is None:
        raise ValueError(f"{profile.name} has no query route")
    return WireRequest("GET", path.replace("{id}", quote(id, safe="")), None)


def read_callback(body: bytes, *, results: tuple[str, ...] = ("audios",)) -> Report:
    """
    Read a callback's raw body, in either shape, bare or within one `data` object (providers.md 2.6, 7).

    A callback does not name its product; *results* are the lists that the task's kind wants.

    Raises:
        CallbackUnreadable: It is no report: not JSON, no status that is known, or a
            malformed id. Other odd values are left out of the report.
    """
    try:
        return report(innermost(json_object(body), levels=1), results=results)
    except Unreadable as exc:
        raise CallbackUnreadable(str(exc)) from exc


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
