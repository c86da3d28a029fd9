"""What the proxy's own log tells of a request; where Caddy is installed, of real ones."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import time
from typing import Final

import pytest

from tests.deploy.deployed_files import DEPLOY
from tests.system.deployment import free_port

CADDYFILE: Final = (DEPLOY / "caddy" / "Caddyfile").read_text("utf-8")
CADDY: Final = shutil.which("caddy")
#: Seconds.
PATIENCE: Final = 60
HIDDEN: Final = "hidden-from-every-log"
TOLD: Final = {
    f"/callbacks/kling/17/{HIDDEN}": "/callbacks/kling/17/***",
    f"/callbacks/kling/17/{HIDDEN}?take={HIDDEN}": "/callbacks/kling/17/***",
    f"/callbacks/kling/test/{HIDDEN}/": "/callbacks/kling/test/***",
    f"//callbacks//kling/17/{HIDDEN}": "//callbacks//kling/17/***",
    f"/a/21/{HIDDEN}": "/a/21/***",
    f"/v1/tasks?cursor={HIDDEN}": "/v1/tasks***",
    "/v1/tasks/17/cancel": "/v1/tasks/17/cancel",
}


@pytest.mark.parametrize(("uri", "told"), TOLD.items())
def test_tokens_and_queries_are_masked(uri: str, told: str) -> None:
    found = re.search(r'request>uri regexp "(.+)" "\$\{1\}\*\*\*"', CADDYFILE)
    assert found is not None
    assert re.sub(found[1], lambda match: f"{match[1] or ''}***", uri) == told


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    """Send the requests to Caddy while no web runs, and return what it wrote."""
    place = tmp_path_factory.mktemp("caddy")
    port, nobody, admin = free_port(), free_port(), free_port()
    text = CADDYFILE.replace("web-1:8080 web-2:8080", f"127.0.0.1:{nobody}")
    assert text != CADDYFILE
    (place / "Caddyfile").write_text(text)
    env = os.environ | {
        "DOMAIN": f"http://127.0.0.1:{port}",
        "CADDY_ADMIN": f"127.0.0.1:{admin}",
        "XDG_DATA_HOME": str(place),
        "XDG_CONFIG_HOME": str(place),
    }
    command = [str(CADDY), "run", "--config", str(place / "Caddyfile"), "--adapter", "caddyfile"]
    with (place / "log").open("wb") as log, subprocess.Popen(command, stderr=log, env=env) as caddy:
        try:
            for uri in TOLD:
                assert answer(port, uri) in {502, 503}
        finally:
            caddy.send_signal(signal.SIGTERM)
            caddy.wait(PATIENCE)
    return [json.loads(line) for line in (place / "log").read_text().splitlines()]


def answer(port: int, uri: str) -> int:
    """Send a request and return its status; the proxy is waited for."""
    deadline = time.monotonic() + PATIENCE
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        try:
            connection.request("POST", uri, b"{}", {"Authorization": f"Bearer {HIDDEN}", "X-Key": HIDDEN})
            return connection.getresponse().status
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        finally:
            connection.close()


@pytest.mark.skipif(CADDY is None, reason="caddy is not installed")
def test_the_proxy_tells_who_asked_for_what_and_no_secret(logged: list[dict[str, object]]) -> None:
    assert HIDDEN not in json.dumps(logged)
    for logger in ("http.log.access", "http.log.error"):
        requests = [line["request"] for line in logged if str(line.get("logger")).startswith(logger)]
        told = [request["uri"] for request in requests if isinstance(request, dict)]
        assert set(told) == set(TOLD.values())
        assert all(request["remote_ip"] == "127.0.0.1" for request in requests if isinstance(request, dict))
