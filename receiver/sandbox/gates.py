"""Holds requests at an exact step until told, so that a test can do something meanwhile. Kept in memory alone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from itertools import count


class Gate(StrEnum):
    """The steps at which a request can be held."""

    #: Read, nothing made.
    CREATE = "create"
    #: Made, not answered.
    CREATE_REPLY = "create_reply"
    #: Read, not answered.
    QUERY = "query"
    LIST = "list"
    #: Half of the body is sent.
    MEDIA = "media"
    #: Not sent.
    CALLBACK = "callback"


@dataclass(slots=True, kw_only=True)
class _Order:
    gate: Gate
    #: None: any house, any task (external id).
    house: str | None
    task: str | None
    left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A request that is held now."""

    id: int
    gate: Gate
    house: str
    #: External id.
    task: str | None
    #: Its result tells whether the request goes on; else it is cut.
    told: asyncio.Future[bool]


class Gates:
    """All holds of one sandbox."""

    def __init__(self) -> None:
        self._orders: list[_Order] = []
        self._held: dict[int, Held] = {}
        self._ids = count(1)

    def order(self, gate: Gate, *, house: str | None, task: str | None, number: int) -> None:
        """Have the next *number* requests held at *gate*: those of a house and a *task* (external id), or any."""
        self._orders.append(_Order(gate=gate, house=house, task=task, left=number))

    def ordered(self) -> list[tuple[Gate, str | None, str | None, int]]:
        """Return gate, house, task and number of what is still to be held."""
        return [(order.gate, order.house, order.task, order.left) for order in self._orders]

    def held(self) -> list[Held]:
        """Return what is held now, the oldest first."""
        return list(self._held.values())

    async def go_on(self, gate: Gate, house: str, task: str | None) -> bool:
        """Wait if that was ordered; tell whether the request goes on, else it is cut."""
        if not self._take(gate, house, task):
            return True
        told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        held = Held(id=next(self._ids), gate=gate, house=house, task=task, told=told)
        self._held[held.id] = held
        try:
            return await told
        finally:
            self._held.pop(held.id, None)

    def release(self, *, gate: Gate | None, house: str | None, task: str | None, held: int | None, cut: bool) -> int:
        """
        Let go on, or *cut*, what is held, and return how many; None matches all.

        Without *held*, what was ordered and not yet held is forgotten, too.
        """
        if held is None:
            self._orders = [
                order
                for order in self._orders
                if gate not in {None, order.gate} or house not in {None, order.house} or task not in {None, order.task}
            ]
        chosen = [
            one
            for one in self._held.values()
            if gate in {None, one.gate}
            and house in {None, one.house}
            and task in {None, one.task}
            and held in {None, one.id}
        ]
        for one in chosen:
            del self._held[one.id]
            if not one.told.done():
                one.told.set_result(not cut)
        return len(chosen)

    def expects(self, gate: Gate) -> bool:
        """Tell whether something is still to be held at *gate*."""
        return any(order.gate is gate for order in self._orders)

    def close(self) -> None:
        """Cut the requests that are held; callbacks stay due, for the next process."""
        for gate in set(Gate) - {Gate.CALLBACK}:
            self.release(gate=gate, house=None, task=None, held=None, cut=True)

    def _take(self, gate: Gate, house: str, task: str | None) -> bool:
        for order in self._orders:
            if order.gate is gate and order.house in {None, house} and order.task in {None, task}:
                order.left -= 1
                if not order.left:
                    self._orders.remove(order)
                return True
        return False
