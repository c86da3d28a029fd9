"""What a demo of all providers shows of each, and how it spares its audience the patience of the slow ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

from receiver.cli import api
from receiver.cli.demonstration.board import Board, Row
from receiver.cli.demonstration.checking import Judged, Ledger
from receiver.cli.demonstration.sellers import Seller, named
from receiver.cli.tables import ABSENT, STYLES, cell, size, table
from receiver.core.model import State

#: A task of a slow provider that is with it for so long has ended at the sandbox, and its callback is lost.
WAIT: Final = timedelta(seconds=12)
#: What the sandbox does with ids of ours by which a task can be found.
FINDS: Final = frozenset({"enforced", "found"})
#: Replies in place of the true ones. One is not among them: nothing made, and 503. The service would wait for twice the
#: time-out of a create, 40 s or more, before it sends that one again; longer than a demo should.
SPOILT: Final = ({"status": 502, "html": True}, {"code": 5000})
#: Of the live table, with their least widths, so that nothing moves while it fills; the states of others come last.
COLUMNS: Final = {"provider": 16, "tasks": 5, "open": 4, "archived": 8, "files": 5, "bytes": 8, "attention": 9}
#: States in which the provider has a task of ours, and we do not know its end.
UNDER_WAY: Final = frozenset({State.SUBMITTED, State.PROCESSING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """What came of the tasks of one provider."""

    placed: int
    #: By the service's ledger.
    accepted: int
    archived: int
    #: By the sandbox's ledger.
    charges: int
    #: Replies to creates that left in doubt whether the task was made, by the sandbox's ledger.
    spoilt: int
    #: Tasks at which a person must look.
    attention: int
    #: Tasks about which the demo asked the service to ask.
    refreshed: int


class ProviderBoard(Board):
    """All tasks of one run, a line for each provider."""

    def __init__(self, service: api.Client, sellers: Sequence[Seller]) -> None:
        super().__init__(service)
        self._sellers = sellers

    def table(self, room: int | None = None) -> Group:
        """Return the table; there is room for all providers, for they are few."""
        del room
        made = table(*COLUMNS, "others", right=COLUMNS, fold=("others",))
        made.columns[0].justify = "left"
        for column, width in zip(made.columns, COLUMNS.values(), strict=False):
            column.min_width = width
        for seller in self._sellers:
            _add(made, seller, [row for row in self.rows if row.placed.order.account == seller.account])
        return Group(made, self.summary())


class Refreshing:
    """
    Has the service ask about tasks whose provider it would not ask for minutes.

    Where a provider usually takes two minutes, the first question about a task that no callback tells of comes after
    two minutes, which is right for what it sells and long for a demo whose sandbox takes a second.
    """

    def __init__(self, service: api.Client, board: Board, sellers: Sequence[Seller]) -> None:
        self._service = service
        self._board = board
        self._accounts = {seller.account for seller in sellers if seller.is_slow}
        #: When each task was first seen under way; seconds of the board.
        self._since: dict[str, float] = {}
        #: Tasks that were asked about.
        self.asked: set[str] = set()

    def look(self) -> None:
        """Ask about each task once whose time has come; where the service is away, the next look does it."""
        for row in self._board.rows:
            task = row.placed.task
            if row.placed.order.account not in self._accounts or row.state not in UNDER_WAY or task in self.asked:
                continue
            since = self._since.setdefault(task, self._board.seconds)
            if self._board.seconds - since >= WAIT.total_seconds() and self._ask(task):
                self.asked.add(task)

    def _ask(self, task: str) -> bool:
        try:
            self._service.post(f"/v1/tasks/{task}/refresh", {})
        except api.ServiceUnreachable:
            return False
        except api.Problem as exc:
            if not exc.passing:
                raise
            return False
        return True


def spoil(sandbox: api.Client, sellers: Sequence[Seller]) -> list[Seller]:
    """Have the sandbox spoil the replies to creates where our id finds the task that was made; return where."""
    houses = sandbox.get("/control/houses").document
    spoilt = [seller for seller in sellers if houses[seller.profile.name]["external_ids"] in FINDS]
    for seller in spoilt:
        for reply in SPOILT:
            sandbox.post("/control/answer", {"what": "create_reply", "house": seller.profile.name, **reply})
    return spoilt


def remarks(sellers: Sequence[Seller], spoilt: Sequence[Seller]) -> Iterator[str]:
    """Yield what the audience has to know beside the weather."""
    yield f"the first creates at {named(spoilt)} are answered 502 and 500, though each has made its task"
    others = [seller for seller in sellers if seller not in spoilt]
    yield f"{named(others)} cannot be asked by our id; a create in doubt may need a person there, so none is made"
    if slow := [seller for seller in sellers if seller.is_slow]:
        usual = max(seller.profile.usual for seller in slow)
        yield (
            f"{named(slow)} usually take {usual.total_seconds() / 60:.0f} minutes: if no callback tells of a task, "
            "the service asks then"
        )
        yield f"the sandbox takes no minutes, so the demo has it ask after {WAIT.seconds} s (receiver tasks refresh)"


def sums(
    sellers: Sequence[Seller], rows: Sequence[Row], ledger: Ledger, judged: Judged, asked: set[str]
) -> dict[str, Sum]:
    """Add up each provider's tasks, by the name of its profile."""
    found = {}
    for seller in sellers:
        name, own = seller.profile.name, [row for row in rows if row.placed.order.account == seller.account]
        accepted, states = ledger.by_account.get(seller.account, (0, {}))
        found[name] = Sum(
            placed=len(own),
            accepted=accepted,
            archived=states.get(State.ARCHIVED, 0),
            charges=judged.houses.get(name, 0),
            spoilt=judged.spoilt.get(name, 0),
            attention=sum(row.attention is not None for row in own),
            refreshed=sum(row.placed.task in asked for row in own),
        )
    return found


def final(found: Mapping[str, Sum]) -> Table:
    """Return the table of what came of all."""
    columns = ("accepted", "archived", "charged", "replies spoilt", "refreshed", "attention")
    made = table("provider", *columns, right=columns)
    for name, each in found.items():
        good = each.accepted == each.archived == each.charges
        made.add_row(
            cell(name),
            cell(each.accepted),
            cell(each.archived, style="green" if good else "red"),
            cell(each.charges, style="" if good else "red"),
            *(cell(number or ABSENT) for number in (each.spoilt, each.refreshed, each.attention)),
        )
    return made


def _add(made: Table, seller: Seller, rows: Sequence[Row]) -> None:
    assets = [asset for row in rows for asset in row.assets]
    stored = [asset for asset in assets if asset.state == "stored"]
    states = Counter(row.state for row in rows)
    others = [state for state in State if states[state] and state is not State.ARCHIVED]
    told = Text("  ").join(Text(f"{state} {states[state]}", style=STYLES.get(state, "")) for state in others)
    told.no_wrap, told.overflow = True, "ellipsis"
    made.add_row(
        cell(seller.profile.name),
        cell(len(rows)),
        cell(sum(not row.ended for row in rows)),
        cell(states[State.ARCHIVED], style=STYLES[State.ARCHIVED]),
        cell(f"{len(stored)}/{len(assets)}" if assets else ABSENT),
        cell(size(sum(asset.bytes or 0 for asset in stored)) if stored else ABSENT),
        cell(sum(row.attention is not None for row in rows) or ABSENT, style="yellow"),
        told,
    )
