"""The database and the bucket as they are set, or the embedded ones, started for the check where they do not run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final

from receiver import wiring
from receiver.cli import run
from receiver.cli.doctor.findings import Finding, broken
from receiver.core.errors import BucketUnavailable, Misconfigured, StoreUnavailable
from receiver.core.model import Secret
from receiver.local.store import EmbeddedStore, StoreAddress, running
from receiver.settings import Settings
from receiver.transfer.s3 import BucketConfig

_SEE: Final = "see server.log beside it; `receiver serve` starts the same"


@dataclass(slots=True, kw_only=True)
class Parts:
    """Where database and bucket are; None where one could not be started, and then a finding says why."""

    database_url: str | None = None
    bucket: BucketConfig | None = None
    findings: list[Finding] = field(default_factory=list)


@contextmanager
def opened(settings: Settings) -> Iterator[Parts]:
    """Yield the parts; those that were started for this are stopped at the end."""
    parts = Parts()
    with ExitStack() as stack:
        try:
            parts.database_url = stack.enter_context(run.database(settings, make=True))
        except (Misconfigured, StoreUnavailable) as exc:
            parts.findings.append(broken("database", str(exc), _SEE))
        try:
            parts.bucket = stack.enter_context(_bucket(settings))
        except (Misconfigured, BucketUnavailable) as exc:
            parts.findings.append(broken("bucket", str(exc), _SEE))
        yield parts


@contextmanager
def _bucket(settings: Settings) -> Iterator[BucketConfig]:
    if settings.s3_endpoint is not None:
        yield wiring.bucket_config(settings)
        return
    directory = settings.data_dir / "store"
    if (address := running(directory)) is not None:
        yield _config(address)
        return
    store = EmbeddedStore(directory)
    try:
        yield _config(store.start())
    finally:
        store.stop()


def _config(address: StoreAddress) -> BucketConfig:
    return BucketConfig(
        endpoint=address.endpoint,
        region="us-east-1",
        bucket=address.bucket,
        prefix="",
        access_key=address.access_key,
        secret_key=Secret(address.secret_key),
        public=False,
    )
