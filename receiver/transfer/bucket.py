"""
Objects in the bucket: put once, proven, read back in parts.

Nothing here relies on metadata, and on conditions only where the start-up
proof found them enforced: some servers forget the one and ignore the other
(storage.md 1.2, 4.3).
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Literal
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from receiver.core.errors import BucketMismatch, BucketUnavailable, NotFound
from receiver.core.model import Format, TaskId
from receiver.transfer import proof as probes
from receiver.transfer.presign import Presigner, attachment
from receiver.transfer.proof import Proof
from receiver.transfer.s3 import S3, BucketConfig, put_request, status_of, translated
from receiver.transfer.stream import CHUNK, ObjectInfo, ObjectStream

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef, PutObjectRequestTypeDef

__all__ = [
    "Bucket",
    "BucketConfig",
    "Listed",
    "ObjectInfo",
    "ObjectStream",
    "Proof",
    "Verification",
    "manifest_key",
    "object_key",
]

#: Tries of a conditional write that met another one (409); botocore makes none of its own.
CONFLICT_TRIES: Final = 5
#: Seconds before the second of them; doubled for each further one.
CONFLICT_PAUSE: Final = 0.05
#: Characters of a clip id that are kept in a key.
MAX_CLIP: Final = 80

_NOT_FOUND: Final = 404
_CONFLICT: Final = 409
_PRECONDITION_FAILED: Final = 412
_ODD: Final = re.compile(r"[^A-Za-z0-9._-]")


def object_key(task_id: TaskId, clip: str, sha256: bytes, media_format: Format) -> str:
    """
    Name the object of one clip: by task for people, by content so that any overwrite is of the same bytes.

    A clip id that cannot stand in a key as it is gets a hash of its own, so that distinct clips never meet.
    """
    clean = _ODD.sub("_", clip)[:MAX_CLIP]
    if clean != clip or not clip:
        clean += f"-{hashlib.sha256(clip.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"
    return f"{task_id}/{clean}-{sha256.hex()[:16]}.{media_format}"


def manifest_key(task_id: TaskId, digest: bytes) -> str:
    """Name the manifest of one pass over a task; *digest* is the SHA-256 of its bytes."""
    return f"{task_id}/manifest-{digest.hex()[:16]}.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """How a stored object was proven to hold the bytes that were sent."""

    how: Literal["checksum", "readback"]
    #: Whether it lay there before this write.
    existed: bool
    #: As the server said it last, with its quotes.
    etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One object in a listing; the key is without the bucket's prefix."""

    key: str
    #: Bytes.
    size: int
    modified: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    """What is put: how to open it, and what it is known to be."""

    opened: Callable[[], BinaryIO]
    size: int
    sha256: bytes
    md5: bytes
    media_type: str


class _Conflict(Exception):
    """Another write of the same key is under way."""


class Bucket:
    """
    One bucket; one per process. *clock* gives the aware UTC time that URLs are signed with.

    Raises:
        Misconfigured: There are no keys, or the endpoint, the region or the bucket's name is none.
        BucketUnavailable: Whoever gives the keys did not answer.
    """

    def __init__(self, config: BucketConfig, *, clock: Callable[[], datetime] | None = None) -> None:
        self._config = config
        self._clock = clock or _utc_now
        self._s3 = S3(config)
        try:
            self._presigner = _presigner(self._s3, config)
        except BotoCoreError as exc:
            self._s3.close()
            raise probes.refused(self._s3, exc) from exc

    @property
    def public(self) -> bool:
        """Whether people outside can use a presigned URL."""
        return self._config.public

    def uri(self, key: str) -> str:
        """Name the object as other S3 programs do."""
        return f"s3://{self._s3.bucket}/{self._s3.name(key)}"

    async def prove(self) -> Proof:
        """
        Learn what the server does with conditions and checksums, and that it works at all.

        Raises:
            Misconfigured: The keys are wrong, the bucket is missing, or it gives other bytes than it was given.
            BucketUnavailable: The bucket did not answer.
        """
        work = partial(probes.prove, self._s3, region=self._config.region, create=self._config.create)
        return await self._s3.run(work)

    async def put(
        self, key: str, path: Path, *, size: int, sha256: bytes, md5: bytes, media_type: str, proof: Proof
    ) -> Verification:
        """
        Store the file at *path* and prove that it is there.

        Safe to repeat: bytes of ours that lie there already are a success.

        Raises:
            BucketUnavailable: Not stored, or not known to be.
            BucketMismatch: The bucket holds other bytes under *key*.
        """
        content = _Content(opened=lambda: path.open("rb"), size=size, sha256=sha256, md5=md5, media_type=media_type)
        return await self._store(key, content, proof)

    async def put_bytes(self, key: str, body: bytes, media_type: str, proof: Proof) -> Verification:
        """
        Store *body* and prove that it is there; otherwise like `put`.

        Raises:
            BucketUnavailable: Not stored, or not known to be.
            BucketMismatch: The bucket holds other bytes under *key*.
        """
        content = _Content(
            opened=lambda: BytesIO(body),
            size=len(body),
            sha256=hashlib.sha256(body).digest(),
            md5=hashlib.md5(body, usedforsecurity=False).digest(),
            media_type=media_type,
        )
        return await self._store(key, content, proof)

    async def _store(self, key: str, content: _Content, proof: Proof) -> Verification:
        request = put_request(
            self._s3,
            self._s3.name(key),
            media_type=content.media_type,
            md5=content.md5,
            sha256=content.sha256 if proof.accepts_sha256_header else None,
            conditional=proof.conditional == "enforced",
        )
        etag = await self._put(request, content)
        if etag is not None and proof.verification == "head" and etag.strip('"').lower() == content.md5.hex():
            return Verification(how="checksum", existed=False, etag=etag)
        found = await self._s3.run(partial(self._compare, key, content))
        return Verification(how="readback", existed=etag is None, etag=found)

    async def _put(self, request: PutObjectRequestTypeDef, content: _Content) -> str | None:
        """Send it; give the ETag of the answer, None when something lay there already."""
        for attempt in range(CONFLICT_TRIES):
            if attempt:
                await asyncio.sleep(CONFLICT_PAUSE * 2 ** (attempt - 1))
            try:
                return await self._s3.run(partial(self._put_once, request, content))
            except _Conflict:
                continue
        raise BucketUnavailable(f"another write of the same key was in the way {CONFLICT_TRIES} times")

    def _put_once(self, request: PutObjectRequestTypeDef, content: _Content) -> str | None:
        with content.opened() as body:
            request["Body"] = body
            try:
                return self._s3.client.put_object(**request).get("ETag", "")
            except ClientError as exc:
                if status_of(exc) == _PRECONDITION_FAILED:
                    return None
                if status_of(exc) == _CONFLICT:
                    raise _Conflict from exc
                raise

    def _compare(self, key: str, content: _Content) -> str:
        """Read *key* back and hash it; give its ETag."""
        try:
            answer = self._get(key, None)
        except NotFound as exc:
            raise BucketUnavailable(f"{key} is not there after it was written") from exc
        digest, size = hashlib.sha256(), 0
        with closing(answer["Body"]) as body:
            while chunk := body.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
                if size > content.size:
                    break
        if (size, digest.digest()) != (content.size, content.sha256):
            raise BucketMismatch(f"{key} holds other bytes than were sent")
        return answer["ETag"]

    def _get(self, key: str, span: str | None) -> GetObjectOutputTypeDef:
        try:
            if span is None:
                return self._s3.client.get_object(Bucket=self._s3.bucket, Key=self._s3.name(key))
            return self._s3.client.get_object(Bucket=self._s3.bucket, Key=self._s3.name(key), Range=span)
        except ClientError as exc:
            if status_of(exc) == _NOT_FOUND:
                raise NotFound(f"{key} is not in the bucket") from exc
            raise

    async def read(self, key: str, *, start: int | None = None, end: int | None = None) -> ObjectStream:
        """
        Open *key* for reading, from byte *start* to byte *end*, both included and counted from 0.

        None: from the first, to the last. The caller closes the stream.

        Raises:
            NotFound: There is no such object.
            BucketUnavailable: The bucket did not give it, or cannot give a part.
        """
        whole = start is None and end is None
        span = None if whole else f"bytes={start or 0}-{'' if end is None else end}"
        answer = await self._s3.run(partial(self._get, key, span))
        length = answer["ContentLength"]
        size = length
        if not whole:
            total = answer.get("ContentRange", "").rpartition("/")[2]
            if not total.isdecimal():
                answer["Body"].close()
                raise BucketUnavailable("the bucket gives no part of an object")
            size = int(total)
        info = ObjectInfo(size=size, etag=answer["ETag"], media_type=answer.get("ContentType", ""))
        return ObjectStream(self._s3, answer["Body"], info, length=length)

    async def head(self, key: str) -> ObjectInfo | None:
        """
        Ask what the server says of *key*; None when it is not there.

        Raises:
            BucketUnavailable: The bucket did not say.
        """

        def ask() -> ObjectInfo | None:
            try:
                answer = self._s3.client.head_object(Bucket=self._s3.bucket, Key=self._s3.name(key))
            except ClientError as exc:
                if status_of(exc) == _NOT_FOUND:
                    return None
                raise
            return ObjectInfo(
                size=answer["ContentLength"], etag=answer.get("ETag", ""), media_type=answer.get("ContentType", "")
            )

        return await self._s3.run(ask)

    async def exists(self, key: str) -> bool:
        """
        Tell whether *key* is there.

        Raises:
            BucketUnavailable: The bucket did not say.
        """
        return await self.head(key) is not None

    async def list(self, prefix: str) -> AsyncIterator[Listed]:
        """
        Give every object whose key begins with *prefix*, in the order of the keys.

        Raises:
            BucketUnavailable: The bucket did not say.
        """
        token = ""
        while True:
            page, token = await self._s3.run(partial(self._page, prefix, token))
            for listed in page:
                yield listed
            if not token:
                return

    def _page(self, prefix: str, token: str) -> tuple[tuple[Listed, ...], str]:
        """Give one page of a listing, and the token of the next; empty at the end."""
        client, bucket, name = self._s3.client, self._s3.bucket, self._s3.name(prefix)
        if token:
            answer = client.list_objects_v2(Bucket=bucket, Prefix=name, ContinuationToken=token)
        else:
            answer = client.list_objects_v2(Bucket=bucket, Prefix=name)
        page = tuple(
            Listed(key=self._s3.key(found["Key"]), size=found["Size"], modified=found["LastModified"])
            for found in answer.get("Contents", [])
        )
        return page, answer.get("NextContinuationToken", "")

    async def delete(self, key: str) -> None:
        """
        Remove *key*; harmless when it is not there.

        Raises:
            BucketUnavailable: Not removed, or not known to be.
        """
        await self._s3.run(
            partial(self._s3.client.delete_object, Bucket=self._s3.bucket, Key=self._s3.name(key)),
        )

    def presign(self, key: str, *, expires: timedelta, filename: str, media_type: str) -> str:
        """
        Make a URL that lets anyone who can reach the bucket save *key* as *filename*; sends nothing.

        Raises:
            BucketUnavailable: There are no keys to sign with at the moment.
        """
        with translated():
            return self._presigner.sign(
                self._s3.name(key),
                now=self._clock(),
                expires=expires,
                disposition=attachment(filename),
                media_type=media_type,
            )

    def close(self) -> None:
        """Drop what has not begun; what runs ends by its own time-outs."""
        self._s3.close()


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _presigner(s3: S3, config: BucketConfig) -> Presigner:
    """Ask boto3 once how this bucket is addressed."""
    sample = s3.client.generate_presigned_url("get_object", Params={"Bucket": config.bucket, "Key": "x"})
    parts = urlsplit(sample)
    return Presigner(
        origin=f"{parts.scheme}://{parts.netloc}",
        path=parts.path.removesuffix("/x"),
        region=s3.client.meta.region_name,
        keys=s3.keys,
    )
