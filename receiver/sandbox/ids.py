"""The ids of what is made: a task owns a row of them."""

from __future__ import annotations

import hashlib
from typing import Final

from receiver.sandbox.houses import Ids

#: A task owns as many ids: its own, its clips', one for each callback, its source video's.
EACH: Final = 16
SOUND: Final = 1
#: The `webhook-id` of its first callback.
FIRST_WEBHOOK: Final = 2
VIDEO: Final = 8
PARENT: Final = 9
#: Never used for anything that is made.
LAST: Final = EACH - 1

#: Letters and digits behind `task_`.
GATEWAYS: Final = 32


def told(task_id: int, form: Ids) -> str:
    """Return the id under which a house tells the task that Kling calls *task_id*."""
    match form:
        case Ids.KLING:
            return str(task_id)
        case Ids.PREFIXED:
            return f"kling-v1{task_id}"
        case Ids.GATEWAY:
            return "task_" + hashlib.sha256(f"gateway {task_id}".encode()).hexdigest()[:GATEWAYS]
