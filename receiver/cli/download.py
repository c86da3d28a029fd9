"""Bring an asset to a file: what was cut goes on where it ended, and a file gets its name when its hash is right."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from receiver.cli import api
from receiver.cli.tables import clean
from receiver.core.errors import ReceiverError, Unavailable

#: Tries in a row that brought nothing, before the command gives up.
TRIES: Final = 5
#: Seconds before the first further try; doubled for each one that brings nothing.
PAUSE: Final = 0.25
#: After the name of a file whose bytes are not all there.
PART: Final = ".part"

_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-\d{1,18}/\d{1,18}")
_UNSATISFIABLE: Final = 416


class DownloadCut(Unavailable):
    """The bytes did not all come; the same command goes on where this one ended."""

    code = "download_cut"


class ContentDiffers(Unavailable):
    """The bytes that came are not those that the API names."""

    code = "content_differs"


class CannotWrite(ReceiverError):
    """A file cannot be written here."""

    code = "cannot_write"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One stored asset, as the API tells of it, and the file that it shall be."""

    id: str
    #: Bytes.
    size: int
    #: In hexadecimal.
    sha256: str
    target: Path

    @property
    def part(self) -> Path:
        """Return where its bytes gather."""
        return self.target.with_name(self.target.name + PART)


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """What came of it."""

    wanted: Wanted
    #: Bytes that an earlier run had brought already.
    resumed_at: int
    #: The file was there already, with the right hash.
    known: bool


def name_of(asset: Mapping[str, Any]) -> str:
    """Return the name under which the service gives an asset, too."""
    return f"{asset['task']}-{asset['position']}.{asset['format']}"


def bring(service: api.Client, wanted: Wanted, tell: Callable[[int], None]) -> Brought:
    """
    Bring one asset; *tell* hears how many of its bytes are there.

    Raises:
        ContentDiffers: The bytes are others than the API names, or another file has the name.
        DownloadCut: They did not all come; what came is kept for the next time.
        CannotWrite: The file cannot be written.
        Problem: The service refuses.
    """
    try:
        if wanted.target.exists():
            return _known(wanted, tell)
        wanted.target.parent.mkdir(parents=True, exist_ok=True)
        resumed_at = _size_of(wanted.part)
        _gather(service, wanted, tell)
        if resumed_at and _hash_of(wanted.part) != wanted.sha256:
            # What an earlier run left was of something else.
            wanted.part.unlink()
            resumed_at = 0
            _gather(service, wanted, tell)
        _finish(wanted)
    except OSError as exc:
        raise CannotWrite(f"{exc.filename or wanted.target}: {exc.strerror or exc}") from exc
    return Brought(wanted=wanted, resumed_at=resumed_at, known=False)


def _known(wanted: Wanted, tell: Callable[[int], None]) -> Brought:
    if _hash_of(wanted.target) != wanted.sha256:
        raise ContentDiffers(f"{wanted.target} is there already, and is another file; give --out another place")
    tell(wanted.size)
    return Brought(wanted=wanted, resumed_at=wanted.size, known=True)


def _finish(wanted: Wanted) -> None:
    """Give the file its name, once its hash is right."""
    found = _hash_of(wanted.part)
    if found != wanted.sha256:
        wanted.part.unlink()
        raise ContentDiffers(f"the SHA-256 is {found}, and the API says {wanted.sha256}; nothing was kept")
    wanted.part.replace(wanted.target)


def _gather(service: api.Client, wanted: Wanted, tell: Callable[[int], None]) -> None:
    """Ask until all bytes are there; each try that brings some is the first of a new row."""
    failed = 0
    while (have := _size_of(wanted.part)) != wanted.size:
        if have > wanted.size:
            wanted.part.unlink()
            continue
        tell(have)
        why = _ask(service, wanted, have, tell)
        failed = 0 if _size_of(wanted.part) > have else failed + 1
        if failed == TRIES:
            raise DownloadCut(f"{have} of {wanted.size} bytes came ({why}); the same command goes on there")
        if why:
            time.sleep(PAUSE * 2**failed)
    tell(wanted.size)


def _ask(service: api.Client, wanted: Wanted, have: int, tell: Callable[[int], None]) -> str:
    """Ask once for what is missing and add it to the part; return why it ended, empty when all came."""
    path = f"/v1/assets/{wanted.id}/content"
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": f'"{wanted.sha256}"'}
    try:
        with service.streamed(path, headers) as response:
            if response.status_code == _UNSATISFIABLE:
                wanted.part.unlink()
                return "the part is longer than the file"
            _add(response, wanted, have, tell)
    except api.Problem as exc:
        if not exc.passing:
            raise
        return exc.code
    except (api.ServiceUnreachable, httpx.TransportError) as exc:
        return clean(str(exc)) or type(exc).__name__
    return "" if _size_of(wanted.part) == wanted.size else "it ended early"


def _add(response: httpx.Response, wanted: Wanted, have: int, tell: Callable[[int], None]) -> None:
    # Some stores give the range that was asked for with status 200.
    begins = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    start = 0 if begins is None else int(begins[1])
    if start not in {0, have}:
        raise api.NotTheService(f"bytes from {start} on came, and those from {have} on were asked for")
    with wanted.part.open("ab") as file:
        file.truncate(start)
        # With a size, httpx gathers, and throws away what it has gathered when the connection is cut.
        for chunk in response.iter_raw():
            file.write(chunk)
            start += len(chunk)
            tell(min(start, wanted.size))
            if start > wanted.size:
                break
        file.flush()
        os.fsync(file.fileno())


def _size_of(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
