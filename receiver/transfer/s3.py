"""
The one connection to S3: boto3 in threads, its errors translated here.

Every setting of the client is that of storage.md 0 and 4.1: a plain PUT with
its length and a signed payload is what every server understands.
"""

from __future__ import annotations

import asyncio
import os
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, Literal, TypeVar
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from receiver.core.errors import BucketUnavailable, Misconfigured
from receiver.core.model import Secret
from receiver.transfer.presign import Keys

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import PutObjectRequestTypeDef

T = TypeVar("T")

CONNECT_SECONDS: Final = 5
READ_SECONDS: Final = 30
#: Of botocore's own, for 5xx, 429 and broken connections.
ATTEMPTS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketConfig:
    """Where the objects lie, and how we get there."""

    #: None: AWS.
    endpoint: str | None
    region: str
    bucket: str
    #: Put before every key; empty for none.
    prefix: str
    #: Empty: the default chain of AWS (roles of the machine, the environment).
    access_key: str
    secret_key: Secret
    #: auto: path with an endpoint, else what AWS prefers.
    addressing: Literal["auto", "path", "virtual"] = "auto"
    #: Whether people outside can use a presigned URL.
    public: bool
    upload_threads: int = 8
    #: Whether the start-up proof may make the bucket.
    create: bool = False


class S3:
    """A client and the threads that it is called in."""

    def __init__(self, config: BucketConfig) -> None:
        self._session, self.client = connect(config)
        self.bucket = config.bucket
        self._prefix = config.prefix.strip("/")
        self._threads = ThreadPoolExecutor(config.upload_threads, thread_name_prefix="bucket")

    def keys(self) -> Keys:
        """
        Give what requests are signed with at this moment.

        Raises:
            NoCredentialsError: There is nothing, and the start-up proof would have failed.
        """
        credentials = self._session.get_credentials()
        found = credentials.get_frozen_credentials() if credentials else None
        if found is None or not found.access_key or not found.secret_key:
            raise NoCredentialsError
        return Keys(access_key=found.access_key, secret_key=found.secret_key, token=found.token)

    def name(self, key: str) -> str:
        """Give the name in the bucket of *key*."""
        return f"{self._prefix}/{key}" if self._prefix else key

    def key(self, name: str) -> str:
        """Undo `name`."""
        return name.removeprefix(f"{self._prefix}/") if self._prefix else name

    async def run(self, work: Callable[[], T]) -> T:
        """
        Run *work* in a thread; a cancelled caller does not stop it.

        Raises:
            BucketUnavailable: The bucket did not do it.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, _guarded, work)

    def close(self) -> None:
        """Drop what has not begun; what runs ends by its own time-outs."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.client.close()


def _guarded(work: Callable[[], T]) -> T:
    with translated():
        return work()


@contextmanager
def translated() -> Iterator[None]:
    """
    Turn what botocore raises into our error; nothing of the request is quoted.

    Raises:
        BucketUnavailable: The bucket refused, failed, or did not answer.
    """
    try:
        yield
    except ClientError as exc:
        raise BucketUnavailable(f"the bucket answered {status_of(exc)} {code_of(exc)}") from exc
    except BotoCoreError as exc:
        raise BucketUnavailable(f"the bucket did not answer: {type(exc).__name__}") from exc


def status_of(exc: ClientError) -> int:
    """Give the HTTP status of an answer; 0 when it had none."""
    return int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def code_of(exc: ClientError) -> str:
    """Give the server's own word for the error."""
    return str(exc.response.get("Error", {}).get("Code", ""))


def put_request(
    s3: S3, name: str, *, media_type: str, md5: bytes, sha256: bytes | None, conditional: bool
) -> PutObjectRequestTypeDef:
    """Give everything of one PUT but its body; checksums are given, so that botocore adds none of its own."""
    request: PutObjectRequestTypeDef = {
        "Bucket": s3.bucket,
        "Key": name,
        "ContentType": media_type,
        "ContentMD5": b64encode(md5).decode(),
    }
    if sha256 is not None:
        request["ChecksumSHA256"] = b64encode(sha256).decode()
    if conditional:
        request["IfNoneMatch"] = "*"
    return request


def _session(config: BucketConfig) -> boto3.session.Session:
    """With a key given, nothing ambient is read: no profile, no file, no endpoint of the environment."""
    if not config.access_key:
        return boto3.session.Session(region_name=config.region)
    unset, nowhere = (None, None, None, None), (None, None, os.devnull, None)
    ambient = {
        "profile": unset,
        "config_file": nowhere,
        "credentials_file": nowhere,
        "ignore_configured_endpoint_urls": (None, None, True, None),
    }
    return boto3.session.Session(
        aws_access_key_id=config.access_key,
        aws_secret_access_key=config.secret_key.reveal(),
        region_name=config.region,
        botocore_session=botocore.session.Session(ambient),
    )


def connect(config: BucketConfig) -> tuple[boto3.session.Session, S3Client]:
    """
    Make a session and its client; sends nothing.

    Raises:
        Misconfigured: The endpoint is no URL, the region is no name, or the profile is not there.
    """
    try:
        session = _session(config)
        return session, session.client("s3", endpoint_url=config.endpoint, config=_settings(config))
    except (BotoCoreError, ValueError) as exc:
        raise Misconfigured(f"RECEIVER_S3_ENDPOINT, RECEIVER_S3_REGION or the profile of AWS: {exc}") from exc


def _settings(config: BucketConfig) -> Config:
    addressing = config.addressing
    if addressing == "auto" and config.endpoint is not None:
        addressing = "path"
    return Config(
        signature_version="s3v4",
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"payload_signing_enabled": True, "addressing_style": addressing},
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        max_pool_connections=config.upload_threads,
        # A proxy of the environment cannot reach this machine's own loopback.
        proxies={} if _is_loopback(config.endpoint) else None,
    )


def _is_loopback(endpoint: str | None) -> bool:
    host = urlsplit(endpoint or "").hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
