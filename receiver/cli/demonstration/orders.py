"""What the demo asks for."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import typer

from receiver.cli import api
from receiver.cli.demonstration.parts import StopRequest
from receiver.cli.demonstration.sellers import SANDBOX, Seller
from receiver.dialects.profile import KindSpec

KIND: Final = "text-to-audio"
VIDEO_KIND: Final = "video-to-audio"
#: Every third order is one for a video.
VIDEO_EVERY: Final = 3
#: Of the videos that the sandbox makes; it does not look at the one that it is given.
VIDEO_SECONDS: Final = 3.0
#: What a kind may want: the first of the names that it takes says what is to be heard.
PROMPT_FIELDS: Final = ("sound_effect_prompt", "prompt")
SILENT: Final = "https://example.com/silent.mp4"
#: Of each kind of each provider, unless another number is asked for.
OF_EACH: Final = 3
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

    account: str = SANDBOX
    kind: str = KIND
    #: What the provider is asked for.
    input: Mapping[str, str | float] = field(default_factory=dict)
    prompt: str
    #: Of the clip, in tenths.
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """An order that the service accepted."""

    task: str
    order: Order


def orders(number: int) -> Iterator[Order]:
    """Yield *number* orders at the sandbox: clips of 3.0 to 6.0 seconds, and sound for videos."""
    for index in range(number):
        prompt = _prompt(index)
        if index % VIDEO_EVERY == VIDEO_EVERY - 1:
            given: dict[str, str | float] = {"video_url": SILENT, "sound_effect_prompt": prompt}
            yield Order(kind=VIDEO_KIND, input=given, prompt=prompt, seconds=VIDEO_SECONDS)
        else:
            seconds = (30 + index * 7 % 31) / 10
            yield Order(input={"prompt": prompt, "duration": seconds}, prompt=prompt, seconds=seconds)


def orders_of_all(sellers: Sequence[Seller], number: int | None) -> Iterator[Order]:
    """
    Yield *number* orders, of every kind of each of *sellers* in turn; None: `OF_EACH` of each kind.

    Raises:
        typer.BadParameter: There are more kinds than that.
    """
    goods = [(seller, kind) for seller in sellers for kind in seller.profile.kinds.values()]
    if number is not None and number < len(goods):
        text = f"at least {len(goods)}: so many kinds there are at {len(sellers)} providers"
        raise typer.BadParameter(text, param_hint="--tasks")
    for index in range(OF_EACH * len(goods) if number is None else number):
        yield _order(index, *goods[index % len(goods)])


def _order(index: int, seller: Seller, kind: KindSpec) -> Order:
    """Order in whole seconds: some providers take no others."""
    prompt, takes, given = _prompt(index), {field.name for field in kind.fields}, dict[str, str | float]()
    if (says := next((name for name in PROMPT_FIELDS if name in takes), None)) is not None:
        given[says] = prompt
    if "video_url" in takes:
        given["video_url"] = SILENT
    seconds = VIDEO_SECONDS
    if kind.name == KIND:
        given["duration"] = seconds = 3.0 + index % 4
    return Order(account=seller.account, kind=kind.name, input=given, prompt=prompt, seconds=seconds)


def _prompt(index: int) -> str:
    lap, place = divmod(index, len(PROMPTS))
    return PROMPTS[place] if lap == 0 else f"{PROMPTS[place]}, take {lap + 1}"


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
        "account": order.account,
        "kind": order.kind,
        "input": dict(order.input),
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
