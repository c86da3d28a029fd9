"""The callbacks as they came: search them, read one, and let one be read again."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import structlog

from receiver.core import ids
from receiver.core.errors import NotFound
from receiver.core.model import AccountId, CallbackId, JobKind
from receiver.flow.services import Services
from receiver.store import db, events, inbox, jobs, kept, tasks
from receiver.store.events import Event
from receiver.store.inbox import Callback, Outcome
from receiver.store.jobs import Wanted
from receiver.store.kept import Filter, Line, Page

log = structlog.get_logger(__name__)

__all__ = ["Callback", "Filter", "Line", "Outcome", "Page", "Shown", "page", "replay", "show", "without_secrets"]

#: All behind a question mark up to the end of its text, also where the text is written with escapes: a query may be
#: signed. Cut too much rather than too little.
_QUERY: Final = re.compile(rb"""(\?|%3F|\\+u003F)(?:[^\s"\\]|\\+(?!\\*"))+""", re.IGNORECASE)
#: The token of a callback URL or of a capability URL of ours.
_TOKEN: Final = re.compile(rb"(?<![0-9A-Za-z])[0-9a-f]{8}\.[A-Za-z0-9_-]{43}")
_CUT: Final = "\N{HORIZONTAL ELLIPSIS}".encode()


@dataclass(frozen=True, slots=True)
class Shown:
    """A kept callback, and its body as it may be shown."""

    callback: Callback
    #: Bytes of the body as it is kept.
    size: int
    #: Of the body as it is kept.
    sha256: bytes
    #: Without queries of URLs and tokens.
    body: bytes = field(repr=False)

    @property
    def cut(self) -> bool:
        """Whether something was left out."""
        return self.body != self.callback.body


async def page(services: Services, wanted: Filter) -> Page:
    """Return one page of callbacks of the owner's tasks and of no task, newest first."""
    async with services.database.connection() as conn:
        return await kept.newest(conn, wanted)


async def show(services: Services, owner: str, text: str) -> Shown:
    """
    Return the callback whose id *text* spells, if it is of a task of *owner* or of none.

    Raises:
        NotFound: There is none for this owner.
    """
    async with services.database.connection() as conn:
        found = await kept.get(conn, _callback_id(text), owner)
    if found is None:
        raise NotFound("no such callback")
    digest = hashlib.sha256(found.body).digest()
    return Shown(found, size=len(found.body), sha256=digest, body=without_secrets(found.body))


async def replay(services: Services, owner: str, text: str) -> Shown:
    """
    Let `advance` read a callback again as if it had just come; what it may do then is decided by the state machine.

    Raises:
        NotFound: There is none for this owner.
    """
    callback = _callback_id(text)
    async with services.database.transaction() as conn:
        found = await kept.get(conn, callback, owner)
        if found is None:
            raise NotFound("no such callback")
        # The lock order: task, then the callback's row, then jobs - as `advance` has it.
        locked = await tasks.lock(conn, found.task_id)
        await inbox.reopen(conn, callback)
        account = AccountId(found.account)
        wish = Wanted(kind=JobKind.ADVANCE, subject=callback, account=account, deliver_by=found.received_at)
        await jobs.want(conn, [wish])
        told = {"callback": str(callback), "outcome": found.outcome}
        if locked is not None:
            await events.add(conn, [Event(found.task_id, "callback.replayed", told)])
        db.on_commit(partial(log.info, "callback.replayed", task_id=found.task_id, account=account, **told))
    return await show(services, owner, text)


def without_secrets(body: bytes) -> bytes:
    """Return *body* as it may be shown: queries of URLs may be signed, and tokens of ours open doors."""
    return _TOKEN.sub(_CUT, _QUERY.sub(rb"\1" + _CUT, body))


def _callback_id(text: str) -> CallbackId:
    number = ids.parse_task_id(text)
    if number is None:
        raise NotFound("no such callback")
    return CallbackId(number)
