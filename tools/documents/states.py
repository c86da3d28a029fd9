"""The page of states and moves, from the one table that decides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from receiver.core.lifecycle import MOVES
from receiver.core.model import ENDS, HOLDING_SLOT, AssetState, State, Trust
from tools.documents.markdown import MADE, code, table

_ABOUT: Final = {
    State.ACCEPTED: "Durable here; not sent yet",
    State.SUBMITTING: "A create is about to be sent, under way, or its answer was lost",
    State.SUBMITTED: "The provider has it",
    State.PROCESSING: "The provider works on it",
    State.SUCCEEDED: "Its media are known, not all of them are stored",
    State.ARCHIVED: "All of its media are in the bucket, proven",
    State.PARTIAL: "Some are, the others cannot be had; the missing ones are listed",
    State.FAILED: "The provider says that it failed, or what it gave is no audio",
    State.REJECTED: "The provider refused it",
    State.EXPIRED: "A deadline passed; the reason says which",
    State.CANCELLED: "It was never sent, and will not be",
}
_OF_ASSETS: Final = {
    AssetState.PENDING: "To be fetched",
    AssetState.STORED: "Its bytes are proven to be in the bucket",
    AssetState.EXPIRED: "The provider's window ended before it could be had",
    AssetState.INVALID: "What came is not the audio that was promised; the evidence is kept",
}
_OF_TRUST: Final = {
    Trust.TOKEN: "It came to the right URL, unsigned: a hint, which makes us ask",
    Trust.CONFIRMED: "We asked, with our own key",
    Trust.SIGNED: "A good signature",
}


def page() -> str:
    """Return the page."""
    return "".join(
        [
            f"{MADE}\n\n# States\n\n",
            table(
                ("state", "", "counts as in flight", "meaning"),
                (
                    (code(each), "end" if each in ENDS else "open", "yes" if each in HOLDING_SLOT else "", _ABOUT[each])
                    for each in State
                ),
            ),
            "## Files\n\n",
            table(("state", "meaning"), ((code(each), _OF_ASSETS[each]) for each in AssetState)),
            "## Trust\n\n",
            table(("trust", "meaning"), ((code(each), _OF_TRUST[each]) for each in Trust)),
            "## Moves\n\n",
            "Every move that changes a state and begins with something seen. A pair that is in no table is refused and "
            "recorded. When the last pending file of a task is settled, the task moves on by its files alone: "
            "all stored: `archived`; some: `partial`; none: `expired` if any of them is, else `failed`.\n\n",
            table(("from", "seen", "to", "event", ""), _moves()),
        ]
    )


def _moves() -> Iterator[tuple[str, str, str, str, str]]:
    for (state, seen), move in MOVES.items():
        if move.to is not state:
            notes = ["only if the provider says so when asked"] if move.confirm else []
            notes += [f"attention `{move.attention}`"] if move.attention else []
            yield code(state), code(seen), code(move.to), code(move.event or f"task.{move.to}"), "; ".join(notes)
