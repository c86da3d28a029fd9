"""What the demo asks for."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from receiver.cli import api
from receiver.cli.demonstration.parts import StopRequest
from receiver.cli.demonstration.place import ACCOUNT

KIND: Final = "text-to-audio"
VIDEO_KIND: Final = "video-to-audio"
#: Every third order is one for a video.
VIDEO_EVERY: Final = 3
#: Of the videos that the sandbox makes; it does not look at the one that it is given.
VIDEO_SECONDS: Final = 3.0
#: How long a request that found the service away is sent again, with the same idempotency key.
PATIENCE: Final = timedelta(seconds=30)
PAUSE: Final = timedelta(milliseconds=500)

PROMPTS: Final = (
    "rain on a tin roof",
    "a train far away at night",
    "waves on a pebble beach",
    "an old clock in a quiet hall",
    "crickets in dry grass",
    "wind in tall pines",
    "a kettle that begins to sing",
    "footsteps on fresh snow",
    "a market square at noon",
    "church bells across a valley",
    "a cat that purrs by the fire",
    "thunder behind the hills",
    "a page that is turned slowly",
    "bees around a lime tree",
    "a harbour with halyards in the wind",
    "frogs at a village pond",
    "a tram that takes a bend",
    "coffee poured into a cup",
    "a cello tuning up",
    "children in a distant playground",
    "a creek under ice",
    "a typewriter in the next room",
    "a swarm of starlings at dusk",
    "an engine that cools down",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One task to be made."""

    kind: str = KIND
    prompt: str
    #: Of the clip, in tenths.
    seconds: float

    def input(self) -> dict[str, str | float]:
        """Return what the provider is asked for."""
        if self.kind == KIND:
            return {"prompt": self.prompt, "duration": self.seconds}
        return {"video_url": "https://example.com/silent.mp4", "sound_effect_prompt": self.prompt}


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """An order that the service accepted."""

    task: str
    order: Order


def orders(number: int) -> Iterator[Order]:
    """Yield *number* orders: clips of 3.0 to 6.0 seconds, and sound for videos."""
    for index in range(number):
        lap, place = divmod(index, len(PROMPTS))
        prompt = PROMPTS[place] if lap == 0 else f"{PROMPTS[place]}, take {lap + 1}"
        if index % VIDEO_EVERY == VIDEO_EVERY - 1:
            yield Order(kind=VIDEO_KIND, prompt=prompt, seconds=VIDEO_SECONDS)
        else:
            yield Order(prompt=prompt, seconds=(30 + index * 7 % 31) / 10)


def summary(placed: Sequence[Placed]) -> str:
    """Return how many there are of each kind."""
    counts = Counter(each.order.kind for each in placed)
    return ", ".join(f"{number} {kind}" for kind, number in counts.items())


def place(service: api.Client, order: Order, stop: StopRequest) -> Placed:
    """
    Place an order once, however often it has to be sent.

    Raises:
        api.Problem: The service refuses it.
        api.ServiceUnreachable: The service stayed away.
        Interrupted: A stop was asked for.
    """
    document = {
        "account": ACCOUNT,
        "kind": order.kind,
        "input": order.input(),
        "labels": {"made_by": "demo"},
    }
    key, end = uuid.uuid4().hex, time.monotonic() + PATIENCE.total_seconds()
    while True:
        try:
            answer = service.post("/v1/tasks", document, idempotency_key=key)
        except api.ServiceUnreachable:
            if time.monotonic() > end:
                raise
        except api.Problem as exc:
            if not exc.passing or time.monotonic() > end:
                raise
        else:
            return Placed(task=str(answer.document["id"]), order=order)
        stop.pause(PAUSE)
