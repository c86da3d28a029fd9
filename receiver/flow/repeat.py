"""Whether a create may be sent a second time, and whether the task that a provider names is another one of ours."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Final

from receiver.core.model import Account, ApiKey, CreateId, Task
from receiver.flow.services import Deal
from receiver.store import events, tasks
from receiver.store.db import Connection

#: Ids are gone with their results (providers.md 2.7); after that a provider may use one again.
KEEPS_IDS: Final = timedelta(days=30)


def contract(account: Account) -> str:
    """
    Return a fingerprint of where *account* sends its creates, and as whom; it reveals nothing of the key.

    Two keys may belong to one contract, or to two of which neither knows the other's ids.
    """
    credentials = account.credentials
    if isinstance(credentials, ApiKey):
        whose = credentials.key.reveal()
    else:
        whose = f"{credentials.access_key} {credentials.secret_key.reveal()}"
    return hashlib.sha256(f"contract {account.base_url} {whose}".encode()).hexdigest()[:8]


async def is_refused(conn: Connection, deal: Deal, task: Task) -> bool:
    """Return whether a second create of *task* is refused there if the last one has made it: it may be sent again."""
    if deal.profile.create_id is CreateId.NONE:
        return False
    told = await events.last(conn, task.id, "task.sending")
    mine = contract(deal.account)
    return told is None or told.get("contract", mine) == mine


async def is_anothers(conn: Connection, task: Task, provider_task_id: str | None) -> bool:
    """Return whether the provider's task is known to be that of another task of ours; an adopted one is no proof."""
    if provider_task_id is None or task.provider_task_id == provider_task_id:
        return False
    return await tasks.is_made_for_another(conn, task, provider_task_id, within=KEEPS_IDS)
