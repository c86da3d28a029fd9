"""Answers that the control ordered for the next requests at one gate; gone with the process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from starlette.responses import Response

from receiver.sandbox.gates import Gate


@dataclass(slots=True, kw_only=True)
class Ordered:
    """One answer, and for which requests it is."""

    gate: Gate
    #: None: any house, any task (external id).
    house: str | None
    task: str | None
    status: int
    headers: Mapping[str, str]
    content: bytes
    #: In the words of the ledger.
    reply: str
    #: How often it is still to be given.
    left: int

    @classmethod
    def of(
        cls, response: Response, *, gate: Gate, house: str | None, task: str | None, reply: str, number: int
    ) -> Self:
        """Order *response* for the next *number* requests."""
        headers = {name: value for name, value in response.headers.items() if name != "content-length"}
        return cls(
            gate=gate,
            house=house,
            task=task,
            status=response.status_code,
            headers=headers,
            content=bytes(response.body),
            reply=reply,
            left=number,
        )

    def response(self) -> Response:
        """Render it."""
        return Response(self.content, self.status, dict(self.headers))


class Orders:
    """All that is still to be given."""

    def __init__(self) -> None:
        self._orders: list[Ordered] = []

    def add(self, ordered: Ordered) -> None:
        """Have the next requests answered so."""
        self._orders.append(ordered)

    def take(self, gate: Gate, house: str, task: str | None) -> Ordered | None:
        """Return the answer that is ordered for this request, and count it."""
        for one in self._orders:
            if one.gate is gate and one.house in {None, house} and one.task in {None, task}:
                one.left -= 1
                if not one.left:
                    self._orders.remove(one)
                return one
        return None

    def clear(self) -> None:
        """Forget what nothing met yet."""
        self._orders.clear()
