"""
What may happen to a task, as one table. Pure: no clock, no I/O.

Providers repeat, reorder and contradict themselves, so most pairs lead back to
the same state. A pair that is absent can never happen and is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final, assert_never

from receiver.core.errors import MoveRefused
from receiver.core.model import (
    ENDS,
    Asset,
    AssetState,
    Format,
    Media,
    ProviderStatus,
    Report,
    State,
    Task,
    Trust,
)

#: Of assets that the provider's word alone made invalid.
PROVIDER_FAILED: Final = "provider_failed"
#: Trusted answers "succeeded" without media after which a person must look.
NO_MEDIA_PATIENCE: Final = 3


class Seen(StrEnum):
    """What was seen of a task, reduced to what the table needs."""

    SENDING = "sending"  #: a create is about to be sent
    CREATED = "created"  #: the create reply names the provider's task
    REFUSED = "refused"  #: the create reply refuses this task
    SUBMITTED = "submitted"
    PROCESSING = "processing"
    MEDIA = "media"  #: succeeded, with live media that we do not have yet
    MEDIA_KNOWN = "media_known"  #: succeeded, with nothing that we lack
    NO_MEDIA = "no_media"  #: succeeded, and names no media at all
    FAILED = "failed"
    NEVER_SENT = "never_sent"  #: submit_by has passed
    NEVER_SETTLED = "never_settled"  #: settle_by has passed and a last query did not end it
    CANCEL = "cancel"
    RETRY_SEND = "retry_send"
    RETRY_MEDIA = "retry_media"


@dataclass(frozen=True, slots=True)
class Move:
    """Where an observation leads."""

    to: State
    #: Of the event that a change of state writes; empty for the name of the state.
    event: str = ""
    #: A signed callback is not enough: it contradicts what is known, so the provider is asked.
    confirm: bool = False
    #: It hints at something that only the provider's answer can show, so the provider is asked.
    ask: bool = False
    #: Set on the task, so that a person looks.
    attention: str | None = None


_S = State
_LATE: Final = (Seen.CREATED, Seen.REFUSED, Seen.SUBMITTED, Seen.PROCESSING, Seen.MEDIA_KNOWN)


def _without_effect(state: State, *seen: Seen) -> dict[tuple[State, Seen], Move]:
    """Spell out pairs that are legal, recorded, and change nothing."""
    return {(state, each): Move(state) for each in seen}


#: Every legal pair. `_without_effect` rows come first: what is spelled out below them wins.
MOVES: Final[Mapping[tuple[State, Seen], Move]] = MappingProxyType(
    {
        # Not sent as far as we know; a callback may know better, because a create was unsure or ids were re-used.
        (_S.ACCEPTED, Seen.SENDING): Move(_S.SUBMITTING, "task.sending"),
        (_S.ACCEPTED, Seen.SUBMITTED): Move(_S.SUBMITTED),
        (_S.ACCEPTED, Seen.PROCESSING): Move(_S.PROCESSING),
        (_S.ACCEPTED, Seen.MEDIA): Move(_S.SUCCEEDED),
        (_S.ACCEPTED, Seen.NO_MEDIA): Move(_S.PROCESSING),
        (_S.ACCEPTED, Seen.FAILED): Move(_S.FAILED),
        (_S.ACCEPTED, Seen.NEVER_SENT): Move(_S.EXPIRED),
        (_S.ACCEPTED, Seen.CANCEL): Move(_S.CANCELLED),
        # A create is or was on its way.
        (_S.SUBMITTING, Seen.SENDING): Move(_S.SUBMITTING, "task.sending"),
        (_S.SUBMITTING, Seen.CREATED): Move(_S.SUBMITTED),
        (_S.SUBMITTING, Seen.REFUSED): Move(_S.REJECTED),
        (_S.SUBMITTING, Seen.SUBMITTED): Move(_S.SUBMITTED),
        (_S.SUBMITTING, Seen.PROCESSING): Move(_S.PROCESSING),
        (_S.SUBMITTING, Seen.MEDIA): Move(_S.SUCCEEDED),
        (_S.SUBMITTING, Seen.NO_MEDIA): Move(_S.PROCESSING),
        (_S.SUBMITTING, Seen.FAILED): Move(_S.FAILED),
        (_S.SUBMITTING, Seen.RETRY_SEND): Move(_S.SUBMITTING),
        (_S.SUBMITTING, Seen.NEVER_SETTLED): Move(_S.EXPIRED),
        # The provider has it.
        **_without_effect(_S.SUBMITTED, Seen.CREATED, Seen.REFUSED, Seen.SUBMITTED),
        (_S.SUBMITTED, Seen.PROCESSING): Move(_S.PROCESSING),
        (_S.SUBMITTED, Seen.MEDIA): Move(_S.SUCCEEDED),
        (_S.SUBMITTED, Seen.NO_MEDIA): Move(_S.PROCESSING),
        (_S.SUBMITTED, Seen.FAILED): Move(_S.FAILED),
        (_S.SUBMITTED, Seen.NEVER_SETTLED): Move(_S.EXPIRED),
        **_without_effect(_S.PROCESSING, Seen.CREATED, Seen.REFUSED, Seen.SUBMITTED, Seen.PROCESSING, Seen.NO_MEDIA),
        (_S.PROCESSING, Seen.MEDIA): Move(_S.SUCCEEDED),
        (_S.PROCESSING, Seen.FAILED): Move(_S.FAILED),
        (_S.PROCESSING, Seen.NEVER_SETTLED): Move(_S.EXPIRED),
        # Media are known. A failure now contradicts them; only the provider's own answer may say so.
        **_without_effect(_S.SUCCEEDED, *_LATE, Seen.NO_MEDIA, Seen.MEDIA),
        (_S.SUCCEEDED, Seen.FAILED): Move(_S.FAILED, confirm=True),
        # Ends. Only live media that we lack, or an operator, lead out again.
        **_without_effect(_S.ARCHIVED, *_LATE, Seen.NO_MEDIA, Seen.FAILED),
        (_S.ARCHIVED, Seen.MEDIA): Move(_S.SUCCEEDED, "task.reopened"),
        **_without_effect(_S.PARTIAL, *_LATE, Seen.NO_MEDIA, Seen.FAILED),
        (_S.PARTIAL, Seen.MEDIA): Move(_S.SUCCEEDED, "task.rescued"),
        (_S.PARTIAL, Seen.RETRY_MEDIA): Move(_S.SUCCEEDED, "task.retried"),
        **_without_effect(_S.FAILED, *_LATE, Seen.FAILED),
        (_S.FAILED, Seen.NO_MEDIA): Move(_S.FAILED, ask=True),
        (_S.FAILED, Seen.MEDIA): Move(_S.SUCCEEDED, "task.rescued", confirm=True),
        (_S.FAILED, Seen.RETRY_MEDIA): Move(_S.SUCCEEDED, "task.retried"),
        **_without_effect(_S.REJECTED, *_LATE, Seen.FAILED),
        (_S.REJECTED, Seen.NO_MEDIA): Move(_S.REJECTED, ask=True),
        (_S.REJECTED, Seen.MEDIA): Move(_S.SUCCEEDED, "task.rescued"),
        (_S.REJECTED, Seen.RETRY_SEND): Move(_S.ACCEPTED, "task.retried"),
        **_without_effect(_S.EXPIRED, *_LATE, Seen.FAILED),
        (_S.EXPIRED, Seen.NO_MEDIA): Move(_S.EXPIRED, ask=True),
        (_S.EXPIRED, Seen.MEDIA): Move(_S.SUCCEEDED, "task.rescued"),
        (_S.EXPIRED, Seen.RETRY_SEND): Move(_S.ACCEPTED, "task.retried"),
        (_S.EXPIRED, Seen.RETRY_MEDIA): Move(_S.SUCCEEDED, "task.retried"),
        # It was never sent, and yet the provider knows it: follow, and call a person.
        **_without_effect(_S.CANCELLED, Seen.CANCEL),
        (_S.CANCELLED, Seen.SUBMITTED): Move(_S.SUBMITTED, "task.revived", attention="cancelled_but_made"),
        (_S.CANCELLED, Seen.PROCESSING): Move(_S.PROCESSING, "task.revived", attention="cancelled_but_made"),
        (_S.CANCELLED, Seen.NO_MEDIA): Move(_S.PROCESSING, "task.revived", attention="cancelled_but_made"),
        (_S.CANCELLED, Seen.MEDIA): Move(_S.SUCCEEDED, "task.revived", attention="cancelled_but_made"),
        (_S.CANCELLED, Seen.FAILED): Move(_S.FAILED, "task.revived", attention="cancelled_but_made"),
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What one observation does to one task."""

    seen: Seen
    state: State
    #: Of the event to write; None when nothing changed.
    event: str | None = None
    #: Ask the provider at once: a hint, or a contradiction, that would change something.
    ask: bool = False
    #: Media to want, with fresh links for what is wanted already.
    media: tuple[Media, ...] = ()
    attention: str | None = None


def is_trusted(trust: Trust, *, has_query: bool) -> bool:
    """Return whether *trust* is enough to move a task of a profile that has a query route, or none."""
    return trust is not Trust.TOKEN or not has_query


def report_on(task: Task, report: Report, trust: Trust, *, now: datetime, has_query: bool) -> Decision:
    """
    Decide what a provider's *report* does to *task*.

    A hint never moves a task. It makes us ask when, if true, it would change
    something; a hint that repeats what is known asks nothing.

    Raises:
        MoveRefused: The report can never follow `task.state`.
    """
    media = _lacking(task, report.media, now=now)
    seen = _classify(report, media, task.state)
    decision = follow(task, seen)
    move = MOVES[task.state, seen]
    changes = decision.state is not task.state or _brings_more(task, media)
    if move.ask and trust is not Trust.CONFIRMED and has_query:
        return Decision(seen=seen, state=task.state, ask=True)
    contradicts = move.confirm and trust is Trust.SIGNED and has_query
    if contradicts or not is_trusted(trust, has_query=has_query):
        return Decision(seen=seen, state=task.state, ask=changes)
    if task.state is State.SUCCEEDED:
        return Decision(seen=seen, state=decision.state, event=decision.event, media=media)
    return Decision(
        seen=seen,
        state=decision.state,
        event=decision.event,
        media=media if decision.state is State.SUCCEEDED else (),
        attention=decision.attention,
    )


def follow(task: Task, seen: Seen) -> Decision:
    """
    Look *seen* up in the table.

    Raises:
        MoveRefused: The pair is absent.
    """
    move = MOVES.get((task.state, seen))
    if move is None:
        raise MoveRefused(f"{seen} cannot follow {task.state}")
    changes = move.to is not task.state or seen is Seen.SENDING
    event = (move.event or f"task.{move.to}") if changes else None
    return Decision(seen=seen, state=move.to, event=event, attention=move.attention)


def settle(state: State, assets: Iterable[Asset], *, may_lack: bool) -> State:
    """
    Compute a `succeeded` task's state from its assets; other states stay.

    *may_lack* says that a promised format is missing and the provider was not
    asked again yet: the task then stays open although all is stored.
    """
    found = {asset.state for asset in assets}
    if state is not State.SUCCEEDED or not found or AssetState.PENDING in found:
        return state
    if found == {AssetState.STORED}:
        return State.SUCCEEDED if may_lack else State.ARCHIVED
    if AssetState.STORED in found:
        return State.PARTIAL
    return State.EXPIRED if AssetState.EXPIRED in found else State.FAILED


def align(task: Task, offered: Iterable[Media]) -> tuple[Media, ...]:
    """
    Give *offered* media the names under which the task knows them.

    Clips match by the provider's clip id; where either side has none, by
    position, because a callback may lack the ids that a query gives.
    """
    known = {(asset.clip, asset.format) for asset in task.assets}
    offered = tuple(offered)
    named = {media.clip for media in offered}
    places = {(a.position, a.format): a.clip for a in task.assets if a.clip not in named}
    return tuple(_renamed(media, places) if (media.clip, media.format) not in known else media for media in offered)


def _renamed(media: Media, places: Mapping[tuple[int, Format], str]) -> Media:
    clip = places.get((media.position, media.format))
    if clip is None or not (_is_nameless(clip, media.position) or _is_nameless(media.clip, media.position)):
        return media
    return replace(media, clip=clip)


def _is_nameless(clip: str, position: int) -> bool:
    return clip in {str(position), f"#{position}"}


def path_of(url: str) -> str:
    """Return *url* without its query: two links of the same file differ only there."""
    return url.partition("?")[0]


def _classify(report: Report, media: tuple[Media, ...], state: State) -> Seen:
    match report.status:
        case ProviderStatus.SUBMITTED:
            return Seen.SUBMITTED
        case ProviderStatus.PROCESSING:
            return Seen.PROCESSING
        case ProviderStatus.FAILED:
            return Seen.FAILED
        case ProviderStatus.SUCCEEDED if not report.media:
            return Seen.NO_MEDIA
        case ProviderStatus.SUCCEEDED:
            # An open task follows media even when their links have lapsed: a fresh one can be asked for.
            return Seen.MEDIA if media or (state not in ENDS and state is not State.SUCCEEDED) else Seen.MEDIA_KNOWN
        case _:  # pragma: no cover
            assert_never(report.status)


def _lacking(task: Task, offered: Iterable[Media], *, now: datetime) -> tuple[Media, ...]:
    known = {(asset.clip, asset.format): asset for asset in task.assets}
    return tuple(media for media in offered if _is_lacking(known.get((media.clip, media.format)), media, now=now))


def _is_lacking(asset: Asset | None, media: Media, *, now: datetime) -> bool:
    if asset is None:
        return True
    match asset.state:
        case AssetState.STORED:
            return False
        case AssetState.PENDING:
            return True
        case AssetState.EXPIRED:
            return now < asset.gone_at or media.url != asset.url
        case AssetState.INVALID:
            # The same file again would be invalid again - unless it was never looked at.
            return asset.error == PROVIDER_FAILED or path_of(media.url) != path_of(asset.url)
        case _:  # pragma: no cover
            assert_never(asset.state)


def _brings_more(task: Task, media: Iterable[Media]) -> bool:
    pending = {(a.clip, a.format) for a in task.assets if a.state is AssetState.PENDING}
    return any((m.clip, m.format) not in pending for m in media)
