"""What must be true of a deployment when its work is done."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import soundfile

from tests.system.deployment import WITHOUT_WORK, Deployment, Order, Service

FORMATS = ("mp3", "wav")
#: What no run may log, whatever was killed: each is a fault of ours.
FAULTS = {"job.crashed", "job.dead", "job.mended", "request.crashed", "account.paused", "callback.batch_refused"}


def require_all_archived(deployment: Deployment, orders: Sequence[Order], *, service: Service | None = None) -> None:
    """Every accepted task is archived, charged once, stored once, readable, and what the provider made."""
    service = service or deployment.service
    require_consistent(deployment)
    ledger = service.ledger()
    assert ledger["accepted"] == len(orders)
    assert {state: n for state, n in ledger["states"].items() if n} == {"archived": len(orders)}
    judge = deployment.sandbox.ledger()
    assert judge["charges"] == len(orders)
    assert {task["external_task_id"] for task in judge["tasks"]} == {order.id for order in orders}
    made = {
        (task["external_task_id"], audio["id"], audio["format"]): (audio["bytes"], audio["sha256"])
        for task in judge["tasks"]
        for audio in task["audios"]
    }
    assert len(made) == len(orders) * len(FORMATS)
    stored = {}
    for order in orders:
        shown = service.task(order.id)
        assert (shown["state"], shown["reason"], shown["attention"]) == ("archived", None, None)
        told = Counter(event["type"] for event in shown["events"])
        assert (told["task.accepted"], told["task.archived"], told["asset.stored"]) == (1, 1, len(FORMATS)), told
        assert {asset["format"] for asset in shown["assets"]} == set(FORMATS)
        for asset in shown["assets"]:
            content = service.client.get(asset["url"]).raise_for_status().content
            digest = hashlib.sha256(content).hexdigest()
            assert (len(content), digest) == (asset["bytes"], asset["sha256"])
            assert made[order.id, asset["clip"], asset["format"]] == (len(content), digest)
            sound = soundfile.info(io.BytesIO(content))
            assert abs(sound.duration - order.seconds) <= 0.3
            stored[asset["s3_uri"].removeprefix("s3://receiver/")] = digest
    require_stored_once(deployment.bucket, orders, stored)


def require_stored_once(bucket: Path, orders: Sequence[Order], stored: dict[str, str]) -> None:
    """The bucket has each clip once, at least one manifest a task, and nothing else."""
    files = {str(file.relative_to(bucket)): file for file in bucket.rglob("*") if file.is_file()}
    media = {name for name in files if name.endswith(FORMATS)}
    manifests = Counter(name.partition("/")[0] for name in files.keys() - media if "/manifest-" in name)
    assert media == stored.keys()
    assert {name: hashlib.sha256(files[name].read_bytes()).hexdigest() for name in media} == stored
    assert manifests.keys() == {order.id for order in orders}
    assert len(files) == len(media) + manifests.total(), sorted(files.keys() - media)


def require_consistent(deployment: Deployment) -> None:
    """No open task lacks its work, no job is dead, and the database runs as released."""
    assert deployment.rows(WITHOUT_WORK) == []
    assert deployment.rows("SELECT kind, subject, last_error FROM job WHERE state = 'dead'") == []
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        assert deployment.rows(f"SHOW {setting}") == [("on",)]
    assert FAULTS.isdisjoint(deployment.complaints()), deployment.complaints()
    for file, text in deployment.written():
        assert "Traceback (most recent call last)" not in text, file


def manifests_of(deployment: Deployment) -> int:
    """Return how many manifests lie in the bucket."""
    return sum("manifest-" in file.name for file in deployment.bucket.rglob("*.json"))
