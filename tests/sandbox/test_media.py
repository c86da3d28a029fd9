import hashlib
import io
import time
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import httpx
import numpy as np
import pytest
import soundfile

from tests.sandbox.rig import Sandbox

MONTH = 30 * 24 * 3600


def fetch(link: str, **headers: str) -> httpx.Response:
    return httpx.get(link, headers=headers, trust_env=False)


@pytest.mark.parametrize(
    ("form", "kind", "subtype"), [("mp3", "audio/mpeg", "MPEG_LAYER_III"), ("wav", "audio/wav", "PCM_16")]
)
def test_a_clip_is_real_audio_as_ordered(shared: Sandbox, form: str, kind: str, subtype: str) -> None:
    clip = shared.clip(shared.make(duration=4.2))
    answer = fetch(clip[f"url_{form}"])
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    assert int(answer.headers["content-length"]) == len(answer.content)
    with soundfile.SoundFile(io.BytesIO(answer.content)) as sound:
        assert (sound.samplerate, sound.channels, sound.subtype) == (44_100, 1, subtype)
        samples = sound.read()
    assert abs(len(samples) / 44_100 - 4.2) < 0.3
    assert abs(float(clip[f"duration_{form}"]) - 4.2) < 0.3
    assert float(np.abs(samples).max()) > 0.1


def test_clips_differ_from_task_to_task(shared: Sandbox) -> None:
    ids = [shared.make() for _ in range(3)]
    for form in ("mp3", "wav"):
        assert len({fetch(shared.clip(one)[f"url_{form}"]).content for one in ids}) == 3


def test_the_ledger_knows_the_bytes(shared: Sandbox) -> None:
    task_id = shared.make()
    clip = shared.clip(task_id)
    audios = shared.entry(task_id)["audios"]
    assert [audio["format"] for audio in audios] == ["mp3", "wav"]
    for audio in audios:
        content = fetch(clip[f"url_{audio['format']}"]).content
        assert audio["id"] == clip["id"]
        assert audio["bytes"] == len(content)
        assert audio["sha256"] == hashlib.sha256(content).hexdigest()
        assert audio["duration"] == clip[f"duration_{audio['format']}"]


def test_a_range_is_served(shared: Sandbox) -> None:
    link = shared.clip(shared.make())["url_mp3"]
    whole = fetch(link)
    etag = whole.headers["etag"]
    assert etag.startswith('"')
    part = fetch(link, range="bytes=1000-")
    assert (part.status_code, part.content) == (206, whole.content[1000:])
    assert part.headers["content-range"] == f"bytes 1000-{len(whole.content) - 1}/{len(whole.content)}"
    assert part.headers["etag"] == etag
    assert fetch(link, range="bytes=10-19").content == whole.content[10:20]
    beyond = fetch(link, range=f"bytes={len(whole.content)}-")
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(whole.content)}")


def test_if_range_decides_between_part_and_whole(shared: Sandbox) -> None:
    link = shared.clip(shared.make())["url_wav"]
    whole = fetch(link)
    same = fetch(link, range="bytes=5-", **{"if-range": whole.headers["etag"]})
    assert (same.status_code, same.content) == (206, whole.content[5:])
    other = fetch(link, range="bytes=5-", **{"if-range": '"another"'})
    assert (other.status_code, other.content) == (200, whole.content)


def test_a_link_has_the_form_of_klings_cdn(shared: Sandbox) -> None:
    task_id = shared.make()
    clip = shared.clip(task_id)
    for form in ("mp3", "wav"):
        link = urlsplit(clip[f"url_{form}"])
        assert link.path == f"/media/{task_id}/{clip['id']}.{form}"
        query = parse_qs(link.query)
        assert list(query) == ["cacheKey", "ksSecret", "ksTime"]
        assert len(bytes.fromhex(query["ksSecret"][0])) == 16
        assert abs(int(query["ksTime"][0], 16) - time.time() - MONTH) < 60


def test_an_altered_link_is_forbidden(shared: Sandbox) -> None:
    clip = shared.clip(shared.make())
    link = clip["url_mp3"]
    bare, _, query = link.partition("?")
    secret, expiry = parse_qs(query)["ksSecret"][0], parse_qs(query)["ksTime"][0]
    altered = [
        bare,
        link.replace(secret, secret[::-1]),
        link.replace(expiry, f"{int(expiry, 16) + 1:x}"),
        link.replace("=&", "%3D&"),
        link + "&more=1",
        f"{clip['url_wav'].partition('?')[0]}?{query}",
        link.replace(".mp3", ".ogg"),
    ]
    assert fetch(link).status_code == 200
    assert {fetch(wrong).status_code for wrong in altered} == {403}


def test_a_lapsed_link_is_forbidden(start: Callable[..., Sandbox]) -> None:
    sandbox = start("--link-seconds", "0", "--run-seconds", "0.1")
    assert fetch(sandbox.clip(sandbox.make())["url_mp3"]).status_code == 403


def test_links_are_fresh_at_each_query(start: Callable[..., Sandbox]) -> None:
    sandbox = start("--link-seconds", "600", "--run-seconds", "0.1")
    task_id = sandbox.make()

    def expiry() -> int:
        return int(parse_qs(urlsplit(sandbox.clip(task_id)["url_mp3"]).query)["ksTime"][0], 16)

    first = expiry()
    deadline = time.monotonic() + 20
    while expiry() == first:
        assert time.monotonic() < deadline
    assert expiry() > first


def test_links_point_to_the_public_address(start: Callable[..., Sandbox]) -> None:
    sandbox = start("--public-url", "https://media.example.net/", "--run-seconds", "0.1")
    link = sandbox.clip(sandbox.make())["url_wav"]
    assert link.startswith("https://media.example.net/media/")
    assert fetch(sandbox.url + link.removeprefix("https://media.example.net")).status_code == 200
