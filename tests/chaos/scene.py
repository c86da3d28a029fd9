"""Two webs and two workers, one pair with a wrong clock, before a provider and a bucket that misbehave."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg

from tests.system import processes
from tests.system.deployment import ACCOUNT, Deployment, Service
from tests.system.objects import Objects, bucket_behind_proxy
from tests.system.processes import until
from tests.system.proxy import Proxy

#: Of each callback, link, create and fetch: drawn by the simulator from the seed.
WEATHER = {
    "lose": "0.5",
    "duplicate": "0.5",
    "reorder": "0.5",
    "late": "0.2:4s",
    "first": "0.1",
    "contradict": "0.05",
    "bad_signature": "0.05",
    "unsigned": "0.05",
    "forge": "0.1",
    "strip_audios": "0.05",
    "unsure_create": "0.1",
    "hang_seconds": "12s",
    "expire_links": "20s",
    "dead_links": "0.05",
    "truncate": "0.05",
    "slow": "0.02:3s",
    "wrong_bytes": "0.05",
    "media_5xx": "0.05",
    "query_5xx": "0.05",
    "query_hang": "0.02",
}
CALM = {name: "0" for name in WEATHER if name not in {"hang_seconds", "expire_links"}}
SLOTS = "16"
#: Shared by all services of one deployment.
COMMON = ("DATABASE_URL", "CALLBACK_SECRETS_FILE", "S3_ENDPOINT", "S3_ACCESS_KEY", "S3_SECRET_KEY", "S3_BUCKET")
WRONG_BY = 600


@dataclass(kw_only=True)
class Scene:
    """All that takes part."""

    deployment: Deployment
    objects: Objects
    proxy: Proxy
    database_url: str
    #: Seconds by which the clock of the second pair is wrong; 0: it could not be had.
    shift: float

    @property
    def services(self) -> list[Service]:
        return self.deployment.services

    @property
    def first(self) -> Service:
        return self.services[0]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url, autocommit=True, connect_timeout=3) as conn:
            return conn.execute(query.encode()).fetchall()

    def database_answers(self) -> bool:
        try:
            return bool(self.rows("SELECT 1"))
        except psycopg.OperationalError:
            return False

    def tell(self, route: str, **fields: Any) -> bool:
        """Tell the provider's control something; False when it is just away."""
        try:
            self.deployment.sandbox.tell(route, **fields)
        except httpx.TransportError:
            return False
        return True

    def revive(self, service: Service) -> None:
        """Start a service again, as often as what it needs is away at its start."""

        def started() -> bool:
            try:
                service.start()
            except AssertionError:
                if service.program is None or service.program.lives():
                    raise
                return False
            return True

        until(started, what=f"{service.name} is back")


@contextmanager
def scene(seed: int) -> Iterator[Scene]:
    """Set all up, and end it whatever happens."""
    place = Path(tempfile.mkdtemp(prefix="receiver-chaos-"))
    place.chmod(0o711)
    deployment = Deployment(directory=place / "run")
    try:
        options = [f"--{name.replace('_', '-')}={value}" for name, value in WEATHER.items()]
        deployment.sandbox.restart_with(f"--seed={seed}", f"--concurrency={SLOTS}", *options)
        with ExitStack() as stack:
            objects, proxy, bucket = stack.enter_context(bucket_behind_proxy(deployment))
            more = {
                **bucket,
                f"RECEIVER_ACCOUNTS__{ACCOUNT.upper()}__CONCURRENCY": SLOTS,
                "RECEIVER_SPOOL_QUOTA_MB": "100",
            }
            given = deployment.serve(more=more).environment()
            shared = {f"RECEIVER_{name}": given[f"RECEIVER_{name}"] for name in COMMON}
            second = deployment.serve(more={**more, **shared, **_wrong_clock()})
            yield Scene(
                deployment=deployment,
                objects=objects,
                proxy=proxy,
                database_url=given["RECEIVER_DATABASE_URL"],
                shift=_shift(second),
            )
        deployment.close()
    finally:
        deployment.discard()
        with contextlib.suppress(OSError):
            shutil.rmtree(place)


def _wrong_clock() -> dict[str, str]:
    """Return what shifts the clock of a process and its children; empty where the library is not installed."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        return {}
    still = {"DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    sleep = str(Path(__file__).with_name("clock"))
    return {"LD_PRELOAD": str(found[0]), "FAKETIME": f"+{WRONG_BY}", "PYTHONPATH": sleep, **still}


def _shift(service: Service) -> float:
    """Return how wrong its clock is, by what its log says of the time; 0 when it is right."""
    assert service.program is not None
    log = service.program.stderr
    said = next(line for line in reversed(log.read_text().splitlines()) if " [info" in line).partition(" ")[0]
    shift = datetime.fromisoformat(said).timestamp() - log.stat().st_mtime
    return round(shift) if abs(shift) > WRONG_BY / 2 else 0


def back_after(began: float, fact: Any, *, patience: float) -> float | None:
    """Return the seconds from *began* until *fact*; None when it took longer than *patience*."""
    with suppress(AssertionError):
        until(fact, what="it is back", patience=patience, pause=0.1)
        return time.monotonic() - began
    return None


def living(service: Service, role: str) -> list[processes.Process]:
    """Return the processes of that role."""
    if service.program is None or not service.program.lives():
        return []
    return [each for each in service.processes() if each.role == role]
