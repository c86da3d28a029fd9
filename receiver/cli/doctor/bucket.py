"""The bucket: reached, ours to write, and what its server does with conditions and checksums (storage.md 2)."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final

from receiver.cli.doctor import clocks
from receiver.cli.doctor.findings import Finding, broken, ok, warning
from receiver.core.errors import BucketUnavailable, Misconfigured, ReceiverError
from receiver.settings import Settings
from receiver.transfer.bucket import Bucket, Proof
from receiver.transfer.s3 import S3, BucketConfig

NAME: Final = "bucket"

#: What the proof says of a failure, and what to do.
_MENDS: Final = (
    ("there is no bucket|NoSuchBucket", "make the bucket, or correct RECEIVER_S3_BUCKET and RECEIVER_S3_REGION"),
    (
        "InvalidAccessKeyId|SignatureDoesNotMatch|AuthorizationHeaderMalformed",
        "correct RECEIVER_S3_ACCESS_KEY and …_SECRET_KEY",
    ),
    ("AccessDenied|403", "give the key the rights to list, get, put and delete in the bucket, or correct it"),
    ("RequestTimeTooSkewed", clocks.SYNC),
    ("redirect|301|307", "correct RECEIVER_S3_REGION or RECEIVER_S3_ENDPOINT"),
    ("other bytes", "something between changes what is stored: take proxies out of the way, or use another store"),
    ("credentials", "set RECEIVER_S3_ACCESS_KEY and RECEIVER_S3_SECRET_KEY"),
    ("EndpointConnectionError|Connect|Timeout", "start the store, or correct RECEIVER_S3_ENDPOINT"),
)


async def check(config: BucketConfig, settings: Settings, clock: Callable[[], datetime]) -> list[Finding]:
    """Run the start-up proof and say what it means for how uploads are verified."""
    try:
        bucket = Bucket(config, clock=clock)
    except ReceiverError as exc:
        return [_failed(exc)]
    try:
        proof = await bucket.prove()
    except (Misconfigured, BucketUnavailable) as exc:
        return [_failed(exc)]
    finally:
        bucket.close()
    return [*_meaning(proof, config, settings), *await _clock(config, clock)]


def _failed(exc: ReceiverError) -> Finding:
    mend = next((mend for pattern, mend in _MENDS if re.search(pattern, str(exc))), "see the log of the store")
    return broken(NAME, str(exc), mend)


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
