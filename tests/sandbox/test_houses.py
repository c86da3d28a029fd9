import json
import subprocess
import sys
import uuid
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import httpx
import pytest

from receiver.sandbox.houses import HOUSES
from tests.sandbox.rig import KEY, Inbox, Sandbox, token, wait_for
from tests.sandbox.shopping import SHOPS, SOUND, Shop, body, buy, links, order

ALL = pytest.mark.parametrize("shop", SHOPS, ids=str)


def shop_of(name: str) -> Shop:
    return next(shop for shop in SHOPS if str(shop) == name)


KLING = shop_of("kling/v1/audio/text-to-audio")
COMET = shop_of("cometapi/kling/v1/audio/text-to-audio")
KKIAI = shop_of("kkiai/kling/v1/audio/text-to-audio")
NEW_API = shop_of("new-api/kling/v1/audio/text-to-audio")


def test_every_house_and_every_path_has_its_shop() -> None:
    served = {f"{house.name}{path}" for house in HOUSES.values() for path in house.paths}
    # The gateway passes on what its neighbour is tried with.
    assert served - {str(shop) for shop in SHOPS} == {"new-api/kling/v1/audio/video-to-audio"}


@ALL
def test_a_task_ends_with_its_media_and_one_charge(shared: Sandbox, shop: Shop) -> None:
    bought = buy(shared, shop)
    told = bought.ended()
    assert told.get("task_status", told.get("status")) == shop.done
    found = links(told)
    assert tuple(sorted(found)) == shop.formats
    entry = bought.entry()
    assert (entry["house"], entry["external_task_id"], entry["creates"]) == (shop.house, bought.external, 1)
    assert float(entry["charged"]) > 0
    for file in entry["audios"] + entry["videos"]:
        content = httpx.get(found[file["format"]], trust_env=False).content
        assert (len(content), sha256(content).hexdigest()) == (file["bytes"], file["sha256"])


@ALL
def test_only_the_houses_key_opens(shared: Sandbox, shop: Shop) -> None:
    for header in ({}, {"authorization": f"Bearer {KEY}x"}):
        answer = httpx.post(f"{shared.url}/{shop.house}{shop.path}", json=shop.body, headers=header, trust_env=False)
        assert answer.status_code == 401
        assert answer.json()


@ALL
def test_a_field_that_no_document_names_is_refused(shared: Sandbox, shop: Shop) -> None:
    answer = order(shared, shop, body(shop, None, streaming=True))
    assert (answer.status_code, answer.json()["code"] in {1201, "invalid_request"}) == (400, True)
    assert "streaming" in answer.json()["message"]


@ALL
def test_an_unknown_task_is_not_found(shared: Sandbox, shop: Shop) -> None:
    answer = buy(shared, shop).ask("nobody")
    if shop.batch:
        assert (answer.status_code, answer.json()["data"]) == (200, [])
    else:
        code = "task_not_exist" if shop.house == "new-api" else 1201
        assert (answer.status_code, answer.json()["code"]) == (400, code)


@ALL
def test_a_repeated_external_id_is_charged_again_unless_the_house_enforces_it(shared: Sandbox, shop: Shop) -> None:
    external = str(uuid.uuid4())
    first = buy(shared, shop, external=external)
    again = order(shared, shop, body(shop, external))
    enforced = HOUSES[shop.house].external_ids == "enforced"
    assert again.status_code == (400 if enforced else 200)

    def charged() -> list[str] | None:
        tasks = [task for task in shared.ledger()["tasks"] if task["external_task_id"] == external]
        return [task["task_id"] for task in tasks] if all(task["charged"] != "0" for task in tasks) else None

    assert len(wait_for(charged)) == (1 if enforced else 2)
    if not shop.batch:
        found = first.ask(external)
        assert found.status_code == (400 if HOUSES[shop.house].external_ids == "ignored" else 200)


def test_the_ids_are_those_of_each_house(shared: Sandbox) -> None:
    prefixed, gateways = buy(shared, KKIAI), buy(shared, NEW_API)
    assert prefixed.id == f"kling-v1{prefixed.entry()['kling_task_id']}"
    assert prefixed.ask(prefixed.entry()["kling_task_id"]).status_code == 400
    assert gateways.id.startswith("task_")
    assert gateways.ended()["data"]["data"]["task_id"] == gateways.entry()["kling_task_id"]


def test_the_replies_to_a_create_are_those_of_each_house(shared: Sandbox) -> None:
    assert set(buy(shared, COMET).reply) == {"code", "message", "data"}
    assert buy(shared, COMET).reply["data"]["task_info"] == {}
    kkiai = buy(shared, KKIAI).reply
    assert set(kkiai) == {"code", "data"}
    assert set(kkiai["data"]) == {"task_id", "task_status"}
    video = buy(shared, NEW_API).reply
    assert (video["object"], video["status"], video["id"]) == ("video", "queued", video["task_id"])
    assert video["created_at"] < 10**11
    new = buy(shared, shop_of("kling-text2video/text-to-video/kling-2.6"))
    assert set(new.reply["data"]) == {"id", "status", "create_time", "update_time", "external_id"}
    shop = buy(shared, shop_of("soundshop/api/kling/text-to-audio")).reply
    assert (shop["code"], shop["data"]["task_status"]) == (200, "queued")


def test_a_gateway_wraps_klings_answer(shared: Sandbox) -> None:
    bought = buy(shared, NEW_API)
    told = bought.ended()
    assert bought.ask().json()["code"] == "success"
    assert (told["status"], told["progress"], told["fail_reason"]) == ("SUCCESS", "100%", "")
    assert told["submit_time"] <= told["finish_time"] < 10**11
    inner = told["data"]
    assert (inner["code"], inner["data"]["task_status"], inner["data"]["task_info"]) == (0, "succeed", {})


def test_durations_are_taken_as_each_house_documents_them(shared: Sandbox) -> None:
    taken = {
        shop.house: [
            value
            for value in (5, 5.0, 5.5, "5.0")
            if order(shared, shop, body(shop, None, duration=value)).status_code == 200
        ]
        for shop in (KLING, COMET, KKIAI)
    }
    assert taken == {"kling": [5, 5.0, 5.5], "cometapi": [5, 5.0], "kkiai": [5, 5.0, 5.5, "5.0"]}


def test_a_jwt_opens_no_reseller(shared: Sandbox) -> None:
    headers = {"authorization": f"Bearer {token()}"}
    statuses = [
        httpx.post(f"{shared.url}/{shop.house}{shop.path}", json=shop.body, headers=headers, trust_env=False)
        for shop in (KLING, COMET, shop_of("kling-text2video/text-to-video/kling-2.6"))
    ]
    assert [answer.status_code for answer in statuses] == [200, 401, 401]


def test_resellers_have_no_list_and_say_so_in_their_way(shared: Sandbox) -> None:
    answers = {shop.house: shared.client.get(f"/{shop.house}{shop.path}") for shop in (KLING, COMET, KKIAI, NEW_API)}
    assert {house: answer.status_code for house, answer in answers.items()} == {
        "kling": 200,
        "cometapi": 404,
        "kkiai": 404,
        "new-api": 404,
    }
    assert answers["cometapi"].headers["content-type"].startswith("text/html")
    assert answers["kkiai"].json() == {"code": 1202, "message": "Method is invalid"}
    assert answers["new-api"].json()["error"]["message"]


def test_kling_is_one_house_with_two_doors(shared: Sandbox) -> None:
    bought = buy(shared, KLING)
    assert shared.get(bought.external)["task_id"] == bought.id
    assert shared.create(external_task_id=bought.external).status_code == 400


#: Of the callbacks of success: the id that is told, whether media are, and what is told before.
CALLBACKS = {
    "kling/v1/audio/text-to-audio": ("kling_task_id", True, 2),
    "cometapi/kling/v1/audio/text-to-audio": ("kling_task_id", True, 2),
    "deerapi/kling/v1/audio/video-to-audio": ("kling_task_id", True, 2),
    "kkiai/kling/v1/audio/text-to-audio": ("kling_task_id", False, 2),
    "kling-videos/v1/videos/video-to-audio": ("kling_task_id", True, 2),
    "kling-text2video/v1/videos/text2video": ("kling_task_id", True, 2),
    "kling-text2video/text-to-video/kling-2.6": ("kling_task_id", True, 2),
    "new-api/kling/v1/audio/text-to-audio": ("task_id", True, 0),
    "soundshop/api/kling/text-to-audio": ("kling_task_id", True, 0),
}


@pytest.mark.parametrize("name", CALLBACKS)
def test_callbacks_are_those_of_each_house(shared: Sandbox, inbox: Inbox, name: str) -> None:
    shop = shop_of(name)
    bought = buy(shared, shop, inbox.url)
    outcomes = [one["outcome"] for one in bought.told()]
    told_id, media, before = CALLBACKS[name]
    assert outcomes == ["200"] * (before + 1)
    bodies = [json.loads(arrival.body) for arrival in inbox.arrivals]
    last = bodies[-1]
    assert last.get("task_id", last.get("id")) == bought.entry()[told_id]
    assert last.get("task_status", last.get("status")) == ("succeed" if shop.done == "succeed" else shop.done)
    assert (tuple(sorted(links(last))) == shop.formats) == media
    assert ("task_info" in last) == (shop.house in {"kling", "kling-videos"} or name.endswith("/v1/videos/text2video"))


def test_a_forwarded_callback_has_lost_its_audios_and_its_headers(shared: Sandbox, inbox: Inbox) -> None:
    buy(shared, KKIAI, inbox.url).told()
    last = inbox.arrivals[-1]
    assert set(json.loads(last.body)) == {
        "task_id",
        "task_status",
        "created_at",
        "updated_at",
        "task_result",
        "final_unit_deduction",
    }
    assert json.loads(last.body)["task_result"] == {"videos": None}
    assert last.headers["user-agent"] == "OneAPI-Kling-Callback/1.0"
    assert "webhook-signature" not in last.headers


def test_a_resellers_signature_is_nobody_elses(shared: Sandbox, inbox: Inbox) -> None:
    signed = {}
    for name in ("cometapi", "deerapi", "kling-videos"):
        inbox.arrivals.clear()
        buy(shared, next(shop for shop in SHOPS if shop.house == name), inbox.url).told()
        signed[name] = ["webhook-signature" in arrival.headers for arrival in inbox.arrivals]
    assert signed == {"cometapi": [True] * 3, "deerapi": [False] * 3, "kling-videos": [True] * 3}


PROMPTED = [shop for shop in SHOPS if HOUSES[shop.house].paths[shop.path] not in HOUSES[shop.house].fields]


@pytest.mark.parametrize("shop", PROMPTED, ids=str)
def test_a_failure_is_told_with_its_reason_and_costs_nothing(shared: Sandbox, inbox: Inbox, shop: Shop) -> None:
    name = "sound_effect_prompt" if "/audio/video-to-audio" in shop.path else "prompt"
    bought = buy(shared, shop, inbox.url, **{name: "thunder [fail]"})
    assert bought.told()[-1]["outcome"] == "200"
    told = bought.record()
    assert "risk control" in {told.get("task_status_msg"), told.get("message"), told.get("fail_reason")}
    assert b"risk control" in inbox.arrivals[-1].body
    assert bought.entry()["charged"] == "0"


def test_each_house_has_an_account_of_its_own(start: Callable[..., Sandbox]) -> None:
    sandbox = start("--run-seconds", "600", "--concurrency", "1", "--keys", "cometapi=comet", "--keys", "kkiai=kk")
    assert order(sandbox, KLING, SOUND).status_code == 200
    assert order(sandbox, KLING, SOUND).json()["code"] == 1303
    assert order(sandbox, COMET, SOUND).status_code == 401
    own = {"authorization": "Bearer comet"}
    statuses = [
        httpx.post(f"{sandbox.url}/cometapi{COMET.path}", json=SOUND, headers=own, trust_env=False) for _ in range(2)
    ]
    assert [answer.status_code for answer in statuses] == [200, 429]
    ledger = sandbox.ledger()
    assert {name: house["tasks"] for name, house in ledger["houses"].items()} == {"kling": 1, "cometapi": 1}
    one = sandbox.client.get("/control/ledger?house=cometapi").json()
    assert [task["house"] for task in one["tasks"]] == ["cometapi"]
    assert one["requests"]["create"] == 3
    assert [unmade["house"] for unmade in one["unmade"]] == ["cometapi"]


def test_faults_concern_the_house_that_is_named(start: Callable[..., Sandbox], inbox: Inbox) -> None:
    sandbox = start("--run-seconds", "0.1", "--concurrency", "0")
    sandbox.control("faults?house=deerapi", lose=1)
    sandbox.control("down", house="kkiai")
    sandbox.control("account", house="new-api", code=1101)
    deer = shop_of("deerapi/kling/v1/audio/text-to-audio")
    assert [one["outcome"] for one in buy(sandbox, deer, inbox.url).told()] == ["lost"] * 3
    assert [one["outcome"] for one in buy(sandbox, COMET, inbox.url).told()] == ["200"] * 3
    assert order(sandbox, KKIAI, SOUND).status_code == 503
    answer = order(sandbox, NEW_API, SOUND)
    assert (answer.status_code, answer.json()["code"]) == (429, "fail_to_fetch_task")
    assert json.loads(answer.json()["message"])["code"] == 1101
    assert sandbox.client.get("/control/faults?house=deerapi").json()["lose"] == 1
    assert sandbox.client.get("/control/faults").json()["lose"] == 0


def test_an_unsure_create_of_a_house_without_enforced_ids_is_charged_for_each_repeat(
    start: Callable[..., Sandbox],
) -> None:
    sandbox = start("--run-seconds", "0.1", "--concurrency", "0")
    sandbox.control("answers", house="cometapi", on="create_reply", status=502, body="<html>", times=2)
    sent = body(COMET, "unsure")
    assert [order(sandbox, COMET, sent).status_code for _ in range(3)] == [502, 502, 200]
    wait_for(lambda: sandbox.ledger()["charges"] == 3)


def test_a_wrong_house_or_key_of_a_house_ends_the_program(tmp_path_factory: pytest.TempPathFactory) -> None:
    state = str(tmp_path_factory.getbasetemp() / "unused")
    command = [sys.executable, "-m", "receiver.sandbox", "--state-dir", state, "--api-key", KEY, "--keys"]
    for given, said in (("nobody=k", "no such house"), ("kkiai=", "empty"), ("kkiai", "HOUSE=KEY")):
        done = subprocess.run([*command, given], capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == 2
        assert said in done.stderr


def test_shared_clips_are_made_once(start: Callable[..., Sandbox]) -> None:
    sandbox = start("--run-seconds", "0.1", "--concurrency", "0", "--clips", "2")
    bought = [buy(sandbox, KLING) for _ in range(6)]
    ended = [one.ended() for one in bought]
    files: list[Any] = [one.entry()["audios"][0] for one in bought]
    assert len({file["sha256"] for file in files}) == 2
    assert len({file["id"] for file in files}) == 6
    content = httpx.get(links(ended[0])["mp3"], trust_env=False).content
    assert sha256(content).hexdigest() == files[0]["sha256"]


def test_the_control_names_the_houses(shared: Sandbox) -> None:
    told = shared.client.get("/control/houses").json()
    assert told.keys() == HOUSES.keys()
    assert told["new-api"]["external_ids"] == "ignored"
    assert shared.client.get("/control/ledger?house=nobody").status_code == 400
