"""
Every documented answer of every documented operation, from the running service over its socket.

`ROWS` has one driver for each answer, by the operation's name and by the status
of a good answer or the code of a problem. What follows from a key, a body, a
query or an unknown id alone is driven by `COMMON`, for all operations alike.
An answer without a driver fails, and so does a driver of what is not documented.
The drivers of one operation share a database, by status, and no operation another's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import httpx
import pytest
from starlette.applications import Starlette

from receiver.core.model import AssetId, CreateId, JobKind, State, TaskId
from receiver.store.db import Database
from receiver.transfer.bucket import Bucket
from receiver.web import batch
from receiver.web.app import build_app
from receiver.web.openapi import document
from receiver.web.server import serve
from receiver.wiring import bucket_config
from tests.flow.rig import ACCOUNT, OWNER, Rig, Stage, signed
from tests.flow.world import created, envelope
from tests.transfer.servers import RawHost
from tests.web.described import answers, judge, operations
from tests.web.door import BODY, SECRET, Door, add_key

OPERATIONS: Final = {operation["operationId"]: (method, path) for method, path, operation in operations(document())}
DESCRIBED: Final = {operation["operationId"]: operation for _, _, operation in operations(document())}
#: A path parameter for which there is nothing, and which is well formed.
NOTHING: Final = {"task": "1", "asset": "1", "callback": "1", "account": "nobody", "token": "nothing"}


@dataclass(kw_only=True)
class Scene(Door):
    """A door on a real socket."""

    stage: Stage
    app: Starlette

    async def ask(self, name: str, **options: Any) -> httpx.Response:
        """Call an operation by its name; path parameters are keywords of their own."""
        method, path = OPERATIONS[name]
        for parameter, nothing in NOTHING.items():
            path = path.replace(f"{{{parameter}}}", str(options.pop(parameter, nothing)))
        return await self.client.request(method, path, **options)

    def with_bucket(self, **changes: Any) -> Bucket:
        """Let the service use the bucket otherwise from now on; the caller closes it."""
        config = bucket_config(self.stage.settings(self.rig.world.url))
        bucket = Bucket(replace(config, **changes))
        self.app.state.services = replace(self.rig.services, bucket=bucket)
        return bucket


Driver = Callable[[Scene], Awaitable[httpx.Response]]


async def submitted(scene: Scene) -> TaskId:
    """Return a task that the provider has made, under an id that no other task has."""
    number = scene.made["number"] = scene.made.get("number", "") + "1"
    scene.rig.world.creates = [created(f"own-{number}")]
    task = await scene.rig.submitted()
    scene.rig.world.creates = []
    return task


async def archived(scene: Scene) -> str:
    """Return the id of an asset that is in the bucket, the same one each time."""
    if "asset" not in scene.made:
        task = await scene.rig.succeeded()
        await scene.rig.work(JobKind.ARCHIVE)
        scene.made["asset"] = str((await scene.rig.assets(task))[0].id)
    return scene.made["asset"]


async def retry_what_was_rejected(scene: Scene) -> httpx.Response:
    """Leave another one for the next row: once one is retried, its job stands before all later ones."""
    scene.made["rejected"] = str(await rejected(scene))
    return await scene.ask("tasks_retry", task=await rejected(scene))


async def retry_what_may_be_charged_twice(scene: Scene) -> httpx.Response:
    scene.rig.with_profile(create_id=CreateId.NONE)
    scene.app.state.services = scene.rig.services
    answer = await scene.ask("tasks_retry", task=scene.made["rejected"])
    scene.rig.with_profile(create_id=CreateId.ENFORCED)
    return answer


async def rejected(scene: Scene) -> TaskId:
    task = await scene.rig.accept()
    scene.rig.world.creates = [envelope(1203, "no such model", status=400)]
    await scene.rig.work(JobKind.SUBMIT)
    assert (await scene.rig.state(task))[0] is State.REJECTED
    return task


async def create_with_another_body(scene: Scene) -> httpx.Response:
    await scene.post(key="k")
    return await scene.post(BODY | {"reference": "another"}, key="k")


async def one_a_day(scene: Scene) -> dict[str, str]:
    """Return the header of a key that may submit one task a day."""
    await add_key(scene.rig, "frugal", "frugal-key", daily_tasks=1)
    return {"Authorization": "Bearer frugal-key"}


async def none_a_day(scene: Scene) -> dict[str, str]:
    """Return the header of a key that may submit nothing."""
    await add_key(scene.rig, "miser", "miser-key", daily_tasks=0)
    return {"Authorization": "Bearer miser-key"}


async def create_beyond_the_limit(scene: Scene) -> httpx.Response:
    headers = await one_a_day(scene)
    await scene.ask("tasks_create", json=BODY, headers=headers)
    return await scene.ask("tasks_create", json=BODY, headers=headers)


async def create_with_a_key_for_nothing(scene: Scene) -> httpx.Response:
    return await scene.ask("tasks_create", json=BODY, headers=await none_a_day(scene))


async def create_all_with_another_body(scene: Scene) -> httpx.Response:
    await scene.ask("tasks_create_all", json={"tasks": [BODY | {"idempotency_key": "b"}]})
    another = BODY | {"idempotency_key": "b", "reference": "another"}
    return await scene.ask("tasks_create_all", json={"tasks": [another]})


async def create_all_beyond_the_limit(scene: Scene) -> httpx.Response:
    headers = await one_a_day(scene)
    await scene.ask("tasks_create_all", json={"tasks": [BODY]}, headers=headers)
    return await scene.ask("tasks_create_all", json={"tasks": [BODY]}, headers=headers)


async def create_all_beyond_any_day(scene: Scene) -> httpx.Response:
    return await scene.ask("tasks_create_all", json={"tasks": [BODY]}, headers=await none_a_day(scene))


ADOPTION: Final = {"account": ACCOUNT, "kind": "text-to-audio", "provider_task_id": "p9"}


async def adopt_beyond_the_limit(scene: Scene) -> httpx.Response:
    headers = await one_a_day(scene)
    await scene.ask("tasks_adopt", json=ADOPTION | {"provider_task_id": "p10"}, headers=headers)
    return await scene.ask("tasks_adopt", json=ADOPTION | {"provider_task_id": "p11"}, headers=headers)


async def adopt_with_a_key_for_nothing(scene: Scene) -> httpx.Response:
    another = ADOPTION | {"provider_task_id": "p12"}
    return await scene.ask("tasks_adopt", json=another, headers=await none_a_day(scene))


async def adopt_twice(scene: Scene) -> httpx.Response:
    await scene.ask("tasks_adopt", json=ADOPTION)
    return await scene.ask("tasks_adopt", json=ADOPTION)


async def show_task(scene: Scene) -> httpx.Response:
    await archived(scene)
    (task,) = (await scene.ask("tasks_list")).json()["tasks"]
    return await scene.ask("tasks_show", task=task["id"])


async def show_ledger(scene: Scene) -> httpx.Response:
    await archived(scene)
    await scene.rig.accept()
    return await scene.ask("ledger_show")


async def content_from_a_public_bucket(scene: Scene) -> httpx.Response:
    asset = await archived(scene)
    bucket = scene.with_bucket(public=True)
    answer = await scene.ask("assets_content", asset=asset)
    bucket.close()
    return answer


async def content_that_is_known(scene: Scene) -> httpx.Response:
    return await scene.ask("assets_content", asset=await archived(scene), headers={"If-None-Match": "*"})


async def content_of_a_bucket_that_is_down(scene: Scene) -> httpx.Response:
    asset = await archived(scene)
    with RawHost(lambda _: False) as gone:
        bucket = scene.with_bucket(endpoint=gone.url)
        answer = await scene.ask("assets_content", asset=asset)
        bucket.close()
    return answer


async def call_back(scene: Scene, task: TaskId, body: bytes = b"{}", *, sign: str = "good") -> httpx.Response:
    token = scene.rig.services.tokens.callback_token(ACCOUNT, task)
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    headers = {name: value for name, value in zip(names, signed(body, sign), strict=True) if value is not None}
    return await scene.ask("callbacks_take", account=ACCOUNT, task=task, token=token, content=body, headers=headers)


async def play(scene: Scene, **headers: str) -> httpx.Response:
    asset = AssetId(int(await archived(scene)))
    token = scene.rig.services.tokens.asset_token(asset)
    return await scene.ask("assets_play", asset=asset, token=token, headers=headers)


async def play_from_a_public_bucket(scene: Scene) -> httpx.Response:
    bucket = scene.with_bucket(public=True)
    answer = await play(scene)
    bucket.close()
    return answer


async def play_from_a_bucket_that_is_down(scene: Scene) -> httpx.Response:
    with RawHost(lambda _: False) as gone:
        bucket = scene.with_bucket(endpoint=gone.url)
        answer = await play(scene)
        bucket.close()
    return answer


async def play_while_the_database_is_away(scene: Scene) -> httpx.Response:
    closed = Database(scene.stage.database_url, connections=4)
    scene.app.state.services = replace(scene.rig.services, database=closed)
    return await play(scene)


async def kept(scene: Scene) -> str:
    """Return the id of a callback that was read, of a task that runs."""
    task = await submitted(scene)
    await scene.rig.told(task, {"task_status": "processing"})
    return str((await scene.ask("callbacks_list")).json()["callbacks"][0]["id"])


async def show_an_account_that_has_seen_much(scene: Scene) -> httpx.Response:
    await kept(scene)
    token = scene.rig.services.tokens.console_token(ACCOUNT)
    await scene.ask("callbacks_take", account=ACCOUNT, task="test", token=token, content=b"{}")
    return await scene.ask("accounts_show", account=ACCOUNT)


async def call_back_while_nothing_can_be_written(scene: Scene) -> httpx.Response:
    task = await submitted(scene)
    await call_back(scene, task)
    assert scene.rig.intake._conn is not None
    await scene.rig.intake._conn.execute("SELECT set_config('default_transaction_read_only', 'on', false)")
    return await call_back(scene, task, b"[]")


ROWS: Final[dict[tuple[str, str], Driver]] = {
    ("tasks_create", "202"): lambda scene: scene.post(key="k"),
    ("tasks_create", "idempotency_mismatch"): create_with_another_body,
    ("tasks_create", "limit_too_small"): create_with_a_key_for_nothing,
    ("tasks_create", "spend_limit"): create_beyond_the_limit,
    ("tasks_create_all", "202"): lambda scene: scene.ask("tasks_create_all", json={"tasks": [BODY, BODY]}),
    ("tasks_create_all", "idempotency_mismatch"): create_all_with_another_body,
    ("tasks_create_all", "limit_too_small"): create_all_beyond_any_day,
    ("tasks_create_all", "spend_limit"): create_all_beyond_the_limit,
    ("tasks_create_all", "body_too_large"): lambda scene: scene.ask(
        "tasks_create_all", content=b" " * (batch.MAX_BODY + 1)
    ),
    ("tasks_list", "200"): lambda scene: after(scene.rig.accept(), lambda _: scene.ask("tasks_list")),
    ("tasks_adopt", "202"): lambda scene: scene.ask("tasks_adopt", json=ADOPTION),
    ("tasks_adopt", "already_known"): adopt_twice,
    ("tasks_adopt", "limit_too_small"): adopt_with_a_key_for_nothing,
    ("tasks_adopt", "spend_limit"): adopt_beyond_the_limit,
    ("tasks_show", "200"): show_task,
    ("tasks_events", "200"): lambda scene: after(scene.rig.accept(), lambda task: scene.ask("tasks_events", task=task)),
    ("tasks_cancel", "200"): lambda scene: after(scene.rig.accept(), lambda task: scene.ask("tasks_cancel", task=task)),
    ("tasks_cancel", "already_sent"): lambda scene: after(
        submitted(scene), lambda task: scene.ask("tasks_cancel", task=task)
    ),
    ("tasks_retry", "202"): retry_what_was_rejected,
    ("tasks_retry", "not_retryable"): lambda scene: after(
        scene.rig.accept(), lambda task: scene.ask("tasks_retry", task=task)
    ),
    ("tasks_retry", "may_charge_twice"): retry_what_may_be_charged_twice,
    ("tasks_refresh", "202"): lambda scene: after(submitted(scene), lambda task: scene.ask("tasks_refresh", task=task)),
    ("tasks_refresh", "conflict"): lambda scene: after(
        scene.rig.accept(), lambda task: scene.ask("tasks_refresh", task=task)
    ),
    ("assets_show", "200"): lambda scene: after(archived(scene), lambda asset: scene.ask("assets_show", asset=asset)),
    ("assets_content", "200"): lambda scene: after(
        archived(scene), lambda asset: scene.ask("assets_content", asset=asset)
    ),
    ("assets_content", "206"): lambda scene: after(
        archived(scene), lambda asset: scene.ask("assets_content", asset=asset, headers={"Range": "bytes=0-9"})
    ),
    ("assets_content", "304"): content_that_is_known,
    ("assets_content", "307"): content_from_a_public_bucket,
    ("assets_content", "range_unsatisfiable"): lambda scene: after(
        archived(scene), lambda asset: scene.ask("assets_content", asset=asset, headers={"Range": "bytes=-0"})
    ),
    ("assets_content", "bucket_unavailable"): content_of_a_bucket_that_is_down,
    ("assets_play", "200"): play,
    ("assets_play", "206"): lambda scene: play(scene, Range="bytes=0-9"),
    ("assets_play", "304"): lambda scene: play(scene, **{"If-None-Match": "*"}),
    ("assets_play", "307"): play_from_a_public_bucket,
    ("assets_play", "range_unsatisfiable"): lambda scene: play(scene, Range="bytes=-0"),
    ("assets_play", "bucket_unavailable"): play_from_a_bucket_that_is_down,
    ("assets_play", "store_unavailable"): play_while_the_database_is_away,
    ("accounts_show", "200"): show_an_account_that_has_seen_much,
    ("accounts_list", "200"): lambda scene: scene.ask("accounts_list"),
    ("accounts_pause", "200"): lambda scene: scene.ask("accounts_pause", account=ACCOUNT),
    ("accounts_resume", "200"): lambda scene: scene.ask("accounts_resume", account=ACCOUNT),
    ("ledger_show", "200"): show_ledger,
    ("callbacks_list", "200"): lambda scene: after(kept(scene), lambda _: scene.ask("callbacks_list")),
    ("callbacks_show", "200"): lambda scene: after(
        kept(scene), lambda callback: scene.ask("callbacks_show", callback=callback)
    ),
    ("callbacks_replay", "202"): lambda scene: after(
        kept(scene), lambda callback: scene.ask("callbacks_replay", callback=callback)
    ),
    ("callbacks_take", "200"): lambda scene: after(submitted(scene), lambda task: call_back(scene, task)),
    ("callbacks_take", "signature_rejected"): lambda scene: after(
        submitted(scene), lambda task: call_back(scene, task, sign="bad")
    ),
    ("callbacks_take", "store_unavailable"): call_back_while_nothing_can_be_written,
    ("callbacks_take", "token_unknown"): lambda scene: scene.ask("callbacks_take", account=ACCOUNT),
    ("healthz", "200"): lambda scene: scene.ask("healthz"),
    ("readyz", "200"): lambda scene: scene.ask("readyz"),
    ("metrics", "200"): lambda scene: scene.ask("metrics"),
    ("openapi", "200"): lambda scene: scene.ask("openapi"),
    ("docs", "200"): lambda scene: scene.ask("docs"),
    ("root", "307"): lambda scene: scene.ask("root"),
}


async def while_the_database_is_away(scene: Scene, name: str) -> httpx.Response:
    await scene.rig.services.database.close()
    return await scene.ask(name)


async def without_a_key(scene: Scene, name: str) -> httpx.Response:
    return await scene.ask(name, headers={"Authorization": "Bearer rk_of_nobody"})


async def with_a_wrong_field(scene: Scene, name: str) -> httpx.Response:
    if "requestBody" in DESCRIBED[name]:
        return await scene.ask(name, json={"no_such_field": 1})
    return await scene.ask(name, params={"no_such_parameter": "1"})


COMMON: Final[dict[str, Callable[[Scene, str], Awaitable[httpx.Response]]]] = {
    "unauthorized": without_a_key,
    "not_found": lambda scene, name: scene.ask(name),
    "malformed_body": lambda scene, name: scene.ask(name, content=b"{"),
    "body_too_large": lambda scene, name: scene.ask(name, content=b" " * (256 * 1024 + 1)),
    "invalid_input": with_a_wrong_field,
    "store_unavailable": while_the_database_is_away,
}


async def after(first: Awaitable[Any], then: Callable[[Any], Awaitable[httpx.Response]]) -> httpx.Response:
    return await then(await first)


@asynccontextmanager
async def scene_of(rig: Rig, stage: Stage) -> AsyncIterator[Scene]:
    """Serve on a real socket, and hold a key."""
    await add_key(rig, OWNER, SECRET)
    stop = asyncio.Event()
    app = build_app(rig.services, rig.intake)
    serving = asyncio.create_task(serve(app, host="127.0.0.1", port=0, name="web", stop=stop))
    async with asyncio.timeout(60):
        while not rig.logged("server.started"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    url = f"http://127.0.0.1:{rig.logged('server.started')[0]['port']}"
    try:
        async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {SECRET}"}, timeout=60) as client:
            yield Scene(rig=rig, client=client, stage=stage, app=app)
    finally:
        stop.set()
        await serving


async def check(scene: Scene, name: str, status: int, code: str) -> None:
    scene.rig.world.creates = []
    scene.app.state.services = scene.rig.services
    driver = ROWS.get((name, code))
    answer = await (driver(scene) if driver is not None else COMMON[code](scene, name))
    assert answer.status_code == status, f"{name}: {answer.text}"
    if code != str(status):
        assert answer.json()["code"] == code, name
    judge(document(), DESCRIBED[name], answer)


EVERY: Final = [(name, status, code) for name, operation in DESCRIBED.items() for status, code in answers(operation)]


def test_each_documented_answer_has_a_driver() -> None:
    assert [(name, code) for name, _, code in EVERY if (name, code) not in ROWS and code not in COMMON] == []


def test_each_driver_is_of_a_documented_answer() -> None:
    assert set(ROWS) - {(name, code) for name, _, code in EVERY} == set()


@pytest.mark.parametrize("name", DESCRIBED)
def test_the_answers_of_an_operation_are_as_documented(stage: Stage, name: str) -> None:
    async def story(rig: Rig) -> None:
        async with scene_of(rig, stage) as scene:
            for each, status, code in EVERY:
                if each == name and (name, code) in ROWS:
                    await check(scene, name, status, code)

    stage.play(story)


@pytest.mark.parametrize("code", COMMON)
def test_an_answer_that_many_operations_give_is_as_documented(stage: Stage, code: str) -> None:
    async def story(rig: Rig) -> None:
        async with scene_of(rig, stage) as scene:
            for name, status, known in EVERY:
                if known == code and (name, code) not in ROWS:
                    await check(scene, name, status, code)

    stage.play(story, judged=code != "store_unavailable")
