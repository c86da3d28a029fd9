from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from receiver.core.errors import DownloadFailed, SpoolFull
from receiver.transfer.download import Downloader
from receiver.transfer.spool import Spool
from tests.transfer.media_host import AUDIO, LOOPBACK, QUICK, endless, in_turn, ranged, raw, whole
from tests.transfer.servers import RawHost, until

SIZE = len(AUDIO)
ONCE = replace(QUICK, attempts=1)
KIB = 1024
UNFRAMED = raw(b"HTTP/1.1 200 OK\r\n\r\n" + AUDIO)


def files(root: Path) -> list[Path]:
    return [path for path in root.glob("process-*/*") if path.name != "lock"]


def on_disk(root: Path) -> int:
    return sum(path.stat().st_size for path in files(root))


async def keep(downloader: Downloader, host: RawHost, key: str) -> None:
    async with await downloader.fetch(host.url, LOOPBACK, key=key) as download:
        download.keep()


def whole_ones(downloader: Downloader, *keys: str) -> list[str]:
    return [key for key in keys if downloader.has_whole(key)]


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(tmp_path, floor=0, quota=100)
    yield made
    made.close()


def test_an_idle_spool_has_room_for_one_file_however_small_its_quota(spool: Spool) -> None:
    assert spool.has_room(1_000_000)


def test_files_being_written_are_taken_to_reach_the_usual_size(spool: Spool) -> None:
    file = spool.open()
    file.write(b"x" * 10)
    assert spool.has_room(50)
    assert not spool.has_room(51)
    other = spool.open()
    assert not spool.has_room(50)
    assert spool.has_room(33)
    other.discard()
    file.close()
    assert spool.has_room(90)
    assert not spool.has_room(91)
    assert spool.has_room(91, spare=10)
    file.reopen()
    assert not spool.has_room(51)
    file.discard()
    assert spool.used == 0
    assert spool.has_room(100)


def test_a_file_goes_on_where_it_was_closed_and_may_start_over(spool: Spool) -> None:
    file = spool.open()
    file.write(b"one")
    file.close()
    file.reopen()
    file.write(b" two")
    assert file.path.read_bytes() == b"one two"
    file.restart()
    file.write(b"three")
    assert file.path.read_bytes() == b"three"
    assert file.intact
    assert spool.used == 5
    file.discard()
    file.discard()
    assert spool.used == 0
    assert not file.path.exists()


def test_what_does_not_fit_is_not_written(spool: Spool) -> None:
    file = spool.open()
    file.write(b"x" * 60)
    with pytest.raises(SpoolFull):
        file.write(b"x" * 41)
    assert file.path.stat().st_size == 60
    file.write(b"x" * 40)
    file.close()


def test_kept_files_give_way_to_a_download_oldest_first(tmp_path: Path) -> None:
    async def scenario(host: RawHost) -> None:
        downloader = Downloader(tmp_path, QUICK, quota=3 * SIZE + 10)
        for key in ("first", "second", "third"):
            await keep(downloader, host, key)
        await keep(downloader, host, "first")
        assert len(host.seen) == 3
        await keep(downloader, host, "fourth")
        assert whole_ones(downloader, "first", "second", "third", "fourth") == ["first", "third", "fourth"]
        async with await downloader.fetch(host.url, LOOPBACK):
            assert whole_ones(downloader, "first", "third", "fourth") == ["first", "fourth"]
            assert on_disk(tmp_path) == 3 * SIZE
        await downloader.aclose()

    with RawHost(whole) as host:
        asyncio.run(scenario(host))


def test_a_body_of_unknown_length_takes_room_from_kept_files_as_it_grows(tmp_path: Path) -> None:
    async def scenario(host: RawHost) -> None:
        downloader = Downloader(tmp_path, QUICK, quota=2 * SIZE + 10)
        for key in ("first", "second", "third"):
            await keep(downloader, host, key)
        assert whole_ones(downloader, "first", "second", "third") == ["second", "third"]
        await downloader.aclose()

    with RawHost(UNFRAMED) as host:
        asyncio.run(scenario(host))


def test_parts_of_failed_downloads_give_way_too(tmp_path: Path) -> None:
    async def scenario(host: RawHost) -> None:
        downloader = Downloader(tmp_path, ONCE, quota=SIZE + 10)
        with pytest.raises(DownloadFailed):
            await downloader.fetch(host.url, LOOPBACK, key="cut")
        assert on_disk(tmp_path) == 1000
        await keep(downloader, host, "whole")
        assert on_disk(tmp_path) == SIZE
        await downloader.aclose()

    with RawHost(in_turn(lambda e: ranged(e, '"v1"', cut=1000), whole)) as host:
        asyncio.run(scenario(host))


def test_a_download_in_use_never_gives_way(tmp_path: Path) -> None:
    async def scenario(host: RawHost) -> None:
        downloader = Downloader(tmp_path, QUICK, quota=SIZE + 10)
        await keep(downloader, host, "clip")
        async with await downloader.fetch(host.url, LOOPBACK, key="clip") as download:
            with pytest.raises(SpoolFull):
                await downloader.fetch(host.url, LOOPBACK)
            assert download.path.read_bytes() == AUDIO
        await downloader.aclose()

    with RawHost(whole) as host:
        asyncio.run(scenario(host))


def test_kept_files_count_as_room_and_running_downloads_as_their_usual_size(tmp_path: Path) -> None:
    async def scenario(host: RawHost) -> None:
        downloader = Downloader(tmp_path, QUICK, quota=2 * SIZE, usual=SIZE)
        await keep(downloader, host, "one")
        await keep(downloader, host, "two")
        assert downloader.has_room()
        running = [asyncio.create_task(downloader.fetch(host.url, LOOPBACK)) for _ in range(2)]
        await until(lambda: len(host.seen) == 4)
        assert not downloader.has_room()
        running[0].cancel()
        await asyncio.wait(running[:1])
        assert downloader.has_room()
        running[1].cancel()
        await asyncio.wait(running)
        assert on_disk(tmp_path) == 2 * SIZE
        await downloader.aclose()

    with RawHost(in_turn(whole, whole, endless(b"", b"", pause=0.01))) as host:
        asyncio.run(scenario(host))


def test_a_download_being_uploaded_takes_room(tmp_path: Path) -> None:
    async def scenario(host: RawHost) -> None:
        downloader = Downloader(tmp_path, QUICK, quota=2 * SIZE - 1, usual=SIZE)
        async with await downloader.fetch(host.url, LOOPBACK, key="clip") as download:
            assert not downloader.has_room()
            download.keep()
            assert downloader.has_room()
        await downloader.aclose()

    with RawHost(whole) as host:
        asyncio.run(scenario(host))


def test_many_downloads_at_once_never_pass_the_quota(tmp_path: Path) -> None:
    quota = 1000 * KIB
    most = [0]

    async def scenario(host: RawHost) -> None:
        downloader = Downloader(tmp_path, ONCE, quota=quota)
        fetches = [asyncio.create_task(downloader.fetch(host.url, LOOPBACK, key=str(n))) for n in range(8)]

        def all_ended() -> bool:
            most[0] = max(most[0], on_disk(tmp_path))
            return all(fetch.done() for fetch in fetches)

        await until(all_ended)
        assert {type(fetch.exception()) for fetch in fetches} == {SpoolFull}
        assert files(tmp_path) == []
        assert downloader.has_room()
        await downloader.aclose()

    with RawHost(endless(b"HTTP/1.1 200 OK\r\n\r\n", bytes(8 * KIB), pause=0.0005)) as host:
        asyncio.run(scenario(host))
    assert quota / 2 < most[0] <= quota


def test_a_disk_under_its_floor_has_no_room_and_kept_files_leave_it(tmp_path: Path) -> None:
    async def scenario(host: RawHost) -> None:
        downloader = Downloader(tmp_path, QUICK, floor=0)
        await keep(downloader, host, "clip")
        assert downloader.has_room()
        downloader.tidy()
        assert downloader.has_whole("clip")
        downloader._spool._floor = 2 * shutil.disk_usage(tmp_path).total
        assert not downloader.has_room()
        downloader.tidy()
        assert files(tmp_path) == []
        await downloader.aclose()

    with RawHost(whole) as host:
        asyncio.run(scenario(host))


ON_A_SMALL_DISK = """
import asyncio, os, pathlib, shutil, subprocess, sys
from receiver.core.errors import SpoolFull
from receiver.transfer.download import Downloader
from receiver.transfer.guard import FetchPolicy

url, root = sys.argv[1], pathlib.Path(sys.argv[2])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", root], check=True)
policy = FetchPolicy(hosts=None, allow_cidrs=("127.0.0.0/8",), allow_http=True)

def left():
    return sorted(p.stat().st_size for p in root.glob("process-*/*") if p.name != "lock")

async def keep(downloader, key, path="/unframed"):
    async with await downloader.fetch(url + path, policy, key=key) as download:
        download.keep()

async def really_full():
    downloader = Downloader(root, floor=0)
    (root / "others").write_bytes(bytes(shutil.disk_usage(root).free - 100_000))
    for path in ("/unframed", "/framed"):
        try:
            await downloader.fetch(url + path, policy, key="clip")
        except SpoolFull as exc:
            print(type(exc).__name__, left())
    (root / "others").unlink()
    await keep(downloader, "clip")
    print("kept", left())
    (root / "others").write_bytes(bytes(shutil.disk_usage(root).free - 100_000))
    await keep(downloader, "other")
    print("kept", left(), downloader.has_whole("clip"))
    await downloader.aclose()
    (root / "others").unlink()

async def floored():
    downloader = Downloader(root, floor=400_000, usual=300_000)
    print("room", downloader.has_room())
    for key in "abc":
        await keep(downloader, key, "/framed")
        print(left(), downloader.has_room())
    (root / "others").write_bytes(bytes(400_000))
    print("room", downloader.has_room(), left())
    downloader.tidy()
    print("room", downloader.has_room(), left())
    (root / "others").unlink()
    print("room", downloader.has_room(), left())
    await downloader.aclose()

asyncio.run(really_full())
asyncio.run(floored())
"""


def on_a_small_disk(root: Path) -> list[str]:
    def either(exchange: Any) -> bool:
        return whole(exchange) if "/framed" in exchange.line else UNFRAMED(exchange)

    with RawHost(either) as host:
        ran = subprocess.run(
            ["unshare", "-m", sys.executable, "-c", ON_A_SMALL_DISK, host.url, str(root)],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def may_mount() -> bool:
    return (
        os.geteuid() == 0
        and shutil.which("unshare") is not None
        and subprocess.run(
            ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"],  # noqa: S607
            capture_output=True,
            check=False,
        ).returncode
        == 0
    )


def test_a_small_disk_that_fills_up_stops_downloads_and_keeps_its_floor(tmp_path: Path) -> None:
    if not may_mount():
        pytest.skip("only root with mount namespaces can make a small disk")
    assert on_a_small_disk(tmp_path) == [
        # Really full: the writes themselves fail, nothing is left behind, and what is kept gives way.
        "SpoolFull []",
        "SpoolFull []",
        "kept [300000]",
        "kept [300000] False",
        # Over its floor: room for two files of 300,000 bytes, the third takes the place of the first.
        "room True",
        "[300000] True",
        "[300000, 300000] True",
        "[300000, 300000] True",
        # Others fill it up: no room, and tidying gives them what merely waits.
        "room False [300000, 300000]",
        "room False []",
        "room True []",
    ]


WORKER = """
import asyncio, sys, pathlib
from receiver.transfer.download import Downloader
from receiver.transfer.guard import FetchPolicy

url, root = sys.argv[1], pathlib.Path(sys.argv[2])
policy = FetchPolicy(hosts=None, allow_cidrs=("127.0.0.0/8",), allow_http=True)

async def main():
    downloader = Downloader(root, quota=400_000)
    for line in sys.stdin:
        async with await downloader.fetch(url, policy, key="clip") as download:
            download.keep()
        print(download.size, flush=True)
    await downloader.aclose()

asyncio.run(main())
"""


def test_processes_on_one_spool_do_not_disturb_each_other(tmp_path: Path) -> None:
    def start(url: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", WORKER, url, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def keep_one(child: subprocess.Popen[str]) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write("go\n")
        child.stdin.flush()
        assert child.stdout.readline() == f"{SIZE}\n"

    with RawHost(whole) as host:
        first = start(host.url)
        keep_one(first)
        second = start(host.url)
        keep_one(second)
        assert on_disk(tmp_path) == 2 * SIZE  # each has a quota for one of its own
        second.kill()
        second.communicate()
        third = start(host.url)
        keep_one(third)
        assert on_disk(tmp_path) == 2 * SIZE  # what the dead one kept is gone
        keep_one(first)
        assert len(host.seen) == 3
        for child in (first, third):
            child.communicate()
        assert list(tmp_path.glob("process-*")) == []


CHURN = """
import sys, pathlib
from receiver.transfer.spool import Spool
for _ in range(150):
    spool = Spool(pathlib.Path(sys.argv[1]))
    spool.open().write(b"x")
    spool.close()
"""


def test_spools_come_and_go_beside_each_other(tmp_path: Path) -> None:
    children = [subprocess.Popen([sys.executable, "-c", CHURN, str(tmp_path)]) for _ in range(4)]
    assert [child.wait() for child in children] == [0] * 4
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
