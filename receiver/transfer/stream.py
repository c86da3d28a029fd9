"""An object on its way out of the bucket."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Final, Self

from botocore.response import StreamingBody

from receiver.transfer.s3 import S3

#: Bytes read at a time.
CHUNK: Final = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """What the server says of one object; its type is the server's guess on some."""

    #: Bytes.
    size: int
    etag: str
    media_type: str


class ObjectStream:
    """The bytes of an object, or of a part of it, in chunks; closes itself at the end and on errors."""

    def __init__(self, s3: S3, body: StreamingBody, info: ObjectInfo, *, length: int) -> None:
        self._s3 = s3
        self._body = body
        #: Bytes of the whole object.
        self.size = info.size
        self.etag = info.etag
        self.media_type = info.media_type
        #: Bytes that this stream gives.
        self.length = length

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """
        Read on.

        Raises:
            BucketUnavailable: The connection broke before the end.
        """
        try:
            chunk = await self._s3.run(partial(self._body.read, CHUNK))
        except BaseException:
            await self.aclose()
            raise
        if not chunk:
            await self.aclose()
            raise StopAsyncIteration
        return bytes(chunk)

    async def aclose(self) -> None:
        """Give up what was not read; harmless when repeated."""
        self._body.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
