"""Who sells in a demo: the sandbox under its own name, or every provider whose profile ships with the package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from receiver.core.model import SignatureMode
from receiver.dialects import spec
from receiver.dialects.profile import Profile

#: The profile of the simulator, and the account with it.
SANDBOX: Final = "sandbox"
#: From here on the first question about a task for which no callback comes is later than a demo may wait.
SLOW: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seller:
    """A provider that the sandbox plays, and our account with it."""

    profile: Profile
    #: Below the URL of the sandbox; empty for the account at its root.
    path: str

    @property
    def account(self) -> str:
        """The name of our account."""
        return self.profile.name.replace("-", "_")

    @property
    def signs(self) -> bool:
        """Whether its callbacks are signed with a secret that we hold."""
        return self.profile.signature_mode is not SignatureMode.NONE

    @property
    def is_slow(self) -> bool:
        """Whether its tasks usually run much longer than a demo."""
        return self.profile.usual >= SLOW


def alone() -> tuple[Seller, ...]:
    """Return the sandbox under its own name."""
    return (Seller(profile=spec.catalog()[SANDBOX], path=""),)


def every() -> tuple[Seller, ...]:
    """Return every provider of the catalog, each as the house of the sandbox that has its name."""
    return tuple(
        Seller(profile=profile, path=f"/{name}") for name, profile in sorted(spec.catalog().items()) if name != SANDBOX
    )


def named(sellers: Sequence[Seller]) -> str:
    """Return the names of *sellers* for people."""
    return ", ".join(seller.profile.name for seller in sellers)
