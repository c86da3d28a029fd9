"""What could charge twice, take another task for ours, or lose a clip that was paid: each tried for real."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

import pytest

from receiver.core.errors import Conflict, MayChargeTwice, Misconfigured
from receiver.core.model import Account, ApiKey, CreateId, JobKind, KeyPair, Secret, State, TaskId
from receiver.flow import act, repeat
from receiver.wiring import check_open, open_services
from tests.flow.rig import ACCOUNT, KEY, OWNER, Rig, Stage
from tests.flow.world import CUT, HTML, JsonMap, Reply, Seen, created, envelope, sound, unknown

SECOND = timedelta(seconds=1)
MADE: Final[JsonMap] = {"task_id": "p1", "task_status": "submitted"}
OK: Final = b'{"code":0,"data":{"task_id":"p1","task_status":"submitted"}}'
JSON: Final = {"Content-Type": "application/json"}


@dataclass
class Raw(Reply):
    """Bytes as they are, and the end of the connection."""

    raw: bytes = b""
    missing: int = 1

    def data(self) -> bytes:
        return self.raw


def chunked(*chunks: bytes, end: bytes) -> Raw:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return Raw(raw=head + b"".join(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n" for chunk in chunks) + end)


#: Answers to a create after which it may have been made, whatever they look like.
UNSETTLED: Final[Mapping[str, Reply]] = {
    "chunks that end early": chunked(OK[:20], end=b""),
    "chunks without the last one": chunked(OK, end=b""),
    "a chunk of no size": chunked(OK[:20], end=b"zz\r\n"),
    "compressed unasked": Reply(200, OK, JSON | {"Content-Encoding": "gzip"}),
    "compressed in an unknown way": Reply(200, OK, JSON | {"Content-Encoding": "br, identity"}),
    "larger than any answer": Reply(200, OK + b" " * (1024 * 1024), JSON),
    "one key twice": Reply(200, b'{"code":0,"code":1301,"data":{"task_id":"p1","task_status":"submitted"}}', JSON),
    "one id twice": Reply(200, b'{"code":0,"data":{"task_id":"p1","task_id":"p2"}}', JSON),
    "a head that is none": Raw(raw=b"HTTP/9 hello\r\n\r\n"),
    "a head without an end": Raw(raw=b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"),
    "an informational answer and no other": Raw(raw=b"HTTP/1.1 102 Processing\r\n\r\n"),
    "307": Reply(307, b"", {"Location": "https://elsewhere.example/"}),
    "308 with the answer": Reply(308, OK, JSON | {"Location": "https://elsewhere.example/"}),
    "502 with the answer": Reply(502, OK, JSON),
    "504 in HTML": replace(HTML, status=504),
    "429 that names a task": envelope(1302, "too fast", status=429, data=MADE),
    "too many, and a task": envelope(1303, "too many", status=429, data=MADE),
    "no balance, and a task": envelope(1102, "no balance", status=429, data=MADE),
    "refused, and a task": envelope(1201, "no", status=400, data=MADE),
    "a bare 401 that names a task": Reply(401, {"task_id": "p1", "task_status": "submitted"}),
    "no id": envelope(0, data={"task_status": "submitted"}),
    "an id that is none": envelope(0, data={"task_id": ["p1"], "task_status": "submitted"}),
    "the success of nobody": Reply(200, b"null", JSON),
}


def test_a_refusal_is_logged_with_the_providers_own_name_of_the_request(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.world.creates = [
            replace(envelope(1302, "too fast", status=429), headers={"X-Request-Id": "req-1234567890"}),
            created(),
        ]
        rig.world.queries = [Reply(500, {"error": {"message": "no (request id: 20260205132859798638387SIHCnxzJ)"}})]
        task = await rig.accept()
        await rig.work(JobKind.SUBMIT)
        await rig.sql("DELETE FROM pace")
        await rig.work(JobKind.SUBMIT)
        await rig.work(JobKind.QUERY)
        assert (await rig.state(task))[0] is State.SUBMITTED
        told = [(line["outcome"], line["why"], line["provider_request"]) for line in rig.logged("provider.refused")]
        assert told == [
            ("busy", "1302", "req-1234567890"),
            ("unsure", "http 500, application/json", "20260205132859798638387SIHCnxzJ"),
        ]

    stage.play(story)


async def alone(rig: Rig) -> TaskId:
    """Accept a task; those before it are no longer at work."""
    rig.world.seen.clear()
    await rig.sql("DELETE FROM pace")
    await rig.sql("UPDATE job SET state = 'dead', held = false, lease_token = NULL, lease_until = NULL")
    return await rig.accept()


async def later(rig: Rig, task: TaskId) -> None:
    """Let a create be so old that it can no longer arrive."""
    await rig.pass_time(task, "10 min", "last_sent_at")
    await rig.forget_spacing(task)
    await rig.sql("DELETE FROM pace")


def test_no_odd_answer_to_a_create_has_it_paid_twice(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.with_profile(create_id=CreateId.NONE)
        for what, reply in UNSETTLED.items():
            task = await alone(rig)
            rig.world.creates, rig.world.queries = [reply, created(f"q{task}")], [unknown()]
            await rig.work(JobKind.SUBMIT)
            found = await rig.task(task)
            assert (found.state, found.unsure, found.reason) == (State.SUBMITTING, True, None), what
            assert (await rig.sql("SELECT paused_reason FROM account"))[0]["paused_reason"] is None, what
            await later(rig, task)
            await rig.work(JobKind.SUBMIT)
            assert [each.method for each in rig.world.seen] == ["POST", "GET"], what
            assert (await rig.task(task)).attention == "create_unknown", what

    stage.play(story, concurrency=100)


def with_key(rig: Rig, key: str = "another-key-9876543210", **changes: Any) -> None:
    """Let the operator have put another key in place, or another host."""
    deal = rig.services.deals[ACCOUNT]
    other = replace(deal.account, credentials=ApiKey(key=Secret(key)), **changes)
    rig.services = replace(rig.services, deals={ACCOUNT: replace(deal, account=other)})
    rig.worker.services = rig.services


async def lost(rig: Rig) -> TaskId:
    """Return a task whose create was cut off."""
    rig.world.creates, rig.world.queries = [CUT], [unknown()]
    task = await rig.accept()
    await rig.work(JobKind.SUBMIT)
    assert (await rig.task(task)).unsure
    await later(rig, task)
    return task


def test_a_lost_create_is_not_sent_again_with_a_key_that_may_be_of_another_contract(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await lost(rig)
        with_key(rig)
        rig.world.creates = [created()]
        for _ in range(2):
            await rig.work(JobKind.SUBMIT)
            await later(rig, task)
        assert (len(rig.world.made()), (await rig.task(task)).attention) == (1, "create_unknown")
        with pytest.raises(MayChargeTwice, match="the key now"):
            await act.retry(rig.services, OWNER, task)
        # By the key that it was sent with it may be sent again.
        deal = rig.services.deals[ACCOUNT]
        with_key(rig, "provider-api-key-0123456789")
        await rig.work(JobKind.SUBMIT)
        assert (len(rig.world.made()), (await rig.state(task))[0]) == (2, State.SUBMITTED)
        assert (await rig.task(task)).attention is None
        assert repeat.contract(deal.account) != repeat.contract(rig.services.deals[ACCOUNT].account)

    stage.play(story)


def test_a_person_may_have_a_create_sent_again_with_another_key(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await lost(rig)
        with_key(rig)
        await rig.work(JobKind.SUBMIT)
        rig.world.creates = [created()]
        await act.retry(rig.services, OWNER, task, may_charge_twice=True)
        await rig.work(JobKind.SUBMIT)
        assert (len(rig.world.made()), (await rig.state(task))[0]) == (2, State.SUBMITTED)

    stage.play(story)


def test_with_another_key_a_found_create_is_followed_and_a_refused_one_sent(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await lost(rig)
        with_key(rig)
        rig.world.queries = [rig.world.report("processing", task)]
        await rig.work(JobKind.SUBMIT)
        assert (await rig.state(task))[0] is State.PROCESSING

        rig.world.seen.clear()
        rig.world.creates = [envelope(1303, "too many", status=429), created("p2")]
        refused = await rig.accept()
        await rig.work(JobKind.SUBMIT)
        with_key(rig, "a-third-key-9876543210")
        await rig.sql("DELETE FROM pace")
        await rig.work(JobKind.SUBMIT)
        assert (await rig.state(refused))[0] is State.SUBMITTED
        assert [each.method for each in rig.world.seen] == ["POST", "POST"]

    stage.play(story)


def test_a_contract_is_known_by_host_and_key() -> None:
    account = Account(
        id=ACCOUNT,
        dialect="kling",
        base_url="https://api-singapore.klingai.com",
        credentials=ApiKey(key=Secret("k" * 20)),
        concurrency=1,
        asset_hosts=(),
    )
    pair = KeyPair(access_key="k" * 20, secret_key=Secret("s" * 20))
    others = [
        replace(account, base_url="https://api-beijing.klingai.com"),
        replace(account, credentials=ApiKey(key=Secret("k" * 21))),
        replace(account, credentials=pair),
        replace(account, credentials=replace(pair, secret_key=Secret("t" * 20))),
    ]
    assert len({repeat.contract(each) for each in (account, *others)}) == 5
    assert repeat.contract(replace(account, concurrency=2)) == repeat.contract(account)


def without(rig: Rig, how: str) -> None:
    """Let the worker be one with other settings: no account, no product, or none of what was ordered."""
    deal = rig.services.deals[ACCOUNT]
    kinds = dict(deal.profile.kinds)
    if how == "fields":
        kinds["text-to-audio"] = replace(kinds["text-to-audio"], fields=kinds["text-to-audio"].fields[:1])
    else:
        del kinds["text-to-audio"]
    other = replace(deal, profile=replace(deal.profile, kinds=kinds))
    rig.worker.services = replace(rig.services, deals={} if how == "account" else {ACCOUNT: other})


@pytest.mark.parametrize("how", ["account", "kind"])
def test_a_worker_with_other_settings_leaves_tasks_to_those_who_know_them(stage: Stage, how: str) -> None:
    async def story(rig: Rig) -> None:
        rig.world.creates = [created()]
        rig.world.offers(c1_mp3=sound("mp3"), c1_wav=sound("wav"))
        task = await rig.accept()

        async def neither_done_nor_dead(kind: JobKind) -> None:
            without(rig, how)
            settled = await rig.work(kind)
            assert settled is not None
            assert (settled.dead, settled.error) == (False, None if kind is JobKind.ADVANCE else "not_configured")
            assert settled.delay is not None
            rig.worker.services = rig.services
            assert await rig.work(kind)

        await neither_done_nor_dead(JobKind.SUBMIT)
        assert await rig.call_back(task, rig.world.record("processing", task))
        await neither_done_nor_dead(JobKind.ADVANCE)
        assert (await rig.state(task))[0] is State.PROCESSING
        rig.world.queries = [rig.world.report("succeed", task, clips=("c1",))]
        await neither_done_nor_dead(JobKind.QUERY)
        await neither_done_nor_dead(JobKind.ARCHIVE)
        assert (await rig.state(task))[0] is State.ARCHIVED
        assert len(rig.world.made()) == 1
        without(rig, how)
        with pytest.raises(Conflict, match="no longer"):
            await act.refresh(rig.worker.services, OWNER, task)

    stage.play(story)


def test_a_task_is_not_sent_without_what_was_ordered_and_ends_as_never_sent(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.accept()
        without(rig, "fields")
        settled = await rig.work(JobKind.SUBMIT)
        assert settled is not None
        assert (settled.error, (await rig.state(task))[0]) == ("not_configured", State.ACCEPTED)
        await rig.overdue(task)
        await rig.work(JobKind.SUBMIT)
        assert await rig.state(task) == (State.EXPIRED, "never_submitted")
        assert rig.world.seen == []

    stage.play(story)


def test_no_process_starts_with_settings_under_which_an_open_task_cannot_end(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        await rig.accept()
        deal = rig.services.deals[ACCOUNT]
        other = replace(deal, profile=replace(deal.profile, name="house", kinds={}))
        check_open([(ACCOUNT, "text-to-audio")], rig.services.deals)
        with pytest.raises(Misconfigured, match="studio has open tasks of text-to-audio, which house does not offer"):
            check_open([(ACCOUNT, "text-to-audio")], {ACCOUNT: other})
        with pytest.raises(Misconfigured, match="studio has open tasks and is not configured"):
            async with open_services(stage.settings(rig.world.url).model_copy(update={"accounts": {}})):
                pass

    stage.play(story)


@pytest.mark.parametrize("ids", CreateId)
def test_a_reply_that_names_another_task_of_ours_is_not_believed(stage: Stage, ids: CreateId) -> None:
    async def story(rig: Rig) -> None:
        rig.with_profile(create_id=ids)
        first = await rig.submitted()
        rig.world.creates = [created()]
        second = await rig.accept()
        await rig.work(JobKind.SUBMIT)
        found = await rig.task(second)
        assert (found.provider_task_id, found.unsure, found.attention) == (None, True, "cross_wired")
        # Neither is an answer that names nothing but the other one's id.
        rig.world.queries = [rig.world.report("succeed", "", clips=("c1",), task_info={})]
        await rig.work(JobKind.SUBMIT)
        assert (await rig.state(second))[0] is State.SUBMITTING
        assert (await rig.task(second)).assets == ()
        rig.world.queries = [rig.world.report("processing", second, task_id="p2")]
        await rig.forget_spacing(second)
        await rig.work(JobKind.SUBMIT)
        assert ((await rig.state(second))[0], (await rig.task(second)).provider_task_id) == (State.PROCESSING, "p2")
        assert ((await rig.task(first)).provider_task_id, len(rig.world.made())) == ("p1", 2)

    stage.play(story, concurrency=10)


@pytest.mark.parametrize("how", ["adopted", "long ago"])
def test_an_id_may_be_that_of_an_adopted_task_or_of_one_long_gone(stage: Stage, how: str) -> None:
    async def story(rig: Rig) -> None:
        if how == "adopted":
            theirs = act.Adoption(account=ACCOUNT, kind="text-to-audio", provider_task_id="p1", labels={})
            await act.adopt(rig.services, KEY, theirs)
            rig.world.creates = [created()]
        else:
            await rig.pass_time(await rig.submitted(), "31 days", "last_sent_at")
            rig.world.creates = [created()]
        task = await rig.accept()
        await rig.work(JobKind.SUBMIT)
        assert ((await rig.state(task))[0], (await rig.task(task)).provider_task_id) == (State.SUBMITTED, "p1")

    stage.play(story, concurrency=10)


def test_answers_about_other_tasks_alone_leave_a_create_unknown_to_its_end(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await lost(rig)
        rig.world.queries = [rig.world.report("succeed", 4711, clips=("c1",))]
        await rig.work(JobKind.SUBMIT)
        assert (await rig.task(task)).attention == "cross_wired"
        await rig.overdue(task)
        await rig.work(JobKind.SUBMIT)
        assert await rig.state(task) == (State.EXPIRED, "create_unknown")
        assert len(rig.world.made()) == 1

    stage.play(story)


def test_what_is_made_shortly_before_the_deadline_of_its_first_create_has_its_whole_run(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.world.creates = [envelope(1303, "too many", status=429), created()]
        task = await rig.accept()
        await rig.work(JobKind.SUBMIT)
        await rig.pass_time(task, "23 h 59 min", "created_at", "first_sent_at", "last_sent_at", "settle_by", "due_at")
        await rig.sql("DELETE FROM pace")
        await rig.work(JobKind.SUBMIT)
        found = await rig.task(task)
        assert (found.state, found.settle_by) == (State.SUBMITTED, found.due_at)
        assert found.last_sent_at is not None
        assert found.settle_by == found.last_sent_at + timedelta(hours=24)

    stage.play(story)


LATE: Final[Mapping[str, Callable[[], Reply]]] = {
    "refused": lambda: envelope(1201, "no", status=400),
    "account": lambda: envelope(1102, "no balance", status=429),
    "busy": lambda: envelope(1303, "too many", status=429),
}


@pytest.mark.parametrize("late", LATE)
def test_the_answer_to_a_create_says_nothing_of_one_that_was_sent_after_it(stage: Stage, late: str) -> None:
    async def story(rig: Rig) -> None:
        async def another_worker_goes_on(request: Seen) -> None:
            task = TaskId(int(request.json["external_task_id"]))
            await later(rig, task)
            await rig.work(JobKind.SUBMIT)

        rig.world.queries = [unknown()]
        rig.world.creates = [replace(LATE[late](), first=another_worker_goes_on), CUT]
        task = await rig.accept()
        job = await rig.claim(JobKind.SUBMIT, lease=-SECOND)
        assert job is not None
        await rig.handle(job)
        found = await rig.task(task)
        assert (found.state, found.unsure, found.sends) == (State.SUBMITTING, True, 2)
        assert [each.method for each in rig.world.seen] == ["POST", "GET", "POST"]

    stage.play(story)
