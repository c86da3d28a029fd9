"""Videos, and the sound that is cut out of them."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

import pytest

from receiver.core import keeping
from receiver.core.model import AssetState, Format, JobKind, State, TaskId
from receiver.flow import act
from receiver.flow.accept import Order, accept
from receiver.flow.services import Deal
from receiver.transfer.bucket import Bucket
from receiver.transfer.cut import Cutter
from receiver.wiring import bucket_config
from tests.flow.rig import ACCOUNT, KEY, Rig, Stage
from tests.flow.world import JsonMap, Reply, created, envelope, sound
from tests.transfer.films import film, packets
from tests.transfer.servers import RawHost

VIDEO: Final = "https://example.com/in.mp4"
#: An account whose answers hold videos alone.
ONLY_VIDEOS: Final = {"dialect": "kling-videos", "webhook_secrets": (), "asset_hosts": ("127.0.0.1",)}


@dataclass
class Show:
    """A video-to-audio task that the provider has made, and the film that it offers."""

    rig: Rig
    task: TaskId

    @property
    def link(self) -> str:
        return self.rig.world.link("v1.mp4")

    def serve(self, *replies: Reply) -> None:
        self.rig.world.media["/media/v1.mp4"] = list(replies)

    def record(self, **lists: list[JsonMap]) -> JsonMap:
        given = lists or {"videos": [{"id": "v1", "url": self.link, "duration": "1.0"}]}
        return self.rig.world.record("succeed", self.task) | {"task_result": given}

    async def answered(self, **lists: list[JsonMap]) -> None:
        """Let the provider's own answer be heard."""
        self.rig.world.queries = [envelope(0, "SUCCEED", data=self.record(**lists))]
        await self.rig.forget_spacing(self.task)
        await self.rig.work(JobKind.QUERY)

    async def archived(self) -> None:
        await self.rig.work(JobKind.ARCHIVE)
        assert (await self.rig.state(self.task))[0] is State.ARCHIVED

    async def formats(self) -> dict[str, AssetState]:
        return {asset.format: asset.state for asset in await self.rig.assets(self.task)}

    async def bytes_of(self, form: Format) -> bytes:
        (asset,) = [asset for asset in await self.rig.assets(self.task) if asset.format is form]
        assert asset.key is not None
        async with await self.rig.services.bucket.read(asset.key) as stream:
            return b"".join([chunk async for chunk in stream])

    async def keys(self, suffix: str) -> list[str]:
        return [each.key async for each in self.rig.services.bucket.list("") if each.key.endswith(suffix)]

    def fetches(self) -> int:
        return len(self.rig.world.fetched())


async def begin(rig: Rig) -> Show:
    rig.world.creates = [created()]
    order = Order(account=ACCOUNT, kind="video-to-audio", input={"video_url": VIDEO}, labels={}, idempotency_key=None)
    show = Show(rig, (await accept(rig.services, KEY, order)).id)
    await rig.work(JobKind.SUBMIT)
    show.serve(Reply(200, film()))
    return show


def play(stage: Stage, story: Callable[[Show], Awaitable[None]], **account: Any) -> None:
    async def played(rig: Rig) -> None:
        await story(await begin(rig))

    stage.play(played, **account)


def without_extra(rig: Rig) -> None:
    """Let this process be one that cannot cut."""
    deal = rig.services.deals[ACCOUNT]
    rig.services = replace(rig.services, deals={ACCOUNT: Deal(deal.account, deal.profile, cuts=False)})
    rig.worker.services = rig.services


def heard(rig: Rig) -> list[JsonMap]:
    """Return sound in files of its own, and serve it."""
    rig.world.media |= {f"/media/a1.{kind}": [Reply(200, sound(kind))] for kind in ("mp3", "wav")}
    return [{"id": "a1", "url_mp3": rig.world.link("a1.mp3"), "url_wav": rig.world.link("a1.wav")}]


def test_the_sound_of_a_video_ends_in_the_bucket_as_it_was(stage: Stage) -> None:
    async def story(show: Show) -> None:
        await show.answered()
        await show.archived()
        (asset,) = await show.rig.assets(show.task)
        assert (asset.format, asset.media_type, asset.duration) == ("m4a", "audio/mp4", timedelta(seconds=1))
        assert packets(await show.bytes_of(Format.M4A)) == packets(film())
        assert await show.keys(".mp4") == []
        assert (await show.rig.task(show.task)).attention is None
        assert show.rig.services.downloader.spool.used == 0

    play(stage, story, **ONLY_VIDEOS)


def test_video_and_sound_come_by_one_download_and_the_manifest_says_what_was_cut_from_what(stage: Stage) -> None:
    async def story(show: Show) -> None:
        await show.answered()
        await show.archived()
        assert show.fetches() == 1
        assert await show.bytes_of(Format.MP4) == film()
        (key,) = await show.keys(".json")
        async with await show.rig.services.bucket.read(key) as stream:
            manifest = json.loads(b"".join([chunk async for chunk in stream]))
        cut, whole = manifest["assets"]
        digest = hashlib.sha256(film()).hexdigest()
        assert (cut["format"], cut["cut_from"]) == ("m4a", {"format": "mp4", "sha256": digest})
        assert (cut["clip"], cut["source_host"]) == (whole["clip"], whole["source_host"]) == ("v1", "127.0.0.1")
        assert (whole["format"], whole["sha256"]) == ("mp4", digest)
        assert "cut_from" not in whole
        rows = await show.rig.sql("SELECT data FROM event WHERE type = 'asset.stored' ORDER BY id")
        assert [row["data"].get("cut_from") for row in rows] == [digest, None]

    play(stage, story, **ONLY_VIDEOS, keep_video=True)


@pytest.mark.parametrize("keep", [False, True])
def test_a_product_with_sound_of_its_own_keeps_the_video_by_option_alone(stage: Stage, *, keep: bool) -> None:
    async def story(show: Show) -> None:
        await show.answered(audios=heard(show.rig), videos=[{"id": "v1", "url": show.link}])
        await show.archived()
        formats = {"mp3", "wav", "mp4"} if keep else {"mp3", "wav"}
        assert await show.formats() == dict.fromkeys(formats, AssetState.STORED)
        assert show.fetches() == len(formats)
        assert len(show.rig.world.asked()) <= 1

    play(stage, story, keep_video=keep)


def test_a_video_that_is_kept_and_not_named_is_asked_for_once(stage: Stage) -> None:
    async def story(show: Show) -> None:
        await show.rig.told(show.task, show.record(audios=heard(show.rig)))
        await show.rig.work(JobKind.ARCHIVE)
        assert (await show.rig.state(show.task))[0] is State.SUCCEEDED
        await show.answered(audios=heard(show.rig), videos=[{"id": "v1", "url": show.link}])
        await show.archived()
        assert "mp4" in await show.formats()

    play(stage, story, keep_video=True)


def test_a_callback_that_lost_its_sound_makes_us_ask_and_is_no_reason_to_cut(stage: Stage) -> None:
    async def story(show: Show) -> None:
        await show.rig.told(show.task, show.record())
        assert await show.formats() == {}
        assert (await show.rig.task(show.task)).query_wanted
        await show.answered(audios=heard(show.rig), videos=[{"id": "v1", "url": show.link}])
        await show.archived()
        assert set(await show.formats()) == {"mp3", "wav"}

    play(stage, story)


def test_an_answer_that_names_videos_alone_is_cut_after_it_was_given_twice(stage: Stage) -> None:
    async def story(show: Show) -> None:
        await show.answered()
        await show.rig.work(JobKind.ARCHIVE)
        assert await show.rig.state(show.task) == (State.SUCCEEDED, None)
        await show.answered()
        assert (await show.rig.state(show.task))[0] is State.ARCHIVED
        assert await show.formats() == {"m4a": AssetState.STORED}

    play(stage, story)


def test_without_the_extra_the_video_is_archived_and_says_so_until_it_is_cut(stage: Stage) -> None:
    async def story(show: Show) -> None:
        able = show.rig.services
        without_extra(show.rig)
        await show.answered()
        await show.archived()
        found = await show.rig.task(show.task)
        assert (found.attention, found.reason) == (keeping.NOT_CUT, None)
        assert await show.formats() == {"mp4": AssetState.STORED}
        assert "receiver[video]" in (found.detail or "")
        assert (await show.rig.story(show.task)).count("asset.not_cut") == 1
        show.rig.services = show.rig.worker.services = able
        await act.refresh(able, KEY.owner, show.task)
        await show.answered()
        await show.archived()
        found = await show.rig.task(show.task)
        assert (found.attention, found.detail, found.revision) == (None, None, 2)
        assert set(await show.formats()) == {"mp4", "m4a"}

    play(stage, story, **ONLY_VIDEOS)


def test_a_worker_without_the_extra_takes_the_video_that_another_wanted_to_cut(stage: Stage) -> None:
    async def story(show: Show) -> None:
        await show.answered()
        without_extra(show.rig)
        settled = await show.rig.work(JobKind.ARCHIVE)
        assert settled is not None
        assert (settled.error, show.fetches()) == (keeping.NOT_CUT, 0)
        await show.answered()
        await show.archived()
        assert await show.formats() == {"mp4": AssetState.STORED}

    play(stage, story, **ONLY_VIDEOS)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (film(codec=None), "no_audio_track"),
        (film()[:-9], "incomplete_cut_mdat"),
        (sound("wav"), "wrong_format_wav"),
        (b"<html>403 Forbidden</html>" * 9, "error_page"),
    ],
)
def test_a_film_without_whole_sound_is_given_up_after_the_third_fetch(stage: Stage, data: bytes, why: str) -> None:
    async def story(show: Show) -> None:
        show.serve(Reply(200, data))
        await show.answered()
        for _ in range(3):
            await show.rig.work(JobKind.ARCHIVE)
        found = await show.rig.task(show.task)
        assert (found.state, found.reason) == (State.FAILED, "media_invalid")
        assert [asset.error for asset in found.assets] == [f"media_invalid: {why}"]
        assert await show.keys(".m4a") == []

    play(stage, story, **ONLY_VIDEOS)


def test_a_kept_video_without_sound_leaves_the_task_partial(stage: Stage) -> None:
    async def story(show: Show) -> None:
        show.serve(Reply(200, film(codec=None)))
        await show.answered()
        for _ in range(3):
            await show.rig.work(JobKind.ARCHIVE)
        assert (await show.rig.state(show.task))[0] is State.PARTIAL
        assert await show.formats() == {"m4a": AssetState.INVALID, "mp4": AssetState.STORED}

    play(stage, story, **ONLY_VIDEOS, keep_video=True)


def test_sound_alone_in_the_place_of_a_video_is_taken(stage: Stage) -> None:
    async def story(show: Show) -> None:
        show.serve(Reply(200, film(picture=False, form="ipod")))
        await show.answered()
        await show.archived()

    play(stage, story, **ONLY_VIDEOS)


def test_bytes_wait_for_a_bucket_that_is_away_and_are_fetched_once(stage: Stage) -> None:
    async def story(show: Show) -> None:
        rig = show.rig
        await show.answered()
        good = rig.services
        with RawHost(lambda _: False) as gone:
            down = Bucket(replace(bucket_config(stage.settings(rig.world.url)), endpoint=gone.url))
            rig.worker.services = replace(good, bucket=down)
            settled = await rig.work(JobKind.ARCHIVE)
            down.close()
        assert settled is not None
        assert settled.error == "bucket_unavailable"
        rig.worker.services = good
        await show.archived()
        assert show.fetches() == 1
        assert good.downloader.spool.used == 0

    play(stage, story, **ONLY_VIDEOS, keep_video=True)


def test_a_cut_that_does_not_come_to_its_end_is_tried_again_with_the_same_bytes(stage: Stage) -> None:
    async def story(show: Show) -> None:
        rig = show.rig
        await show.answered()
        good = rig.services
        rig.worker.services = replace(good, cutter=Cutter(good.downloader.spool, patience=timedelta()))
        settled = await rig.work(JobKind.ARCHIVE)
        assert settled is not None
        assert settled.error == "track_unavailable"
        rig.worker.services = good
        await show.archived()
        assert show.fetches() == 1

    play(stage, story, **ONLY_VIDEOS)


def test_a_pass_may_be_cut_at_any_moment_and_no_object_is_doubled(stage: Stage) -> None:
    async def story(show: Show) -> None:
        rig = show.rig
        await show.answered()
        for step in range(8):
            job = await rig.claim(JobKind.ARCHIVE, lease=timedelta(seconds=-1))
            if job is None:
                break
            cut = asyncio.create_task(rig.worker.outcomes([job]))
            await asyncio.wait({cut}, timeout=0.03 * step)
            cut.cancel()
            await asyncio.wait({cut})
        if (await rig.state(show.task))[0] is not State.ARCHIVED:
            await show.archived()
        assert len(await show.keys(".m4a")) == len(await show.keys(".mp4")) == 1
        assert (await rig.story(show.task)).count("asset.stored") == 2
        assert rig.services.downloader.spool.used == 0

    play(stage, story, **ONLY_VIDEOS, keep_video=True)
