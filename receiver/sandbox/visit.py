"""A request to one house, and what it meets before its answer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from receiver.sandbox import answers, incidents
from receiver.sandbox.answers import Refusal
from receiver.sandbox.auth import authorize
from receiver.sandbox.gates import Gate
from receiver.sandbox.houses import House
from receiver.sandbox.links import Links
from receiver.sandbox.parts import Sandbox
from receiver.sandbox.plan import Unanswered
from receiver.sandbox.records import Counted, Product
from receiver.sandbox.traffic import Seen
from receiver.sandbox.weather import Weather
from receiver.sandbox.wire import Cut, Hang

#: Bytes of a request body.
MAX_BODY: Final = 64 * 1024

CUT_BY_CONTROL: Final = "held_cut"
ORDERED: Final = "answer"

#: Paths of the new standard, which take no JWT (providers.md 2.1).
NEW: Final = frozenset({None, Product.NEW_VIDEO})


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One request."""

    sandbox: Sandbox
    house: House
    kind: Counted
    #: What the path is for; None: for all that the house has.
    product: Product | None
    #: Its place among the house's requests of this kind, from 1.
    number: int
    seen: Seen | None

    @property
    def weather(self) -> Weather:
        """The house's."""
        return self.sandbox.weather[self.house.name]

    @property
    def links(self) -> Links:
        """The house's."""
        return self.sandbox.links[self.house.name]

    def authorize(self, request: Request) -> None:
        """
        Check the key.

        Raises:
            Refusal: 401 (see `auth.authorize`).
        """
        pair = self.house.key_pair and self.product not in NEW
        authorize(self.sandbox.config, self.house.name, request.headers.get("authorization"), pair=pair)

    async def go_on(self, gate: Gate, external_id: str | None) -> bool:
        """Wait where the control holds the request; tell whether it goes on."""
        return await self.sandbox.gates.go_on(gate, self.house.name, external_id)

    async def note(self, given: str | None, fault: str) -> None:
        """Tell the ledger that the request met *fault*."""
        note = partial(incidents.add, house=self.house.name, kind=self.kind, given=given, fault=fault)
        await self.sandbox.state.do(note)

    def hang(self) -> Hang:
        """Return the answer that does not come."""
        return Hang(self.weather.faults.hang_seconds, self.sandbox.stopping)

    def refused(self, refusal: Refusal) -> Response:
        """Render *refusal*."""
        return answers.refused(refusal, self.house)

    async def instead(self, gate: Gate, external_id: str | None) -> Response | None:
        """Return what is answered in place of the truth; None when that is told."""
        if not await self.go_on(gate, external_id):
            await self.note(external_id, CUT_BY_CONTROL)
            return Cut()
        if (ordered := self.sandbox.orders.take(gate, self.house.name, external_id)) is not None:
            await self.note(external_id, ORDERED)
            return ordered.response()
        if (refusal := self.weather.account_refusal(self.kind)) is not None:
            await self.note(external_id, "account")
            return self.refused(refusal)
        fault = self.weather.odds().query(self.kind, self.number)
        if fault is None:
            return None
        await self.note(external_id, fault)
        return self.hang() if fault is Unanswered.HANG else self.refused(answers.refusal_of("5000", fault=fault))


async def read_body(request: Request, seen: Seen | None = None) -> bytes:
    """
    Read the whole body.

    Raises:
        Refusal: 413: it is longer than `MAX_BODY`.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise Refusal(413, 1200, f"the body is larger than {MAX_BODY} bytes")
    if seen is not None:
        seen.body(bytes(body))
    return bytes(body)
