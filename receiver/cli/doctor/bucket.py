"""The bucket: reached, ours to write, and what its server does with conditions and checksums (storage.md 2)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final

from receiver.cli.doctor import clocks
from receiver.cli.doctor.findings import Finding, broken, ok, warning
from receiver.core.errors import BucketUnavailable, Misconfigured
from receiver.settings import Settings
from receiver.transfer import refusal
from receiver.transfer.bucket import Bucket, Proof
from receiver.transfer.s3 import S3, BucketConfig

NAME: Final = "bucket"


async def check(config: BucketConfig, settings: Settings, clock: Callable[[], datetime]) -> list[Finding]:
    """Run the start-up proof and say what it means for how uploads are verified."""
    try:
        bucket = Bucket(config, clock=clock)
    except (Misconfigured, BucketUnavailable) as exc:
        return [_failed(exc)]
    try:
        proof = await bucket.prove()
    except (Misconfigured, BucketUnavailable) as exc:
        return [_failed(exc)]
    finally:
        bucket.close()
    return [*_meaning(proof, config, settings), *await _clock(config, clock)]


def _failed(exc: Misconfigured | BucketUnavailable) -> Finding:
    return broken(NAME, str(exc), refusal.mend(exc))


def _meaning(proof: Proof, config: BucketConfig, settings: Settings) -> list[Finding]:
    where = "embedded" if settings.s3_endpoint is None else config.endpoint or "AWS"
    if proof.verification == "head":
        how = "wrong checksums are refused, so each upload is proven by its own answer"
    else:
        how = "wrong SHA-256 sums are not refused, so each upload is read back to be proven"
    again = {
        "enforced": "nothing is written twice",
        "refused": "conditional writes are refused, so what is written twice is written over with the same bytes",
        "ignored": "conditions are ignored, so what is written twice is written over with the same bytes",
    }[proof.conditional]
    findings = [ok(NAME, f"{config.bucket} ({where}) keeps what it is given; {how}; {again}")]
    if not proof.ranges:
        findings.append(warning(NAME, "it gives no part of an object", "players cannot seek; use another store"))
    return findings


async def _clock(config: BucketConfig, clock: Callable[[], datetime]) -> list[Finding]:
    s3 = S3(config)
    try:
        listed = await s3.run(lambda: s3.client.list_objects_v2(Bucket=s3.bucket, MaxKeys=1))
    except BucketUnavailable as exc:
        return [_failed(exc)]
    finally:
        s3.close()
    date = listed["ResponseMetadata"]["HTTPHeaders"].get("date")
    return [] if date is None else list(clocks.check_bucket(parsedate_to_datetime(date) - clock()))
