from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.core.errors import DownloadFailed, FetchBlocked, LinkDead
from receiver.transfer.download import Download, Downloader
from tests.transfer.media_host import AUDIO, LOOPBACK, QUICK, endless, in_turn, ranged, raw, status, whole
from tests.transfer.servers import Behaviour, Exchange, RawHost, until

ONCE = replace(QUICK, attempts=1)
OTHER = bytes(reversed(AUDIO))
HOUR = timedelta(hours=1)


class Place:
    """A downloader over a fake host, and what lies in its spool."""

    def __init__(self, downloader: Downloader, host: RawHost, root: Path) -> None:
        self.downloader = downloader
        self.host = host
        self._root = root

    @property
    def files(self) -> list[Path]:
        return [path for path in self._root.glob("process-*/*") if path.name != "lock"]

    @property
    def ranges(self) -> list[str | None]:
        return [exchange.headers.get("range") for exchange in self.host.seen]

    async def fetch(self, path: str = "/a.mp3", key: str | None = "clip") -> Download:
        return await self.downloader.fetch(self.host.url + path, LOOPBACK, key=key)

    async def fetched(self, path: str = "/a.mp3", key: str | None = "clip") -> bytes:
        """Fetch, check that what the download says of its bytes is true, and give them."""
        async with await self.fetch(path, key) as download:
            content = download.path.read_bytes()
        assert download.size == len(content)
        assert download.sha256 == hashlib.sha256(content).digest()
        assert download.md5 == hashlib.md5(content, usedforsecurity=False).digest()
        return content

    async def fails(self, error: type[Exception], path: str = "/a.mp3", key: str | None = "clip") -> None:
        with pytest.raises(error):
            await self.fetch(path, key)

    async def keep(self, key: str) -> None:
        async with await self.fetch(key=key) as download:
            download.keep()


@asynccontextmanager
async def place(behaviour: Behaviour, root: Path, **options: Any) -> AsyncIterator[Place]:
    with RawHost(behaviour) as host:
        downloader = Downloader(root, options.pop("limits", ONCE), **options)
        yield Place(downloader, host, root)
        await downloader.aclose()


@dataclass
class Stage:
    root: Path

    def play(self, behaviour: Behaviour, scenario: Callable[[Place], Awaitable[None]], **options: Any) -> None:
        async def run() -> None:
            async with place(behaviour, self.root, **options) as stage:
                await scenario(stage)

        asyncio.run(run())
        assert list(self.root.glob("process-*")) == []


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path / "spool")


def cut(at: int, etag: str = '"v1"', media: bytes = AUDIO) -> Behaviour:
    return lambda exchange: ranged(exchange, etag, cut=at, media=media)


def good(etag: str = '"v1"', media: bytes = AUDIO) -> Behaviour:
    return lambda exchange: ranged(exchange, etag, cut=None, media=media)


def test_a_fresh_link_of_the_same_media_gives_only_the_rest(stage: Stage) -> None:
    async def scenario(it: Place) -> None:
        await it.fails(DownloadFailed, "/a.mp3?ksTime=old")
        assert await it.fetched("/b.mp3?ksTime=new") == AUDIO
        assert [e.line.split()[1] for e in it.host.seen] == ["/a.mp3?ksTime=old", "/b.mp3?ksTime=new"]
        assert it.ranges == [None, "bytes=100000-"]
        assert it.host.seen[1].headers["if-range"] == '"v1"'
        assert it.files == []

    stage.play(in_turn(cut(100_000), good()), scenario)


def test_the_rest_may_come_in_many_parts_over_many_links(stage: Stage) -> None:
    async def scenario(it: Place) -> None:
        for number in range(3):
            await it.fails(DownloadFailed, f"/{number}")
        assert await it.fetched("/3") == AUDIO
        assert it.ranges == [None, "bytes=1000-", "bytes=3000-", "bytes=6000-"]

    stage.play(in_turn(cut(1000), cut(2000), cut(3000), good()), scenario)


def test_a_link_that_dies_after_a_part_leaves_the_part_to_the_next_link(stage: Stage) -> None:
    async def scenario(it: Place) -> None:
        await it.fails(LinkDead, "/old")
        await it.fails(LinkDead, "/dead too")
        assert await it.fetched("/new") == AUDIO
        assert it.ranges == [None, "bytes=100000-", "bytes=100000-", "bytes=100000-"]

    dead = status("403 Forbidden")
    stage.play(in_turn(cut(100_000), dead, dead, good()), scenario, limits=replace(QUICK, attempts=2))


def test_a_redirect_to_the_media_is_resumed_too(stage: Stage) -> None:
    async def scenario(it: Place) -> None:
        await it.fails(DownloadFailed)
        assert await it.fetched("/moved") == AUDIO
        assert it.ranges == [None, "bytes=100000-", "bytes=100000-"]

    stage.play(in_turn(cut(100_000), status("302 Found", "Location: /there"), good()), scenario)


def test_a_fetch_out_of_time_leaves_its_part(stage: Stage) -> None:
    async def scenario(it: Place) -> None:
        await it.fails(DownloadFailed)
        assert await it.fetched() == AUDIO
        assert it.ranges[1] == "bytes=100000-"

    head = f'HTTP/1.1 200 OK\r\nContent-Length: {len(AUDIO)}\r\nETag: "v1"\r\n\r\n'.encode()
    hanging = endless(head + AUDIO[:100_000], b"", pause=0.01)
    stage.play(in_turn(hanging, good()), scenario, limits=replace(QUICK, total=timedelta(seconds=2)))


def test_another_etag_starts_anew(stage: Stage) -> None:
    async def scenario(it: Place) -> None:
        await it.fails(DownloadFailed)
        assert await it.fetched("/new") == AUDIO
        assert it.ranges == [None, "bytes=100000-"]

    stage.play(in_turn(cut(100_000, '"old"', OTHER), good('"new"')), scenario)


@pytest.mark.parametrize("validator", ["", 'ETag: "v2"\r\n', 'ETag: W/"v1"\r\n', "ETag: v1\r\n"])
def test_a_part_without_the_same_strong_etag_is_thrown_away(stage: Stage, validator: str) -> None:
    async def scenario(it: Place) -> None:
        await it.fails(DownloadFailed)
        await it.fails(DownloadFailed)
        assert it.files == []
        assert await it.fetched() == AUDIO
        assert it.ranges == [None, "bytes=100000-", None]

    head = f"HTTP/1.1 206 Partial Content\r\n{validator}Content-Length: 200000\r\n"
    spliced = raw((head + "Content-Range: bytes 100000-299999/300000\r\n\r\n").encode() + OTHER[100_000:])
    stage.play(in_turn(cut(100_000), spliced, good()), scenario)


def test_a_range_that_does_not_fit_is_thrown_away(stage: Stage) -> None:
    async def scenario(it: Place) -> None:
        await it.fails(DownloadFailed)
        await it.fails(DownloadFailed)
        assert it.files == []
        assert await it.fetched() == AUDIO

    head = 'HTTP/1.1 206 Partial Content\r\nETag: "v1"\r\nContent-Length: 200000\r\n'
    shifted = raw((head + "Content-Range: bytes 100001-300000/300001\r\n\r\n").encode() + OTHER[100_000:])
    stage.play(in_turn(cut(100_000), shifted, good()), scenario)


def test_a_refused_range_starts_anew_within_the_same_fetch(stage: Stage) -> None:
    async def scenario(it: Place) -> None:
        await it.fails(DownloadFailed)
        assert await it.fetched() == AUDIO
        assert it.ranges == [None, "bytes=100000-", "bytes=100000-", None]

    refused = in_turn(cut(100_000), status("503 Busy"), status("416 Range Not Satisfiable"), good())
    stage.play(refused, scenario, limits=replace(QUICK, attempts=2))


@pytest.mark.parametrize("validator", ['ETag: W/"v1"', "X-None: 1"])
def test_a_part_without_a_strong_etag_is_not_kept(stage: Stage, validator: str) -> None:
    async def scenario(it: Place) -> None:
        await it.fails(DownloadFailed)
        assert it.files == []
        assert await it.fetched() == AUDIO
        assert it.ranges == [None, None]

    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(AUDIO)}\r\n{validator}\r\n\r\n".encode()
    stage.play(in_turn(raw(head + AUDIO[:70_000]), good()), scenario)


def test_keys_do_not_mix_and_without_one_nothing_is_kept(stage: Stage) -> None:
    async def scenario(it: Place) -> None:
        await it.fails(DownloadFailed, key="one")
        await it.fails(DownloadFailed, key=None)
        assert len(it.files) == 1
        assert await it.fetched(key="two") == AUDIO
        assert await it.fetched(key=None) == AUDIO
        assert await it.fetched(key="one") == AUDIO
        assert it.ranges == [None, None, None, None, "bytes=100000-"]

    stage.play(in_turn(cut(100_000), cut(50_000), good()), scenario)


def test_a_blocked_link_drops_what_there_was(stage: Stage) -> None:
    async def scenario(it: Place) -> None:
        await it.fails(DownloadFailed)
        with pytest.raises(FetchBlocked):
            await it.downloader.fetch("http://169.254.169.254/", LOOPBACK, key="clip")
        assert it.files == []

    stage.play(cut(100_000), scenario)


@pytest.mark.parametrize(
    ("second", "error"),
    [
        (status("302 Found", "Location: http://10.0.0.1/"), FetchBlocked),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n"), DownloadFailed),
        (raw(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(500_000)), DownloadFailed),
        (status("200 OK", "Content-Encoding: gzip"), DownloadFailed),
    ],
)
def test_an_end_that_time_does_not_mend_drops_what_there_was(
    stage: Stage, second: Behaviour, error: type[Exception]
) -> None:
    async def scenario(it: Place) -> None:
        await it.fails(DownloadFailed)
        assert len(it.files) == 1
        await it.fails(error)
        assert it.files == []

    stage.play(in_turn(cut(100_000), second), scenario, limits=replace(ONCE, max_bytes=400_000))


def test_a_cancelled_fetch_drops_what_there_was(stage: Stage) -> None:
    async def scenario(it: Place) -> None:
        await it.fails(DownloadFailed)
        fetch = asyncio.create_task(it.fetch())
        await until(lambda: len(it.host.seen) == 2)
        fetch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetch
        assert it.files == []

    stage.play(in_turn(cut(100_000), endless(b"", b"", pause=0.01)), scenario)


def test_a_kept_file_is_returned_without_a_request(stage: Stage) -> None:
    async def scenario(it: Place) -> None:
        async with await it.fetch("/old") as first:
            first.keep()
        assert it.downloader.has_whole("clip")
        async with await it.fetch("/new") as again:
            assert again == first
            assert again.path.read_bytes() == AUDIO
        assert not it.downloader.has_whole("clip")
        assert it.files == []
        assert len(it.host.seen) == 1

    stage.play(good(), scenario)


def test_a_kept_file_needs_neither_a_good_link_nor_room(stage: Stage) -> None:
    async def scenario(it: Place) -> None:
        await it.keep("clip")
        async with await it.downloader.fetch("http://169.254.169.254/", LOOPBACK, key="clip") as download:
            assert download.path.read_bytes() == AUDIO

    stage.play(good(), scenario, quota=len(AUDIO))


def test_a_file_may_be_kept_again_and_again(stage: Stage) -> None:
    async def scenario(it: Place) -> None:
        for _ in range(3):
            await it.keep("clip")
        assert await it.fetched() == AUDIO
        assert len(it.host.seen) == 1

    stage.play(good(), scenario)


def test_what_comes_second_of_keep_and_discard_has_no_effect(stage: Stage) -> None:
    async def scenario(it: Place) -> None:
        download = await it.fetch()
        download.keep()
        download.keep()
        download.discard()
        assert it.downloader.has_whole("clip")
        again = await it.fetch()
        download.discard()
        assert again.path.read_bytes() == AUDIO
        again.discard()
        again.keep()
        assert not it.downloader.has_whole("clip")
        assert it.files == []

    stage.play(good(), scenario)


def test_without_a_key_keep_discards(stage: Stage) -> None:
    async def scenario(it: Place) -> None:
        async with await it.fetch(key=None) as download:
            download.keep()
        assert it.files == []

    stage.play(good(), scenario)


def test_a_file_that_vanished_or_shrank_is_fetched_again(stage: Stage) -> None:
    async def scenario(it: Place) -> None:
        await it.keep("gone")
        it.files[0].unlink()
        await it.keep("cut")
        it.files[0].write_bytes(AUDIO[:10])
        assert not it.downloader.has_whole("gone")
        assert not it.downloader.has_whole("cut")
        assert await it.fetched(key="gone") == AUDIO
        assert await it.fetched(key="cut") == AUDIO
        assert len(it.host.seen) == 4

    stage.play(good(), scenario)


def test_forgotten_bytes_are_gone(stage: Stage) -> None:
    async def scenario(it: Place) -> None:
        await it.fails(DownloadFailed, key="part")
        await it.keep("whole")
        for key in ("part", "whole", "unknown", "part"):
            it.downloader.forget(key)
        assert it.files == []
        assert await it.fetched(key="part") == AUDIO
        assert it.ranges == [None, None, None]

    stage.play(in_turn(cut(1000), good()), scenario)


@pytest.mark.parametrize("by_fetch", [True, False])
def test_what_waited_too_long_is_removed(stage: Stage, *, by_fetch: bool) -> None:
    now = [0.0]

    async def scenario(it: Place) -> None:
        await it.fails(DownloadFailed, key="part")
        await it.keep("early")
        now[0] = 1800.0
        await it.keep("late")
        now[0] = 3600.0
        if by_fetch:
            await it.fetched(key=None)
        else:
            it.downloader.tidy()
        assert len(it.files) == 1
        assert it.downloader.has_whole("late")
        now[0] = 5400.0
        assert not it.downloader.has_whole("late")

    stage.play(in_turn(cut(1000), good()), scenario, keep_for=HOUR, clock=lambda: now[0])


def test_two_fetches_of_one_key_at_once_are_both_right(stage: Stage) -> None:
    async def scenario(it: Place) -> None:
        await it.fails(DownloadFailed)
        assert set(await asyncio.gather(it.fetched(), it.fetched())) == {AUDIO}
        downloads = await asyncio.gather(it.fetch(), it.fetch())
        for download in downloads:
            download.keep()
        assert len(it.files) == 1
        assert await it.fetched() == AUDIO
        assert it.files == []

    stage.play(in_turn(cut(100_000), good()), scenario)


def test_errors_of_a_resumed_fetch_do_not_quote_the_link(stage: Stage) -> None:
    async def scenario(it: Place) -> None:
        for _ in range(2):
            with pytest.raises(DownloadFailed) as caught:
                await it.fetch("/a.mp3?sign=s3cret")
            assert "s3cret" not in str(caught.value)

    stage.play(cut(1000), scenario)


@dataclass(frozen=True)
class Step:
    """What the host does with one request."""

    #: Which of two files it serves.
    version: int
    etag: str
    cut: int
    status: str = ""
    #: Answers with a part whatever If-Range says.
    careless: bool = False
    #: Bytes by which a part begins too late.
    shift: int = 0


MEDIA = (AUDIO[:5000], OTHER[:5000])
STEPS = st.builds(
    Step,
    version=st.integers(0, 1),
    etag=st.sampled_from(["strong", "strong", "strong", "weak", "none"]),
    cut=st.integers(1, 4999) | st.just(5000),
    status=st.sampled_from(["", "", "", "", "403 Forbidden", "503 Busy", "416 Range Not Satisfiable"]),
    careless=st.booleans(),
    shift=st.sampled_from([0, 0, 0, 1, -1]),
)


def served(step: Step, exchange: Exchange) -> bool:
    if step.status:
        exchange.answer(step.status)
        return True
    media = MEDIA[step.version]
    tag = {"strong": f'"v{step.version}"', "weak": f'W/"v{step.version}"', "none": ""}[step.etag]
    asked = exchange.headers.get("range")
    start = int(asked[6:-1]) if asked and (step.careless or exchange.headers["if-range"] == tag) else 0
    first = start + step.shift if start else 0
    head = ["HTTP/1.1 206 Partial Content" if start else "HTTP/1.1 200 OK", f"Content-Length: {len(media) - first}"]
    if tag:
        head.append(f"ETag: {tag}")
    if start:
        head.append(f"Content-Range: bytes {first}-{len(media) - 1}/{len(media)}")
    exchange.send("\r\n".join([*head, "", ""]).encode() + media[first:][: step.cut])
    return False


@settings(max_examples=100, deadline=None)
@given(steps=st.lists(STEPS, max_size=8), last=st.integers(0, 1), keep=st.booleans())
def test_any_run_of_cuts_and_resumes_gives_one_true_file(steps: list[Step], last: int, *, keep: bool) -> None:
    left = list(steps)

    def behaviour(exchange: Exchange) -> bool:
        return served(left.pop(0) if left else Step(last, "strong", 5000), exchange)

    async def scenario(it: Place) -> None:
        while left:
            laid_down = it.downloader.has_whole("clip")
            try:
                async with await it.fetch() as download:
                    assert download.path.read_bytes() in MEDIA
                    assert download.sha256 == hashlib.sha256(download.path.read_bytes()).digest()
                    if keep and not laid_down:
                        download.keep()
            except (DownloadFailed, LinkDead):
                continue
        assert await it.fetched() in MEDIA
        assert it.files == []

    with tempfile.TemporaryDirectory() as root:
        Stage(Path(root)).play(behaviour, scenario, limits=replace(QUICK, attempts=2))


def test_whole_answers_are_still_whole_with_a_key(stage: Stage) -> None:
    async def scenario(it: Place) -> None:
        assert await it.fetched() == AUDIO
        assert it.files == []

    stage.play(whole, scenario)
