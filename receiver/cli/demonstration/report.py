"""What came of a demo: whether all accounts agree, for people and as one JSON object."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from receiver.cli.demonstration import providers
from receiver.cli.demonstration.board import Row
from receiver.cli.demonstration.checking import Fetched, Judged, Ledger
from receiver.cli.demonstration.place import Place
from receiver.cli.demonstration.providers import Sum
from receiver.cli.tables import cell, clean, size, state_cell, table
from receiver.core.keeping import NOT_CUT
from receiver.core.model import ENDS, Format, State
from receiver.transfer import cut

#: The order in which the ends are listed.
ENDINGS: Final = (State.ARCHIVED, State.PARTIAL, State.FAILED, State.REJECTED, State.EXPIRED, State.CANCELLED)
MEDIA: Final = frozenset(f".{form}" for form in Format)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Everything that was counted."""

    #: Answers of 202 that the demo itself has seen.
    placed: int
    rows: Sequence[Row]
    ledger: Ledger
    judged: Judged
    fetched: Sequence[Fetched]
    #: From the first order to the end of the last task.
    seconds: float
    #: By the name of the profile; empty where the sandbox played no providers.
    profiles: Mapping[str, Sum] = field(default_factory=dict)
    #: Whether the service could cut sound out of videos.
    cuts: bool = True

    def checks(self) -> Iterator[tuple[str, bool]]:
        """Yield each thing that must agree, and whether it does."""
        own, theirs = self.ledger, self.judged
        archived = own.states.get(State.ARCHIVED, 0)
        verified = sum(each.verified for each in self.fetched)
        sound = sum(not each.faults for each in self.fetched)
        made = len(theirs.files)
        yield f"{own.accepted} accepted, {self.placed} answers of 202", own.accepted == self.placed
        yield f"{archived} archived, {own.open} open", archived == own.accepted and own.open == 0
        yield f"{theirs.charges} charged by the sandbox", theirs.charges == own.accepted
        yield from self._checks_of_providers()
        yield f"{len(self.fetched)} files fetched, {made} made by the sandbox", len(self.fetched) == made
        yield f"{verified} files with the hash of our record and of the sandbox's ledger", verified == made
        if tracks := [each for each in self.fetched if each.format == Format.M4A]:
            same = sum(each.verified for each in tracks)
            yield f"{same} of them cut out of videos, with the sound that the sandbox put in", same == len(tracks)
        yield f"{sound} files play whole and last as long as ordered", sound == made

    def _checks_of_providers(self) -> Iterator[tuple[str, bool]]:
        for name, each in self.profiles.items():
            counts = {each.placed, each.accepted, each.archived, each.charges}
            text = f"{name}: {each.accepted} accepted, {each.archived} archived, {each.charges} charged"
            yield text, len(counts) == 1
        if self.profiles:
            once = Counter(self.judged.charged.values())[1]
            tasks = {row.placed.task for row in self.rows}
            yield f"{once} tasks charged once each", self.judged.charged == dict.fromkeys(tasks, 1)
            calls = Counter(row.attention for row in self.rows if row.attention is not None)
            beside = "" if self.cuts else ", beside those whose sound is not cut"
            if not self.cuts:
                del calls[NOT_CUT]
            yield f"{calls.total()} tasks call for a person{beside}", not calls

    @property
    def uncut(self) -> int:
        """The number of tasks whose sound is still inside their videos."""
        return sum(row.attention == NOT_CUT for row in self.rows)

    @property
    def agrees(self) -> bool:
        """Whether all of it agrees."""
        return all(holds for _, holds in self.checks())

    def as_json(self) -> str:
        """Return one object."""
        states = {str(state): self.ledger.states.get(state, 0) for state in ENDINGS}
        shown = {
            name: {key: asdict(each)[key] for key in ("accepted", "archived", "charges", "attention")}
            for name, each in self.profiles.items()
        }
        return json.dumps(
            {
                "accepted": self.ledger.accepted,
                **states,
                "open": self.ledger.open,
                "assets": [
                    {
                        "task": each.task,
                        "clip": each.clip,
                        "format": each.format,
                        "bytes": each.bytes,
                        "sha256": each.sha256,
                        "verified": each.verified,
                    }
                    for each in self.fetched
                ],
                "callbacks": {
                    "received": self.ledger.received,
                    "duplicates": self.ledger.duplicates,
                    "lost": self.judged.lost,
                },
                "charges": self.judged.charges,
                "seconds": round(self.seconds, 3),
                **({"profiles": shown} if self.profiles else {}),
            }
        )


def show(outcome: Outcome, place: Place, console: Console) -> None:
    """Print the ledger, what agrees and what does not, and where everything lies."""
    if outcome.profiles:
        console.print(providers.final(outcome.profiles))
    _show_ledger(outcome, console)
    for text, holds in outcome.checks():
        mark = Text("  ok    ", style="green") if holds else Text("  WRONG ", style="bold red")
        console.print(mark.append(text, style="default"))
    if outcome.uncut:
        text = f"  {outcome.uncut} tasks: the mp4 is archived with the sound inside; {cut.EXTRA} would cut it out"
        console.print(cell(text, style="yellow"))
    for each in outcome.fetched:
        for fault in each.faults:
            console.print(cell(f"  {each.task} {each.clip} {each.format}: {fault}", style="red"))
    for row in outcome.rows:
        if row.state not in ENDS or row.reason is not None:
            reason = "" if row.reason is None else f": {row.reason}"
            console.print(cell(f"  {row.placed.task} {row.state}{reason}", style="red"))
    console.print()
    for name, path in _paths(place):
        console.print(f"  {name:8}", cell(path), soft_wrap=True)


def _show_ledger(outcome: Outcome, console: Console) -> None:
    made = table("ledger", "", right=("",))
    made.add_row(cell("accepted"), cell(outcome.ledger.accepted))
    for state in ENDINGS:
        made.add_row(Text("  ").append_text(state_cell(state)), cell(outcome.ledger.states.get(state, 0)))
    made.add_row(cell("  open"), cell(outcome.ledger.open))
    made.add_row(cell("charged by the sandbox"), cell(outcome.judged.charges))
    made.add_row(cell("callbacks received"), cell(outcome.ledger.received))
    made.add_row(cell("  repeats of these"), cell(outcome.ledger.duplicates))
    made.add_row(cell("  lost on the way"), cell(outcome.judged.lost))
    made.add_row(cell("bytes fetched and hashed"), cell(size(sum(each.bytes for each in outcome.fetched))))
    made.add_row(cell("seconds to archive all"), cell(f"{outcome.seconds:.1f}"))
    console.print(made)


def _paths(place: Place) -> Iterator[tuple[str, str]]:
    files = [path for path in place.objects.rglob("*") if path.suffix in MEDIA]
    yield "media", f"{near(place.objects)} ({len(files)} files)"
    if files:
        yield "such as", near(min(files))
    yield "logs", f"{near(place.directory)}/*.log"


def near(path: Path) -> str:
    """Return *path* as seen from here, where that is shorter."""
    here = Path.cwd()
    return clean(path.relative_to(here) if path.is_relative_to(here) else path)
