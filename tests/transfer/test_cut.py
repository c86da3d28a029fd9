from __future__ import annotations

import asyncio
import hashlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from receiver.core.errors import MediaInvalid, SpoolFull, TrackUnavailable
from receiver.core.model import Format
from receiver.sandbox.film import shoot
from receiver.transfer import cut, track
from receiver.transfer.body import Body, Loan, Shelf
from receiver.transfer.cut import Cutter
from receiver.transfer.download import Download
from receiver.transfer.media import Completeness, sniff
from receiver.transfer.spool import Spool
from tests.transfer.films import FAST, FRAGMENTS, LAST, film, packets


@dataclass
class Bench:
    spool: Spool
    cutter: Cutter

    def lay(self, data: bytes) -> Download:
        """Return *data* as if it had been downloaded."""
        body = Body(self.spool.open())
        body.max_bytes = len(data)
        body.add(data)
        body.file.close()
        return Download(
            path=body.file.path,
            size=len(data),
            sha256=body.sha256,
            md5=body.md5,
            length_verified=True,
            final_host="host",
            _loan=Loan(Shelf(timedelta(), lambda: 0.0), None, body),
        )

    async def sound(self, data: bytes) -> bytes:
        """Return the sound of *data*; afterwards nothing may be left in the spool."""
        try:
            with self.lay(data) as laid, await self.cutter.cut(laid) as found:
                content = found.path.read_bytes()
                assert (found.size, found.sha256) == (len(content), hashlib.sha256(content).digest())
                assert found.md5 == hashlib.md5(content, usedforsecurity=False).digest()
                assert self.spool.used == len(data) + len(content)
                return content
        finally:
            assert self.is_empty()

    def is_empty(self) -> bool:
        return self.spool.used == 0 and [path.name for path in self.spool.directory.iterdir()] == ["lock"]


@contextmanager
def bench(root: Path, *, quota: int | None = None, patience: float = 30) -> Iterator[Bench]:
    spool = Spool(root, floor=0, quota=quota)
    yield Bench(spool, Cutter(spool, patience=timedelta(seconds=patience)))
    spool.close()


def play(root: Path, story: Callable[[Bench], Awaitable[Any]], **options: Any) -> Any:
    async def played() -> Any:
        with bench(root, **options) as made:
            return await story(made)

    return asyncio.run(played())


FILMS: dict[str, dict[str, Any]] = {
    "aac": {},
    "tables behind": {"flags": LAST},
    "fragments": {"flags": FRAGMENTS},
    "quicktime": {"form": "mov"},
    "opus": {"codec": "libopus"},
    "mp3": {"codec": "libmp3lame"},
    "alac": {"codec": "alac"},
    "pcm": {"codec": "pcm_s16le", "form": "mov"},
}


@pytest.mark.parametrize("name", FILMS)
def test_the_packets_of_the_sound_are_copied_bit_for_bit_into_a_whole_m4a(tmp_path: Path, name: str) -> None:
    data = film(**FILMS[name])
    sound = play(tmp_path, lambda bench: bench.sound(data))
    found = sniff(io.BytesIO(sound), len(sound))
    assert (found.format, found.completeness) == (Format.M4A, Completeness.COMPLETE)
    assert packets(sound) == packets(data)
    assert sound.index(b"moov") < sound.index(b"mdat")


def test_the_sound_of_the_sandbox_is_what_its_ledger_says(tmp_path: Path) -> None:
    made = shoot(11, sound=True)
    assert packets(play(tmp_path, lambda bench: bench.sound(made.data))) == made.sound_sha256


def test_the_same_film_gives_the_same_bytes_and_nothing_of_its_labels(tmp_path: Path) -> None:
    data = film().replace(b"SoundHandler", b"Somebody\xffs m")
    first = play(tmp_path / "1", lambda bench: bench.sound(data))
    second = play(tmp_path / "2", lambda bench: bench.sound(data))
    assert first == second
    assert b"Somebody" not in first


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (film(codec=None), "no_audio_track"),
        (film().replace(b"mp4a", b"what").replace(b"esds", b"free"), "track_codec"),
        (b"no film at all", "track_unreadable"),
    ],
)
def test_a_film_that_cannot_be_cut_is_refused_with_a_word(tmp_path: Path, data: bytes, why: str) -> None:
    with pytest.raises(MediaInvalid, match=f"^{why}$"):
        play(tmp_path, lambda bench: bench.sound(data))


def test_the_quota_counts_the_film_and_its_sound(tmp_path: Path) -> None:
    data = film()
    with pytest.raises(SpoolFull):
        play(tmp_path, lambda bench: bench.sound(data), quota=len(data) * 2 + cut.SLACK - 1)
    assert play(tmp_path, lambda bench: bench.sound(data), quota=len(data) * 2 + cut.SLACK)


def test_a_process_that_takes_too_long_is_ended_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TrackUnavailable, match="time allowed"):
        play(tmp_path, lambda bench: bench.sound(film()), patience=0)


def test_cancelling_ends_the_process_and_leaves_nothing(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        # A film that is a pipe is never read to its end while its writer is there.
        laid = bench.lay(b"x")
        laid.path.unlink()
        os.mkfifo(laid.path)
        cutting = asyncio.create_task(bench.cutter.cut(laid))
        pipe = await asyncio.to_thread(os.open, laid.path, os.O_WRONLY)
        os.write(pipe, b"still read")
        cutting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cutting
        with pytest.raises(BrokenPipeError):
            os.write(pipe, b"no reader any more")
        os.close(pipe)
        laid.discard()
        assert bench.is_empty()

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("status", "said", "error", "text"),
    [
        (track.Ended.REFUSED, b"track_codec", MediaInvalid, "track_codec"),
        (track.Ended.FULL, b"", SpoolFull, "full"),
        (track.Ended.MISSING, b"", TrackUnavailable, r"receiver\[video\]"),
        (-signal.SIGSEGV, b"", MediaInvalid, "track_crashed"),
        (-signal.SIGXCPU, b"", MediaInvalid, "track_too_costly"),
        (-signal.SIGKILL, b"", TrackUnavailable, "ended with -9"),
        (1, b"", TrackUnavailable, "ended with 1"),
    ],
)
def test_each_end_of_the_process_is_told_from_the_others(
    status: int, said: bytes, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        cut._judge(status, said)


def run(*arguments: str, first: str = "") -> subprocess.CompletedProcess[bytes]:
    """Run the program in a process whose limits *first* has changed."""
    code = f"{first}\nimport sys; from receiver.transfer import track; sys.exit(track.main(*sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, check=False, timeout=100, env={}
    )


def test_sound_that_is_larger_than_allowed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "film").write_bytes(film())
    ended = run(str(tmp_path / "film"), str(tmp_path / "sound"), "3000")
    assert (ended.returncode, ended.stdout) == (track.Ended.REFUSED, b"track_too_large")
    assert (tmp_path / "sound").stat().st_size <= 3000


def test_a_film_that_takes_too_much_processor_time_is_ended(tmp_path: Path) -> None:
    busy = (
        "from receiver.transfer import track\ntrack.CPU_SECONDS = 1\n"
        "def busy(*_):\n  while True: pass\ntrack._copy = busy"
    )
    ended = run("film", str(tmp_path / "sound"), "3000", first=busy)
    assert ended.returncode in {-signal.SIGXCPU, -signal.SIGKILL}


def test_without_the_library_it_says_so(tmp_path: Path) -> None:
    ended = run("film", str(tmp_path / "sound"), "3000", first="import sys; sys.modules['av'] = None")
    assert ended.returncode == track.Ended.MISSING


def test_a_stranger_among_the_bytes_never_stops_the_program(tmp_path: Path) -> None:
    data = bytearray(film(seconds=0.3, flags=FAST))
    start = data.index(b"moov")
    for at in range(start, start + 600, 41):
        changed = data.copy()
        changed[at] ^= 0xFF
        (tmp_path / "film").write_bytes(changed)
        code = (
            "import sys; from receiver.transfer import track; track._confine = lambda _: None\n"
            "sys.exit(track.main(*sys.argv[1:]))"
        )
        command = [sys.executable, "-c", code, str(tmp_path / "film"), str(tmp_path / "sound"), "100000"]
        assert subprocess.run(command, capture_output=True, check=False).returncode in {0, track.Ended.REFUSED}
