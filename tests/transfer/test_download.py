from __future__ import annotations

import asyncio
import hashlib
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from receiver.core.errors import DownloadFailed, FetchBlocked, LinkDead, SpoolFull
from receiver.transfer.download import Download, Downloader, Limits
from tests.transfer.media_host import AUDIO, LOOPBACK, QUICK, endless, in_turn, ranged, raw, status, whole
from tests.transfer.servers import Behaviour, Exchange, RawHost, until

SECOND = timedelta(seconds=1)


class Run:
    """One fetch of one URL, and what it left on disk."""

    def __init__(self, spool: Path) -> None:
        self.spool = spool
        self.content = b""
        self.left: list[str] = []

    def fetch(
        self, behaviour: Behaviour, limits: Limits = QUICK, path: str = "/a.mp3?sign=s3cret", **options: Any
    ) -> Download:
        with RawHost(behaviour) as self.host:
            return asyncio.run(self._fetch(self.host.url + path, limits, options))

    async def _fetch(self, url: str, limits: Limits, options: dict[str, Any]) -> Download:
        downloader = Downloader(self.spool, limits, **options)
        try:
            with await downloader.fetch(url, LOOPBACK) as download:
                self.content = download.path.read_bytes()
            return download
        finally:
            self.left = [p.name for p in self.spool.glob("*/*") if p.name != "lock"]
            await downloader.aclose()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    made = Run(tmp_path / "spool")
    yield made
    assert made.left == []


def assert_whole(run: Run, download: Download) -> None:
    assert run.content == AUDIO
    assert download.size == len(AUDIO)
    assert download.sha256 == hashlib.sha256(AUDIO).digest()
    assert download.md5 == hashlib.md5(AUDIO, usedforsecurity=False).digest()
    assert download.final_host == "127.0.0.1"


def test_a_whole_body_is_hashed_measured_and_verified(run: Run) -> None:
    download = run.fetch(whole)
    assert_whole(run, download)
    assert download.length_verified
    assert run.host.seen[0].headers["accept-encoding"] == "identity"
    assert run.host.seen[0].line == "GET /a.mp3?sign=s3cret HTTP/1.1"


def test_a_chunked_body_is_verified(run: Run) -> None:
    half = len(AUDIO) // 2
    body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (AUDIO[:half], AUDIO[half:], b""))
    download = run.fetch(raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body))
    assert_whole(run, download)
    assert download.length_verified


def test_a_body_that_ends_with_the_connection_is_not_verified(run: Run) -> None:
    download = run.fetch(raw(b"HTTP/1.1 200 OK\r\n\r\n" + AUDIO))
    assert_whole(run, download)
    assert not download.length_verified


def test_a_cut_body_is_resumed_with_its_strong_etag(run: Run) -> None:
    download = run.fetch(
        in_turn(
            lambda e: ranged(e, '"v1"', cut=100_000),
            lambda e: ranged(e, '"v1"', cut=50_000),
            lambda e: ranged(e, '"v1"', cut=None),
        )
    )
    assert_whole(run, download)
    assert download.length_verified
    assert [e.headers.get("range") for e in run.host.seen] == [None, "bytes=100000-", "bytes=150000-"]
    assert [e.headers.get("if-range") for e in run.host.seen] == [None, '"v1"', '"v1"']


def test_a_changed_etag_starts_over_with_clean_hashes(run: Run) -> None:
    other = bytes(reversed(AUDIO))

    def first(exchange: Exchange) -> bool:
        exchange.send(b'HTTP/1.1 200 OK\r\nContent-Length: 300000\r\nETag: "old"\r\n\r\n' + other[:70_000])
        return False

    assert_whole(run, run.fetch(in_turn(first, lambda e: ranged(e, '"new"', cut=None))))


@pytest.mark.parametrize("validator", ['ETag: W/"v1"', "ETag: v1", "X-None: 1"])
def test_without_a_strong_etag_the_body_starts_over(run: Run, validator: str) -> None:
    def first(exchange: Exchange) -> bool:
        exchange.send(f"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n{validator}\r\n\r\n".encode() + AUDIO[:70_000])
        return False

    assert_whole(run, run.fetch(in_turn(first, whole)))
    assert "range" not in run.host.seen[1].headers


@pytest.mark.parametrize(
    "head",
    [
        "Content-Range: bytes 0-299999/300000",
        "Content-Range: bytes 100001-299999/300000",
        "Content-Range: bytes 100000-299998/300000",
        "Content-Range: bytes 100000-299999/*",
        "Content-Range: bytes 100000-399999/400000",
        'Content-Range: bytes 100000-299999/300000\r\nETag: "v2"',
        "Content-Range: lines 1-2/3",
        "X-Nothing: 1",
    ],
)
def test_a_part_that_does_not_continue_ours_is_thrown_away(run: Run, head: str) -> None:
    bad = raw(f"HTTP/1.1 206 Partial Content\r\nContent-Length: 200000\r\n{head}\r\n\r\n".encode() + AUDIO[:200_000])
    download = run.fetch(in_turn(lambda e: ranged(e, '"v1"', cut=100_000), bad, whole))
    assert_whole(run, download)
    assert "range" not in run.host.seen[2].headers


def test_a_refused_range_starts_over(run: Run) -> None:
    cut = in_turn(lambda e: ranged(e, '"v1"', cut=100_000), status("416 Range Not Satisfiable"), whole)
    assert_whole(run, run.fetch(cut))


def test_a_part_nobody_asked_for_fails(run: Run) -> None:
    with pytest.raises(DownloadFailed):
        run.fetch(raw(b"HTTP/1.1 206 Partial Content\r\nContent-Length: 4\r\nContent-Range: bytes 4-7/8\r\n\r\nabcd"))


@pytest.mark.parametrize("line", ["400 Bad Request", "401 No", "403 Forbidden", "404 Not Found", "410 Gone", "451 Law"])
def test_a_refused_link_is_dead_at_once(run: Run, line: str) -> None:
    with pytest.raises(LinkDead):
        run.fetch(status(line))
    assert len(run.host.seen) == 1


@pytest.mark.parametrize("line", ["503 Busy", "500 Oops", "502 Bad", "429 Slow", "408 Late", "204 Nothing", "304 Same"])
def test_a_passing_trouble_is_tried_again(run: Run, line: str) -> None:
    empty = raw(f"HTTP/1.1 {line}\r\n\r\n".encode())
    assert_whole(run, run.fetch(in_turn(empty, empty, whole)))
    assert len(run.host.seen) == 3


@pytest.mark.parametrize("line", ["503 Busy", "429 Slow"])
def test_trouble_that_stays_fails_after_the_last_attempt(run: Run, line: str) -> None:
    with pytest.raises(DownloadFailed) as caught:
        run.fetch(status(line))
    assert len(run.host.seen) == 4
    assert "s3cret" not in str(caught.value)


BROKEN: list[bytes] = [
    b"",
    b"HTTP/1.1 200 OK\r\nContent-Le",
    b"not http at all\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nabcdef",
    b"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\nabcdef",
    b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 40_000,
]


@pytest.mark.parametrize("data", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_answer_is_tried_again_and_then_fails(run: Run, data: bytes) -> None:
    with pytest.raises(DownloadFailed):
        run.fetch(raw(data))
    assert len(run.host.seen) == 4


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "identity, gzip"])
def test_compressed_bytes_are_refused(run: Run, coding: str) -> None:
    with pytest.raises(DownloadFailed):
        run.fetch(lambda e: whole(e, f"Content-Encoding: {coding}"))


def test_a_declared_length_over_the_cap_is_refused_unread(run: Run) -> None:
    with pytest.raises(DownloadFailed, match="larger"):
        run.fetch(endless(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n", b""))


@pytest.mark.parametrize("framing", [b"", b"Transfer-Encoding: chunked\r\n"])
def test_an_endless_body_stops_at_the_cap(run: Run, framing: bytes) -> None:
    block = b"8000\r\n" + bytes(32768) + b"\r\n" if framing else bytes(32768)
    with pytest.raises(DownloadFailed, match="larger"):
        run.fetch(endless(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n", block), replace(QUICK, max_bytes=1024 * 1024))


def test_a_dripping_body_falls_under_the_least_rate(run: Run) -> None:
    limits = replace(QUICK, rate_window=timedelta(milliseconds=100), attempts=2)
    with pytest.raises(DownloadFailed, match="slower"):
        run.fetch(endless(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", b"x", pause=0.01), limits)


def test_dripping_headers_run_out_of_time(run: Run) -> None:
    limits = replace(QUICK, connect=SECOND, read=SECOND / 2, attempts=1)
    with pytest.raises(DownloadFailed, match="no headers"):
        run.fetch(endless(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", pause=0.01), limits)


def test_a_flood_of_continues_runs_out_of_time(run: Run) -> None:
    limits = replace(QUICK, connect=SECOND / 20, read=SECOND / 10, attempts=1)
    with pytest.raises(DownloadFailed):
        run.fetch(endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n", pause=0.001), limits)


def test_a_silent_host_runs_out_of_time(run: Run) -> None:
    limits = replace(QUICK, read=SECOND / 10, attempts=2)
    with pytest.raises(DownloadFailed):
        run.fetch(endless(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\nabc", b"", pause=0.05), limits)


def test_the_whole_fetch_has_an_end(run: Run) -> None:
    limits = replace(QUICK, total=SECOND / 5)
    with pytest.raises(DownloadFailed, match="within the time"):
        run.fetch(endless(b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n", b"x" * 10, pause=0.01), limits)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "location", ["/b.mp3?sign=t", "b.mp3", "//127.0.0.1:{port}/b.mp3", "http://127.0.0.1:{port}/b"]
)
def test_redirects_are_followed(run: Run, code: int, location: str) -> None:
    def first(exchange: Exchange) -> bool:
        exchange.answer(f"{code} Moved", b"", "Location: " + location.format(port=run.host.port))
        return True

    assert_whole(run, run.fetch(in_turn(first, whole)))


BAD_REDIRECTS = [
    "http://169.254.169.254/latest/meta-data/",
    "https://localhost:0/",
    "http://[::1]/",
    "http://10.0.0.1/",
    "file:///etc/passwd",
    "https://user:pw@127.0.0.1/",
    "http://0x7f000001/",
    "gopher://127.0.0.1:70/_",
    "http://[",
    "//169.254.169.254/",
    "\\\\10.0.0.1\\share",
    "http://127.0.0.1@10.0.0.1/",
]


@pytest.mark.parametrize("location", BAD_REDIRECTS)
def test_a_redirect_to_elsewhere_is_blocked(run: Run, location: str) -> None:
    blocked = FetchBlocked if location[0] != "\\" else (FetchBlocked, DownloadFailed)
    with pytest.raises(blocked):
        run.fetch(status("302 Found", f"Location: {location}"))


def test_redirects_in_a_circle_end(run: Run) -> None:
    with pytest.raises(DownloadFailed, match="redirects"):
        run.fetch(status("302 Found", "Location: /a.mp3"))
    assert len(run.host.seen) == 4


def test_a_redirect_without_a_place_fails(run: Run) -> None:
    with pytest.raises(DownloadFailed):
        run.fetch(status("302 Found"))


def test_a_full_disk_stops_the_fetch_before_a_dial(run: Run) -> None:
    free = shutil.disk_usage(run.spool.parent).free
    with pytest.raises(SpoolFull):
        run.fetch(whole, floor=2 * free)
    assert run.host.connections == 0


@pytest.mark.parametrize("behaviour", [whole, raw(b"HTTP/1.1 200 OK\r\n\r\n" + AUDIO)])
def test_the_quota_of_the_spool_is_kept(run: Run, behaviour: Behaviour) -> None:
    with pytest.raises(SpoolFull):
        run.fetch(behaviour, quota=200_000)


def test_discarded_files_give_their_room_back(tmp_path: Path) -> None:
    async def scenario(url: str) -> None:
        downloader = Downloader(tmp_path, QUICK, quota=len(AUDIO) + 1000)
        for _ in range(3):
            async with await downloader.fetch(url, LOOPBACK) as download:
                with pytest.raises(SpoolFull):
                    await downloader.fetch(url, LOOPBACK)
            assert not download.path.exists()
            download.discard()
        await downloader.aclose()

    with RawHost(whole) as host:
        asyncio.run(scenario(host.url))
        assert host.connections <= 4


def test_a_cancelled_fetch_leaves_nothing(run: Run) -> None:
    async def scenario(url: str) -> list[Path]:
        downloader = Downloader(run.spool, QUICK)
        fetch = asyncio.create_task(downloader.fetch(url, LOOPBACK))
        await until(lambda: any(p.stat().st_size for p in run.spool.glob("*/tmp*")))
        fetch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetch
        left = list(run.spool.glob("*/tmp*"))
        await downloader.aclose()
        return left

    with RawHost(endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 1000, pause=0.01)) as host:
        assert asyncio.run(scenario(host.url)) == []


def test_the_spool_is_private_and_gone_after_close(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "spool"
    downloader = Downloader(root, QUICK)
    (mine,) = root.glob("process-*")
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert stat.S_IMODE(mine.stat().st_mode) == 0o700
    asyncio.run(downloader.aclose())
    assert list(root.glob("process-*")) == []


LIVE = """
import sys, pathlib
from receiver.transfer.spool import Spool
spool = Spool(pathlib.Path(sys.argv[1]))
(spool.directory / "bytes").write_bytes(b"x")
print(spool.directory, flush=True)
sys.stdin.read()
"""


def test_leftovers_of_the_dead_are_wiped_and_the_living_are_left_alone(tmp_path: Path) -> None:
    def start() -> tuple[subprocess.Popen[str], Path]:
        child = subprocess.Popen(
            [sys.executable, "-c", LIVE, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        return child, Path(child.stdout.readline().strip())

    (dead, dead_directory), (live, live_directory) = start(), start()
    try:
        dead.send_signal(signal.SIGKILL)
        dead.wait()
        assert (dead_directory / "bytes").exists()
        downloader = Downloader(tmp_path, QUICK)
        assert not dead_directory.exists()
        assert (live_directory / "bytes").exists()
        asyncio.run(downloader.aclose())
    finally:
        live.kill()
        for child in (dead, live):
            child.communicate()


def test_many_policies_keep_few_clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("receiver.transfer.download.MAX_CLIENTS", 2)

    async def scenario(url: str) -> int:
        downloader = Downloader(tmp_path, QUICK)
        for number in range(5):
            (await downloader.fetch(url, replace(LOOPBACK, ports=(443, number + 1)))).discard()
        kept = len(downloader._clients)
        await downloader.aclose()
        return kept

    with RawHost(whole) as host:
        assert asyncio.run(scenario(host.url)) <= 2
