import base64
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Callable

import httpx
import pytest

from receiver.sandbox.config import webhook_key
from receiver.sandbox.courier import sign
from tests.sandbox.rig import WEBHOOK_SECRET, Inbox, Sandbox, wait_for

LIFE = ["submitted", "processing", "succeed"]


def test_the_vendors_vector_is_signed_alike() -> None:
    body = (
        b'{"id":"1234567890","status":"succeeded","message":"","create_time":1781080778802,"update_time":1781080794151}'
    )
    made = sign(webhook_key(WEBHOOK_SECRET), "9876543210", "1781080794", body)
    assert made == "v1,UsKlJP00XoQyOn410NM9xv34sP+Gl0jnOO9Lcpr7NJ4="


def test_each_status_change_is_told_in_order(shared: Sandbox, inbox: Inbox) -> None:
    external = str(uuid.uuid4())
    task_id = shared.make(external_task_id=external, callback_url=inbox.url)
    callbacks = shared.told(task_id, 3)
    assert [(one["status"], one["outcome"]) for one in callbacks] == [(status, "200") for status in LIFE]
    assert inbox.statuses() == LIFE
    for arrival in inbox.arrivals:
        told = json.loads(arrival.body)
        assert (told["task_id"], told["task_info"]) == (task_id, {"external_task_id": external})
        assert arrival.headers["content-type"] == "application/json; charset=utf-8"
        assert arrival.body == json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()
    last = json.loads(inbox.arrivals[-1].body)
    assert last["final_unit_deduction"] == "0.25"
    assert last["updated_at"] == shared.get(task_id)["updated_at"]
    (audio,) = last["task_result"]["audios"]
    assert httpx.get(audio["url_mp3"], trust_env=False).status_code == 200


def test_callbacks_carry_a_good_signature(shared: Sandbox, inbox: Inbox) -> None:
    shared.told(shared.make(callback_url=inbox.url), 3)
    key = base64.b64decode(WEBHOOK_SECRET.removeprefix("whsec_"))
    for arrival in inbox.arrivals:
        name, stamp = arrival.headers["webhook-id"], arrival.headers["webhook-timestamp"]
        mac = hmac.digest(key, f"{name}.{stamp}.".encode() + arrival.body, hashlib.sha256)
        assert arrival.headers["webhook-signature"] == f"v1,{base64.b64encode(mac).decode()}"
        assert abs(int(stamp) - time.time()) < 60
    assert len({arrival.headers["webhook-id"] for arrival in inbox.arrivals}) == 3


def test_without_a_secret_nothing_is_signed(start: Callable[..., Sandbox], inbox: Inbox) -> None:
    sandbox = start("--run-seconds", "0.1")
    sandbox.told(sandbox.make(callback_url=inbox.url), 3)
    assert not [name for arrival in inbox.arrivals for name in arrival.headers if name.startswith("webhook-")]


def test_a_failure_is_told_with_its_reason(shared: Sandbox, inbox: Inbox) -> None:
    shared.told(shared.make(prompt="[fail]", callback_url=inbox.url), 3)
    last = json.loads(inbox.arrivals[-1].body)
    assert inbox.statuses() == ["submitted", "processing", "failed"]
    assert (last["task_status_msg"], last["task_result"]) == ("risk control", {})
    assert "final_unit_deduction" not in last
    assert [json.loads(arrival.body)["task_status_msg"] for arrival in inbox.arrivals[:2]] == ["", ""]


@pytest.mark.parametrize("status", [302, 404, 500])
def test_a_refused_callback_is_not_sent_again(shared: Sandbox, inbox: Inbox, status: int) -> None:
    inbox.status = status
    callbacks = shared.told(shared.make(callback_url=inbox.url), 3)
    assert [one["outcome"] for one in callbacks] == [str(status)] * 3
    assert inbox.statuses() == LIFE


def test_nobody_listening_is_recorded(shared: Sandbox) -> None:
    callbacks = shared.told(shared.make(callback_url="http://127.0.0.1:9/x"), 3)
    assert [one["outcome"] for one in callbacks] == ["ConnectError"] * 3


def test_a_slow_receiver_holds_up_its_own_task_only(shared: Sandbox, inbox: Inbox) -> None:
    inbox.answering.clear()
    slow = shared.make(callback_url=inbox.url)
    wait_for(lambda: inbox.arrivals)
    assert shared.ended(slow)["task_status"] == "succeed"
    quick = shared.make(callback_url="http://127.0.0.1:9/x")
    shared.told(quick, 3)
    assert shared.entry(slow)["callbacks"][-1]["outcome"] is None
    assert shared.told(slow, 1)[0]["outcome"] == "timeout"
    inbox.answering.set()
    # The second may have waited so long, too.
    assert [one["outcome"] for one in shared.told(slow, 3)] in (["timeout", each, "200"] for each in ("200", "timeout"))
    assert inbox.statuses() == LIFE


def test_a_task_without_a_url_has_no_callbacks(shared: Sandbox) -> None:
    task_id = shared.make()
    shared.ended(task_id)
    assert shared.entry(task_id)["callbacks"] == []
