from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from typing import Any, Final

from receiver import telemetry
from tests.deploy.deployed_files import DEPLOY, exported, load, misnamed, series_of

BOARD: Final[dict[str, Any]] = json.loads((DEPLOY / "grafana" / "receiver.json").read_text("utf-8"))
EXPRESSIONS: Final = [target["expr"] for panel in BOARD["panels"] for target in panel.get("targets", ())]


def test_the_board_is_one_that_grafana_reads() -> None:
    place = DEPLOY / "grafana"
    command = [sys.executable, "-m", "check_jsonschema", "--schemafile", place / "dashboard.schema.json"]
    judged = subprocess.run(
        [*map(str, command), str(place / "receiver.json")], capture_output=True, text=True, check=False
    )
    assert judged.returncode == 0, judged.stdout


def test_panels_have_their_own_id_and_place() -> None:
    assert max(Counter(panel["id"] for panel in BOARD["panels"]).values()) == 1
    cells: Counter[tuple[int, int]] = Counter()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells.update(
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        )
    assert set(cells.values()) == {1}


def test_the_board_names_only_what_processes_show() -> None:
    assert EXPRESSIONS
    assert [wrong for expression in EXPRESSIONS for wrong in misnamed(expression)] == []
    (accounts,) = [each for each in BOARD["templating"]["list"] if each["type"] == "query"]
    assert accounts["definition"] == "label_values(receiver_account_slots, account)"
    assert "account" in exported()["receiver_account_slots"]


def test_every_metric_is_on_the_board_or_in_an_alert() -> None:
    rules = [rule["expr"] for group in load("prometheus/receiver.rules.yml")["groups"] for rule in group["rules"]]
    used = {name for expression in (*EXPRESSIONS, *rules) for name, _ in series_of(expression)}
    unused = [
        each.name
        for each in telemetry.DECLARED
        if not used & {each.name, *(f"{each.name}_{part}" for part in ("bucket", "sum", "count"))}
    ]
    assert unused == []
