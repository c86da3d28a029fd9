"""
How often what goes wrong, and the draws that decide when.

Every draw belongs to one subject (a task, a create, a fetch, a query) and one
purpose, and depends on these and the seed alone. So what one draw says moves no
other, and a higher rate only adds faults to those of a lower one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, TypeVar

from receiver.sandbox import units
from receiver.sandbox.plan import END, PROCESSING, SUBMITTED, Forgery, Plan, Spoilt, Telling, Unanswered, Unsure
from receiver.sandbox.records import SOUNDS, Format
from receiver.sandbox.units import Delay

T = TypeVar("T")

#: Repeats of a duplicated callback.
MOST_REPEATS: Final = 3

#: How statuses are told in a wrong order; `first` keeps `submitted` in front.
WRONG_ORDERS: Final = (
    (PROCESSING, SUBMITTED, END),
    (PROCESSING, END, SUBMITTED),
    (END, SUBMITTED, PROCESSING),
    (END, PROCESSING, SUBMITTED),
    (SUBMITTED, END, PROCESSING),
)
WRONG_ORDERS_BUT_FIRST: Final = WRONG_ORDERS[-1:]

#: Codes 5000, 5001 and 5002 together are as likely as each other kind.
UNSURE_KINDS: Final = (
    (Unsure.CUT,),
    (Unsure.ERROR_5000, Unsure.ERROR_5001, Unsure.ERROR_5002),
    (Unsure.HTML,),
    (Unsure.UNMADE,),
    (Unsure.HANG,),
)
WRONG_BYTES: Final = (Spoilt.HTML, Spoilt.JSON, Spoilt.EMPTY)
TRUNCATED: Final = (Spoilt.TRUNCATED, Spoilt.TRUNCATED_LENGTHLESS)


def _about(read: Callable[[str], object], form: str, text: str) -> dict[str, object]:
    return {"read": read, "form": form, "help": text}


def _rate(text: str) -> float:
    return _number(0.0, units.rate, "RATE", text)


def _number(default: float, read: Callable[[str], float], form: str, text: str) -> float:
    number: float = field(default=default, metadata=_about(read, form, text))
    return number


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Rates from 0 to 1, and what else the faults need. As made, nothing goes wrong."""

    lose: float = _rate("callbacks that are never sent")
    duplicate: float = _rate("callbacks that are sent again, 1 to 3 times, also all at once")
    reorder: float = _rate("tasks whose statuses are told in a wrong order")
    late: Delay = field(
        default=units.LATE, metadata=_about(units.late, "RATE[:DURATION]", "callbacks that come later; by default 30s")
    )
    first: float = _rate("tasks whose first callback is delivered before the create is answered")
    contradict: float = _rate("succeeding tasks that a callback calls failed, before the truth is told")
    bad_signature: float = _rate("callbacks with a wrong signature")
    unsigned: float = _rate("callbacks without a signature")
    forge: float = _rate("tasks about which a stranger tells something, too")
    strip_audios: float = _rate("callbacks of success without audios")
    unsure_create: float = _rate("creates whose reply leaves in doubt whether the task was made")
    hang_seconds: float = _number(30.0, units.seconds, "DURATION", "how long what hangs is held before it is cut")
    rate_limit: float = _number(0.0, units.per_second, "N/s", "creates a second, over which 1302 is told; 0: no limit")
    expire_links: float = _number(0.0, units.seconds, "DURATION", "life of a media link; 0: that of --link-seconds")
    dead_links: float = _rate("files whose links are dead until one was tried and a query gave a fresh one")
    truncate: float = _rate("fetches that get half the file")
    slow: Delay = field(
        default=units.SLOW,
        metadata=_about(units.slow, "RATE[:DURATION]", "fetches that get the file drop by drop; by default in 5s"),
    )
    wrong_bytes: float = _rate("files whose first fetch gets a page, JSON or nothing")
    media_5xx: float = _rate("fetches that are answered 503")
    query_5xx: float = _rate("queries that are answered 5xx")
    query_hang: float = _rate("queries that are not answered")

    def changed(self, given: Mapping[str, object]) -> Faults:
        """
        Return these with some *given* anew, each a number or the text of its option.

        Raises:
            ValueError: A name is unknown or a value cannot be read; the message names it.
        """
        readers = {one.name: one.metadata["read"] for one in fields(self)}
        changes: dict[str, Any] = {}
        for name, value in given.items():
            if name not in readers:
                raise ValueError(f"unknown fault: {name!a}")
            try:
                changes[name] = readers[name](str(value))
            except ValueError as exc:
                raise ValueError(f"{name}: {exc}") from exc
        return replace(self, **changes)

    def shown(self) -> dict[str, float | str]:
        """Return them as `changed` takes them."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: str(value) if isinstance(value, Delay) else value for name, value in values.items()}


NO_FAULTS: Final = Faults()


@dataclass(frozen=True, slots=True)
class Chance:
    """The draws of one subject."""

    subject: str

    def fraction(self, purpose: str) -> float:
        """Return a number from 0 up to, but not, 1."""
        digest = hashlib.sha256(f"{self.subject}:{purpose}".encode()).digest()
        return int.from_bytes(digest[:6]) / 2**48

    def hit(self, rate: float, purpose: str) -> bool:
        """Tell whether it happens."""
        return self.fraction(purpose) < rate

    def pick(self, among: Sequence[T], purpose: str) -> T:
        """Return one of them."""
        return among[int(self.fraction(purpose) * len(among))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Odds:
    """What the seed decides under the rates of the moment."""

    seed: int
    faults: Faults

    def plan(self, number: int, *, told: bool, fails: bool, formats: Sequence[Format] = SOUNDS) -> Plan:
        """
        Draw what goes wrong with the task of the *number*-th order.

        A contradicted task's truth is neither lost nor unsigned: it is told
        until it is taken, so that nobody is left with the lie.
        """
        chance, faults = self._chance("task", number), self.faults
        dead = tuple(form.value for form in formats if chance.hit(faults.dead_links, f"dead {form}"))
        if not told:
            return Plan(dead=dead)
        first = chance.hit(faults.first, "first")
        contradicted = not fails and chance.hit(faults.contradict, "contradict")
        orders = WRONG_ORDERS_BUT_FIRST if first else WRONG_ORDERS
        forged = chance.hit(faults.forge, "forge")
        tellings = [self._telling(chance, place, pressed=first and not place) for place in range(END + 1)]
        if contradicted:
            tellings[END] = replace(tellings[END], lost=False, bad_signature=False, unsigned=False)
        return Plan(
            first=first,
            sequence=chance.pick(orders, "order") if chance.hit(faults.reorder, "reorder") else Plan().sequence,
            contradict_at=chance.pick((PROCESSING, END), "contradict at") if contradicted else None,
            strip_audios=not fails and chance.hit(faults.strip_audios, "strip_audios"),
            forge_at=chance.pick((SUBMITTED, PROCESSING, END), "forge at") if forged else None,
            forgery=chance.pick(tuple(Forgery), "forgery") if forged else None,
            dead=() if fails else dead,
            tellings=tuple(tellings),
        )

    def unsure(self, number: int, attempt: int) -> Unsure | None:
        """Draw what the reply says to the *attempt*-th create, from 1, that could make the *number*-th order."""
        chance = self._chance("create", number, attempt)
        if not chance.hit(self.faults.unsure_create, "unsure"):
            return None
        return chance.pick(chance.pick(UNSURE_KINDS, "kind"), "code")

    def fetch(self, number: int, form: Format, nth: int) -> Spoilt | None:
        """Draw what the *nth* fetch, from 1, of a file meets."""
        chance, faults = self._chance("fetch", number, form, nth), self.faults
        if chance.hit(faults.media_5xx, "5xx"):
            return Spoilt.SERVER_ERROR
        if nth == 1 and chance.hit(faults.wrong_bytes, "wrong"):
            return chance.pick(WRONG_BYTES, "bytes")
        if chance.hit(faults.truncate, "truncate"):
            return chance.pick(TRUNCATED, "length")
        return Spoilt.SLOW if chance.hit(faults.slow.rate, "slow") else None

    def query(self, kind: str, nth: int) -> Unanswered | None:
        """Draw what the *nth* request of *kind*, one task's query or a list, meets."""
        chance = self._chance(kind, nth)
        if chance.hit(self.faults.query_5xx, "5xx"):
            return Unanswered.SERVER_ERROR
        return Unanswered.HANG if chance.hit(self.faults.query_hang, "hang") else None

    def _telling(self, chance: Chance, place: int, *, pressed: bool) -> Telling:
        """Draw how one status is told; one that has to come first is neither lost nor late."""
        faults = self.faults
        again = chance.hit(faults.duplicate, f"duplicate {place}")
        late = chance.hit(faults.late.rate, f"late {place}") and not pressed
        return Telling(
            lost=chance.hit(faults.lose, f"lose {place}") and not pressed,
            repeats=chance.pick(range(1, MOST_REPEATS + 1), f"repeats {place}") if again else 0,
            at_once=again and chance.hit(0.5, f"at once {place}"),
            late=faults.late.seconds if late else 0.0,
            bad_signature=chance.hit(faults.bad_signature, f"bad signature {place}"),
            unsigned=chance.hit(faults.unsigned, f"unsigned {place}"),
        )

    def _chance(self, *subject: object) -> Chance:
        return Chance(":".join(map(str, (self.seed, *subject))))
