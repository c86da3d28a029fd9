"""The sandbox as a real process, and a receiver for its callbacks."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.rig import ACCESS, SECRET, WEBHOOK_SECRET, Arrival, Inbox, Sandbox, start_sandbox


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Sandbox]]:
    """Start a sandbox on the test's own state, as often as asked."""
    started: list[Sandbox] = []

    def go(*options: str) -> Sandbox:
        started.append(start_sandbox(tmp_path, *options))
        return started[-1]

    yield go
    for sandbox in started:
        if sandbox.process.poll() is None:
            sandbox.stop()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A quick sandbox without a limit, for tests that only look at their own tasks."""
    sandbox = start_sandbox(
        tmp_path_factory.mktemp("sandbox"),
        *("--run-seconds", "0.2", "--concurrency", "0", "--webhook-secret", WEBHOOK_SECRET),
        *("--access-key", ACCESS, "--secret-key", SECRET),
    )
    yield sandbox
    sandbox.stop()


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    inbox = Inbox()
    inbox.answering.set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            inbox.arrivals.append(Arrival(headers=headers, body=body))
            inbox.answering.wait(20)
            try:
                self.send_response(inbox.status)
                self.send_header("content-length", "0")
                self.end_headers()
            except ConnectionError:
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: Any) -> None:
            """A sandbox that was killed resets its connections."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        inbox.url = f"http://127.0.0.1:{server.server_address[1]}/callbacks/a/b/c"
        yield inbox
        inbox.answering.set()
        server.shutdown()
        thread.join()
