"""
From a task record, in whatever shape, to a `Report`.

The shapes differ in names only (providers.md 7), so each value is looked up under
all of its names; which shape it is never has to be decided (providers.md D6, D7).
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from receiver.core.model import ProviderStatus, Report
from receiver.dialects.clips import media_of
from receiver.dialects.values import JsonObject, Unreadable, first, identifier, moment, units, words

#: Every status that a provider is known to send, in lower case (providers.md 7).
STATUSES: Final[Mapping[str, ProviderStatus]] = MappingProxyType(
    {
        "submitted": ProviderStatus.SUBMITTED,
        "not_start": ProviderStatus.SUBMITTED,
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


def innermost(root: object, *, levels: int) -> JsonObject:
    """
    Return the innermost object that says a known status, *root* or up to *levels* of `data` below it.

    Gateways wrap the provider's own record in theirs (providers.md 4.1); the innermost
    has the media and the provider's own id.

    Raises:
        Unreadable: There is none.
    """
    found = None
    node = root
    for _ in range(levels + 1):
        if not isinstance(node, dict):
            break
        if status_of(node) is not None:
            found = node
        node = node.get("data")
    if found is None:
        raise Unreadable("no status that is known")
    return found


def report(record: JsonObject, *, results: tuple[str, ...]) -> Report:
    """
    Read one task record; *results* names the lists that hold what is wanted.

    Raises:
        Unreadable: The status is none that is known, or an id is malformed. Everything
            else that is missing or odd is left out.
    """
    status = status_of(record)
    if status is None:
        raise Unreadable("no status that is known")
    reason = first(record, "task_status_msg", "message", "fail_reason")
    return Report(
        status=status,
        provider_task_id=task_id_of(record),
        external_task_id=_external_id(record),
        # On success some gateways put the link here (providers.md 4.1).
        reason=words(reason) if status is ProviderStatus.FAILED else "",
        media=media_of(record, results=results),
        units=_units(record),
        created_at=moment(first(record, "created_at", "create_time", "submit_time")),
        updated_at=moment(first(record, "updated_at", "update_time", "finish_time")),
    )


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
