"""Stands where callbacks are sent to, keeps them, and signs others as the provider would."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.system.processes import until


@dataclass(frozen=True)
class Caught:
    """A callback as the provider sent it."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def task(self) -> str:
        return self.path.split("/")[3]

    @property
    def status(self) -> str:
        return str(json.loads(self.body)["task_status"])


@dataclass
class Catcher:
    """Keeps callbacks instead of the service; answers 200."""

    url: str
    caught: list[Caught] = field(default_factory=list)

    def of(self, task: str, status: str) -> Caught:
        """Return the callback that told this of that task, once it has come."""
        found = until(
            lambda: [each for each in list(self.caught) if (each.task, each.status) == (task, status)],
            what=f"{status} of {task} is caught",
        )
        return found[0]


@contextmanager
def catching() -> Iterator[Catcher]:
    """Catch callbacks on a loopback port until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            wanted = {name: value for name, value in self.headers.items() if name.lower().startswith("webhook-")}
            catcher.caught.append(Caught(self.path, wanted, body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing: the paths hold tokens."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        catcher = Catcher(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield catcher
        finally:
            server.shutdown()
            thread.join()


def signed(secret: str, webhook_id: str, body: bytes) -> dict[str, str]:
    """Return the headers of *body* as Standard Webhooks has them."""
    timestamp = str(int(time.time()))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.digest(key, f"{webhook_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": "v1," + base64.b64encode(mac).decode(),
    }
