"""A real S3 server, and a wire to it that can be tampered with."""

from __future__ import annotations

import http.client
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from receiver.core.model import Secret
from receiver.transfer.bucket import BucketConfig
from tests.transfer.servers import Behaviour, Exchange

RCLONE = Path(sys.executable).with_name("rclone")


@dataclass(frozen=True)
class Rclone:
    port: int
    access_key: str
    secret_key: str
    directory: Path
    process: subprocess.Popen[bytes]

    def config(self, *, port: int | None = None, bucket: str = "", prefix: str = "audio") -> BucketConfig:
        return BucketConfig(
            endpoint=f"http://127.0.0.1:{port or self.port}",
            region="us-east-1",
            bucket=bucket or f"b{secrets.token_hex(6)}",
            prefix=prefix,
            access_key=self.access_key,
            secret_key=Secret(self.secret_key),
            public=False,
            create=True,
        )

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def start_rclone(directory: Path) -> Rclone:
    directory.mkdir(exist_ok=True)
    told = directory.with_name(f"{directory.name}.log")
    access_key, secret_key = secrets.token_hex(8), secrets.token_hex(16)
    # A file, for nobody would read on in a pipe, and a server whose pipe is full stands still.
    with told.open("wb") as log:
        process = subprocess.Popen(
            [RCLONE, "serve", "s3", "--addr", "127.0.0.1:0", "--config", os.devnull, directory],
            env={"RCLONE_AUTH_KEY": f'"{access_key},{secret_key}"', "HOME": str(directory)},
            stderr=log,
        )
    deadline = time.monotonic() + 60
    while (found := re.search(r"http://127\.0\.0\.1:(\d+)/", told.read_text())) is None:
        assert process.poll() is None, told.read_text()
        assert time.monotonic() < deadline, told.read_text()
        time.sleep(0.02)
    return Rclone(int(found[1]), access_key, secret_key, directory, process)


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes


def forward(exchange: Exchange, port: int) -> Answer:
    """Hand the request on as it is; the signature stays good, for it covers the Host that the client saw."""
    method, target, _ = exchange.line.split(" ")
    upstream = http.client.HTTPConnection("127.0.0.1", port)
    upstream.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
    for name, value in exchange.headers.items():
        if name != "expect":
            upstream.putheader(name, value)
    upstream.endheaders(exchange.body)
    response = upstream.getresponse()
    body = response.read()
    upstream.close()
    return Answer(response.status, response.getheaders(), body)


def deliver(exchange: Exchange, answer: Answer) -> bool:
    head = [f"HTTP/1.1 {answer.status} Whatever"]
    head += [f"{name}: {value}" for name, value in answer.headers if name.lower() != "transfer-encoding"]
    if not any(name.lower() == "content-length" for name, _ in answer.headers):
        head.append(f"Content-Length: {len(answer.body)}")
    exchange.send("\r\n".join([*head, "", ""]).encode() + answer.body)
    return True


def error(status: int, code: str) -> Answer:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>m</Message></Error>".encode()
    return Answer(status, [("Content-Type", "application/xml")], body)


def tampered(port: int, tamper: Callable[[Exchange, Callable[[], Answer]], Answer | None]) -> Behaviour:
    """Let *tamper* see each request and a way to have it done; None cuts the connection instead of an answer."""

    def behaviour(exchange: Exchange) -> bool:
        answer = tamper(exchange, lambda: forward(exchange, port))
        return answer is not None and deliver(exchange, answer)

    return behaviour
