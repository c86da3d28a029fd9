"""The bytes that go to a provider."""

from __future__ import annotations

import json

import pytest

from receiver.dialects.spec import catalog, check_input, load
from receiver.dialects.wire import create_request, query_request

KLING = catalog()["kling"]

NEW_STANDARD = """\
extends = "kling"
name = "new-standard"
[kinds.text-to-video]
create_path = "/text-to-video/kling-2.6"
query_path = "/tasks?external_task_ids={id}"
formats = ["mp3"]
external_id_path = "options.external_task_id"
callback_path = "options.callback_url"
[kinds.text-to-video.constants]
"settings.audio" = "native"
[kinds.text-to-video.fields.prompt]
type = "string"
[kinds.text-to-video.fields.duration]
type = "number"
decimals = 0
path = "settings.duration"
send_as = "text"
"""

POLL_ONLY = """\
extends = "kling"
name = "deaf"
query = false
[kinds.text-to-audio]
query_path = ""
external_id_path = ""
callback_path = ""
"""


def test_a_create_is_these_very_bytes() -> None:
    values = check_input(KLING, "text-to-audio", {"duration": 5.0, "prompt": "rain on a tin roof — „leise“"})

    request = create_request(
        KLING,
        "text-to-audio",
        values,
        external_task_id="41234567890123456",
        callback_url="https://hooks.example.net/callbacks/kling/41234567890123456/k1.mac",
    )

    assert request.method == "POST"
    assert request.path == "/v1/audio/text-to-audio"
    assert (
        request.body
        == (
            '{"prompt":"rain on a tin roof — „leise“","duration":5,"external_task_id":"41234567890123456",'
            '"callback_url":"https://hooks.example.net/callbacks/kling/41234567890123456/k1.mac"}'
        ).encode()
    )


def test_d12_without_a_public_url_no_callback_url_is_sent() -> None:
    request = create_request(
        KLING,
        "text-to-audio",
        {"prompt": "rain", "duration": 3.5},
        external_task_id="1",
        callback_url=None,
    )

    assert request.body == b'{"prompt":"rain","duration":3.5,"external_task_id":"1"}'


def test_d1_audio_is_asked_for_under_v1_audio() -> None:
    assert all(kind.create_path.startswith("/v1/audio/") for kind in KLING.kinds.values())


def test_a_request_never_shows_its_body() -> None:
    request = create_request(
        KLING,
        "text-to-audio",
        {"prompt": "rain", "duration": 3},
        external_task_id="1",
        callback_url="https://hooks.example.net/token",
    )

    assert "token" not in repr(request)


def test_d9_a_profile_may_place_and_type_its_fields_otherwise() -> None:
    profile = load(NEW_STANDARD, origin="new.toml")

    request = create_request(
        profile,
        "text-to-video",
        check_input(profile, "text-to-video", {"prompt": "sea", "duration": 5}),
        external_task_id="7",
        callback_url="https://h.example/c",
    )

    assert json.loads(request.body or b"") == {
        "prompt": "sea",
        "settings": {"duration": "5", "audio": "native"},
        "options": {"external_task_id": "7", "callback_url": "https://h.example/c"},
    }


def test_a_provider_that_takes_no_ids_gets_none() -> None:
    profile = load(POLL_ONLY, origin="deaf.toml")

    request = create_request(
        profile,
        "text-to-audio",
        {"prompt": "sea"},
        external_task_id="7",
        callback_url="https://h.example/c",
    )

    assert request.body == b'{"prompt":"sea"}'
    with pytest.raises(ValueError, match="no query route"):
        query_request(profile, "text-to-audio", id="7")


@pytest.mark.parametrize(
    ("id_", "path"),
    [
        ("900000000000000001", "/v1/audio/text-to-audio/900000000000000001"),
        ("CjNP/w==", "/v1/audio/text-to-audio/CjNP%2Fw%3D%3D"),
        ("a?b#c d%", "/v1/audio/text-to-audio/a%3Fb%23c%20d%25"),
        ("\u00e9", "/v1/audio/text-to-audio/%C3%A9"),
    ],
)
def test_d26_ids_are_encoded_in_paths(id_: str, path: str) -> None:
    request = query_request(KLING, "text-to-audio", id=id_)

    assert (request.method, request.path, request.body) == ("GET", path, None)
