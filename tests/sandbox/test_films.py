import hashlib
import io
import uuid
from collections.abc import Callable
from typing import Any

import av
import httpx
import numpy as np
import pytest

from receiver.sandbox import film
from tests.sandbox.rig import Sandbox
from tests.sandbox.shopping import FILM, SHOPS, TALKIE, buy, links

PATH = "/v1/audio/video-to-audio"
KLING = next(shop for shop in SHOPS if shop.house == "kling" and shop.path == PATH)
TEXT_TO_VIDEO = next(shop for shop in SHOPS if shop.house == "kling-text2video" and not shop.batch)


def packets(data: bytes) -> list[bytes]:
    with av.open(io.BytesIO(data), "r") as container:
        return [bytes(packet) for packet in container.demux(container.streams.audio[0]) if packet.size]


def samples(data: bytes) -> Any:
    with av.open(io.BytesIO(data), "r") as container:
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])


def test_a_film_is_a_real_one_with_a_real_sound() -> None:
    shot = film.shoot(7, sound=True)
    assert len(shot.data) < 60_000
    with av.open(io.BytesIO(shot.data), "r") as container:
        (video,), (audio,) = container.streams.video, container.streams.audio
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        assert float(shot.duration) == pytest.approx((container.duration or 0) / av.time_base, abs=0.01)
        assert len(list(container.decode(video=0))) == video.frames
    heard = samples(shot.data)
    assert 2.9 < len(heard) / 44_100 < 3.2
    assert 0.2 < float(np.abs(heard).max()) <= 1


def test_films_differ_in_their_sound_and_the_hash_is_that_of_the_packets() -> None:
    shots = [film.shoot(seed, sound=True) for seed in range(8)]
    assert len({shot.sound_sha256 for shot in shots}) == 8
    assert len({tuple(sorted(packets(shot.data))) for shot in shots}) == 1
    for shot in shots:
        assert hashlib.sha256(b"".join(packets(shot.data))).hexdigest() == shot.sound_sha256
    assert film.shoot(3, sound=True) == shots[3]


def test_a_silent_film_has_no_sound() -> None:
    shot = film.shoot(1, sound=False)
    assert shot.sound_sha256 is None
    with av.open(io.BytesIO(shot.data), "r") as container:
        assert not container.streams.audio


def test_video_to_audio_ends_as_the_sample(shared: Sandbox) -> None:
    bought = buy(shared, KLING)
    told = bought.ended()
    assert told["task_info"]["external_task_id"] == bought.external
    parent = told["task_info"]["parent_video"]
    assert (set(parent), parent["url"]) == ({"id", "url", "duration"}, FILM["video_url"])
    (audio,), (video,) = told["task_result"]["audios"], told["task_result"]["videos"]
    assert set(audio) == {"id", "url_mp3", "url_wav", "duration_mp3", "duration_wav"}
    assert set(video) == {"id", "url", "duration"}
    assert audio["id"] != video["id"]
    assert all(isinstance(text, str) for text in [*audio.values(), *video.values()])


def test_the_ledger_knows_the_film_and_its_sound(shared: Sandbox) -> None:
    bought = buy(shared, KLING)
    answer = httpx.get(links(bought.ended())["mp4"], trust_env=False)
    assert answer.headers["content-type"] == "video/mp4"
    (entry,) = bought.entry()["videos"]
    assert entry["sha256"] == hashlib.sha256(answer.content).hexdigest()
    assert entry["sound_sha256"] == hashlib.sha256(b"".join(packets(answer.content))).hexdigest()


def test_sound_off_gives_a_silent_film(shared: Sandbox) -> None:
    bought = buy(shared, TEXT_TO_VIDEO, sound="off")
    content = httpx.get(links(bought.ended())["mp4"], trust_env=False).content
    (entry,) = bought.entry()["videos"]
    assert (entry["sha256"], entry["sound_sha256"]) == (hashlib.sha256(content).hexdigest(), None)


@pytest.mark.parametrize(
    "change",
    [
        {"video_url": "", "video_id": "861034216165875784"},
        {"video_id": "", "bgm_prompt": "", "sound_effect_prompt": "x" * 200, "asmr_mode": True},
        {"video_url": "https://example.net/a/SOURCE.MOV?sig=1"},
        {"external_task_id": "", "callback_url": ""},
    ],
)
def test_what_the_documents_tolerate_is_taken(shared: Sandbox, change: dict[str, Any]) -> None:
    assert shared.client.post(PATH, json=FILM | change).status_code == 200


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"video_url": ""}, "video_id"),
        ({"video_id": "861034216165875784"}, "video_id"),
        ({"video_id": "not an id", "video_url": ""}, "video_id"),
        ({"video_id": 861034216165875784, "video_url": ""}, "video_id"),
        ({"video_url": "https://example.net/source.avi"}, ".mp4"),
        ({"video_url": "file:///source.mp4"}, "video_url"),
        ({"bgm_prompt": "x" * 201}, "bgm_prompt"),
        ({"sound_effect_prompt": 7}, "sound_effect_prompt"),
        ({"asmr_mode": "true"}, "asmr_mode"),
        ({"prompt": "rain"}, "prompt"),
        ({"audio_type": "music"}, "audio_type"),
    ],
)
def test_a_wrong_field_is_refused_by_name(shared: Sandbox, change: dict[str, Any], named: str) -> None:
    answer = shared.client.post(PATH, json=FILM | change)
    assert (answer.status_code, answer.json()["code"]) == (400, 1201)
    assert named in answer.json()["message"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_name": "kling-v1"}, "sound"),
        ({"model_name": "kling-v9"}, "model_name"),
        ({"sound": True}, "sound"),
        ({"duration": 5}, "duration"),
        ({"mode": "fast"}, "mode"),
        ({"cfg_scale": 2}, "cfg_scale"),
        ({"prompt": "x" * 2501}, "prompt"),
    ],
)
def test_a_wrong_field_of_a_video_is_refused_by_name(shared: Sandbox, change: dict[str, Any], named: str) -> None:
    answer = shared.client.post("/kling-text2video/v1/videos/text2video", json=TALKIE | change)
    assert (answer.status_code, answer.json()["code"]) == (400, 1201)
    assert named in answer.json()["message"]


def test_products_have_lists_and_queries_of_their_own(start: Callable[..., Sandbox]) -> None:
    sandbox = start("--run-seconds", "600")
    sound, video = sandbox.make(), buy(sandbox, KLING).id
    assert [task["task_id"] for task in sandbox.client.get(PATH).json()["data"]] == [video]
    assert sandbox.client.get(f"{PATH}/{sound}").json()["code"] == 1201


def test_external_ids_are_unique_across_products(shared: Sandbox) -> None:
    external = str(uuid.uuid4())
    shared.make(external_task_id=external)
    answer = shared.client.post(PATH, json=FILM | {"external_task_id": external})
    assert (answer.status_code, answer.json()["code"]) == (400, 1201)


def test_a_source_video_is_there_for_orders_that_need_one(shared: Sandbox) -> None:
    told = buy(shared, KLING, video_url="", video_id="861034216165875784").ended()
    parent = told["task_info"]["parent_video"]
    assert parent["id"] == "861034216165875784"
    with av.open(io.BytesIO(httpx.get(parent["url"], trust_env=False).content)) as container:
        assert container.streams.video
