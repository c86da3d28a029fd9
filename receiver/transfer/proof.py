"""
What this bucket's server really does, learnt at start by trying it.

Servers enforce, refuse or silently ignore the same header, and only a negative
probe tells them apart (storage.md 2): wrong checksums are sent on purpose.
"""

from __future__ import annotations

import hashlib
import itertools
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, Literal, cast

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    InvalidRegionError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)

from receiver.core.errors import BucketUnavailable, Misconfigured
from receiver.transfer.s3 import S3, code_of, put_request, status_of

if TYPE_CHECKING:
    from mypy_boto3_s3.literals import BucketLocationConstraintType

#: Under the prefix; what a killed probe leaves here is no object of ours.
PROBE_PREFIX: Final = ".probe/"

#: By the server's clock.
_ABANDONED: Final = timedelta(hours=1)
_LEFTOVERS: Final = 100
_BUCKET_EXISTS: Final = frozenset({"BucketAlreadyExists", "BucketAlreadyOwnedByYou"})
#: Regions that are no place to name when a bucket is made.
_PLACELESS: Final = frozenset({"us-east-1", "auto", ""})
_PRECONDITION_FAILED: Final = 412
_TOO_MANY: Final = 429
_SERVER_ERROR: Final = 500
_NOT_IMPLEMENTED: Final = 501


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the start-up probe found."""

    #: What a second create of the same key with `If-None-Match: *` met.
    conditional: Literal["enforced", "refused", "ignored"]
    #: A wrong SHA-256 is refused.
    checks_sha256: bool
    #: A wrong MD5 is refused.
    checks_md5: bool
    #: A right SHA-256 is taken at all.
    accepts_sha256_header: bool
    #: A part of an object can be had.
    ranges: bool

    @property
    def verification(self) -> Literal["head", "readback"]:
        """How a stored object is verified: by the server's own check, or by reading it back."""
        return "head" if self.checks_sha256 else "readback"


def prove(s3: S3, *, region: str, create: bool) -> Proof:
    """
    Try the bucket out; leaves nothing behind.

    Raises:
        Misconfigured: The keys are wrong, the bucket is missing, or it gives other bytes than it was given.
        BucketUnavailable: The bucket did not answer.
    """
    try:
        _ensure_bucket(s3, region=region, create=create)
        _clear_leftovers(s3)
        return _Probe(s3).run()
    except (ClientError, BotoCoreError) as exc:
        raise refused(s3, exc) from exc


def refused(s3: S3, exc: ClientError | BotoCoreError) -> Misconfigured | BucketUnavailable:
    """Return what a failure at start means: the set-up must be changed, or it may work later."""
    match exc:
        case ClientError() if status_of(exc) >= _SERVER_ERROR or status_of(exc) in (0, _TOO_MANY):
            return BucketUnavailable(f"the bucket answered {status_of(exc)} {code_of(exc)}")
        case ClientError():
            return Misconfigured(f"bucket {s3.bucket!r}: the server answered {status_of(exc)} {code_of(exc)}")
        case ParamValidationError():
            return Misconfigured(f"{s3.bucket!r} is no name that a bucket can have")
        case NoCredentialsError() | PartialCredentialsError() | InvalidRegionError():
            return Misconfigured(f"bucket {s3.bucket!r}: {exc}")
    return BucketUnavailable(f"the bucket did not answer: {type(exc).__name__}")


def _ensure_bucket(s3: S3, *, region: str, create: bool) -> None:
    try:
        s3.client.list_objects_v2(Bucket=s3.bucket, MaxKeys=1)
    except ClientError as exc:
        if code_of(exc) != "NoSuchBucket":
            raise
        if not create:
            raise Misconfigured(f"there is no bucket {s3.bucket!r}") from exc
        _create_bucket(s3, region)


def _clear_leftovers(s3: S3) -> None:
    """Delete what probes that were killed have left; younger objects may be another process's probe at work."""
    listed = s3.client.list_objects_v2(Bucket=s3.bucket, Prefix=s3.name(PROBE_PREFIX), MaxKeys=_LEFTOVERS)
    date = listed["ResponseMetadata"]["HTTPHeaders"].get("date")
    if date is None:
        return
    now = parsedate_to_datetime(date)
    for each in listed.get("Contents", []):
        if now - each["LastModified"] > _ABANDONED:
            s3.client.delete_object(Bucket=s3.bucket, Key=each["Key"])


def _create_bucket(s3: S3, region: str) -> None:
    try:
        if region in _PLACELESS or not s3.client.meta.endpoint_url.endswith(".amazonaws.com"):
            s3.client.create_bucket(Bucket=s3.bucket)
        else:
            s3.client.create_bucket(
                Bucket=s3.bucket,
                # The list of regions in the stubs is shorter than the one of AWS.
                CreateBucketConfiguration={"LocationConstraint": cast("BucketLocationConstraintType", region)},
            )
    except ClientError as exc:
        if code_of(exc) not in _BUCKET_EXISTS:
            raise


def _md5(body: bytes) -> bytes:
    return hashlib.md5(body, usedforsecurity=False).digest()


class _Probe:
    """One round of questions, over keys of its own."""

    def __init__(self, s3: S3) -> None:
        self._s3 = s3
        self._body = secrets.token_bytes(64)
        self._sha256 = hashlib.sha256(self._body).digest()
        self._md5 = _md5(self._body)
        self._name = s3.name(PROBE_PREFIX + secrets.token_hex(8))

    def run(self) -> Proof:
        try:
            conditional, checksum = self._accepted_headers()
            return Proof(
                conditional=self._conditional() if conditional else "refused",
                checks_sha256=checksum and self._refuses(sha256=hashlib.sha256(b"other").digest()),
                checks_md5=self._refuses(md5=_md5(b"other")),
                accepts_sha256_header=checksum,
                ranges=self._reads_back(),
            )
        finally:
            self._clean()

    def _accepted_headers(self) -> tuple[bool, bool]:
        """Store the probe with as many of condition and checksum as the server takes; tell which."""
        for conditional, checksum in itertools.product((True, False), repeat=2):
            try:
                self._put(self._name, conditional=conditional, sha256=self._sha256 if checksum else None)
            except ClientError as exc:
                failed = status_of(exc) >= _SERVER_ERROR and status_of(exc) != _NOT_IMPLEMENTED
                if failed or not (conditional or checksum):
                    raise
            else:
                return conditional, checksum
        raise AssertionError

    def _conditional(self) -> Literal["enforced", "refused", "ignored"]:
        try:
            self._put(self._name, conditional=True)
        except ClientError as exc:
            return "enforced" if status_of(exc) == _PRECONDITION_FAILED else "refused"
        return "ignored"

    def _refuses(self, *, sha256: bytes | None = None, md5: bytes | None = None) -> bool:
        """Tell whether a PUT with a wrong checksum fails."""
        try:
            self._put(f"{self._name}-wrong", sha256=sha256, md5=md5)
        except ClientError as exc:
            if status_of(exc) >= _SERVER_ERROR:
                raise
            return True
        return False

    def _reads_back(self) -> bool:
        """Compare what lies there with what was sent; tell whether a part of it can be had."""
        client = self._s3.client
        with client.get_object(Bucket=self._s3.bucket, Key=self._name)["Body"] as whole:
            if whole.read() != self._body:
                raise Misconfigured(f"bucket {self._s3.bucket!r} gives other bytes than it was given")
        try:
            answer = client.get_object(Bucket=self._s3.bucket, Key=self._name, Range="bytes=2-5")
        except ClientError:
            return False
        with answer["Body"] as part:
            return part.read() == self._body[2:6]

    def _put(
        self, name: str, *, conditional: bool = False, sha256: bytes | None = None, md5: bytes | None = None
    ) -> None:
        request = put_request(
            self._s3,
            name,
            media_type="application/octet-stream",
            md5=md5 or self._md5,
            sha256=sha256,
            conditional=conditional,
        )
        request["Body"] = self._body
        self._s3.client.put_object(**request)

    def _clean(self) -> None:
        for name in (self._name, f"{self._name}-wrong"):
            # A bucket that keeps everything for good refuses this, and serves us well all the same.
            with suppress(ClientError, BotoCoreError):
                self._s3.client.delete_object(Bucket=self._s3.bucket, Key=name)
