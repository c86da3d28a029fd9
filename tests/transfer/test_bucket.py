from __future__ import annotations

import asyncio
import hashlib
import http.client
import os
import re
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.core.errors import BucketMismatch, BucketUnavailable, Misconfigured, NotFound
from receiver.core.model import Format, Secret, TaskId
from receiver.transfer.bucket import (
    CONFLICT_TRIES,
    Bucket,
    BucketConfig,
    Proof,
    Verification,
    manifest_key,
    object_key,
)
from tests.transfer.servers import Exchange, RawHost
from tests.transfer.stores import Answer, Rclone, deliver, error, tampered

T = TypeVar("T")
AUDIO = hashlib.shake_256(b"audio").digest(700_000)
SHA256 = hashlib.sha256(AUDIO).digest()
MD5 = hashlib.md5(AUDIO, usedforsecurity=False).digest()
TASK = TaskId(58_000_000_000_123_456)
KEY = object_key(TASK, "clip-1", SHA256, Format.MP3)
#: What rclone is found to be.
WEAK = Proof(conditional="ignored", checks_sha256=False, checks_md5=True, accepts_sha256_header=True, ranges=True)
STRICT = replace(WEAK, conditional="enforced", checks_sha256=True)
#: One answer of the network, in the place of the server's.
Tamper = Callable[[Exchange, Callable[[], Answer]], Answer | None]


@contextmanager
def opened(config: BucketConfig) -> Iterator[Bucket]:
    bucket = Bucket(config)
    try:
        yield bucket
    finally:
        bucket.close()


def use(config: BucketConfig, work: Callable[[Bucket], Awaitable[T]]) -> T:
    async def scenario() -> T:
        with opened(config) as bucket:
            return await work(bucket)

    return asyncio.run(scenario())


@pytest.fixture
def made(rclone: Rclone) -> BucketConfig:
    """A bucket of its own for one test."""
    config = rclone.config()
    # Not by hand: rclone sees what is made behind its back only minutes later.
    use(config, lambda bucket: bucket.prove())
    return config


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    path = tmp_path / "audio"
    path.write_bytes(AUDIO)
    return path


async def put(bucket: Bucket, path: Path, proof: Proof = WEAK) -> Verification:
    return await bucket.put(KEY, path, size=len(AUDIO), sha256=SHA256, md5=MD5, media_type="audio/mpeg", proof=proof)


def through(config: BucketConfig, rclone: Rclone, tamper: Tamper, work: Callable[[Bucket], Awaitable[T]]) -> T:
    with RawHost(tampered(rclone.port, tamper)) as wire:
        return use(replace(config, endpoint=wire.url), work)


def is_put(exchange: Exchange) -> bool:
    return exchange.line.startswith("PUT") and KEY in exchange.line


def is_get(exchange: Exchange) -> bool:
    return exchange.line.startswith("GET") and KEY in exchange.line


# The proof


def test_rclone_is_found_to_need_reading_back(rclone: Rclone) -> None:
    config = rclone.config()
    proof = use(config, lambda bucket: bucket.prove())
    assert proof == WEAK
    assert proof.verification == "readback"
    assert [path for path in (rclone.directory / config.bucket).rglob("*") if path.is_file()] == []


def test_a_proof_can_be_had_again(made: BucketConfig) -> None:
    assert use(made, lambda bucket: bucket.prove()) == WEAK


def test_a_missing_bucket_is_made_only_when_allowed(rclone: Rclone) -> None:
    config = replace(rclone.config(), create=False)
    with pytest.raises(Misconfigured, match="no bucket"):
        use(config, lambda bucket: bucket.prove())
    assert not (rclone.directory / config.bucket).exists()


@pytest.mark.parametrize("wrong", [{"secret_key": Secret("s3cret-wrong")}, {"access_key": "nobody"}])
def test_wrong_keys_stop_the_start(made: BucketConfig, wrong: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured) as caught:
        use(replace(made, **wrong), lambda bucket: bucket.prove())
    assert "s3cret" not in str(caught.value)


def test_an_endpoint_that_is_no_url_stops_the_start(made: BucketConfig) -> None:
    with pytest.raises(Misconfigured):
        Bucket(replace(made, endpoint="not a url"))


def test_no_keys_at_all_stop_the_start(made: BucketConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(Misconfigured, match="Unable to locate credentials"):
        Bucket(replace(made, access_key="", secret_key=Secret("")))


def test_other_bytes_than_sent_stop_the_start(made: BucketConfig, rclone: Rclone) -> None:
    def tamper(exchange: Exchange, answer: Callable[[], Answer]) -> Answer:
        real = answer()
        if exchange.line.startswith("GET") and ".probe/" in exchange.line:
            return replace(real, body=bytes(len(real.body)))
        return real

    with pytest.raises(Misconfigured, match="other bytes"):
        through(made, rclone, tamper, lambda bucket: bucket.prove())


@pytest.mark.parametrize(("later", "left"), [(timedelta(hours=2), []), (timedelta(minutes=2), [".probe/killed"])])
def test_what_a_killed_probe_left_is_cleared_when_it_is_old(
    made: BucketConfig, rclone: Rclone, later: timedelta, left: list[str]
) -> None:
    def tamper(_: Exchange, answer: Callable[[], Answer]) -> Answer:
        real = answer()
        date = format_datetime(datetime.now(UTC) + later, usegmt=True)
        return replace(real, headers=[(n, date if n.lower() == "date" else value) for n, value in real.headers])

    use(made, lambda bucket: bucket.put_bytes(".probe/killed", b"left", "text/plain", WEAK))
    through(made, rclone, tamper, lambda bucket: bucket.prove())

    async def listed(bucket: Bucket) -> list[str]:
        return [each.key async for each in bucket.list(".probe/")]

    assert use(made, listed) == left


def test_nobody_at_the_address_is_unavailable(doomed_rclone: Rclone) -> None:
    doomed_rclone.stop()
    with pytest.raises(BucketUnavailable):
        use(doomed_rclone.config(), lambda bucket: bucket.prove())


class Strict:
    """What other servers do with conditions and checksums, on top of rclone."""

    def __init__(self, *, condition: int | None = 412, sha256: int | None = None) -> None:
        self._condition = condition
        self._sha256 = sha256
        self._stored: set[str] = set()

    def __call__(self, exchange: Exchange, answer: Callable[[], Answer]) -> Answer:
        if exchange.line.startswith("PUT"):
            checksum = exchange.headers.get("x-amz-checksum-sha256")
            right = b64encode(hashlib.sha256(exchange.body).digest()).decode()
            if checksum is not None and self._sha256 is not None:
                return error(self._sha256, "InvalidRequest")
            if checksum not in (None, right):
                return error(400, "BadDigest")
            if "if-none-match" in exchange.headers:
                if self._condition == 501:
                    return error(501, "NotImplemented")
                if exchange.line in self._stored:
                    return error(412, "PreconditionFailed")
            self._stored.add(exchange.line)
        return answer()


def test_a_strict_server_is_found_out(made: BucketConfig, rclone: Rclone) -> None:
    proof = through(made, rclone, Strict(), lambda bucket: bucket.prove())
    assert proof == STRICT
    assert proof.verification == "head"


def test_refused_conditions_are_found_out(made: BucketConfig, rclone: Rclone) -> None:
    proof = through(made, rclone, Strict(condition=501), lambda bucket: bucket.prove())
    assert proof == replace(STRICT, conditional="refused")


@pytest.mark.parametrize("status", [400, 403, 501])
def test_a_refused_checksum_header_is_left_out(made: BucketConfig, rclone: Rclone, audio: Path, status: int) -> None:
    async def work(bucket: Bucket) -> tuple[Proof, Verification]:
        proof = await bucket.prove()
        return proof, await put(bucket, audio, proof)

    proof, verification = through(made, rclone, Strict(condition=501, sha256=status), work)
    assert proof == replace(WEAK, conditional="refused", accepts_sha256_header=False)
    assert verification.how == "readback"


def test_a_server_in_trouble_is_unavailable(made: BucketConfig, rclone: Rclone) -> None:
    with pytest.raises(BucketUnavailable):
        through(made, rclone, lambda *_: error(503, "SlowDown"), lambda bucket: bucket.prove())


# Putting


def test_a_put_on_a_weak_server_is_read_back(made: BucketConfig, rclone: Rclone, audio: Path) -> None:
    verification = use(made, lambda bucket: put(bucket, audio))
    assert verification == Verification(how="readback", existed=False, etag=f'"{MD5.hex()}"')
    assert (rclone.directory / made.bucket / "audio" / KEY).read_bytes() == AUDIO


def test_a_put_on_a_strict_server_is_one_request(made: BucketConfig, rclone: Rclone, audio: Path) -> None:
    with RawHost(tampered(rclone.port, Strict())) as wire:
        verification = use(replace(made, endpoint=wire.url), lambda bucket: put(bucket, audio, STRICT))
    assert verification == Verification(how="checksum", existed=False, etag=f'"{MD5.hex()}"')
    assert len(wire.seen) == 1
    headers = wire.seen[0].headers
    assert headers["content-length"] == str(len(AUDIO))
    assert headers["x-amz-content-sha256"] == SHA256.hex()
    assert headers["x-amz-checksum-sha256"] == b64encode(SHA256).decode()
    assert headers["content-md5"] == b64encode(MD5).decode()
    assert headers["content-type"] == "audio/mpeg"
    assert headers["if-none-match"] == "*"
    assert "aws-chunked" not in headers.get("content-encoding", "")


def test_an_etag_that_is_no_md5_is_read_back(made: BucketConfig, rclone: Rclone, audio: Path) -> None:
    def tamper(exchange: Exchange, answer: Callable[[], Answer]) -> Answer:
        real = answer()
        return replace(real, headers=[("ETag", '"encrypted-7"')]) if is_put(exchange) else real

    assert through(made, rclone, tamper, lambda bucket: put(bucket, audio, STRICT)).how == "readback"


def test_a_put_can_be_repeated(made: BucketConfig, audio: Path) -> None:
    async def work(bucket: Bucket) -> list[Verification]:
        return [await put(bucket, audio) for _ in range(2)]

    assert [verification.how for verification in use(made, work)] == ["readback"] * 2


def test_own_bytes_that_lie_there_already_are_a_success(made: BucketConfig, rclone: Rclone, audio: Path) -> None:
    async def work(bucket: Bucket) -> list[Verification]:
        return [await put(bucket, audio, STRICT) for _ in range(2)]

    first, second = through(made, rclone, Strict(), work)
    assert (first.how, first.existed) == ("checksum", False)
    assert (second.how, second.existed) == ("readback", True)


@pytest.mark.parametrize("there", [b"other", AUDIO[:-1], AUDIO + b"x", bytes(len(AUDIO))])
def test_other_bytes_that_lie_there_already_are_a_mismatch(
    made: BucketConfig, rclone: Rclone, audio: Path, there: bytes
) -> None:
    def tamper(exchange: Exchange, answer: Callable[[], Answer]) -> Answer:
        return error(412, "PreconditionFailed") if is_put(exchange) else answer()

    use(made, lambda bucket: bucket.put_bytes(KEY, there, "audio/mpeg", WEAK))
    with pytest.raises(BucketMismatch):
        through(made, rclone, tamper, lambda bucket: put(bucket, audio, STRICT))
    assert (rclone.directory / made.bucket / "audio" / KEY).read_bytes() == there


def test_a_byte_that_turns_on_the_disk_is_a_mismatch(made: BucketConfig, rclone: Rclone, audio: Path) -> None:
    def tamper(exchange: Exchange, answer: Callable[[], Answer]) -> Answer:
        real = answer()
        if is_put(exchange):
            with (rclone.directory / made.bucket / "audio" / KEY).open("r+b") as stored:
                stored.seek(1000)
                stored.write(bytes([AUDIO[1000] ^ 1]))
        return real

    with pytest.raises(BucketMismatch):
        through(made, rclone, tamper, lambda bucket: put(bucket, audio))


@pytest.mark.parametrize("at", [0, 1000, -1])
def test_a_byte_that_turns_on_the_way_back_is_a_mismatch(
    made: BucketConfig, rclone: Rclone, audio: Path, at: int
) -> None:
    def tamper(exchange: Exchange, answer: Callable[[], Answer]) -> Answer:
        real = answer()
        if is_get(exchange):
            body = bytearray(real.body)
            body[at] ^= 0x80
            return replace(real, body=bytes(body))
        return real

    with pytest.raises(BucketMismatch):
        through(made, rclone, tamper, lambda bucket: put(bucket, audio))


def test_an_object_that_vanishes_after_the_put_is_not_stored(made: BucketConfig, rclone: Rclone, audio: Path) -> None:
    def tamper(exchange: Exchange, answer: Callable[[], Answer]) -> Answer:
        return Answer(200, [("ETag", '"x"')], b"") if is_put(exchange) else answer()

    with pytest.raises(BucketUnavailable):
        through(made, rclone, tamper, lambda bucket: put(bucket, audio))


@pytest.mark.parametrize("proof", [WEAK, STRICT])
def test_a_reply_lost_after_the_commit_is_a_success(
    made: BucketConfig, rclone: Rclone, audio: Path, proof: Proof
) -> None:
    server = Strict()
    cut: list[Exchange] = []

    def tamper(exchange: Exchange, answer: Callable[[], Answer]) -> Answer | None:
        real = server(exchange, answer)
        if is_put(exchange) and not cut:
            cut.append(exchange)
            return None
        return real

    verification = through(made, rclone, tamper, lambda bucket: put(bucket, audio, proof))
    assert verification.existed is (proof is STRICT)
    assert (rclone.directory / made.bucket / "audio" / KEY).read_bytes() == AUDIO


def test_a_conflict_is_tried_again(made: BucketConfig, rclone: Rclone, audio: Path) -> None:
    met: list[Exchange] = []

    def tamper(exchange: Exchange, answer: Callable[[], Answer]) -> Answer:
        if is_put(exchange) and len(met) < CONFLICT_TRIES - 1:
            met.append(exchange)
            return error(409, "ConditionalRequestConflict")
        return answer()

    assert through(made, rclone, tamper, lambda bucket: put(bucket, audio, STRICT)).how == "checksum"
    assert len(met) == CONFLICT_TRIES - 1


def test_a_conflict_that_stays_is_unavailable(made: BucketConfig, rclone: Rclone, audio: Path) -> None:
    behaviour = tampered(rclone.port, lambda *_: error(409, "ConditionalRequestConflict"))
    with RawHost(behaviour) as wire, pytest.raises(BucketUnavailable):
        use(replace(made, endpoint=wire.url), lambda bucket: put(bucket, audio, STRICT))
    assert len(wire.seen) == CONFLICT_TRIES


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (400, "BadDigest")])
def test_a_refused_put_is_unavailable(made: BucketConfig, rclone: Rclone, audio: Path, status: int, code: str) -> None:
    with pytest.raises(BucketUnavailable, match=code):
        through(made, rclone, lambda *_: error(status, code), lambda bucket: put(bucket, audio))


def test_a_killed_server_is_unavailable(doomed_rclone: Rclone, audio: Path) -> None:
    async def work(bucket: Bucket) -> None:
        proof = await bucket.prove()
        await put(bucket, audio, proof)
        doomed_rclone.stop()
        for call in (put(bucket, audio, proof), bucket.read(KEY), bucket.head(KEY), bucket.delete(KEY)):
            with pytest.raises(BucketUnavailable):
                await call

    use(doomed_rclone.config(), work)


def test_bytes_are_put_like_files(made: BucketConfig, rclone: Rclone) -> None:
    body = b'{"task_id": "1"}'
    key = manifest_key(TASK, hashlib.sha256(body).digest())
    verification = use(made, lambda bucket: bucket.put_bytes(key, body, "application/json", WEAK))
    assert verification.how == "readback"
    assert (rclone.directory / made.bucket / "audio" / key).read_bytes() == body


def test_many_puts_run_side_by_side(made: BucketConfig, rclone: Rclone) -> None:
    async def work(bucket: Bucket) -> list[Verification]:
        puts = (bucket.put_bytes(f"{n}/x", str(n).encode() * 1000, "text/plain", WEAK) for n in range(40))
        return await asyncio.gather(*puts)

    assert {verification.how for verification in use(made, work)} == {"readback"}
    assert len(list((rclone.directory / made.bucket).rglob("x"))) == 40


# Reading, listing, removing


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (None, None, AUDIO),
        (0, None, AUDIO),
        (5, None, AUDIO[5:]),
        (None, 9, AUDIO[:10]),
        (100, 600_000, AUDIO[100:600_001]),
        (len(AUDIO) - 1, None, AUDIO[-1:]),
    ],
)
def test_an_object_is_read_whole_or_in_part(
    made: BucketConfig, audio: Path, start: int | None, end: int | None, expected: bytes
) -> None:
    async def work(bucket: Bucket) -> None:
        await put(bucket, audio)
        async with await bucket.read(KEY, start=start, end=end) as stream:
            assert stream.size == len(AUDIO)
            assert stream.length == len(expected)
            assert stream.etag == f'"{MD5.hex()}"'
            assert stream.media_type == "audio/mpeg"
            assert b"".join([chunk async for chunk in stream]) == expected

    use(made, work)


def test_a_stream_that_is_given_up_leaves_the_bucket_usable(made: BucketConfig, audio: Path) -> None:
    async def work(bucket: Bucket) -> None:
        await put(bucket, audio)
        for _ in range(20):
            async with await bucket.read(KEY) as stream:
                assert await anext(stream)
            await stream.aclose()
        assert await bucket.exists(KEY)

    use(made, work)


def test_a_stream_that_breaks_is_unavailable(made: BucketConfig, rclone: Rclone, audio: Path) -> None:
    def tamper(exchange: Exchange, answer: Callable[[], Answer]) -> Answer | None:
        real = answer()
        if is_get(exchange):
            deliver(exchange, replace(real, body=real.body[:400_000]))
            return None
        return real

    async def work(bucket: Bucket) -> None:
        stream = await bucket.read(KEY)
        with pytest.raises(BucketUnavailable):
            _ = [chunk async for chunk in stream]

    use(made, lambda bucket: put(bucket, audio))
    through(made, rclone, tamper, work)


def test_a_part_is_refused_where_the_server_gives_none(made: BucketConfig, rclone: Rclone, audio: Path) -> None:
    def tamper(exchange: Exchange, answer: Callable[[], Answer]) -> Answer:
        exchange.headers.pop("range", None)
        return answer()

    use(made, lambda bucket: put(bucket, audio))
    with pytest.raises(BucketUnavailable):
        through(made, rclone, tamper, lambda bucket: bucket.read(KEY, start=5))
    assert through(made, rclone, tamper, lambda bucket: bucket.prove()).ranges is False


def test_what_is_not_there_is_not_found(made: BucketConfig) -> None:
    async def work(bucket: Bucket) -> None:
        with pytest.raises(NotFound):
            await bucket.read(KEY)
        assert await bucket.head(KEY) is None
        assert not await bucket.exists(KEY)
        await bucket.delete(KEY)

    use(made, work)


def test_listing_gives_keys_without_the_prefix_of_the_bucket(made: BucketConfig) -> None:
    async def work(bucket: Bucket) -> list[tuple[str, int]]:
        for key in ("7/a", "7/b", "77/a", "8/a"):
            await bucket.put_bytes(key, key.encode(), "text/plain", WEAK)
        await bucket.delete("7/b")
        return [(listed.key, listed.size) async for listed in bucket.list("7/")]

    assert use(made, work) == [("7/a", 3)]


def test_long_listings_come_whole(doomed_rclone: Rclone) -> None:
    config = doomed_rclone.config()
    directory = doomed_rclone.directory / config.bucket / "audio" / "9"
    directory.mkdir(parents=True)
    for number in range(1_203):
        (directory / f"{number:05}").write_bytes(b"x")

    async def work(bucket: Bucket) -> list[str]:
        return [listed.key async for listed in bucket.list("9/")]

    assert use(config, work) == [f"9/{number:05}" for number in range(1_203)]


def test_an_empty_prefix_adds_nothing(made: BucketConfig, rclone: Rclone) -> None:
    use(replace(made, prefix=""), lambda bucket: bucket.put_bytes("7/a", b"x", "text/plain", WEAK))
    assert (rclone.directory / made.bucket / "7" / "a").exists()


# Presigned URLs


def test_a_presigned_url_gives_the_object_as_a_file_of_that_name(made: BucketConfig, audio: Path) -> None:
    async def work(bucket: Bucket) -> str:
        await put(bucket, audio)
        return bucket.presign(KEY, expires=timedelta(minutes=5), filename='a "b"\nä.mp3', media_type="audio/x")

    parts = urlsplit(use(made, work))
    connection = http.client.HTTPConnection(parts.netloc)
    connection.request("GET", f"{parts.path}?{parts.query}")
    response = connection.getresponse()
    assert response.status == 200
    assert response.read() == AUDIO
    assert response.getheader("content-type") == "audio/x"
    assert response.getheader("content-disposition") == (
        "attachment; filename=\"a _b__.mp3\"; filename*=UTF-8''a%20_b_%C3%A4.mp3"
    )
    connection.request("GET", f"{parts.path}?{parts.query}0")
    refused = connection.getresponse()
    assert (refused.status, len(refused.read()) > 0) == (403, True)
    connection.close()


@pytest.mark.parametrize("addressing", ["auto", "path", "virtual"])
@pytest.mark.parametrize("endpoint", [None, "https://s3.example", "https://s3.example:9000"])
@pytest.mark.parametrize("key", ["7/a.mp3", "7/a b+ä~.mp3"])
def test_a_presigned_url_is_the_one_that_boto3_makes(addressing: Any, endpoint: str | None, key: str) -> None:
    config = BucketConfig(
        endpoint=endpoint,
        region="eu-central-1",
        bucket="music",
        prefix="audio",
        access_key="AKIDEXAMPLE",
        secret_key=Secret("s3cret"),
        addressing=addressing,
        public=True,
    )
    with opened(config) as bucket:
        theirs = bucket._s3.client.generate_presigned_url(
            "get_object",
            Params={
                "Bucket": "music",
                "Key": f"audio/{key}",
                "ResponseContentDisposition": 'attachment; filename="a.mp3"',
                "ResponseContentType": "audio/mpeg",
            },
            ExpiresIn=600,
        )
        stamp = parse_qs(urlsplit(theirs).query)["X-Amz-Date"][0]
        now = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        bucket._clock = lambda: now
        ours = bucket.presign(key, expires=timedelta(minutes=10), filename="a.mp3", media_type="audio/mpeg")
        assert bucket.public
    one, other = urlsplit(ours), urlsplit(theirs)
    assert (one.scheme, one.netloc, one.path) == (other.scheme, other.netloc, other.path)
    assert parse_qs(one.query) == parse_qs(other.query)


def test_nothing_ambient_is_read_when_keys_are_given(made: BucketConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "t")
    assert use(made, lambda bucket: bucket.prove()) == WEAK


def test_secrets_stay_out_of_reprs(made: BucketConfig) -> None:
    assert made.secret_key.reveal() not in repr(made)


# Keys


@given(clip=st.text(), other=st.text())
def test_distinct_clips_never_share_a_key(clip: str, other: str) -> None:
    one = object_key(TASK, clip, SHA256, Format.WAV)
    assert (one == object_key(TASK, other, SHA256, Format.WAV)) is (clip == other)


@given(clip=st.text(st.characters(codec=None)))
def test_a_key_is_two_plain_segments(clip: str) -> None:
    assert re.fullmatch(r"[0-9]+/[A-Za-z0-9._-]{1,180}\.mp3", object_key(TASK, clip, SHA256, Format.MP3))


def test_keys_tell_task_clip_and_content() -> None:
    assert f"58000000000123456/clip-1-{SHA256.hex()[:16]}.mp3" == KEY
    assert manifest_key(TASK, SHA256) == f"58000000000123456/manifest-{SHA256.hex()[:16]}.json"
