"""What an operator does to a service that runs: ask the doctor, and change its secrets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.system.deployment import STRANGERS, Deployment, Service
from tests.system.processes import until
from tests.system.test_secrets import callback_tokens


def run(service: Service, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command with the variables of *service*."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(STRANGERS)}
    return subprocess.run(
        [sys.executable, "-m", "receiver", *arguments],
        env={**env, **service.variables, **more},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def doctor(service: Service) -> tuple[int, dict[str, Any]]:
    done = run(service, "doctor", "--json")
    return done.returncode, json.loads(done.stdout)


def states(told: dict[str, Any]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for check in told["checks"]:
        found.setdefault(check["name"], set()).add(check["status"])
    return found


def planted(deployment: Deployment) -> list[str]:
    service = deployment.service
    key = json.loads((service.directory / "store" / "key.json").read_text())["secret_key"]
    callback = (service.directory / "callback-secret").read_text().split()
    return [deployment.known.account_key, deployment.known.webhook, service.key, key, *callback]


def test_the_doctor_finds_a_running_service_well_and_a_stopped_one_not_running(deployment: Deployment) -> None:
    service = deployment.serve()
    status, told = doctor(service)
    assert (status, told["status"]) == (0, "ok"), told
    assert set(states(told)) == {
        *("settings", "profiles", "data directory", "database", "connections", "notifications", "clock", "migrations"),
        *("workers", "tasks", "callback secrets", "signatures studio", "bucket", "web", "public URL", "account studio"),
    }
    plain = run(service, "doctor")
    assert plain.returncode == 0
    assert [line.split()[0] for line in plain.stdout.splitlines()] == ["ok"] * len(told["checks"]) + ["16"]
    assert not [secret for secret in planted(deployment) if secret in plain.stdout + plain.stderr + json.dumps(told)]

    assert deployment.sandbox.program.stop() == 0
    service.stop()
    status, told = doctor(service)
    assert status == 1
    found = states(told)
    assert {name for name, seen in found.items() if "broken" in seen} == {"public URL", "account studio"}
    assert {name for name, seen in found.items() if "warning" in seen} == {"workers", "web"}
    assert (found["database"], found["bucket"]) == ({"ok"}, {"ok"})


def fingerprints(service: Service) -> dict[str, tuple[str, int]]:
    """Return state and open tasks of the callback secrets, by fingerprint."""
    told = json.loads(run(service, "secrets", "list", "--json").stdout)["secrets"]
    return {line["fingerprint"]: (line["state"], line["open_tasks"]) for line in told if line["of"] == "callback URLs"}


def keys_used(deployment: Deployment) -> list[str]:
    query = "SELECT data ->> 'callback_key' FROM event WHERE type = 'task.sending' ORDER BY id"
    return [row[0] for row in deployment.rows(query)]


def made_with(key: str, deployment: Deployment) -> str:
    """Return the token in a callback URL that the provider was given, made with that secret."""
    return next(token for token in callback_tokens(deployment) if token.startswith(f"{key}."))


def age(file: Path) -> None:
    """Let the file be as old as if it had been changed two minutes ago."""
    then = time.time() - 120
    os.utime(file, (then, then))


def test_a_secret_is_changed_under_a_running_service_and_no_callback_in_flight_is_lost(deployment: Deployment) -> None:
    service = deployment.serve()
    deployment.sandbox.tell("hold", what="callback", count=500)
    deployment.sandbox.tell("hold", what="query", count=500)
    (first,) = service.submit(1)
    until(lambda: deployment.sandbox.held("callback"), what="a callback is in flight")
    ((old, before),) = fingerprints(service).items()
    assert before == ("signs", 1)

    assert run(service, "secrets", "rotate").returncode == 0
    service.submit(1, first=1)
    until(lambda: len(keys_used(deployment)) == 2, what="the second is sent")
    new = keys_used(deployment)[1]
    assert new != old
    assert fingerprints(service) == {new: ("signs", 1), old: ("accepted", 1)}

    age(service.directory / "callback-secret")
    refused = run(service, "secrets", "retire", old)
    assert (refused.returncode, "1 open task(s)" in refused.stderr) == (1, True), refused.stderr

    for held in ("callback", "query"):
        deployment.sandbox.tell("release", what=held)
    service.await_end(2)
    assert {task["state"] for task in service.tasks() or ()} == {"archived"}
    until(lambda: deployment.rows("SELECT count(DISTINCT task_id) FROM inbox") == [(2,)], what="both were told of")
    url = f"/callbacks/studio/{first.id}/{made_with(old, deployment)}"
    assert service.client.post(url, content=b"{}").status_code == 200
    assert run(service, "secrets", "retire", old).returncode == 0
    assert service.client.post(url, content=b"{}").status_code == 404
    assert list(fingerprints(service)) == [new]
    assert (service.directory / "callback-secret").stat().st_mode & 0o777 == 0o600
    service.stop()
    assert states(doctor(service)[1])["callback secrets"] == {"ok"}
