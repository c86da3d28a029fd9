"""From links to proven objects."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from receiver.core.model import AssetState, JobKind, State
from receiver.transfer.bucket import Bucket
from receiver.wiring import bucket_config
from tests.flow.rig import ACCOUNT, Rig, Stage
from tests.flow.world import Reply, Seen, sound
from tests.transfer.servers import Exchange, RawHost
from tests.transfer.stores import Answer, tampered

HTML = Reply(200, b"<!DOCTYPE html><html><body>403 Forbidden</body></html>" * 9, {"Content-Type": "text/html"})
BAD = {
    "html": HTML,
    "json": Reply(200, {"code": 1203, "message": "gone" * 50}),
    "truncated": Reply(200, sound("wav")[: len(sound("wav")) // 2]),
    "other_format": Reply(200, sound("flac")),
    "short": Reply(200, sound("wav")[:60]),
}


async def objects(rig: Rig) -> list[str]:
    return [listed.key async for listed in rig.services.bucket.list("")]


async def until_settled(rig: Rig, passes: int) -> None:
    for _ in range(passes):
        await rig.work(JobKind.ARCHIVE)


def test_a_task_goes_from_accept_to_archived(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.succeeded()
        await rig.work(JobKind.ARCHIVE)
        found = await rig.task(task)
        assert (found.state, found.reason, found.due_at) == (State.ARCHIVED, None, None)
        assert [asset.verified for asset in found.assets] == ["readback", "readback"]
        assert await rig.jobs_of(task) == {}
        for asset, kind in zip(found.assets, ("mp3", "wav"), strict=True):
            assert asset.key is not None
            async with await rig.services.bucket.read(asset.key) as stream:
                assert b"".join([chunk async for chunk in stream]) == sound(kind, 0)

    stage.play(story)


@pytest.mark.parametrize("what", BAD)
def test_what_is_not_the_promised_audio_is_never_stored_and_given_up_after_the_third_fetch(
    stage: Stage, what: str
) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.succeeded()
        rig.world.media["/media/c1.wav"] = [BAD[what]]
        await until_settled(rig, 2)
        assert (await rig.state(task))[0] is State.SUCCEEDED
        await until_settled(rig, 1)
        found = await rig.task(task)
        assert (found.state, found.reason) == (State.PARTIAL, "media_incomplete")
        assert [asset.state for asset in found.assets] == [AssetState.STORED, AssetState.INVALID]
        assert len([key for key in await objects(rig) if key.endswith(".wav")]) == 0
        assert await rig.jobs_of(task) == {}

    stage.play(story)


def test_an_empty_body_is_never_stored(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.succeeded()
        rig.world.media["/media/c1.wav"] = [Reply(200)]
        await until_settled(rig, 3)
        states = [asset.state for asset in await rig.assets(task)]
        assert states[0] is AssetState.STORED
        assert states[1] is not AssetState.STORED

    stage.play(story)


def test_a_task_whose_media_are_all_invalid_has_failed(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.succeeded()
        rig.world.media = {path: [HTML] for path in rig.world.media}
        await until_settled(rig, 3)
        assert await rig.state(task) == (State.FAILED, "media_invalid")

    stage.play(story)


def test_a_body_cut_short_by_the_transport_is_tried_again(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.succeeded()
        whole = rig.world.media["/media/c1.wav"][0]
        cut = replace(whole, missing=99)
        rig.world.media["/media/c1.wav"] = [cut] * 4 + [whole]
        await until_settled(rig, 1)
        assert (await rig.state(task))[0] is State.SUCCEEDED
        await until_settled(rig, 1)
        assert (await rig.state(task))[0] is State.ARCHIVED

    stage.play(story)


def test_a_bucket_that_is_down_costs_time_and_nothing_else(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.succeeded()
        good = rig.services
        config = bucket_config(stage.settings(rig.world.url))
        with RawHost(lambda _: False) as gone:
            down = Bucket(replace(config, endpoint=gone.url))
            rig.worker.services = replace(good, bucket=down)
            settled = await rig.work(JobKind.ARCHIVE)
            down.close()
        assert settled is not None
        assert settled.error == "bucket_unavailable"
        assert (await rig.state(task))[0] is State.SUCCEEDED
        rig.worker.services = good
        await rig.work(JobKind.ARCHIVE)
        assert (await rig.state(task))[0] is State.ARCHIVED

    stage.play(story)


def test_a_bucket_that_stays_down_gets_one_grace(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.succeeded()
        config = bucket_config(stage.settings(rig.world.url))
        with RawHost(lambda _: False) as gone:
            down = Bucket(replace(config, endpoint=gone.url))
            rig.worker.services = replace(rig.services, bucket=down)
            for _ in range(2):
                await rig.overdue(task)
                await rig.work(JobKind.ARCHIVE)
            down.close()
        assert await rig.state(task) == (State.EXPIRED, "media_expired")
        assert {asset.error for asset in await rig.assets(task)} == {"bucket_unreachable"}

    stage.play(story)


def test_bytes_swapped_between_put_and_proof_never_become_a_stored_asset(stage: Stage) -> None:
    def swap(exchange: Exchange, done: Callable[[], Answer]) -> Answer:
        answer = done()
        if exchange.line.startswith("GET") and ".wav" in exchange.line and answer.status == 200:
            answer.body = bytes([answer.body[0] ^ 1]) + answer.body[1:]
        return answer

    async def story(rig: Rig) -> None:
        task = await rig.succeeded()
        good = rig.services
        config = bucket_config(stage.settings(rig.world.url))
        port = int(stage.store.endpoint.rpartition(":")[2])
        with RawHost(tampered(port, swap)) as wire:
            bad = Bucket(replace(config, endpoint=wire.url))
            rig.worker.services = replace(good, bucket=bad)
            errors = [settled.error for _ in range(3) if (settled := await rig.work(JobKind.ARCHIVE))]
            bad.close()
        assert errors == ["bucket_mismatch"] * 3
        states = {asset.format: asset.state for asset in await rig.assets(task)}
        assert states == {"mp3": AssetState.STORED, "wav": AssetState.PENDING}
        rig.worker.services = good
        await rig.work(JobKind.ARCHIVE)
        assert (await rig.state(task))[0] is State.ARCHIVED

    stage.play(story)


def test_two_passes_at_once_store_nothing_twice_and_write_the_same_manifest(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.succeeded("c1", "c2")
        job = await rig.claim(JobKind.ARCHIVE)
        assert job is not None
        await asyncio.gather(rig.worker.outcomes([job]), rig.worker.outcomes([job]))
        await rig.handle(job)
        assert (await rig.state(task))[0] is State.ARCHIVED
        keys = await objects(rig)
        assert len([key for key in keys if "manifest" not in key]) == 4
        assert len([key for key in keys if "manifest" in key]) == 1
        assert (await rig.story(task)).count("asset.stored") == 4
        assert (await rig.story(task)).count("task.archived") == 1

    stage.play(story)


def test_the_manifest_says_what_lies_beside_it(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.succeeded()
        await rig.work(JobKind.ARCHIVE)
        (key,) = [key for key in await objects(rig) if "manifest" in key]
        async with await rig.services.bucket.read(key) as stream:
            text = b"".join([chunk async for chunk in stream]).decode()
        manifest = json.loads(text)
        assert manifest["task"] == str(task)
        assert {entry["key"] for entry in manifest["assets"]} | {key} == set(await objects(rig))
        assert "hushhush" not in text

    stage.play(story)


def test_bytes_that_come_after_the_task_expired_win(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.succeeded()
        whole = rig.world.media["/media/c1.wav"][0]

        async def expire(_: Seen) -> None:
            await rig.sql("UPDATE asset SET state = 'expired', error = 'link_gone'")
            await rig.sql("UPDATE task SET state = 'expired', reason = 'x', due_at = NULL, ended_at = now()")
            await rig.sql("DELETE FROM job WHERE kind = 'query'")

        rig.world.media["/media/c1.wav"] = [replace(whole, first=expire)]
        await rig.work(JobKind.ARCHIVE)
        assert (await rig.state(task))[0] is State.ARCHIVED
        assert "task.rescued" in await rig.story(task)
        assert await rig.jobs_of(task) == {}

    stage.play(story)


def test_a_fresh_link_that_comes_during_a_pass_is_not_blamed_for_the_old_one(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.succeeded()

        async def refresh(_: Seen) -> None:
            body = rig.world.record("succeed", task, clips=("c1",))
            for name in ("url_mp3", "url_wav"):
                body["task_result"]["audios"][0][name] += "&fresh=1"
            await rig.told(task, body)

        good = rig.world.media["/media/c1.wav"][0]
        rig.world.media["/media/c1.wav"] = [Reply(404, first=refresh), good]
        await rig.work(JobKind.ARCHIVE)
        assert not (await rig.task(task)).query_wanted
        await rig.work(JobKind.ARCHIVE)
        assert (await rig.state(task))[0] is State.ARCHIVED
        assert rig.world.asked()[1:] == []

    stage.play(story)


def test_links_to_places_that_are_not_the_providers_are_never_fetched(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        record = rig.world.record("succeed", task, clips=("c1",))
        record["task_result"]["audios"][0]["url_mp3"] = "https://evil.example/x.mp3"
        record["task_result"]["audios"][0]["url_wav"] = "http://10.0.0.1/x.wav"
        assert await rig.told(task, record) == "moved"
        await rig.work(JobKind.ARCHIVE)
        assert {asset.error for asset in await rig.assets(task)} == {"fetch_blocked"}
        assert (await rig.task(task)).query_wanted

    stage.play(story)


def test_nothing_of_a_signed_link_or_a_token_is_ever_logged(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.succeeded()
        rig.world.media["/media/c1.wav"].insert(0, Reply(403))
        await rig.told(task, rig.world.record("succeed", task, clips=("c1",)))
        await until_settled(rig, 2)
        assert (await rig.state(task))[0] is State.ARCHIVED
        token = rig.services.tokens.callback_token(ACCOUNT, task)
        text = json.dumps(rig.logs, default=str)
        assert len(rig.logs) > 8
        assert [secret for secret in ("hushhush", "ksSecret", token, "provider-api-key") if secret in text] == []

    stage.play(story)


def test_a_pass_may_be_cut_at_any_moment_and_the_next_one_finishes(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.succeeded()
        for fraction in range(6):
            job = await rig.claim(JobKind.ARCHIVE, lease=timedelta(seconds=-1))
            if job is None:
                break
            cut = asyncio.create_task(rig.worker.outcomes([job]))
            await asyncio.wait({cut}, timeout=0.01 * fraction)
            cut.cancel()
            await asyncio.wait({cut})
        if (await rig.state(task))[0] is not State.ARCHIVED:
            await rig.work(JobKind.ARCHIVE)
        assert (await rig.state(task))[0] is State.ARCHIVED
        assert (await rig.story(task)).count("asset.stored") == 2

    stage.play(story)
