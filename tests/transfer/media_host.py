"""What a media host may answer, as behaviours of `RawHost`."""

from __future__ import annotations

import hashlib
from datetime import timedelta

from receiver.transfer.download import Limits
from receiver.transfer.guard import FetchPolicy
from tests.transfer.servers import Behaviour, Exchange

LOOPBACK = FetchPolicy(hosts=None, allow_cidrs=("127.0.0.0/8",), allow_http=True)
AUDIO = hashlib.shake_256(b"audio").digest(300_000)
QUICK = Limits(backoff=timedelta(0))


def whole(exchange: Exchange, *headers: str) -> bool:
    exchange.answer("200 OK", AUDIO, *headers)
    return True


def ranged(exchange: Exchange, etag: str, *, cut: int | None, media: bytes = AUDIO) -> bool:
    """Answer like a good content network; *cut* ends the body after as many bytes."""
    start = int(exchange.headers.get("range", "bytes=0-")[6:-1])
    resumed = "range" in exchange.headers and exchange.headers.get("if-range") == etag
    body = media[start:] if resumed else media
    head = [f"Content-Length: {len(body)}", f"ETag: {etag}"]
    if resumed:
        head.append(f"Content-Range: bytes {start}-{len(media) - 1}/{len(media)}")
    status = "206 Partial Content" if resumed else "200 OK"
    exchange.send("\r\n".join([f"HTTP/1.1 {status}", *head, "", ""]).encode() + body[:cut])
    return cut is None


def in_turn(*behaviours: Behaviour) -> Behaviour:
    return lambda exchange: behaviours[min(exchange.number, len(behaviours) - 1)](exchange)


def status(line: str, *headers: str) -> Behaviour:
    def behaviour(exchange: Exchange) -> bool:
        exchange.answer(line, b"<html>no</html>", *headers)
        return True

    return behaviour


def raw(data: bytes) -> Behaviour:
    def behaviour(exchange: Exchange) -> bool:
        exchange.send(data)
        return False

    return behaviour


def endless(head: bytes, chunk: bytes, *, pause: float = 0.0) -> Behaviour:
    def behaviour(exchange: Exchange) -> bool:
        exchange.send(head)
        while not exchange.stopping.wait(pause):
            exchange.send(chunk)
        return False

    return behaviour
