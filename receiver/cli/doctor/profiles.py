"""The user's own provider profiles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from receiver import wiring
from receiver.cli.doctor.findings import Finding, broken, ok, warning
from receiver.core.errors import Misconfigured
from receiver.dialects import spec
from receiver.settings import Settings

NAME: Final = "profiles"


def check(settings: Settings) -> Iterator[Finding]:
    """Load every file; a wrong one is named with line and key."""
    directory = settings.profiles_dir
    if directory is None:
        yield ok(NAME, f"{len(spec.catalog())} packaged, none of your own")
        return
    try:
        found = wiring.read_profiles(directory)
    except Misconfigured as exc:
        yield broken(NAME, str(exc), "correct the file, or take it out of the directory")
        return
    packaged = spec.catalog()
    own = [name for name, profile in found.items() if profile is not packaged.get(name)]
    yield ok(NAME, f"{len(packaged)} packaged, {len(own)} of your own: {', '.join(own) or 'none'}")
    for name in own:
        if name in packaged:
            yield warning(
                NAME,
                f"{directory / name}.toml stands in the place of the packaged profile {name}",
                "give it another name unless you mean that; updates of the packaged one pass you by",
            )
