"""The client: hands orders in, again until they are taken, and keeps its own list."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field

import httpx

from tests.system.deployment import ACCOUNT, Service

#: Orders a second.
RATE = 1.2
THREADS = 8
#: Orders that the provider fails, and answers that the client asks for once more.
FAILING = 0.05
AGAIN = 0.1


@dataclass(kw_only=True)
class Ordered:
    """One order and what became of handing it in."""

    number: int
    fails: bool
    #: Ids of all 202 answers.
    ids: list[str] = field(default_factory=list)
    tries: int = 0


class Submitter:
    """Threads that submit at a rate until told to stop; what is begun is handed in to the end."""

    def __init__(self, services: list[Service], seed: int) -> None:
        self._services = services
        self._seed = seed
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(THREADS)]
        self.orders: list[Ordered] = []
        #: Answers that no client should get.
        self.odd: list[str] = []

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Begin no more."""
        self._stop.set()

    def done(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)

    def _next(self) -> Ordered:
        with self._lock:
            number = len(self.orders)
            dice = random.Random(f"{self._seed} order {number}")  # noqa: S311 - to be drawn again
            order = Ordered(number=number, fails=dice.random() < FAILING)
            self.orders.append(order)
            return order

    def _run(self) -> None:
        with httpx.Client(trust_env=False, timeout=5) as client:
            while not self._stop.is_set():
                order = self._next()
                wait = self._began + order.number / RATE - time.monotonic()
                if wait > 0 and self._stop.wait(wait):
                    with self._lock:
                        self.orders.remove(order)
                    return
                self._hand_in(client, order)

    def _hand_in(self, client: httpx.Client, order: Ordered) -> None:
        dice = random.Random(f"{self._seed} client {order.number}")  # noqa: S311 - to be drawn again
        wanted = 2 if dice.random() < AGAIN else 1
        while len(order.ids) < wanted:
            order.tries += 1
            service = dice.choice(self._services)
            try:
                answer = client.post(f"{service.url}/v1/tasks", json=_body(order), headers=self._headers(order))
            except httpx.TransportError:
                threading.Event().wait(0.2)
                continue
            if answer.status_code == 202:
                order.ids.append(answer.json()["id"])
            elif answer.status_code == 503:
                threading.Event().wait(0.2)
            else:
                self.odd.append(f"order {order.number}: {answer.status_code} {answer.text[:300]}")
                return

    def _headers(self, order: Ordered) -> dict[str, str]:
        return {
            "authorization": f"Bearer {self._services[0].key}",
            "idempotency-key": f"chaos-{self._seed}-{order.number}",
        }


def _body(order: Ordered) -> dict[str, object]:
    prompt = f"rain on a tin roof, take {order.number}{' [fail]' if order.fails else ''}"
    given = {"prompt": prompt, "duration": 3 + order.number % 12 / 10}
    return {"account": ACCOUNT, "kind": "text-to-audio", "input": given, "reference": f"chaos-{order.number}"}
