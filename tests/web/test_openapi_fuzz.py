"""Requests made from the document, good and bad, to a web process of its own."""

from __future__ import annotations

import secrets
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from receiver.local.store import StoreAddress
from tests.cli.rig import RECEIVER, environment, until
from tests.system.deployment import free_port

#: Of each operation.
EXAMPLES: Final = 10
CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
ORDER: Final = {"account": "studio", "kind": "text-to-audio", "input": {"prompt": "rain", "duration": 3}}


@dataclass(frozen=True)
class Web:
    url: str
    key: str
    #: What is there, by path parameter.
    known: Mapping[str, str]


def variables(url: str, store: StoreAddress, prefix: str, directory: Path, port: int) -> dict[str, str]:
    return environment(
        {
            "RECEIVER_DATA_DIR": str(directory),
            "RECEIVER_PORT": str(port),
            "RECEIVER_CALLBACK_SECRETS": secrets.token_hex(32),
            "RECEIVER_DATABASE_URL": url,
            "RECEIVER_S3_ENDPOINT": store.endpoint,
            "RECEIVER_S3_BUCKET": store.bucket,
            "RECEIVER_S3_PREFIX": prefix,
            "RECEIVER_S3_ACCESS_KEY": store.access_key,
            "RECEIVER_S3_SECRET_KEY": store.secret_key,
            "RECEIVER_ACCOUNTS__STUDIO__DIALECT": "sandbox",
            "RECEIVER_ACCOUNTS__STUDIO__BASE_URL": "http://127.0.0.1:9",
            "RECEIVER_ACCOUNTS__STUDIO__API_KEY": "k" * 32,
            "RECEIVER_ACCOUNTS__STUDIO__ALLOW_HTTP": "true",
        }
    )


@contextmanager
def running(settings_of_web: dict[str, str], log: Path) -> Iterator[str]:
    """Run `receiver web` and yield its URL."""
    url = f"http://127.0.0.1:{settings_of_web['RECEIVER_PORT']}"
    with log.open("wb") as told, subprocess.Popen([*RECEIVER, "web"], env=settings_of_web, stderr=told) as process:
        try:
            until(lambda: answers(process, url))
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0


def answers(process: subprocess.Popen[bytes], url: str) -> bool:
    assert process.poll() is None
    try:
        return httpx.get(f"{url}/readyz", trust_env=False, timeout=60).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def web(database_url: str, bucket_address: StoreAddress, bucket_prefix: str, tmp_path: Path) -> Iterator[Web]:
    """A web process with an ended task."""
    chosen = variables(database_url, bucket_address, bucket_prefix, tmp_path / "data", free_port())
    made = subprocess.run([*RECEIVER, "keys", "create"], env=chosen, capture_output=True, text=True, check=True)
    key = made.stdout.strip()
    with (
        running(chosen, tmp_path / "web.log") as url,
        httpx.Client(base_url=url, trust_env=False, timeout=60) as client,
    ):
        client.headers["Authorization"] = f"Bearer {key}"
        task = client.post("/v1/tasks", json=ORDER).raise_for_status().json()["id"]
        client.post(f"/v1/tasks/{task}/cancel").raise_for_status()
        yield Web(url=url, key=key, known={"task": task, "account": "studio"})


@dataclass(frozen=True)
class Bearer:
    """Sends the key with each request, also with those that are made to carry none."""

    key: str

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self.key}"
        return request


def with_what_is_there(case: Case[Any], known: Mapping[str, str]) -> None:
    """Put ids and an input that exist into a request."""
    for name in set(known) & set(case.path_parameters):
        case.path_parameters[name] = known[name]
    if isinstance(case.body, dict):
        there: dict[str, Any] = {name: value for name, value in ORDER.items() if name in case.body}
        case.body |= there


def test_whatever_is_asked_is_answered_as_documented(web: Web) -> None:
    asked: Counter[int] = Counter()
    for found in schemathesis.openapi.from_url(f"{web.url}/openapi.json").get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()

        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            phases=[Phase.generate],
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(
            case=st.one_of([operation.as_strategy(mode) for mode in GenerationMode]),
            known=st.booleans(),
        )
        def ask(*, case: Case[Any], known: bool) -> None:
            if known:
                with_what_is_there(case, web.known)
            response = case.call(auth=Bearer(web.key), allow_redirects=False, timeout=20)
            asked[response.status_code] += 1
            case.validate_response(response, checks=CHECKS)

        ask()
    assert {200, 202, 404, 422} <= set(asked), asked
    assert asked[401] == 0, asked
