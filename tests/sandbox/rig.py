"""The sandbox as a real process, and a receiver for its callbacks."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import jwt

T = TypeVar("T")

API = "/v1/audio/text-to-audio"
KEY = "sandbox-api-key"
ACCESS = "sandbox-access-key"
SECRET = "sandbox-secret-key-of-32-letters"
WEBHOOK_SECRET = "whsec_dGVzdHNlY3JldHRlc3RzZWNyZXR0ZXN0c2VjcmV0MTI="
ENDS = {"succeed", "failed"}


def wait_for(fact: Callable[[], T | None], *, seconds: float = 60) -> T:
    """Return the first true answer of *fact*."""
    deadline = time.monotonic() + seconds
    while not (answer := fact()):
        assert time.monotonic() < deadline, "the fact never came true"
        threading.Event().wait(0.02)
    return answer


@dataclass(kw_only=True)
class Sandbox:
    """A running sandbox and a client that has its key."""

    url: str
    process: subprocess.Popen[str]
    errors: Path
    client: httpx.Client

    def create(self, **fields: Any) -> httpx.Response:
        return self.client.post(API, json={"prompt": "rain on a tin roof", "duration": 3.0} | fields)

    def make(self, **fields: Any) -> str:
        answer = self.create(**fields)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["data"]["task_id"])

    def get(self, given: str) -> dict[str, Any]:
        data: dict[str, Any] = self.client.get(f"{API}/{given}").raise_for_status().json()["data"]
        return data

    def ended(self, given: str) -> dict[str, Any]:
        return wait_for(lambda: data if (data := self.get(given))["task_status"] in ENDS else None)

    def clip(self, given: str) -> dict[str, str]:
        audio: dict[str, str] = self.ended(given)["task_result"]["audios"][0]
        return audio

    def ledger(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.client.get("/control/ledger").raise_for_status().json()
        return answer

    def entry(self, task_id: str) -> dict[str, Any]:
        entry: dict[str, Any] = next(task for task in self.ledger()["tasks"] if task["task_id"] == task_id)
        return entry

    def told(self, task_id: str, number: int) -> list[dict[str, Any]]:
        """Return the callbacks of a task once at least *number* of them have an outcome."""

        def fact() -> list[dict[str, Any]] | None:
            callbacks: list[dict[str, Any]] = self.entry(task_id)["callbacks"]
            return callbacks if sum(one["outcome"] is not None for one in callbacks) >= number else None

        return wait_for(fact)

    def control(self, route: str, /, **fields: Any) -> dict[str, Any]:
        """Tell the control something."""
        answer = self.client.post(f"/control/{route}", json=fields)
        assert answer.status_code == 200, answer.text
        said: dict[str, Any] = answer.json()
        return said

    def held(self, number: int = 1) -> list[dict[str, Any]]:
        """Return what is held once there are *number* of them."""

        def fact() -> list[dict[str, Any]] | None:
            held: list[dict[str, Any]] = self.client.get("/control/held").raise_for_status().json()["held"]
            return held if len(held) == number else None

        return wait_for(fact)

    def fetched(self, task_id: str, number: int) -> list[dict[str, Any]]:
        """Return the fetches of a task once *number* of them are over."""

        def fact() -> list[dict[str, Any]] | None:
            fetches: list[dict[str, Any]] = self.entry(task_id)["fetches"]
            return fetches if sum(one["status"] is not None for one in fetches) >= number else None

        return wait_for(fact)

    def kill(self) -> None:
        self.process.kill()
        self.close()

    def stop(self) -> None:
        """Stop it cleanly; it has nothing to complain about."""
        self.process.terminate()
        self.close()
        assert self.process.returncode == 0
        assert self.errors.read_text() == ""

    def close(self) -> None:
        self.client.close()
        self.process.wait(timeout=60)
        if self.process.stdout is not None:
            self.process.stdout.close()


def token(secret: str = SECRET, **claims: Any) -> str:
    now = int(time.time())
    given = {"iss": ACCESS, "exp": now + 1800, "nbf": now - 5} | claims
    return jwt.encode({name: value for name, value in given.items() if value is not None}, secret, "HS256")


def start_sandbox(directory: Path, *options: str) -> Sandbox:
    directory.mkdir(parents=True, exist_ok=True)
    errors = directory / "stderr"
    command = [sys.executable, "-m", "receiver.sandbox", "--state-dir", str(directory / "state"), "--api-key", KEY]
    with errors.open("w") as stderr:
        process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=stderr, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, errors.read_text()
    url = json.loads(line)["sandbox"]
    client = httpx.Client(base_url=url, headers={"authorization": f"Bearer {KEY}"}, trust_env=False, timeout=20)
    return Sandbox(url=url, process=process, errors=errors, client=client)


@dataclass(kw_only=True)
class Arrival:
    headers: dict[str, str]
    body: bytes

    @property
    def status(self) -> str:
        return str(json.loads(self.body)["task_status"])


@dataclass(kw_only=True)
class Inbox:
    """A receiver of callbacks."""

    url: str = ""
    status: int = 200
    arrivals: list[Arrival] = field(default_factory=list)
    #: Cleared: what arrives is kept, but waits for its answer.
    answering: threading.Event = field(default_factory=threading.Event)

    def statuses(self) -> list[str]:
        return [arrival.status for arrival in self.arrivals]
