"""The parts of a running sandbox, opened together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from receiver.sandbox import tasks
from receiver.sandbox.background import background, first_of
from receiver.sandbox.config import SandboxConfig, webhook_key
from receiver.sandbox.courier import Courier, new_client
from receiver.sandbox.gates import Gates
from receiver.sandbox.houses import HOUSES, House, Signer
from receiver.sandbox.life import Life
from receiver.sandbox.links import Links
from receiver.sandbox.ordered import Orders
from receiver.sandbox.state import State
from receiver.sandbox.studio import Studio
from receiver.sandbox.traffic import Traffic
from receiver.sandbox.weather import Weather

#: Encoders at one time.
STUDIO_THREADS: Final = 2

#: Signs where the reseller's secret does; no client knows it.
RESELLERS_KEY: Final = b"the reseller keeps this"

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """What the routes use."""

    config: SandboxConfig
    state: State
    life: Life
    studio: Studio
    gates: Gates
    orders: Orders
    traffic: Traffic
    #: By house.
    links: Mapping[str, Links]
    weather: Mapping[str, Weather]
    #: Set when the process is told to stop.
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def stop(self) -> None:
        """Cut what is held or hangs, so that the process can stop."""
        self.stopping.set()
        self.gates.close()

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
            gates = Gates()
            weather = {name: Weather(seed=config.seed, faults=config.faults, clock=time.monotonic) for name in HOUSES}
            link_key = await state.do(tasks.link_key)

            def lifetime(house: House) -> float:
                return weather[house.name].faults.expire_links or min(house.link_seconds, config.link_seconds)

            links = {
                name: Links(
                    key=link_key, base=base.rstrip("/"), root=house.root, lifetime=partial(lifetime, house), clock=clock
                )
                for name, house in HOUSES.items()
            }
            studio = Studio(config.state_dir / "media", threads, clips=config.clips)
            life = Life(
                group=group,
                state=state,
                studio=studio,
                courier=Courier(state, client, clock=clock),
                links=links,
                gates=gates,
                keys=_keys(config),
                clock=clock,
            )
            life.resume(await state.do(tasks.unfinished))
            yield Sandbox(
                config=config,
                state=state,
                life=life,
                studio=studio,
                gates=gates,
                orders=Orders(),
                traffic=Traffic(clock),
                links=links,
                weather=weather,
            )


def _keys(config: SandboxConfig) -> dict[Signer, bytes | None]:
    ours = None if config.webhook_secret is None else webhook_key(config.webhook_secret)
    return {Signer.OURS: ours, Signer.RESELLERS: RESELLERS_KEY, Signer.NOBODY: None}
