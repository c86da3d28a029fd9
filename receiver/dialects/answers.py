"""
What a provider's answers to a create and to a query mean. Pure: bytes in, records out.

Only a parsed envelope with a listed code may reject a task or pause an account;
whatever is not plainly one of the listed things is `Unsure` (providers.md 2.8, D24).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from receiver.core.model import ProviderStatus, Report
from receiver.dialects.profile import ErrorClass, Profile
from receiver.dialects.reports import read_report, status_of, task_id_of
from receiver.dialects.values import JsonObject, Unreadable, first, json_object, words


@dataclass(frozen=True, slots=True)
class Created:
    """The task exists at the provider."""

    provider_task_id: str
    status: ProviderStatus


@dataclass(frozen=True, slots=True)
class AlreadyExists:
    """The external id was used before: an earlier send made the task."""

    message: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The provider will never take this request; nothing was made."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class AccountRefused:
    """The provider refuses the account, not the request; nothing was made."""

    code: str
    message: str
    #: The credentials are not accepted, so that queries would fail too.
    authentication: bool
    #: The token's times are not accepted: our clock and theirs differ.
    clock: bool = False


@dataclass(frozen=True, slots=True)
class Busy:
    """Too much at once; nothing was made. The same request may work later."""

    code: str
    message: str
    #: Too many tasks in flight, as opposed to too many requests.
    concurrency: bool
    #: How long the provider asks us to wait; None when it does not say.
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class UnknownTask:
    """The provider knows no such task, or not yet (providers.md D16)."""


@dataclass(frozen=True, slots=True)
class Unsure:
    """The answer settles nothing; *why* is short and repeats nothing of the body."""

    why: str
    #: How long the provider asks us to wait; None when it does not say.
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPage:
    """Some of the provider's tasks, in its order: newest first."""

    reports: tuple[Report, ...]
    #: Nothing comes after this page.
    is_last: bool
    #: Entries that are no readable task record, and are left out.
    unreadable: int = 0


CreateAnswer = Created | AlreadyExists | Refused | AccountRefused | Busy | Unsure
QueryAnswer = Report | UnknownTask | AccountRefused | Busy | Unsure
ListAnswer = ListPage | AccountRefused | Busy | Unsure

_OK: Final = range(200, 300)
_CLIENT_ERRORS: Final = range(400, 500)
_SERVER_ERRORS: Final = range(500, 600)
_REJECTING: Final = frozenset({ErrorClass.TASK, ErrorClass.MESSAGE})
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9.+-]{1,40}/[a-z0-9.+-]{1,60}")
_CODE: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
#: Headers in which a provider may name the request, best first.
REQUEST_ID_HEADERS: Final = ("x-request-id", "x-oneapi-request-id")
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_.-]{8,128}")
_REQUEST_ID_IN_WORDS: Final = re.compile(r"request[ _-]?id:? *([A-Za-z0-9_.-]{8,128})", re.IGNORECASE)
#: `data` below `data` that a gateway's fetch may show (providers.md 6.10).
_WRAPPINGS: Final = 3


def read_create(
    profile: Profile, *, status: int, content_type: str, body: bytes, retry_after: timedelta | None = None
) -> CreateAnswer:
    """
    Read the answer to a create.

    *content_type* is empty where there was none; *retry_after* is what the header of that name says.
    """
    envelope = _opened(profile, status, content_type, body)
    if isinstance(envelope, Unsure):
        return replace(envelope, retry_after=retry_after)
    if envelope.ok:
        return _created(envelope)
    match envelope.problem:
        case ErrorClass.MESSAGE if profile.exists is not None and profile.exists.search(envelope.message):
            return AlreadyExists(envelope.message)
        case _ if envelope.names_task:
            return Unsure(f"{envelope.summary}, and a task", retry_after)
        case ErrorClass.TASK | ErrorClass.MESSAGE | ErrorClass.MISSING:
            return Refused(envelope.code, envelope.message)
        case _:
            return _refused(envelope, retry_after)


def read_query(
    profile: Profile, kind: str, *, status: int, content_type: str, body: bytes, retry_after: timedelta | None = None
) -> QueryAnswer:
    """Read the answer to a query for one task of *kind*; the rest is as for `read_create`."""
    envelope = _opened(profile, status, content_type, body)
    if isinstance(envelope, Unsure):
        return replace(envelope, retry_after=retry_after)
    if envelope.ok:
        return _reported(profile, kind, envelope)
    match envelope.problem:
        case ErrorClass.MISSING:
            return UnknownTask()
        # Under a code that is not listed, too: nothing is rejected by it (providers.md D15, D16).
        case ErrorClass.MESSAGE | None if profile.unknown is not None and profile.unknown.search(envelope.message):
            return UnknownTask()
        case _:
            return _refused(envelope, retry_after)


def read_list(
    profile: Profile,
    kind: str,
    *,
    status: int,
    content_type: str,
    body: bytes,
    size: int,
    retry_after: timedelta | None = None,
) -> ListAnswer:
    """
    Read the answer to `wire.list_request` or `wire.batch_request`.

    *size* is how many tasks were asked for: a page with fewer is the last. An entry
    that is no task record is counted and left out, so that one odd task hides no
    other. The rest is as for `read_create`.
    """
    envelope = _opened(profile, status, content_type, body)
    if isinstance(envelope, Unsure):
        return replace(envelope, retry_after=retry_after)
    if not envelope.ok:
        return _refused(envelope, retry_after)
    # A list without entries may come as null.
    entries = [] if envelope.data is None else envelope.data
    if not isinstance(entries, list):
        return Unsure(f"{envelope.summary}, no list")
    reports = tuple(_listed(profile, kind, entries))
    return ListPage(reports=reports, is_last=len(entries) < size, unreadable=len(entries) - len(reports))


def _listed(profile: Profile, kind: str, entries: list[object]) -> Iterator[Report]:
    for entry in entries:
        try:
            yield _record(profile, kind, entry)
        except Unreadable:
            # Counted by the caller, as what is missing.
            continue


@dataclass(frozen=True, slots=True, kw_only=True)
class _Envelope:
    #: What came, without anything of the body but its code: "http 400, code 1201".
    summary: str
    #: As text; empty where there is none.
    code: str
    message: str
    ok: bool
    problem: ErrorClass | None
    #: A task is named, so that a refusal beside it proves nothing.
    names_task: bool
    #: The task record's place.
    data: object


def request_id(*, header: str | None, body: bytes) -> str | None:
    """
    Return the provider's own name of a request, for the log of a call that failed; None where it gives none.

    It is asked for by the supports of resellers (providers.md 3.2, 3.3). *header* is
    one of `REQUEST_ID_HEADERS`; next come the envelope's `request_id` and a message
    that embeds it.
    """
    if header is not None and _REQUEST_ID.fullmatch(header.strip()):
        return header.strip()
    try:
        root = json_object(body)
    except Unreadable:
        return None
    error = root.get("error")
    for holder in (root, error if isinstance(error, dict) else {}):
        given = holder.get("request_id")
        if isinstance(given, str) and _REQUEST_ID.fullmatch(given):
            return given
        embedded = _REQUEST_ID_IN_WORDS.search(words(holder.get("message")))
        if embedded is not None:
            return embedded[1]
    return None


def _opened(profile: Profile, status: int, content_type: str, body: bytes) -> _Envelope | Unsure:
    media_type = content_type.partition(";")[0].strip().lower()
    readable = status in _OK or status in _CLIENT_ERRORS or (status in _SERVER_ERRORS and profile.sure_on_5xx)
    if not readable or "html" in media_type or "xml" in media_type:
        return Unsure(_summary(status, media_type))
    try:
        root = json_object(body)
    except Unreadable as exc:
        return Unsure(f"{_summary(status, media_type)}, {exc}")
    envelope = _enveloped(profile, status, root)
    if status in _SERVER_ERRORS and envelope.code not in profile.sure_on_5xx:
        return Unsure(envelope.summary)
    return envelope


def _summary(status: int, media_type: str) -> str:
    if not media_type:
        return f"http {status}, no content type"
    shown = media_type if _MEDIA_TYPE.fullmatch(media_type) else "odd content type"
    return f"http {status}, {shown}"


def _enveloped(profile: Profile, status: int, root: JsonObject) -> _Envelope:
    error = root.get("error")
    # Some gateways answer errors in an object of their own (providers.md 3.2); a bare record may hold its task's.
    is_record = profile.bare and status_of(root) is not None
    holder = error if "code" not in root and isinstance(error, dict) and not is_record else root
    code = _code(holder.get("code"))
    if holder is not root and not code:
        code = _code(holder.get("type"))
    bare = profile.bare and code is None and holder is root
    ok = status in _OK and (code in profile.ok_codes or bare)
    shown = code if code is not None and _CODE.fullmatch(code) else None
    return _Envelope(
        summary=f"http {status}, {'no code' if shown is None else f'code {shown}'}",
        code=shown or f"http_{status}",
        message=words(holder.get("message")),
        ok=ok,
        problem=None if ok else _problem(profile, status, code),
        names_task=any(_names_task(record) for record in (root, root.get("data"), root.get("result"))),
        data=root if bare else first(root, "data", "result"),
    )


def _names_task(record: object) -> bool:
    return isinstance(record, dict) and first(record, "task_id") is not None


def _problem(profile: Profile, status: int, code: str | None) -> ErrorClass | None:
    """Classify by code; but a status that says "later" or "not you" outweighs a code that would reject the task."""
    problem = profile.codes.get(code or "")
    if problem is None or (problem in _REJECTING and status in _CLIENT_ERRORS):
        problem = profile.statuses.get(status, problem)
    return problem


def _code(value: object) -> str | None:
    """Return an envelope's code as text, whether it came as number or text (providers.md D24)."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value.strip() if isinstance(value, str) else None


def _created(envelope: _Envelope) -> Created | Unsure:
    record = envelope.data
    if not isinstance(record, dict):
        return Unsure(f"{envelope.summary}, no data")
    try:
        # The outermost id is the gateway's own, by which it can be asked.
        for _ in range(_WRAPPINGS):
            if task_id := task_id_of(record):
                # The id proves the task; a status that nobody knows takes nothing from that.
                return Created(task_id, status_of(record) or ProviderStatus.SUBMITTED)
            inner = record.get("data")
            record = inner if isinstance(inner, dict) else {}
    except Unreadable as exc:
        return Unsure(f"{envelope.summary}, {exc}")
    return Unsure(f"{envelope.summary}, no task id")


def _reported(profile: Profile, kind: str, envelope: _Envelope) -> Report | UnknownTask | Unsure:
    data = envelope.data
    if data == []:
        # The new standard leaves unknown ids out of its list (providers.md 2.4).
        return UnknownTask()
    if isinstance(data, list) and len(data) == 1:
        data = data[0]
    if not isinstance(data, dict):
        return Unsure(f"{envelope.summary}, no data")
    try:
        return _record(profile, kind, data)
    except Unreadable as exc:
        return Unsure(f"{envelope.summary}, {exc}")


def _record(profile: Profile, kind: str, data: object) -> Report:
    found = read_report(data, levels=_WRAPPINGS, results=profile.kinds[kind].results)
    if not profile.rewrites_ids:
        return found
    # What we asked for, and can ask for again, is the gateway's own id (providers.md 7).
    own = task_id_of(data) if isinstance(data, dict) else None
    return replace(found, provider_task_id=own or found.provider_task_id)


def _refused(envelope: _Envelope, retry_after: timedelta | None) -> AccountRefused | Busy | Unsure:
    code, message = envelope.code, envelope.message
    match envelope.problem:
        case ErrorClass.AUTHENTICATION:
            return AccountRefused(code, message, authentication=True)
        case ErrorClass.CLOCK:
            return AccountRefused(code, message, authentication=True, clock=True)
        case ErrorClass.ACCOUNT:
            return AccountRefused(code, message, authentication=False)
        case ErrorClass.RATE:
            return Busy(code, message, concurrency=False, retry_after=retry_after)
        case ErrorClass.CONCURRENCY:
            return Busy(code, message, concurrency=True, retry_after=retry_after)
        case _:
            return Unsure(envelope.summary, retry_after)
