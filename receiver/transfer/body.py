"""What has arrived of one download, over all its attempts and links, and the bytes that wait for a next try."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from receiver.transfer.spool import SpoolFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """What one download of a kind of media may cost, in place of what a downloader allows by itself."""

    #: Bytes.
    max_bytes: int
    total: timedelta


#: Videos have 100 MB and more.
VIDEO: Final = Cap(max_bytes=256 * 1024 * 1024, total=timedelta(minutes=10))


class Body:
    """The bytes so far, their hashes, and what the host said of them."""

    def __init__(self, file: SpoolFile) -> None:
        self.file = file
        #: The strong validator of these bytes; None when the host gave none.
        self.etag: str | None = None
        #: Bytes that the whole may have at most; whoever fetches says so.
        self.max_bytes = 0
        #: Bytes that the whole will have; None when the host did not say.
        self.total: int | None = None
        self.length_verified = False
        self.final_host = ""
        self.whole = False
        self._hashes = _hashes()

    @property
    def resumable(self) -> bool:
        """Whether a host can be asked for the rest alone."""
        return self.etag is not None and self.file.size > 0

    @property
    def sha256(self) -> bytes:
        """Of the bytes so far."""
        return self._hashes[0].digest()

    @property
    def md5(self) -> bytes:
        """Of the bytes so far."""
        return self._hashes[1].digest()

    def add(self, chunk: bytes) -> None:
        """
        Append *chunk*.

        Raises:
            SpoolFull: There is no room for it; the body is of no more use.
        """
        for digest in self._hashes:
            digest.update(chunk)
        self.file.write(chunk)

    def restart(self) -> None:
        """Forget the bytes and what was said of them."""
        if self.file.size:
            self.file.restart()
        self._hashes = _hashes()
        self.etag = self.total = None


class Shelf:
    """
    Bodies that wait, oldest first, each *keep_for* at most since it was laid down.

    A cache of this process: whatever lies here can be fetched again, and nothing
    decides by it. *clock* gives seconds that only grow.
    """

    def __init__(self, keep_for: timedelta, clock: Callable[[], float]) -> None:
        self._keep_for = keep_for.total_seconds()
        self._clock = clock
        self._waiting: dict[str, tuple[Body, float]] = {}

    @property
    def size(self) -> int:
        """Bytes that lie here."""
        return sum(body.file.size for body, _ in self._waiting.values())

    def put(self, key: str | None, body: Body) -> bool:
        """Lay *body* down in place of what *key* had; False when it is of no use to a next try."""
        if key is None or not (body.whole or body.resumable):
            return False
        self.drop(key)
        body.file.close()
        self._waiting[key] = (body, self._clock())
        return True

    def take(self, key: str | None) -> Body | None:
        """Hand over what waits for *key*, ready to go on; None when that is nothing."""
        if key is None or key not in self._waiting:
            return None
        body, _ = self._waiting[key]
        if not body.file.intact:
            self.drop(key)
            return None
        if not body.whole:
            body.file.reopen()
        del self._waiting[key]
        return body

    def has_whole(self, key: str) -> bool:
        """Tell whether nothing is missing of what waits for *key*."""
        if key not in self._waiting:
            return False
        body, _ = self._waiting[key]
        return body.whole and body.file.intact

    def drop(self, key: str) -> None:
        """Remove what waits for *key*, if anything does."""
        if key in self._waiting:
            self._waiting.pop(key)[0].file.discard()

    def drop_oldest(self) -> bool:
        """Remove what has waited longest; False when nothing waits."""
        for key in self._waiting:
            self.drop(key)
            return True
        return False

    def tidy(self) -> None:
        """Remove what has waited too long."""
        due = self._clock() - self._keep_for
        for key in [key for key, (_, since) in self._waiting.items() if since <= due]:
            self.drop(key)


class Loan:
    """A whole *body* in a reader's hands, until it is kept or discarded; what comes second has no effect."""

    def __init__(self, shelf: Shelf, key: str | None, body: Body) -> None:
        self._shelf = shelf
        self._key = key
        self._body: Body | None = body

    def keep(self) -> None:
        """Lay the body down for the next fetch of its key."""
        if (body := self._handed_back()) is not None and not self._shelf.put(self._key, body):
            body.file.discard()

    def discard(self) -> None:
        """Remove the body's file."""
        if (body := self._handed_back()) is not None:
            body.file.discard()

    def _handed_back(self) -> Body | None:
        body, self._body = self._body, None
        return body


def _hashes() -> tuple[hashlib._Hash, hashlib._Hash]:
    return hashlib.sha256(), hashlib.md5(usedforsecurity=False)
