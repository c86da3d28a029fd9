"""The parts of a running sandbox, opened together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from receiver.sandbox import incidents, tasks
from receiver.sandbox.background import background, first_of
from receiver.sandbox.config import SandboxConfig, webhook_key
from receiver.sandbox.courier import Courier, new_client
from receiver.sandbox.gates import Gates
from receiver.sandbox.life import Life
from receiver.sandbox.links import Links
from receiver.sandbox.state import State
from receiver.sandbox.studio import Studio
from receiver.sandbox.weather import Weather
from receiver.sandbox.wire import Hang

#: Encoders at one time.
STUDIO_THREADS: Final = 2

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """What the routes use."""

    config: SandboxConfig
    state: State
    life: Life
    links: Links
    studio: Studio
    gates: Gates
    weather: Weather
    #: Set when the process is told to stop.
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def stop(self) -> None:
        """Cut what is held or hangs, so that the process can stop."""
        self.stopping.set()
        self.gates.close()

    async def note(self, kind: str, given: str | None, fault: str) -> None:
        """Tell the ledger that a request met *fault*."""
        await self.state.do(partial(incidents.add, kind=kind, given=given, fault=fault))

    def hang(self) -> Hang:
        """Return the answer that does not come."""
        return Hang(self.weather.faults.hang_seconds, self.stopping)

    async def pause(self, seconds: float) -> None:
        """Wait, but not when the process is told to stop."""
        await first_of(self.stopping.wait(), seconds=seconds)


@asynccontextmanager
async def open_sandbox(config: SandboxConfig, base: str, clock: Clock) -> AsyncIterator[Sandbox]:
    """
    Open the state and go on with the tasks in it; *base* is where links point.

    Raises:
        StateLocked: Another process works on the state directory.
        StateOutdated: Another version of the sandbox wrote it.
    """
    with ThreadPoolExecutor(STUDIO_THREADS, "sandbox-studio") as threads:
        async with State.open(config.state_dir) as state, new_client() as client, background() as group:
            key = None if config.webhook_secret is None else webhook_key(config.webhook_secret)
            gates = Gates()
            weather = Weather(seed=config.seed, faults=config.faults, clock=time.monotonic)
            links = Links(
                key=await state.do(tasks.link_key),
                base=base.rstrip("/"),
                lifetime=lambda: weather.faults.expire_links or config.link_seconds,
                clock=clock,
            )
            studio = Studio(config.state_dir / "media", threads)
            courier = Courier(state, client, key=key, clock=clock)
            life = Life(group=group, state=state, studio=studio, courier=courier, links=links, gates=gates, clock=clock)
            life.resume(await state.do(tasks.unfinished))
            yield Sandbox(
                config=config, state=state, life=life, links=links, studio=studio, gates=gates, weather=weather
            )
