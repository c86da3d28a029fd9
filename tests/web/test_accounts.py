"""The accounts over HTTP."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from receiver.core.model import JobKind, Secret, State, TaskId
from receiver.core.tokens import key_id
from tests.flow.rig import ACCOUNT, API_KEY, WEBHOOK_SECRET, Rig, Stage, signed
from tests.flow.world import created, envelope
from tests.web.client import ORDER, play


def test_an_account_is_told_with_its_limits_and_what_today_has_cost(stage: Stage) -> None:
    async def story(rig: Rig, client: httpx.AsyncClient) -> None:
        task = await rig.submitted()
        rig.world.queries = [rig.world.report("failed", task, final_unit_deduction="1.25")]
        await rig.work(JobKind.QUERY)
        await client.post("/v1/tasks", json=ORDER)
        answer = await client.get("/v1/accounts")
        assert answer.status_code == 200
        today = datetime.now(UTC).date()
        days = [{"day": str(today - timedelta(days=back)), "tasks": 0, "units": "0"} for back in range(7)]
        days[0] |= {"tasks": 2, "units": "1.25"}
        standing = {
            "id": "studio",
            "dialect": "sandbox",
            "host": rig.world.url.removeprefix("http://"),
            "concurrency": 3,
            "in_flight": 0,
            "waiting": 0,
            "tasks_today": 2,
            "daily_tasks": 9,
            "units_today": "1.25",
            "daily_units": "40.5",
            "days": days,
            "signature_mode": "opportunistic",
            "webhook_secrets": [key_id(Secret(WEBHOOK_SECRET))],
            "callbacks": {
                **dict.fromkeys(("received", "repeated", "signed", "late"), 0),
                **dict.fromkeys(("last_received_at", "last_signed_at")),
                **dict.fromkeys(("expected", "lost"), 1),
            },
            "console_test": None,
            "paused": False,
            "paused_reason": None,
            "paused_detail": None,
            "paused_at": None,
            "probed_at": None,
        }
        assert answer.json() == {"accounts": [standing]}
        assert (await client.get("/v1/accounts/studio")).json() == standing
        assert API_KEY not in answer.text

    play(stage, story, concurrency=3, daily_tasks=9, daily_units="40.5")


def test_a_paused_account_takes_orders_and_sends_them_when_it_is_resumed(stage: Stage) -> None:
    async def story(rig: Rig, client: httpx.AsyncClient) -> None:
        answer = await client.post("/v1/accounts/studio/pause")
        assert (answer.status_code, answer.json()["paused"]) == (200, True)
        assert answer.json()["paused_reason"] == "paused_by_operator"
        assert answer.json()["paused_at"].endswith("Z")
        task = (await client.post("/v1/tasks", json=ORDER)).json()["id"]
        await rig.work(JobKind.SUBMIT)
        (standing,) = (await client.get("/v1/accounts")).json()["accounts"]
        assert (standing["waiting"], rig.world.seen) == (1, [])

        rig.world.creates = [created()]
        answer = await client.post("/v1/accounts/studio/resume")
        assert (answer.status_code, answer.json()["paused"], answer.json()["waiting"]) == (200, False, 0)
        await rig.work(JobKind.SUBMIT)
        assert (await client.get(f"/v1/tasks/{task}")).json()["state"] == State.SUBMITTED

    play(stage, story)


async def weather(client: httpx.AsyncClient) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get("/v1/accounts/studio")).json()["callbacks"]
    return found


def counts(told: dict[str, Any]) -> dict[str, int]:
    return {name: number for name, number in told.items() if isinstance(number, int) and number}


async def ends(rig: Rig, task: TaskId) -> None:
    """Let the provider fail *task*, and learn it by asking."""
    rig.world.queries = [rig.world.report("failed", task)]
    await rig.work(JobKind.QUERY)
    assert (await rig.state(task))[0] is State.FAILED


def test_the_weather_tells_callbacks_that_came_late_twice_or_never(stage: Stage) -> None:
    async def story(rig: Rig, client: httpx.AsyncClient) -> None:
        in_time = await rig.submitted()
        assert counts(await weather(client)) == {}
        body = rig.world.record("failed", in_time)
        await rig.told(in_time, body)
        for _ in range(3):
            assert not await rig.call_back(in_time, body)
        assert counts(await weather(client)) == {"received": 1, "repeated": 3, "signed": 1, "expected": 1}

        late = await rig.submitted()
        await rig.told(late, rig.world.record("processing", late))
        await ends(rig, late)
        assert counts(await weather(client)) == {"received": 2, "repeated": 3, "signed": 2, "expected": 2, "lost": 1}
        await rig.told(late, rig.world.record("failed", late, noise=1), sign="no")
        await rig.told(late, rig.world.record("failed", late, noise=2), sign="no")
        told = await weather(client)
        assert counts(told) == {"received": 4, "repeated": 3, "signed": 2, "expected": 2, "late": 1}
        assert told["last_signed_at"] < told["last_received_at"]

        hinted = await rig.submitted()
        await rig.told(hinted, rig.world.record("failed", hinted), sign="no")
        await ends(rig, hinted)
        misled = await rig.submitted()
        await rig.told(misled, rig.world.record("failed", hinted))
        await ends(rig, misled)
        assert counts(await weather(client)) == {
            "received": 6,
            "repeated": 3,
            "signed": 3,
            "expected": 4,
            "late": 1,
            "lost": 1,
        }

        await rig.sql("UPDATE inbox SET received_at = received_at - interval '25 hours'")
        await rig.sql("ALTER TABLE event DISABLE TRIGGER event_append_only")
        await rig.sql("UPDATE event SET at = at - interval '25 hours'")
        assert counts(await weather(client)) == {}

    play(stage, story, signature_mode="opportunistic")


def test_who_asked_for_no_callbacks_has_lost_none(stage: Stage) -> None:
    async def story(rig: Rig, client: httpx.AsyncClient) -> None:
        await ends(rig, await rig.submitted())
        assert counts(await weather(client)) == {}

    play(stage, story, settings={"public_url": None})


CONSOLE_BODY = json.dumps(
    {
        "id": "900000000000000099",
        "status": "submitted",
        "outputs": [],
        "message": "",
        "create_time": 1785901861504,
        "update_time": 1785901861504,
    },
    separators=(",", ":"),
).encode()


@pytest.mark.parametrize("mode", ["required", "opportunistic", "none"])
@pytest.mark.parametrize(
    ("sign", "verdict"), [("good", "good"), ("no", "absent"), ("bad", "bad"), ("stale", "stale"), ("odd", "stale")]
)
def test_a_consoles_test_callback_is_answered_by_the_mode_and_remembered(
    stage: Stage, mode: str, sign: str, verdict: str
) -> None:
    """The body is sample 6.7 of providers.md."""
    refused = mode != "none" and (sign == "bad" or (mode == "required" and sign == "no"))

    async def story(rig: Rig, client: httpx.AsyncClient) -> None:
        assert (await client.get("/v1/accounts/studio")).json()["console_test"] is None
        answer = await deliver_test(rig, client, sign)
        assert answer.status_code == (401 if refused else 200)
        test = (await client.get("/v1/accounts/studio")).json()["console_test"]
        age = datetime.now(UTC) - datetime.fromisoformat(test.pop("at"))
        assert timedelta(minutes=-1) < age < timedelta(minutes=1)
        matched = key_id(Secret(WEBHOOK_SECRET)) if verdict in {"good", "stale"} else None
        assert test == {"verified": verdict == "good", "verdict": verdict, "secret": matched}
        assert (await client.get("/v1/callbacks")).json()["callbacks"] == []
        assert await rig.sql("SELECT FROM job UNION ALL SELECT FROM event") == []

    play(stage, story, signature_mode=mode)


async def deliver_test(rig: Rig, client: httpx.AsyncClient, sign: str) -> httpx.Response:
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    headers = {name: value for name, value in zip(names, signed(CONSOLE_BODY, sign), strict=True) if value is not None}
    path = f"/callbacks/{ACCOUNT}/test/{rig.services.tokens.console_token(ACCOUNT)}"
    answer = await client.post(path, content=CONSOLE_BODY, headers=headers)
    wrong = await client.post(f"{path}x", content=CONSOLE_BODY, headers=headers)
    assert (wrong.status_code, wrong.json()["code"]) == (404, "token_unknown")
    return answer


def signature(secret: str, body: bytes, at: str) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.digest(key, b"msg_1." + at.encode() + b"." + body, hashlib.sha256)
    return f"v1,{base64.b64encode(mac).decode()}"


@pytest.mark.parametrize("mode", ["required", "opportunistic"])
def test_a_secret_is_rotated_without_losing_a_callback(stage: Stage, mode: str) -> None:
    """As providers.md 2.6 has it: for a while both sign, in one header; then the old one is removed."""
    old, new = WEBHOOK_SECRET, "whsec_" + base64.b64encode(b"n" * 32).decode()
    both = {"old": (old,), "both": (old, new), "both, the new one first": (new, old), "new": (new,)}

    async def story(rig: Rig, client: httpx.AsyncClient) -> None:
        async def taken(have: tuple[str, ...], signers: tuple[str, ...]) -> bool:
            deal = rig.services.deals[ACCOUNT]
            account = replace(deal.account, webhook_secrets=tuple(map(Secret, have)))
            rig.intake._services = replace(rig.services, deals={ACCOUNT: replace(deal, account=account)})
            body = json.dumps({"task_status": "submitted", "noise": str(time.monotonic_ns())}).encode()
            at = str(int(time.time()))
            headers = {"webhook-id": "msg_1", "webhook-timestamp": at}
            headers["webhook-signature"] = " ".join(signature(signer, body, at) for signer in signers)
            path = f"/callbacks/{ACCOUNT}/{task}/{rig.services.tokens.callback_token(ACCOUNT, task)}"
            answer = await client.post(path, content=body, headers=headers)
            assert answer.status_code in {200, 401}
            return answer.status_code == 200

        task = await rig.submitted()
        taken_with = {
            (name, signer): await taken(have, signers)
            for name, have in (("old", (old,)), ("both", (new, old)), ("new", (new,)))
            for signer, signers in both.items()
        }
        assert [pair for pair, good in taken_with.items() if not good] == [("old", "new"), ("new", "old")]
        told = (await client.get("/v1/callbacks")).json()["callbacks"]
        assert [each["trust"] for each in told] == ["signed"] * 10

    play(stage, story, signature_mode=mode)


def test_only_the_last_test_is_remembered_and_a_new_secret_is_known_by_its_name(stage: Stage) -> None:
    other = "whsec_" + "A" * 40

    async def story(rig: Rig, client: httpx.AsyncClient) -> None:
        for sign in ("good", "no"):
            await deliver_test(rig, client, sign)
        standing = (await client.get("/v1/accounts/studio")).json()
        assert standing["webhook_secrets"] == [key_id(Secret(other)), key_id(Secret(WEBHOOK_SECRET))]
        assert standing["console_test"]["verdict"] == "absent"
        await deliver_test(rig, client, "good")
        standing = (await client.get("/v1/accounts/studio")).json()
        assert standing["console_test"]["secret"] == key_id(Secret(WEBHOOK_SECRET))

    play(stage, story, webhook_secrets=(other, WEBHOOK_SECRET))


def test_why_an_account_was_paused_is_told(stage: Stage) -> None:
    async def story(rig: Rig, client: httpx.AsyncClient) -> None:
        rig.world.creates = [envelope(1102, "no money", status=429)]
        await client.post("/v1/tasks", json=ORDER)
        await rig.work(JobKind.SUBMIT)
        (standing,) = (await client.get("/v1/accounts")).json()["accounts"]
        assert (standing["paused_reason"], standing["paused_detail"]) == ("account_refused", "1102: no money")

    play(stage, story)


@pytest.mark.parametrize("act", ["pause", "resume"])
@pytest.mark.parametrize("name", ["nobody", "STUDIO", "%00", "studio%20", "%2e%2e"])
def test_an_account_that_is_not_configured_is_404(stage: Stage, act: str, name: str) -> None:
    async def story(_: Rig, client: httpx.AsyncClient) -> None:
        for answer in (await client.post(f"/v1/accounts/{name}/{act}"), await client.get(f"/v1/accounts/{name}")):
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")

    play(stage, story)
