"""
Cuts the sound out of a film that lies in the spool.

The film is a stranger's, and what reads it is a large library in C; so another
process does it (`transfer.track`), and this one only waits, limits and judges.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final, Self

from receiver.core.errors import MediaInvalid, SpoolFull, TrackUnavailable
from receiver.transfer.download import Download
from receiver.transfer.spool import Spool, SpoolFile
from receiver.transfer.track import ALL_SECONDS, Ended

#: What must be installed for it.
EXTRA: Final = "receiver[video]"
#: Processes that cut at once.
AT_ONCE: Final = 2
#: Bytes by which the sound may be larger than its film: a film of hardly any picture has other tables.
SLACK: Final = 64 * 1024

_CHUNK: Final = 1024 * 1024
_WORD: Final = 40
#: Ends that a film brings about; every other signal came from outside.
_CRASHES: Final = {
    -signal.SIGXCPU: "track_too_costly",
    **dict.fromkeys(
        (-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGILL, -signal.SIGFPE, -signal.SIGABRT), "track_crashed"
    ),
}
#: Where the system finds the library; nothing else of our environment is passed on.
_PASSED: Final = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


def is_installed() -> bool:
    """Tell whether the library that cuts is installed."""
    return importlib.util.find_spec("av") is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """The sound of a film, in a file on our disk; leaving a `with` block removes it."""

    path: Path
    #: Bytes.
    size: int
    sha256: bytes
    md5: bytes
    _file: SpoolFile = field(repr=False, compare=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.discard()


class Cutter:
    """Cuts films of *spool*, some at once; one per process. *patience* bounds each cut."""

    def __init__(self, spool: Spool, *, patience: timedelta = timedelta(seconds=ALL_SECONDS)) -> None:
        self._spool = spool
        self._patience = patience
        self._free = asyncio.Semaphore(AT_ONCE)

    async def cut(self, film: Download) -> Track:
        """
        Copy the first track of sound of *film*, packet for packet; the same film gives the same bytes.

        Safe to repeat; when cancelled, nothing is left behind.

        Raises:
            MediaInvalid: With "no_audio_track", or another word that begins with "track_": it cannot be cut.
            TrackUnavailable: The library is missing, or the process did not come to its end.
            SpoolFull: No room for the sound beside its film.
        """
        file = self._spool.open()
        try:
            async with self._free:
                # Nobody knows before how much of a film is sound.
                file.reserve(film.size + SLACK)
                await self._run(film.path, file.path, file.size)
                file.settle()
            return await asyncio.to_thread(_hashed, file)
        except BaseException:
            file.discard()
            raise

    async def _run(self, source: Path, target: Path, limit: int) -> None:
        command = (sys.executable, "-I", "-m", "receiver.transfer.track", str(source), str(target), str(limit))
        environment = {name: os.environ[name] for name in _PASSED if name in os.environ}
        process = await asyncio.create_subprocess_exec(
            *command,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C is for us, and must not look like the film's doing
        )
        try:
            async with asyncio.timeout(self._patience.total_seconds()):
                said = await process.stdout.read(_WORD) if process.stdout is not None else b""
                _judge(await process.wait(), said)
        except TimeoutError as exc:
            raise TrackUnavailable("not cut within the time allowed") from exc
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()


def _judge(status: int, said: bytes) -> None:
    """Pass what was cut."""
    match status:
        case Ended.DONE:
            return
        case Ended.REFUSED:
            raise MediaInvalid(said.decode("ascii", "replace"))
        case Ended.FULL:
            raise SpoolFull("the disk is full")
        case Ended.MISSING:
            raise TrackUnavailable(f"{EXTRA} is not installed")
        case _ if status in _CRASHES:
            raise MediaInvalid(_CRASHES[status])
        case _:
            raise TrackUnavailable(f"the process that cuts ended with {status}")


def _hashed(file: SpoolFile) -> Track:
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with file.path.open("rb") as opened:
        while chunk := opened.read(_CHUNK):
            sha256.update(chunk)
            md5.update(chunk)
    return Track(path=file.path, size=file.size, sha256=sha256.digest(), md5=md5.digest(), _file=file)
