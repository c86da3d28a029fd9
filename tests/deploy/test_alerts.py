from __future__ import annotations

import re
from typing import Any, Final

import pytest

from tests.deploy.deployed_files import DEPLOY, ROOT, load, misnamed, series_of

RULES: Final[list[dict[str, Any]]] = [
    rule for group in load("prometheus/receiver.rules.yml")["groups"] for rule in group["rules"]
]
TESTS: Final[list[dict[str, Any]]] = load("prometheus/receiver.rules.test.yml")["tests"]
RUNBOOK: Final = (ROOT / "docs" / "operating.md").read_text("utf-8")


def words(alert: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", alert).lower()


def anchors() -> set[str]:
    alerts = RUNBOOK.partition("\n## Alerts\n")[2]
    return {title.lower().replace(" ", "-") for title in re.findall(r"^### (.+)$", alerts, re.MULTILINE)}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_is_wrong_and_where_the_cure_is_written(rule: dict[str, Any]) -> None:
    anchor = words(rule["alert"]).replace(" ", "-")
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"].keys() == {"summary", "runbook"}
    assert rule["annotations"]["runbook"] == f"docs/operating.md#{anchor}"
    assert anchor in anchors()
    assert f"`{rule['alert']}`: " in RUNBOOK


def test_each_section_is_about_an_alert() -> None:
    assert anchors() == {words(rule["alert"]).replace(" ", "-") for rule in RULES}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_names_only_what_processes_show(rule: dict[str, Any]) -> None:
    assert list(series_of(rule["expr"]))
    assert misnamed(rule["expr"]) == []


def test_each_alert_is_seen_to_fire_and_to_stay_silent() -> None:
    fired: set[str] = set()
    silent: set[str] = set()
    for each in TESTS:
        for series in each["input_series"]:
            assert misnamed(series["series"]) == []
        for tried in each["alert_rule_test"]:
            (fired if tried["exp_alerts"] else silent).add(tried["alertname"])
    assert fired == silent == {rule["alert"] for rule in RULES}


def test_each_process_of_the_containers_is_scraped() -> None:
    jobs = load("prometheus/prometheus.yml")["scrape_configs"]
    targets = {name: each["static_configs"][0]["targets"] for each in jobs for name in [each["job_name"]]}
    services = load("compose.yaml")["services"]
    for role, port in (("web", 8080), ("worker", 8081)):
        assert targets[f"receiver-{role}"] == [f"{name}:{port}" for name in services if name.startswith(f"{role}-")]
    assert (DEPLOY / "prometheus" / "receiver.rules.yml").name in load("prometheus/prometheus.yml")["rule_files"]
