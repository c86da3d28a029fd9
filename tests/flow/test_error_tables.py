"""Each row of each provider's error table: which requests are sent, and which state is reached."""

from __future__ import annotations

from typing import Any, Final

import pytest

from receiver.core.model import AccountId, JobKind, State, TaskId
from receiver.dialects.spec import catalog
from receiver.flow import account, pace
from receiver.flow.accept import Order, accept
from tests.flow.rig import ACCOUNT, KEY, Rig, Stage
from tests.flow.world import Reply, created

#: HTTP status, code and what follows for a create (providers.md 2.8). A code of None is a body without one.
Row = tuple[int, int | str | None, str]
KLING: Final[tuple[Row, ...]] = (
    *((401, code, "authentication") for code in (1000, 1001, 1002, 1003, 1004)),
    *((429, code, "account") for code in (1100, 1101, 1102, 1304)),
    (403, 1103, "account"),
    (400, 1200, "rejected"),
    (400, 1201, "rejected"),
    (404, 1203, "rejected"),
    (400, 1300, "rejected"),
    (400, 1301, "rejected"),
    (429, 1302, "again"),
    (429, 1303, "again"),
    (500, 5000, "unsure"),
    (503, 5001, "unsure"),
    (504, 5002, "unsure"),
    (401, None, "authentication"),
    (400, None, "unsure"),
    (404, 1202, "unsure"),
    (200, 9999, "unsure"),
    (200, 1101, "account"),
    (302, None, "unsure"),
    (500, None, "unsure"),
)
#: providers.md 3.2, 3.3: a reseller's own errors, with its status or its text code.
RESELLER: Final[tuple[Row, ...]] = ((429, None, "again"), (503, None, "unsure"), (504, None, "unsure"))
#: An empty purse, in the words of the family of gateways.
POOR: Final[tuple[Row, ...]] = (
    (403, "insufficient_user_quota", "account"),
    (403, "pre_consume_token_quota_failed", "account"),
)
TABLES: Final[dict[str, tuple[Row, ...]]] = {
    "kling": KLING,
    "kling-videos": KLING,
    "kling-text2video": KLING,
    "cometapi": (
        *KLING,
        *RESELLER,
        (500, "invalid_request", "rejected"),
        (400, "invalid_request", "rejected"),
        (503, "model_not_found", "again"),
        (500, "comet_api_error", "unsure"),
        (524, None, "unsure"),
        *POOR,
    ),
    "deerapi": (*KLING, *RESELLER, (400, "task_not_exist", "rejected"), *POOR),
    "kkiai": (*KLING, *RESELLER, (400, "task_not_exist", "rejected"), *POOR),
    "new-api": (
        *KLING,
        *RESELLER,
        (400, "invalid_request", "rejected"),
        (403, "insufficient_user_quota", "account"),
        (400, "sensitive_words_detected", "rejected"),
        (429, "token_concurrency_limit_reached", "again"),
    ),
}
ENFORCED: Final = {"kling", "kling-text2video"}
INPUTS: Final[dict[str, dict[str, Any]]] = {
    "text-to-audio": {"prompt": "rain", "duration": 3.0},
    "video-to-audio": {"video_url": "https://example.com/a.mp4"},
    "text2video": {"prompt": "rain"},
}
PAUSES: Final = {"authentication": "authentication", "account": "account_refused"}


def reply(status: int, code: int | str | None) -> Reply:
    body: dict[str, Any] = {"message": "no", "request_id": "r"} | ({} if code is None else {"code": code})
    return Reply(status, body, {"Location": "https://elsewhere.example/"} if status == 302 else {})


async def fresh(rig: Rig) -> TaskId:
    """Accept a task of the provider's first kind, with nothing left over from the row before."""
    rig.world.seen.clear()
    await rig.sql("DELETE FROM pace")
    # Rows before this one have left tasks that wait; they are not what this row is about.
    await rig.sql("UPDATE job SET state = 'dead', held = false, lease_token = NULL, lease_until = NULL")
    kind = next(iter(rig.services.deals[ACCOUNT].profile.kinds))
    order = Order(account=AccountId(ACCOUNT), kind=kind, input=INPUTS[kind], labels={}, idempotency_key=None)
    return (await accept(rig.services, KEY, order)).id


async def paused(rig: Rig) -> str | None:
    return (await account.one(rig.services, ACCOUNT)).pause.paused_reason


async def create_row(rig: Rig, *, enforced: bool, row: Row) -> None:
    status, code, follows = row
    task = await fresh(rig)
    rig.world.creates = [reply(status, code), created(f"p{task}")]
    rig.world.queries = [Reply(400, {"code": 1201, "message": "Task not found by id/external id: x"})]
    await rig.work(JobKind.SUBMIT)
    assert len(rig.world.made()) == 1, row
    assert await paused(rig) == PAUSES.get(follows), row
    if follows in PAUSES:
        assert (await rig.jobs_of(task))["submit"]["held"], row
        await account.resume(rig.services, ACCOUNT)
    if follows == "rejected":
        assert (await rig.state(task))[0] is State.REJECTED, row
        assert "submit" not in await rig.jobs_of(task)
    elif follows == "unsure":
        await settle_unsure(rig, task, enforced=enforced, row=row)
    else:
        await rig.pass_rest()
        async with rig.services.database.transaction() as conn:
            await pace.release_held(conn, rig.services.deals[ACCOUNT])
        await rig.work(JobKind.SUBMIT)
        assert [each.method for each in rig.world.seen] == ["POST", "POST"], row
        assert (await rig.state(task))[0] is State.SUBMITTED, row


async def settle_unsure(rig: Rig, task: TaskId, *, enforced: bool, row: Row) -> None:
    """Only where ids are enforced is anything sent again, the same, and not before a question was answered."""
    assert ((await rig.state(task))[0], (await rig.task(task)).unsure) == (State.SUBMITTING, True), row
    await rig.pass_time(task, "10 minutes", "last_sent_at")
    for _ in range(1 if enforced else 2):
        await rig.forget_spacing(task)
        await rig.work(JobKind.SUBMIT)
    if enforced:
        assert [each.method for each in rig.world.seen] == ["POST", "GET", "POST"], row
        first, again = (each.body for each in rig.world.made())
        assert first == again
        assert (await rig.state(task))[0] is State.SUBMITTED, row
    else:
        assert [each.method for each in rig.world.seen] == ["POST", "GET", "GET"], row
        assert (await rig.task(task)).attention == "create_unknown", row


@pytest.mark.parametrize("dialect", TABLES)
def test_each_row_of_the_error_table_for_creates(stage: Stage, dialect: str) -> None:
    async def story(rig: Rig) -> None:
        rig.faults -= {"job.dead"}
        for row in TABLES[dialect]:
            await create_row(rig, enforced=dialect in ENFORCED, row=row)
        task = await fresh(rig)
        rig.world.creates = [Reply(400, {"code": 1201, "message": f"External_task_id {task} already exists"})]
        await rig.work(JobKind.SUBMIT)
        assert ((await rig.state(task))[0], len(rig.world.seen)) == (State.SUBMITTED, 1), "an id that is there was made"

    stage.play(story, dialect=dialect, concurrency=100)


@pytest.mark.parametrize("dialect", TABLES)
def test_no_row_of_the_error_table_moves_a_task_that_was_made(stage: Stage, dialect: str) -> None:
    async def story(rig: Rig) -> None:
        rig.world.creates = [created()]
        task = await fresh(rig)
        await rig.work(JobKind.SUBMIT)
        for status, code, follows in TABLES[dialect]:
            rig.world.seen.clear()
            await rig.sql("DELETE FROM pace")
            await rig.forget_spacing(task)
            rig.world.queries = [reply(status, code)]
            await rig.work(JobKind.QUERY)
            row = (status, code)
            assert [each.method for each in rig.world.seen] == ["GET"], row
            assert (await rig.state(task))[0] is State.SUBMITTED, row
            # What the account may buy is no matter of a query; that it is not let in is.
            assert await paused(rig) == ("authentication" if follows == "authentication" else None), row
            await account.resume(rig.services, ACCOUNT)

    stage.play(story, dialect=dialect, concurrency=100)


def test_every_packaged_profile_has_its_table_tried() -> None:
    assert TABLES.keys() == catalog().keys() - {"sandbox"}
