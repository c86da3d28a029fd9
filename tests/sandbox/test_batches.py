import time
import uuid
from typing import Any

import pytest

from tests.sandbox.rig import Sandbox
from tests.sandbox.shopping import NEW_TALKIE, SHOPS, Bought, buy

LEGACY, NEW = (shop for shop in SHOPS if shop.house == "kling-text2video")
PATH = "/kling-text2video/tasks"


def listed(sandbox: Sandbox, **wanted: Any) -> dict[str, Any]:
    data: dict[str, Any] = sandbox.client.post(PATH, json=wanted).raise_for_status().json()["data"]
    return data


@pytest.fixture(scope="module")
def bought(shared: Sandbox) -> list[Bought]:
    tasks = [buy(shared, shop) for shop in (LEGACY, NEW, NEW)]
    for task in tasks:
        task.ended()
    return tasks


def test_tasks_are_told_by_either_id_and_unknown_ones_left_out(shared: Sandbox, bought: list[Bought]) -> None:
    for name, ids in (
        ("task_ids", [task.id for task in bought]),
        ("external_task_ids", [task.external for task in bought]),
    ):
        data = shared.client.get(PATH, params={name: ",".join([*ids, "nobody"])}).json()["data"]
        assert [task["id"] for task in data] == [task.id for task in bought]
        assert [task["status"] for task in data] == ["succeeded"] * 3
        assert [task["external_id"] for task in data] == [task.external for task in bought]
        assert {output["type"] for task in data for output in task["outputs"]} == {"video"}


@pytest.mark.parametrize(
    "query",
    ["", "task_ids=", "task_ids=1&external_task_ids=2", "task_ids=1,,2", "ids=1", "task_ids=" + "1," * 20 + "1"],
)
def test_a_wrong_question_is_refused(shared: Sandbox, query: str) -> None:
    answer = shared.client.get(f"{PATH}?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, 1201)


def test_all_are_listed_by_pages_newest_first(shared: Sandbox, bought: list[Bought]) -> None:
    cursor, found = "", []
    while True:
        page = listed(shared, limit=1, cursor=cursor)
        assert page["count"] == len(page["result"]) == 1
        found += [task["id"] for task in page["result"]]
        cursor = page["next_cursor"]
        if not page["has_more"]:
            break
    assert not cursor
    assert [one for one in found if one in {task.id for task in bought}] == [task.id for task in bought][::-1]


def test_a_list_is_filtered_by_time_status_and_product(shared: Sandbox, bought: list[Bought]) -> None:
    def ids(**wanted: Any) -> set[str]:
        return {task["id"] for task in listed(shared, limit=500, **wanted)["result"]}

    mine = {task.id for task in bought}
    assert mine <= ids(filters=[{"key": "status", "values": ["succeeded"]}])
    assert not mine & ids(filters=[{"key": "status", "values": ["failed", "processing"]}])
    assert not ids(filters=[{"key": "product_type", "values": ["image"]}])
    assert not mine & ids(end_time=str(int(time.time() - 3600) * 1000))


@pytest.mark.parametrize(
    "wanted",
    [
        {"limit": 0},
        {"limit": 501},
        {"start_time": 5},
        {"start_time": "5", "end_time": "5"},
        {"cursor": "x"},
        {"filters": {}},
        {"filters": [{"key": "name", "values": []}]},
        {"filters": [{"key": "status", "values": ["succeed"]}]},
        {"page": 1},
    ],
)
def test_a_wrong_list_is_refused(shared: Sandbox, wanted: dict[str, Any]) -> None:
    answer = shared.client.post(PATH, json=wanted)
    assert (answer.status_code, answer.json()["code"]) == (400, 1201)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"audio": "native"}, "1080p"),
        ({"audio": "on"}, "settings.audio"),
        ({"duration": "5"}, "settings.duration"),
        ({"duration": 7}, "settings.duration"),
        ({"sound": "on"}, "settings.sound"),
    ],
)
def test_wrong_settings_are_refused_by_name(shared: Sandbox, settings: dict[str, Any], named: str) -> None:
    answer = shared.client.post(f"/{NEW.house}{NEW.path}", json=NEW_TALKIE | {"settings": settings})
    assert (answer.status_code, answer.json()["code"]) == (400, 1201)
    assert named in answer.json()["message"]


def test_legacy_places_of_the_hooks_are_refused(shared: Sandbox) -> None:
    for name in ("external_task_id", "callback_url"):
        answer = shared.client.post(f"/{NEW.house}{NEW.path}", json=NEW_TALKIE | {name: str(uuid.uuid4())})
        assert answer.json()["code"] == 1201
