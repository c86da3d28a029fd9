"""The accounts over HTTP."""

from __future__ import annotations

import httpx
import pytest

from receiver.core.model import JobKind, State
from tests.flow.rig import API_KEY, Rig, Stage
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
        assert answer.json() == {
            "accounts": [
                {
                    "id": "studio",
                    "dialect": "sandbox",
                    "concurrency": 3,
                    "in_flight": 0,
                    "waiting": 0,
                    "tasks_today": 2,
                    "daily_tasks": 9,
                    "units_today": "1.25",
                    "daily_units": "40.5",
                    "signature_mode": "opportunistic",
                    "paused": False,
                    "paused_reason": None,
                    "paused_detail": None,
                    "paused_at": None,
                }
            ]
        }
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
        answer = await client.post(f"/v1/accounts/{name}/{act}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")

    play(stage, story)
