"""
Every route, command, setting and metric, driven on one deployment.

What the other tests prove in depth is touched here once, so that nothing is served, told or read that no running
process was ever asked for; `docs/coverage.md` is made from it.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import evidence
from tests.system import processes
from tests.system.deployment import ACCOUNT, STRANGERS, Deployment, Program, Service, free_port
from tests.system.processes import until

PROFILE = 'extends = "kling"\nname = "of-ones-own"\ncreate_id = "none"\nsources = ["https://example.com"]\n'
BODY: dict[str, Any] = {"account": ACCOUNT, "kind": "text-to-audio", "input": {"prompt": "rain", "duration": 3}}


@dataclass
class Surface:
    """The deployment, and a shell beside it."""

    deployment: Deployment

    @property
    def service(self) -> Service:
        return self.deployment.service

    @property
    def worker(self) -> str:
        return f"http://127.0.0.1:{self.service.variables['RECEIVER_WORKER_PORT']}"

    def get(self, path: str, **query: str) -> dict[str, Any]:
        found: dict[str, Any] = self.service.client.get(path, params=query or None).raise_for_status().json()
        return found

    def post(self, path: str, body: object = None) -> dict[str, Any]:
        found: dict[str, Any] = self.service.client.post(path, json=body or {}).raise_for_status().json()
        return found

    def archived(self) -> dict[str, Any]:
        """Submit a task and return it when it is archived and a callback has told of it, too: a poll may be first."""
        task = self.post("/v1/tasks", BODY)["id"]
        found = until(lambda: self.ended(task), what=f"task {task} is archived")
        until(lambda: self.callbacks(task), what=f"a callback about {task} came")
        return found

    def callbacks(self, task: str) -> list[dict[str, Any]]:
        """Return the callbacks about a task, the newest first."""
        found: list[dict[str, Any]] = self.get("/v1/callbacks", task=task)["callbacks"]
        return found

    def ended(self, task: str) -> dict[str, Any] | None:
        """Return a task once it is archived."""
        found = self.get(f"/v1/tasks/{task}", wait="30")
        return found if found["state"] == "archived" else None

    def callback_url(self, task: str) -> str:
        """Return where the provider was told to send its callbacks."""
        with closing(sqlite3.connect(self.deployment.sandbox.state / "sandbox.sqlite3")) as conn:
            query = "SELECT callback_url FROM task WHERE callback_url LIKE ?"
            row = until(lambda: conn.execute(query, (f"%/{task}/%",)).fetchone(), what=f"the provider has {task}")
        return str(row[0])

    def run(self, *arguments: str, more: Mapping[str, str] | None = None) -> str:
        """Run `receiver` as an operator on this machine would, and return what it printed."""
        ours = {name: text for name, text in os.environ.items() if not name.startswith(STRANGERS)}
        spoken = {"RECEIVER_URL": self.service.url, "RECEIVER_API_KEY": self.service.key}
        told = {**self.service.variables, **spoken, **(more or {})}
        evidence.command(arguments)
        evidence.settings(told)
        done = subprocess.run(
            [sys.executable, "-m", "receiver", *arguments], env=ours | told, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @contextmanager
    def process(self, role: str, variables: Mapping[str, str]) -> Iterator[str]:
        """Run one more web or worker, and give its URL when it is ready."""
        port = str(free_port())
        place = self.deployment.directory / f"{role}-{port}"
        name = "RECEIVER_PORT" if role == "web" else "RECEIVER_WORKER_PORT"
        host = "RECEIVER_HOST" if role == "web" else "RECEIVER_WORKER_HOST"
        told = {**variables, "RECEIVER_DATA_DIR": str(place), name: port, host: "127.0.0.1"}
        program = Program(place.name, [role], told, self.deployment.logs)
        evidence.command([role])
        try:
            url = f"http://127.0.0.1:{port}"
            until(lambda: answers(f"{url}/readyz", program), what=f"{place.name} is ready")
            evidence.settings(processes.environment_of(processes.tree(program.pid)[0]))
            yield url
        finally:
            assert program.stop() == 0


def answers(url: str, program: Program) -> bool:
    assert program.lives(), program.stderr.read_text()[-2000:]
    try:
        return httpx.get(url, trust_env=False, timeout=60).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def standing() -> Iterator[Surface]:
    place = Path(tempfile.mkdtemp(prefix="receiver-surface-"))
    place.chmod(0o711)  # the database may run as another user
    deployment = Deployment(directory=place / "run")
    limits = {f"RECEIVER_ACCOUNTS__{ACCOUNT.upper()}__DAILY_{what}": "10000" for what in ("TASKS", "UNITS")}
    try:
        service = deployment.serve(more={"RECEIVER_WORKER_PORT": str(free_port()), **limits})
        made = Surface(deployment)
        assert service.program is not None
        program = service.program
        until(lambda: answers(f"{made.worker}/readyz", program), what="the worker is ready")
        yield made
        deployment.close()
    finally:
        deployment.discard()
        shutil.rmtree(place)


@pytest.fixture
def surface(standing: Surface) -> Iterator[Surface]:
    """The deployment; what it was asked for meanwhile is noted."""
    evidence.command(["serve"])
    evidence.command(["sandbox"])
    for process in standing.service.processes():
        evidence.settings(processes.environment_of(process) if process.role in {"web", "worker", "serve"} else ())
    with evidence.watched(standing.service.url), evidence.watched(standing.worker):
        yield standing


def test_a_task_is_submitted_shown_and_archived(surface: Surface) -> None:
    task = surface.archived()
    assert [each["state"] for each in task["assets"]] == ["stored", "stored"]
    assert task["id"] in {each["id"] for each in surface.get("/v1/tasks", state="archived")["tasks"]}
    events = [each["type"] for each in surface.get(f"/v1/tasks/{task['id']}/events")["events"]]
    assert events[-1] == "task.archived"
    batch = surface.post("/v1/tasks:batch", {"tasks": [BODY, BODY]})
    assert len(batch["tasks"]) == 2
    assert surface.get("/v1/ledger")["accepted"] >= 3


def test_a_task_is_acted_on(surface: Surface) -> None:
    known = surface.archived()
    assert surface.post(f"/v1/tasks/{known['id']}/refresh")["state"] == "archived"
    assert surface.service.client.post(f"/v1/tasks/{known['id']}/retry", json={}).json()["code"] == "not_retryable"
    made = {"account": ACCOUNT, "kind": "text-to-audio", "provider_task_id": known["provider_task_id"]}
    assert surface.service.client.post("/v1/tasks:adopt", json=made).json()["code"] == "already_known"
    surface.post(f"/v1/accounts/{ACCOUNT}/pause")
    held = surface.post("/v1/tasks", BODY)["id"]
    assert surface.post(f"/v1/tasks/{held}/cancel")["state"] == "cancelled"
    surface.post(f"/v1/accounts/{ACCOUNT}/resume")


def test_its_audio_is_played_by_three_ways(surface: Surface) -> None:
    asset = surface.archived()["assets"][0]
    shown = surface.get(f"/v1/assets/{asset['id']}")
    content = surface.service.client.get(f"/v1/assets/{asset['id']}/content", follow_redirects=True).content
    played = httpx.get(shown["play_url"], trust_env=False, follow_redirects=True, timeout=60).content
    assert (len(content), played) == (shown["bytes"], content)


def test_a_callback_is_kept_shown_and_read_again(surface: Surface) -> None:
    task = surface.archived()["id"]
    found = surface.callbacks(task)
    shown = surface.get(f"/v1/callbacks/{found[0]['id']}")
    assert shown["task"] == task
    surface.post(f"/v1/callbacks/{found[0]['id']}/replay")


def test_accounts_are_listed_and_shown(surface: Surface) -> None:
    assert [each["id"] for each in surface.get("/v1/accounts")["accounts"]] == [ACCOUNT]
    assert surface.get(f"/v1/accounts/{ACCOUNT}")["dialect"] == "sandbox"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/"])
def test_web_tells_of_itself_without_a_key(surface: Surface, path: str) -> None:
    answer = httpx.get(f"{surface.service.url}{path}", trust_env=False, timeout=60)
    assert answer.status_code == (307 if path == "/" else 200)


def test_an_operator_asks_by_commands(surface: Surface) -> None:
    task = surface.archived()["id"]
    callback = surface.callbacks(task)[0]["id"]
    assert ACCOUNT in surface.run("accounts", "list")
    assert task in surface.run("callbacks", "show", callback)
    assert task in surface.run("callbacks", "replay", callback)
    assert surface.service.url in surface.run("callbacks", "test-url", "--account", ACCOUNT)


def test_an_operator_tries_again_and_takes_over_by_commands(surface: Surface) -> None:
    sandbox = surface.deployment.sandbox
    # Tasks of other tests may still be on their way to the provider, and are to be made there.
    surface.post(f"/v1/accounts/{ACCOUNT}/pause")
    refused = surface.post("/v1/tasks", BODY)["id"]
    sandbox.tell("answer", what="create", code=1200, task=refused)
    surface.post(f"/v1/accounts/{ACCOUNT}/resume")
    until(lambda: surface.get(f"/v1/tasks/{refused}")["state"] == "rejected", what="the provider refuses it")
    assert refused in surface.run("tasks", "retry", refused)
    made = httpx.post(
        f"{sandbox.url}/v1/audio/text-to-audio",
        json={"prompt": "made elsewhere", "duration": 3},
        headers=sandbox.client.headers,
        trust_env=False,
        timeout=60,
    ).raise_for_status()
    elsewhere = made.json()["data"]["task_id"]
    adopted = surface.run("tasks", "adopt", ACCOUNT, "text-to-audio", elsewhere)
    assert surface.get(f"/v1/tasks/{adopted}")["provider_task_id"] == elsewhere


def test_an_operator_makes_and_revokes_a_key_by_commands(surface: Surface) -> None:
    key = surface.run("keys", "create", "--owner", "another")
    headers = {"authorization": f"Bearer {key}"}
    assert (
        httpx.get(f"{surface.service.url}/v1/tasks", headers=headers, trust_env=False, timeout=60).json()["tasks"] == []
    )
    made = next(line.split("\t")[0] for line in surface.run("keys", "list").splitlines() if "another" in line)
    surface.run("keys", "revoke", made)
    assert httpx.get(f"{surface.service.url}/v1/tasks", headers=headers, trust_env=False, timeout=60).status_code == 401


def test_an_operator_changes_the_secrets_of_the_urls_by_commands(surface: Surface) -> None:
    surface.run("secrets", "rotate")
    first, second = (line[1] for line in of_urls(surface)[:2])
    surface.run("secrets", "promote", second)
    assert of_urls(surface)[0][1] == second
    surface.run("secrets", "retire", first, "--force")
    assert first not in {line[1] for line in of_urls(surface)}


def of_urls(surface: Surface) -> list[list[str]]:
    """Return the secrets of callback URLs as they are listed."""
    return [line.split("\t") for line in surface.run("secrets", "list").splitlines() if line.startswith("callback")]


def test_every_setting_is_taken_by_value(surface: Surface) -> None:
    """A web and a worker of their own, on the same database and bucket."""
    with surface.process("web", by_value(surface)) as url:
        headers = {"authorization": f"Bearer {surface.service.key}"}
        accounts = httpx.get(f"{url}/v1/accounts", headers=headers, trust_env=False, timeout=60).json()["accounts"]
        found = {each["id"]: each for each in accounts}
        assert {ACCOUNT, "kling", "cometapi", "deerapi", "kkiai", "second"} <= found.keys()
        assert (found["second"]["concurrency"], found["second"]["dialect"]) == (2, "of-ones-own")
        assert found["second"]["signature_mode"] == "required"
    with surface.process("worker", by_value(surface)) as url:
        assert httpx.get(f"{url}/healthz", trust_env=False, timeout=60).status_code == 200
    pair = {"KLING_ACCESS_KEY": "ak", "KLING_SECRET_KEY": "sk-of-a-pair"}
    assert "/callbacks/kling/" in surface.run("callbacks", "test-url", "--account", "kling", more=pair)
    of_second = {"RECEIVER_ACCOUNTS__SECOND__DIALECT": "cometapi", "RECEIVER_ACCOUNTS__SECOND__API_KEY": "a-key"}
    assert "/callbacks/second/" in surface.run("callbacks", "test-url", "--account", "second", more=of_second)


def test_every_secret_is_taken_from_a_file(surface: Surface, tmp_path: Path) -> None:
    values = by_value(surface)
    pair = {"KLING_ACCESS_KEY": "ak", "KLING_SECRET_KEY": "sk-of-a-pair"}
    secrets = {
        **{name: values.pop(name) for name in SECRET},
        "RECEIVER_ACCOUNTS__THIRD__API_KEY": "a-key",
        "RECEIVER_CALLBACK_SECRETS": values.pop("RECEIVER_CALLBACK_SECRETS"),
    }
    values["RECEIVER_ACCOUNTS__THIRD__DIALECT"] = "cometapi"
    with surface.process("web", values | files(secrets, tmp_path)) as url:
        headers = {"authorization": f"Bearer {surface.service.key}"}
        accounts = httpx.get(f"{url}/v1/accounts", headers=headers, trust_env=False, timeout=60).json()["accounts"]
        assert {"kling", "cometapi", "deerapi", "kkiai", "third"} <= {each["id"] for each in accounts}
    assert "/callbacks/kling/" in surface.run("callbacks", "test-url", "--account", "kling", more=files(pair, tmp_path))


#: All that is secret and has a value in `by_value`, but for the callback secrets.
SECRET = (
    *("RECEIVER_DATABASE_URL", "RECEIVER_S3_SECRET_KEY", "KLING_API_KEY", "KLING_WEBHOOK_SECRET"),
    *("COMETAPI_KEY", "DEERAPI_KEY", "KKIAI_KEY"),
    *("RECEIVER_ACCOUNTS__SECOND__SECRET_KEY", "RECEIVER_ACCOUNTS__SECOND__WEBHOOK_SECRETS"),
)


def files(secrets: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Write each secret to a file and return the variables that name them."""
    for name, text in secrets.items():
        (folder / name).write_text(text)
    return {f"{name}_FILE": str(folder / name) for name in secrets}


def by_value(surface: Surface) -> dict[str, str]:
    """Return every setting that a process of its own can have; no provider is asked for anything."""
    profiles = surface.deployment.directory / "profiles"
    profiles.mkdir(exist_ok=True)
    (profiles / "of-ones-own.toml").write_text(PROFILE)
    shared = surface.service.environment()
    secrets = Path(shared.pop("RECEIVER_CALLBACK_SECRETS_FILE")).read_text().split()
    second = {
        "DIALECT": "of-ones-own",
        "BASE_URL": "beijing",
        "ACCESS_KEY": "ak",
        "SECRET_KEY": "sk-of-second",
        "WEBHOOK_SECRETS": surface.deployment.known.webhook,
        "SIGNATURE_MODE": "required",
        "CONCURRENCY": "2",
        "ASSET_HOSTS": "klingai.com",
        "DAILY_TASKS": "10",
        "DAILY_UNITS": "2.5",
        "ALLOW_CIDRS": "127.0.0.0/8",
        "ALLOW_HTTP": "true",
        "KEEP_VIDEO": "true",
    }
    return {
        **{name: text for name, text in shared.items() if not name.endswith("_FILE") and text},
        **{f"RECEIVER_ACCOUNTS__SECOND__{name}": text for name, text in second.items()},
        "RECEIVER_CALLBACK_SECRETS": ",".join(secrets),
        "RECEIVER_DATABASE_CONNECTIONS": "6",
        "RECEIVER_SPOOL_QUOTA_MB": "500",
        "RECEIVER_S3_PREFIX": "",
        "RECEIVER_S3_REGION": "us-east-1",
        "RECEIVER_S3_ADDRESSING": "path",
        "RECEIVER_S3_PUBLIC": "true",
        "RECEIVER_LOG_FORMAT": "json",
        "RECEIVER_LOG_LEVEL": "warning",
        "RECEIVER_PROFILES_DIR": str(profiles),
        "RECEIVER_DEFAULT_ACCOUNTS": json.dumps({"text-to-audio": ACCOUNT}),
        "KLING_API_KEY": "a-key-that-is-never-used",
        "KLING_WEBHOOK_SECRET": surface.deployment.known.webhook,
        "COMETAPI_KEY": "another",
        "DEERAPI_KEY": "another",
        "KKIAI_KEY": "another",
    }


def test_every_metric_has_a_value_when_there_is_something_to_tell(surface: Surface) -> None:
    """Media that cannot be fetched, a callback about another task, a refused account and request."""
    surface.archived()
    sandbox = surface.deployment.sandbox
    sandbox.tell("down", what="media")
    task = surface.post("/v1/tasks", BODY)["id"]
    other = {"task_id": "9", "task_status": "processing", "task_info": {"external_task_id": "8"}}
    assert httpx.post(surface.callback_url(task), json=other, trust_env=False, timeout=60).status_code == 200
    assert surface.service.client.get("/v1/tasks/1").status_code == 404
    sandbox.tell("account", code=1102)
    waiting = surface.post("/v1/tasks", BODY)["id"]
    names = {
        "receiver_archive_slack_seconds",
        "receiver_submit_slack_seconds",
        "receiver_tasks_attention",
        "receiver_job_retries",
        "receiver_accounts_paused",
    }
    for name in sorted(names):
        until(partial(shown, surface, name), what=f"{name} has a value", pause=0.2)
    sandbox.tell("up")
    sandbox.tell("account", code=None)
    surface.post(f"/v1/accounts/{ACCOUNT}/resume")
    for each in (task, waiting):
        until(partial(surface.ended, each), what=f"{each} is archived")


def test_an_account_whose_balance_is_filled_goes_on_by_itself(surface: Surface) -> None:
    """One task tries it each minute; the minute passes at once here."""
    # Tasks of other tests that are still on their way would wait with ours.
    until(lambda: not surface.get("/v1/tasks?state=accepted&state=submitting")["tasks"], what="all others are sent")
    surface.deployment.sandbox.tell("account", code=1102)
    first = surface.post("/v1/tasks", BODY)["id"]
    until(lambda: paused_with(surface, 1), what="the first one was refused")
    second = surface.post("/v1/tasks", BODY)["id"]
    until(lambda: paused_with(surface, 2), what="the second one waits behind it")
    surface.deployment.sandbox.tell("account", code=None)
    surface.deployment.rows("UPDATE account SET paused_at = paused_at - interval '61 s', probed_at = NULL RETURNING id")
    for task in (first, second):
        until(partial(surface.ended, task), what=f"{task} is archived")
    assert not surface.get(f"/v1/accounts/{ACCOUNT}")["paused"]


def paused_with(surface: Surface, waiting: int) -> bool:
    """Say whether the account is paused, and so many tasks wait for it."""
    found = surface.get(f"/v1/accounts/{ACCOUNT}")
    return (found["paused_reason"], found["waiting"]) == ("account_refused", waiting)


def shown(surface: Surface, name: str) -> bool:
    """Say whether web or worker has ever shown a metric."""
    evidence.metrics(surface.service.url)
    evidence.metrics(surface.worker)
    return ("metric", name) in evidence._seen
