"""What a sandbox is told at its start. Never changed afterwards."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from receiver.sandbox.faults import NO_FAULTS, Faults
from receiver.sandbox.houses import HOUSES, MONTH

WEBHOOK_PREFIX: Final = "whsec_"


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxConfig:
    """
    One simulated account at each simulated provider.

    Raises:
        ValueError: A value makes no sense; the message names it.
    """

    #: Holds the database and the media; made when missing; one process at a time.
    state_dir: Path
    #: Taken as `Authorization: Bearer <key>`.
    api_key: str = field(repr=False)
    #: By house, in place of `api_key`.
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: With `secret_key`: JWTs are taken too.
    access_key: str | None = None
    secret_key: str | None = field(default=None, repr=False)
    #: `whsec_` and base64. None: callbacks go out unsigned.
    webhook_secret: str | None = field(default=None, repr=False)
    #: Opens /control; None: the API key does.
    control_key: str | None = field(default=None, repr=False)
    #: Tasks of one house not yet ended at one time; 0: no limit.
    concurrency: int = 20
    #: Seconds from create to end, on average; each task draws from half to one and a half of it.
    run_seconds: float = 1.5
    #: Seconds for which a media link works, from the answer that carries it; resellers' live for a day at most.
    link_seconds: int = MONTH
    #: That many sounds are made, and shared by all tasks; 0: each task has its own.
    clips: int = 0
    #: The same seed gives the n-th order the same run time and the same faults.
    seed: int = 0
    #: How often what goes wrong, at the start; the control can change it.
    faults: Faults = NO_FAULTS
    #: Where media links point, without a slash at the end; None: the address that `server.run` binds.
    public_url: str | None = None

    def __post_init__(self) -> None:
        if not self.api_key:
            raise ValueError("api_key is empty")
        if (self.access_key is None) != (self.secret_key is None):
            raise ValueError("access_key and secret_key go together")
        if unknown := sorted(self.keys.keys() - HOUSES.keys()):
            raise ValueError(f"keys: no such house: {', '.join(unknown)}")
        if not all(self.keys.values()):
            raise ValueError("keys: a key is empty")
        if self.concurrency < 0:
            raise ValueError("concurrency is negative")
        if self.clips < 0:
            raise ValueError("clips is negative")
        if self.run_seconds < 0:
            raise ValueError("run_seconds is negative")
        if self.link_seconds < 0:
            raise ValueError("link_seconds is negative")
        if self.webhook_secret is not None:
            webhook_key(self.webhook_secret)


def webhook_key(secret: str) -> bytes:
    """
    Decode a `whsec_…` secret to the bytes that sign (providers.md 2.6).

    Raises:
        ValueError: It has no `whsec_` before it, or no base64 behind it.
    """
    try:
        key = base64.b64decode(secret.removeprefix(WEBHOOK_PREFIX), validate=True)
    except binascii.Error as exc:
        raise ValueError("webhook_secret is not base64") from exc
    if not secret.startswith(WEBHOOK_PREFIX) or not key:
        raise ValueError(f"webhook_secret must be {WEBHOOK_PREFIX} and base64")
    return key
