"""The sandbox and the service, running: the service in separate processes of its own, as released."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final

from rich.console import Console

from receiver.cli import api, run
from receiver.cli.demonstration import place as places
from receiver.cli.demonstration.parts import Part, StopRequest, await_ready, word_of
from receiver.cli.demonstration.place import Place
from receiver.cli.demonstration.sellers import Seller
from receiver.cli.tables import cell, table

#: What real providers do to callbacks, more often than they do it.
WEATHER: Final = {"lose": "0.15", "duplicate": "0.3", "reorder": "0.2", "late": "0.2:3s"}
_SANDBOX_SAYS: Final = re.compile(rb'"sandbox": "(http://[^"]+)"')
_SERVICE_SAYS: Final = re.compile(rb"API key \(shown once\): (rk_\S+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What talks to the two."""

    service: api.Client
    sandbox: api.Client
    sandbox_url: str
    #: Of the service.
    key: str = field(repr=False)
    parts: tuple[Part, ...]

    def require_alive(self) -> None:
        """
        See that both run.

        Raises:
            PartFailed: One has ended.
        """
        for part in self.parts:
            part.require_alive()


@contextmanager
def deployed(place: Place, sellers: Sequence[Seller], console: Console, stop: StopRequest) -> Iterator[Running]:
    """
    Start both, with an account at each of *sellers*, yield them when they are ready, and stop both.

    Raises:
        PartFailed: One could not be started.
        Interrupted: A stop was asked for meanwhile.
    """
    places.forget_strangers()
    with ExitStack() as stack:
        sandbox = _sandbox(place)
        stack.callback(sandbox.stop)
        sandbox_url = word_of(sandbox, stop)
        os.environ.update(place.service_variables(sandbox_url, sellers))
        _print_settings(console)
        service = Part(
            "service",
            ["serve"],
            dict(os.environ),
            log=place.directory / "service.log",
            saying=_SERVICE_SAYS,
            secret=True,
        )
        stack.callback(service.stop)
        stack.callback(lambda: console.print("stopping ...", style="dim"))
        key = word_of(service, stop)
        client = stack.enter_context(api.connected(place.url, key))
        judge = stack.enter_context(api.connected(sandbox_url, place.api_key))
        await_ready(client, service, stop)
        yield Running(service=client, sandbox=judge, sandbox_url=sandbox_url, key=key, parts=(sandbox, service))


def _sandbox(place: Place) -> Part:
    return Part(
        "sandbox",
        [
            *("sandbox", "--port", "0", "--state-dir", str(place.directory / "sandbox")),
            *(word for name, rate in WEATHER.items() for word in (f"--{name}", rate)),
        ],
        places.environment(place.sandbox_variables()),
        log=place.directory / "sandbox.log",
        saying=_SANDBOX_SAYS,
    )


def _print_settings(console: Console) -> None:
    made = table("settings that differ from the defaults", "", fold=("",))
    for name, value in places.differing(run.read_settings()):
        made.add_row(cell(name), cell(value, style="dim"))
    console.print(made)
