"""
From a task record, in whatever shape, to a `Report`.

The shapes differ in names only (providers.md 7), so each value is looked up under
all of its names; which shape it is never has to be decided (providers.md D6, D7).
Gateways wrap the provider's own record in theirs (providers.md 4.1): what the inner
one says counts first, and what it leaves out is taken from the one around it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from receiver.core.model import ProviderStatus, Report
from receiver.dialects.clips import loose_media, media_of
from receiver.dialects.values import JsonObject, Unreadable, first, identifier, moment, units, words

#: Every status that a provider is known to send, in lower case (providers.md 5, 7).
STATUSES: Final[Mapping[str, ProviderStatus]] = MappingProxyType(
    {
        "submitted": ProviderStatus.SUBMITTED,
        "not_start": ProviderStatus.SUBMITTED,
        "pending": ProviderStatus.SUBMITTED,
        "staged": ProviderStatus.SUBMITTED,
        "queued": ProviderStatus.SUBMITTED,
        "processing": ProviderStatus.PROCESSING,
        "in_progress": ProviderStatus.PROCESSING,
        "succeed": ProviderStatus.SUCCEEDED,
        "succeeded": ProviderStatus.SUCCEEDED,
        "success": ProviderStatus.SUCCEEDED,
        "completed": ProviderStatus.SUCCEEDED,
        "ok": ProviderStatus.SUCCEEDED,
        "failed": ProviderStatus.FAILED,
        "failure": ProviderStatus.FAILED,
        "error": ProviderStatus.FAILED,
    },
)

_ENDS: Final = frozenset({ProviderStatus.SUCCEEDED, ProviderStatus.FAILED})


def status_of(record: JsonObject) -> ProviderStatus | None:
    """Return the normalised status of a task record; None when it has none that is known."""
    text = first(record, "task_status", "status")
    return STATUSES.get(text.strip().lower()) if isinstance(text, str) else None


def task_id_of(record: JsonObject) -> str | None:
    """
    Return the provider's id of a task record; None when it has none.

    Raises:
        Unreadable: There is one that no id can look like.
    """
    return identifier(first(record, "task_id", "id"))


def read_report(root: object, *, levels: int, results: tuple[str, ...]) -> Report:
    """
    Read the task record in *root*, or up to *levels* of `data` below it.

    *results* names the lists that hold what is wanted.

    Raises:
        Unreadable: No status is one that is known, or an id is malformed. Everything
            else that is missing or odd is left out.
    """
    records = _records(root, levels)
    status = _status(records)
    reason = "" if status is not ProviderStatus.FAILED else _reason(records)
    media = media_of(records[0], results=results)
    if status is ProviderStatus.SUCCEEDED and not media:
        media = loose_media(records, results=results)
    return Report(
        status=status,
        provider_task_id=task_id_of(records[0]) or task_id_of(records[-1]),
        external_task_id=next((found for found in map(_external_id, records) if found is not None), None),
        reason=reason,
        media=media,
        units=_units(records[0]),
        created_at=moment(_said(records, "created_at", "create_time", "submit_time")),
        updated_at=moment(_said(records, "updated_at", "update_time", "finish_time")),
    )


def _records(root: object, levels: int) -> Sequence[JsonObject]:
    """Return every object on the way down `data` that says a known status, the innermost first."""
    found: list[JsonObject] = []
    node = root
    for _ in range(levels + 1):
        if not isinstance(node, dict):
            break
        if status_of(node) is not None:
            found.insert(0, node)
        node = node.get("data")
    if not found:
        raise Unreadable("no status that is known")
    return found


def _status(records: Sequence[JsonObject]) -> ProviderStatus:
    """Return the innermost end; a gateway that gave up no longer asks its provider (providers.md 4.1)."""
    said = [status for status in map(status_of, records) if status is not None]
    return next((status for status in said if status in _ENDS), said[0])


def _reason(records: Sequence[JsonObject]) -> str:
    for record in records:
        said = first(record, "task_status_msg", "message", "fail_reason", "error")
        if text := words(said.get("message") if isinstance(said, dict) else said):
            return text
    return ""


def _said(records: Sequence[JsonObject], *names: str) -> object:
    return next((value for value in (first(record, *names) for record in records) if value is not None), None)


def _external_id(record: JsonObject) -> str | None:
    """Look in every place of providers.md D8."""
    info = record.get("task_info")
    inside = first(info, "external_task_id", "external_id") if isinstance(info, dict) else None
    return identifier(inside or first(record, "external_task_id", "external_id"))


def _units(record: JsonObject) -> str | None:
    whole = units(first(record, "final_unit_deduction"))
    billing = record.get("billing")
    if whole is not None or not isinstance(billing, list):
        return whole
    amounts = [
        units(item.get("amount")) for item in billing if isinstance(item, dict) and item.get("charge_type") == "unit"
    ]
    return f"{sum((Decimal(amount) for amount in amounts if amount), Decimal(0)):f}" if any(amounts) else None
