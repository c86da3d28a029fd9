"""
The requests, compared byte for byte with files written from the providers' documents.

A file holds the request line's method and path, an empty line, and the body; the
newline at its end is the file's, not the body's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from receiver.dialects.spec import catalog, check_input
from receiver.dialects.wire import WireRequest, batch_request, create_request, list_request, query_request

GOLDEN: Final = Path(__file__).with_name("golden")
OUR_ID: Final = "41234567890123456"
THEIR_ID: Final = "900000000000000001"
VIDEO: Final = "825406034503692376"
RAIN: Final = "rain on a tin roof"
OFFICIAL_URL: Final = "https://p1-kling.klingai.com/kcdn/cdn-kcdn112452/kling-qa-test/20fps-7s.mov"
WAVES: Final = {"prompt": "Soft ambient ocean waves at sunrise.", "duration": 5.0}

OFFICIAL: Final[Mapping[str, dict[str, Any]]] = {
    "text-to-audio-create": {"prompt": RAIN, "duration": 5.0},
    "text-to-audio-create-poll-only": {"prompt": RAIN, "duration": 3.5},
    "video-to-audio-create-by-url": {"video_url": OFFICIAL_URL},
    "video-to-audio-create-by-id": {
        "video_id": VIDEO,
        "asmr_mode": True,
        "bgm_prompt": "slow piano",
        "sound_effect_prompt": "waves",
    },
}
#: The input of every golden create.
CREATES: Final[Mapping[str, Mapping[str, dict[str, Any]]]] = {
    "kling": OFFICIAL,
    "sandbox": OFFICIAL,
    "cometapi": {
        "text-to-audio-create": WAVES,
        "video-to-audio-create": {"video_url": "https://xxxxx.mp4"},
    },
    "deerapi": {
        "text-to-audio-create": WAVES,
        "video-to-audio-create": {"video_url": "https://example.com/input-video.mp4"},
        "video-to-audio-create-by-id": {"video_id": "861034216165875784"},
    },
    "kkiai": {
        "text-to-audio-create": {"prompt": "Generate audio describing the scenery.", "duration": 5.0},
        "video-to-audio-create": {
            "video_id": VIDEO,
            "video_url": "",
            "sound_effect_prompt": "Human voice sounds that match the video.",
            "bgm_prompt": "",
            "asmr_mode": False,
        },
    },
    "kling-videos": {
        "video-to-audio-create": {
            "video_url": "https://example.com/video.mp4",
            "prompt": "Ocean waves, seagulls, gentle wind",
        },
        "video-to-audio-create-with-type": {
            "video_url": "https://example.com/video.mp4",
            "prompt": "Upbeat electronic background music",
            "audio_type": "music",
        },
    },
    "kling-text2video": {
        "text2video-create": {"prompt": "Ocean waves crashing on shore"},
        "text-to-video-create": {
            "prompt": "A girl sat on the train, looking out the window",
            "aspect_ratio": "9:16",
            "duration": 10,
        },
    },
    "new-api": {"text2video-create": {"prompt": "Ocean waves crashing on shore", "mode": "std", "duration": 10}},
}
FILES: Final = sorted(str(file.relative_to(GOLDEN).with_suffix("")) for file in GOLDEN.rglob("*.http"))


def golden(name: str) -> WireRequest:
    head, _, body = (GOLDEN / f"{name}.http").read_bytes().partition(b"\n\n")
    method, path = head.decode().split()
    return WireRequest(method, path, body.removesuffix(b"\n") or None)


def built(name: str) -> WireRequest:
    """Build the request that the golden file *name* shows."""
    profile_name, case = name.split("/")
    profile = catalog()[profile_name]
    kind = max((kind for kind in profile.kinds if case.startswith(f"{kind}-")), key=len)
    match case.removeprefix(f"{kind}-"):
        case "query":
            theirs = "task_abcdefghijklmnopqrstuvwxyz012345" if profile_name == "new-api" else THEIR_ID
            return query_request(profile, kind, id=theirs)
        case "query-by-our-id":
            return query_request(profile, kind, id=OUR_ID, ours=True)
        case "query-many":
            return batch_request(profile, kind, ids=["893605946402811985", "893605946402811986"])
        case "list":
            return list_request(profile, kind, page=1)
        case "list-page-3":
            return list_request(profile, kind, page=3, size=30)
        case what:
            callback = f"https://hooks.example.net/callbacks/{profile_name}/{OUR_ID}/k1.mac"
            return create_request(
                profile,
                kind,
                check_input(profile, kind, CREATES[profile_name][case]),
                external_task_id=OUR_ID,
                callback_url=None if what.endswith("poll-only") else callback,
            )


@pytest.mark.parametrize("name", FILES)
def test_each_request_is_that_of_its_document(name: str) -> None:
    expected, found = golden(name), built(name)

    assert (found.method, found.path) == (expected.method, expected.path)
    assert found.body == expected.body


def test_every_route_of_every_profile_and_kind_has_its_golden_file() -> None:
    wanted = {
        f"{profile.name}/{kind.name}-{case}"
        for profile in catalog().values()
        for kind in profile.kinds.values()
        for case, there in (
            ("query", kind.query_path),
            ("query-by-our-id", kind.query_path),
            ("query-many", kind.ids_per_query > 1),
            ("list", kind.list_path),
        )
        if there
    }
    assert wanted <= set(FILES)
    for profile in catalog().values():
        for kind in profile.kinds:
            assert any(name.startswith(f"{profile.name}/{kind}-create") for name in FILES)


def test_every_golden_create_is_tried() -> None:
    tried = {f"{profile}/{case}" for profile, cases in CREATES.items() for case in cases}
    assert tried == {name for name in FILES if "-create" in name}


@pytest.mark.parametrize("name", [name for name in FILES if "-create" in name])
def test_every_body_is_json_without_an_empty_text(name: str) -> None:
    body = golden(name).body
    assert body is not None
    assert "" not in json.loads(body).values()
