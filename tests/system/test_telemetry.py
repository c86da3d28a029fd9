"""One deployment that works a little, and what it then shows to those who operate it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from receiver import telemetry
from tests.system.deployment import Deployment, Service
from tests.system.judging import require_consistent
from tests.system.processes import until

#: Of these a quiet run has no value to show; what they need is tried elsewhere, or is a fault.
QUIET: Final = {
    "receiver_accounts_paused_total",
    "receiver_archive_slack_seconds",
    "receiver_submit_slack_seconds",
    "receiver_tasks_attention",
    "receiver_account_day_units_limit",
    "receiver_job_retries_total",
}
PLANTED: Final = {
    "a wrong key": "rk_plantedplantedplantedplanted",
    "a query": "planted-in-the-query-of-a-request",
    "a token": "planted-in-place-of-a-token",
}
UNREAD: Final = "SELECT count(*) FROM inbox WHERE outcome IS NULL"
REQUEST_ID: Final = "submitter-42.take_7"


@dataclass(frozen=True)
class Seen:
    """What the deployment showed while it ran, and wrote until it had stopped."""

    web: str
    worker: str
    answers: dict[str, httpx.Response]
    health: dict[str, subprocess.CompletedProcess[str]]
    lines: list[dict[str, Any]]
    text: str


def port_of_worker(log: Path) -> int | None:
    for line in log.read_text().rpartition("\n")[0].splitlines():
        said = json.loads(line)
        if said["event"] == "server.started" and said["role"] == "worker":
            return int(said["port"])
    return None


def metrics_of(port: int) -> str:
    return httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False, timeout=60).raise_for_status().text


def asked(service: Service) -> dict[str, httpx.Response]:
    """Make requests that carry what must not be written down."""
    client = service.client
    return {
        "named": client.get("/v1/tasks", headers={"x-request-id": REQUEST_ID}),
        "badly named": client.get("/v1/tasks", headers={"x-request-id": "no id; at all"}),
        "wrong key": client.get("/v1/tasks", headers={"authorization": f"Bearer {PLANTED['a wrong key']}"}),
        "query": client.get("/v1/tasks", params={"cursor": PLANTED["a query"]}),
        "token": client.post(f"/callbacks/studio/1/{PLANTED['a token']}", content=b"{}"),
        "capability": client.get(f"/a/1/{PLANTED['a token']}"),
        "nowhere": client.get(f"/nowhere/{PLANTED['a token']}"),
    }


def health(service: Service, port: int) -> dict[str, subprocess.CompletedProcess[str]]:
    """Ask as a container's own check does: both roles, and a port at which nobody is."""
    variables = {**os.environ, "RECEIVER_PORT": str(service.port)}
    found = {}
    for name, role, at in (("web", "web", port), ("worker", "worker", port), ("nobody", "worker", 1)):
        command = [sys.executable, "-m", "receiver", "health", role]
        found[name] = subprocess.run(
            command, env={**variables, "RECEIVER_WORKER_PORT": str(at)}, capture_output=True, text=True, check=False
        )
    return found


@pytest.fixture(scope="module")
def seen() -> Iterator[Seen]:
    place = Path(tempfile.mkdtemp(prefix="receiver-system-"))
    place.chmod(0o711)  # the database may run as another user
    deployment = Deployment(directory=place / "run")
    log = deployment.logs / "service-0.log"
    limit = {"RECEIVER_ACCOUNTS__STUDIO__DAILY_TASKS": "1000"}
    try:
        service = deployment.serve(more={"RECEIVER_LOG_FORMAT": "json", "RECEIVER_LOG_LEVEL": "debug", **limit})
        orders = service.submit(3)
        service.await_end(3)
        port = until(lambda: port_of_worker(log), what="the worker serves its metrics")
        # Polls may have told of all of them before.
        told = {"received": 9, "duplicates": 0}
        until(lambda: service.ledger()["callbacks"] == told, what="each callback is kept")
        until(lambda: deployment.rows(UNREAD) == [(0,)], what="each callback is read")
        # Signed callbacks told everything; this asks once more.
        service.client.post(f"/v1/tasks/{orders[0].id}/refresh").raise_for_status()
        until(lambda: "receiver_queries_total{" in metrics_of(port), what="the provider is asked")
        answers = asked(service)
        # The weather of a day is read once a minute, and the first scrape is this one.
        web = service.client.get("/metrics").raise_for_status().text
        worker = metrics_of(port)
        healths = health(service, port)
        require_consistent(deployment)
        service.stop()
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        yield Seen(web, worker, answers, healths, lines, "\n".join(text for _, text in deployment.written()))
        deployment.close()
    finally:
        deployment.discard()
        shutil.rmtree(place)


def names_in(text: str) -> set[str]:
    """Return the names of metrics that have a value, without the parts of a histogram."""
    families = text_string_to_metric_families(text)
    return {
        sample.name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum")
        for family in families
        for sample in family.samples
    }


@pytest.mark.parametrize("declared", telemetry.DECLARED, ids=lambda each: each.name)
def test_each_declared_metric_is_shown_by_its_process(seen: Seen, declared: telemetry.Declared) -> None:
    shown = {"web": names_in(seen.web), "worker": names_in(seen.worker)}
    roles = {"web", "worker"} if declared.role == "both" else {declared.role}
    if declared.name in QUIET:
        return
    assert any(declared.name in shown[role] for role in roles)
    if declared.role == "both" and declared.kind == "gauge":
        assert all(declared.name in shown[role] for role in roles)
    if declared.kind == "gauge" and declared.role == "web":
        assert declared.name not in shown["worker"]


def test_no_undeclared_metric_is_shown_and_labels_are_as_declared(seen: Seen) -> None:
    declared = {each.name: set(each.labels) for each in telemetry.DECLARED}
    for text in (seen.web, seen.worker):
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if not sample.name.startswith("receiver_"):
                    continue
                name = re.sub("_(bucket|count|sum)$", "", sample.name) if family.type == "histogram" else sample.name
                assert sample.labels.keys() - {"le"} == declared[name], name


def test_no_label_holds_an_id_or_a_url(seen: Seen) -> None:
    for text in (seen.web, seen.worker):
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                values = {value for label, value in sample.labels.items() if label not in {"le", "version", "python"}}
                assert not [value for value in values if re.search(r"\d{4}|://|\?", value)], sample


def test_names_and_helps_follow_the_rules_of_prometheus(seen: Seen) -> None:
    for each in telemetry.DECLARED:
        assert re.fullmatch(r"receiver_[a-z]+(_[a-z]+)*", each.name), each.name
        assert each.help
        assert not each.help.endswith(".")
        assert (each.kind == "counter") == each.name.endswith("_total")
        assert each.kind != "histogram" or each.name.endswith("_seconds")
        assert not re.search("_(milliseconds|ms|minutes|hours|mb|kb|gauge|counter|histogram)(_|$)", each.name)
    if (promtool := shutil.which("promtool")) is not None:
        for text in (seen.web, seen.worker):
            ours = "".join(
                line for line in text.splitlines(keepends=True) if " receiver_" in f" {line[:20]} {line[7:]}"
            )
            judged = subprocess.run(
                [promtool, "check", "metrics"], input=ours, capture_output=True, text=True, check=False
            )
            assert (judged.returncode, judged.stderr) == (0, "")


def test_the_work_is_counted_where_it_was_done(seen: Seen) -> None:
    values = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for text in (seen.web, seen.worker)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert values["receiver_tasks_accepted_total", "studio", "text-to-audio"] == 3
    assert values["receiver_tasks_ended_total", "archived", "studio"] == 3
    assert values["receiver_assets_total", "stored", "studio"] == 6
    assert values["receiver_asset_slack_seconds_count", "studio"] == 6
    assert values["receiver_account_slots_in_use", "studio"] == 0
    assert values["receiver_account_callbacks", "expected", "studio"] == 3
    assert values["receiver_workers",] == 1
    assert values["receiver_database_up",] == 1


def test_a_container_is_told_by_the_product_whether_it_is_well(seen: Seen) -> None:
    assert {name: done.returncode for name, done in seen.health.items()} == {"web": 0, "worker": 0, "nobody": 1}
    assert seen.health["web"].stdout == "web is ready\n"
    assert "worker does not answer at 127.0.0.1:1" in seen.health["nobody"].stderr


def test_an_answer_carries_the_id_of_its_lines(seen: Seen) -> None:
    assert seen.answers["named"].headers["x-request-id"] == REQUEST_ID
    assert re.fullmatch(r"[0-9a-f]{16}", seen.answers["badly named"].headers["x-request-id"])
    for name, answer in seen.answers.items():
        request_id = answer.headers["x-request-id"]
        last = [line for line in seen.lines if line.get("request_id") == request_id][-1]
        assert (last["status"], last["method"]) == (answer.status_code, answer.request.method), name
        assert last["duration_ms"] >= 0
        assert last["event"] == ("request.answered" if answer.is_success else "request.refused")
        if not answer.is_success:
            assert (last["request_id"], last["error"]) == (answer.json()["request_id"], answer.json()["code"])
    routes = {line["route"] for line in seen.lines if line["event"].startswith("request.")}
    assert {"/v1/tasks", "/callbacks/{account}/{task}/{token}", "unknown"} <= routes


def test_health_and_metrics_are_not_told(seen: Seen) -> None:
    told = {line["route"] for line in seen.lines if line["event"] == "request.answered"}
    assert told.isdisjoint({"/metrics", "/healthz", "/readyz"})


def test_every_line_of_a_job_names_what_it_is_about(seen: Seen) -> None:
    of_jobs = [line for line in seen.lines if "job_id" in line]
    assert {line["job_kind"] for line in of_jobs} >= {"submit", "advance", "archive"}
    for line in of_jobs:
        assert {"job_kind", "account", "worker"} <= line.keys(), line
        assert line.keys() & {"task_id", "callback_id"}, line
    for event in ("create.answered", "callback.advanced", "asset.stored", "task.archived"):
        found = [line for line in seen.lines if line["event"] == event]
        assert len(found) >= 3, event
        assert all("job_id" in line and "task_id" in line for line in found)


def test_nothing_that_was_planted_is_written(seen: Seen) -> None:
    for name, answer in seen.answers.items():
        assert answer.is_success == (name in {"named", "badly named"}), name
    assert [name for name, secret in PLANTED.items() if secret in seen.text] == []
    assert not re.search(r"[?&](?:ksSecret|X-Amz-Signature|cursor)=(?!\*)", seen.text)
