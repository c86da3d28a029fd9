"""
A program that copies the first track of sound of a film into an m4a, packet for packet.

It reads bytes of strangers with a large library in C, so it is a process of its
own with limits, without secrets, and ended by whoever started it (`transfer.cut`):

    python -I -m receiver.transfer.track SOURCE TARGET LIMIT

LIMIT is in bytes. The same source gives the same bytes: nothing of the time, the
writer or the source's own labels is written.
"""

from __future__ import annotations

import errno
import resource
import signal
import sys
from enum import IntEnum
from typing import Final

#: Seconds of processor time, and of any time; to copy 100 MB takes less than one.
CPU_SECONDS: Final = 20
ALL_SECONDS: Final = 60
#: Bytes of address space; the library alone takes a quarter of a gibibyte.
MEMORY: Final = 2 * 1024**3
#: Files that may be open at once.
FILES: Final = 32

#: What fits into the container that players know as m4a; all else goes into a plain mp4 without pictures.
_IPOD: Final = frozenset({"aac", "alac"})
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
#: What is said of a film that the library makes no sense of, and of some errors of the system.
UNREADABLE: Final = "track_unreadable"
_WORDS: Final = {errno.EFBIG: "track_too_large", errno.ENOMEM: "track_too_costly"}


class Ended(IntEnum):
    """The exit status; after `REFUSED` one word on stdout says why."""

    DONE = 0
    REFUSED = 3  #: the film will not do
    FULL = 4  #: the disk is full
    MISSING = 5  #: the library is not installed, or cannot be loaded


class Refused(Exception):
    """The film has no sound that can be cut out; the text is a stable word."""


def main(source: str, target: str, limit: str) -> Ended:
    """Cut, and say how it ended."""
    _confine(int(limit))
    try:
        from av.error import FFmpegError  # noqa: PLC0415 - only here: the service runs without it
    except ImportError:
        return Ended.MISSING
    try:
        _copy(source, target)
    except (OSError, FFmpegError) as exc:
        if exc.errno in _FULL:
            return Ended.FULL
        sys.stdout.write(_WORDS.get(exc.errno or 0, UNREADABLE))
    except MemoryError:
        sys.stdout.write(_WORDS[errno.ENOMEM])
    except (ValueError, ArithmeticError, EOFError):
        sys.stdout.write(UNREADABLE)
    except Refused as exc:
        sys.stdout.write(str(exc))
    else:
        return Ended.DONE
    return Ended.REFUSED


def _confine(limit: int) -> None:
    """Bound what the process may take, whatever the film makes the library do."""
    signal.alarm(ALL_SECONDS)
    bounds = {
        resource.RLIMIT_CPU: CPU_SECONDS,
        resource.RLIMIT_FSIZE: limit,
        resource.RLIMIT_NOFILE: FILES,
        resource.RLIMIT_CORE: 0,
    }
    if sys.platform == "linux":
        bounds[resource.RLIMIT_AS] = MEMORY
    for kind, bound in bounds.items():
        hard = resource.getrlimit(kind)[1]
        most = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(kind, (most, most))


def _copy(source: str, target: str) -> None:
    """
    Copy the packets.

    Raises:
        Refused: There is no sound, it is broken, or of a kind that the library does not know.
        OSError: A file cannot be read or written.
        FFmpegError: The library makes no sense of what it reads, or cannot write it.
        ValueError: The same.
        ArithmeticError: The same.
        EOFError: The same.
    """
    import av  # noqa: PLC0415 - only here: the service runs without it

    options = {"protocol_whitelist": "file"}
    with av.open(source, format="mov", options=options, metadata_errors="replace") as film:
        if not film.streams.audio:
            raise Refused("no_audio_track")
        sound = film.streams.audio[0]
        if sound.codec_context is None:
            raise Refused("track_codec")
        form = "ipod" if sound.codec_context.name in _IPOD else "mp4"
        with av.open(target, "w", format=form, options={"movflags": "+faststart", "fflags": "+bitexact"}) as out:
            copy = out.add_stream_from_template(sound)
            copied = 0
            for packet in film.demux(sound):
                if packet.is_corrupt:
                    raise Refused(UNREADABLE)
                if packet.size:
                    packet.stream = copy
                    out.mux(packet)
                    copied += 1
            if not copied:
                raise Refused("track_empty")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
