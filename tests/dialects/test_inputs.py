"""What a submitter may send, and what is said of the rest."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.core.errors import InvalidInput
from receiver.dialects.spec import catalog, check_input, load

KLING = catalog()["kling"]

VIDEO = """\
extends = "kling"
name = "video"
[kinds.video-to-audio]
create_path = "/v1/audio/video-to-audio"
query_path = "/v1/audio/video-to-audio/{id}"
formats = ["mp3"]
exactly_one = [["video_id", "video_url"]]
fields.video_id.type = "string"
fields.video_url.type = "string"
fields.bgm_prompt.type = "string"
fields.bgm_prompt.max_chars = 200
fields.asmr_mode.type = "boolean"
fields.mode.type = "string"
fields.mode.choices = ["std", "pro"]
fields.mode.default = "std"
fields.speed.type = "number"
fields.least.type = "number"
fields.least.min = 1
fields.most.type = "number"
fields.most.max = 9
"""


def wrong(raw: dict[str, object], kind: str = "text-to-audio") -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        check_input(KLING, kind, raw)
    return {error.field: error.message for error in caught.value.errors}


@pytest.mark.parametrize("duration", [3, 3.0, 5.1, 9.9, 10, 10.0])
def test_a_good_input_comes_back_in_order(duration: float) -> None:
    checked = check_input(KLING, "text-to-audio", {"duration": duration, "prompt": "rain"})

    assert list(checked) == ["prompt", "duration"]
    assert checked["duration"] == duration


def test_d9_whole_durations_are_one_and_the_same_request() -> None:
    checked = [
        check_input(KLING, "text-to-audio", {"prompt": "a", "duration": value})["duration"] for value in (5, 5.0)
    ]

    assert [repr(value) for value in checked] == ["5", "5"]


def test_d13_characters_are_counted_as_code_points() -> None:
    assert check_input(KLING, "text-to-audio", {"prompt": "\U0001f327" * 200, "duration": 5})
    assert wrong({"prompt": "\U0001f327" * 201, "duration": 5}) == {
        "input.prompt": "has 201 characters; at most 200 are allowed",
    }


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("prompt", 5, "must be a text"),
        ("prompt", None, "must be a text"),
        ("prompt", ["rain"], "must be a text"),
        ("prompt", "", "must not be blank"),
        ("prompt", " \n\u3000", "must not be blank"),
        ("prompt", "a\0b", "NUL"),
        ("prompt", "a\ud83cb", "surrogate"),
        ("duration", "5", "must be a number"),
        ("duration", True, "must be a number"),
        ("duration", None, "must be a number"),
        ("duration", math.nan, "finite"),
        ("duration", math.inf, "finite"),
        ("duration", 2.9, "must be from 3.0 to 10.0"),
        ("duration", 10.1, "must be from 3.0 to 10.0"),
        ("duration", -5, "must be from 3.0 to 10.0"),
        ("duration", 10**400, "must be from 3.0 to 10.0"),
        ("duration", 5.05, "at most 1 digits"),
        ("duration", 5.0000001, "at most 1 digits"),
    ],
)
def test_each_wrong_value_is_named(field: str, value: object, message: str) -> None:
    errors = wrong({"prompt": "rain", "duration": 5, field: value})

    assert list(errors) == [f"input.{field}"]
    assert message in errors[f"input.{field}"]


def test_every_wrong_field_is_named_at_once() -> None:
    errors = wrong({"duration": 11, "tempo": 3, "callback_url": "https://x.example"})

    assert errors["input.prompt"] == "is required"
    assert errors["input.tempo"] == "no such field; there are prompt, duration"
    assert errors["input.callback_url"] == "leave it out: the service sets it"
    assert set(errors) == {"input.prompt", "input.tempo", "input.callback_url", "input.duration"}


def test_an_unknown_kind_lists_the_known_ones() -> None:
    assert wrong({}, kind="text-to-video") == {"kind": "kling has no such kind; it has text-to-audio, video-to-audio"}


def test_a_strange_key_is_shown_without_harm() -> None:
    (field,) = set(wrong({"prompt": "a", "duration": 5, "\ud800\0\n" + "x" * 1000: 1}))

    assert field.isascii()
    assert field.isprintable()
    assert len(field) < 100


def test_d11_d12_unused_fields_are_left_out() -> None:
    profile = load(VIDEO, origin="video.toml")

    checked = check_input(profile, "video-to-audio", {"video_id": "7", "video_url": "", "bgm_prompt": ""})

    assert checked == {"video_id": "7", "mode": "std"}


@pytest.mark.parametrize(
    ("raw", "field", "message"),
    [
        ({}, "video_id", "exactly one of video_id, video_url"),
        ({"video_id": "1", "video_url": "2"}, "video_id", "exactly one"),
        ({"video_id": 1}, "video_id", "must be a text"),
        ({"video_id": "1", "asmr_mode": 1}, "asmr_mode", "true or false"),
        ({"video_id": "1", "mode": "max"}, "mode", "one of std, pro"),
        ({"video_id": "1", "speed": 10**30}, "speed", "too large"),
        ({"video_id": "1", "least": 0}, "least", "at least 1"),
        ({"video_id": "1", "most": 10}, "most", "at most 9"),
    ],
)
def test_the_other_rules_of_a_profile_are_kept(raw: dict[str, object], field: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_input(load(VIDEO, origin="video.toml"), "video-to-audio", raw)

    (error,) = caught.value.errors
    assert error.field == f"input.{field}"
    assert message in error.message


@given(
    st.dictionaries(
        st.one_of(st.sampled_from(["prompt", "duration"]), st.text()),
        st.one_of(st.text(), st.floats(), st.integers(), st.booleans(), st.none(), st.lists(st.integers())),
    ),
)
def test_any_input_is_taken_or_refused_by_name(raw: dict[str, object]) -> None:
    try:
        checked = check_input(KLING, "text-to-audio", raw)
    except InvalidInput as exc:
        str(exc).encode()
        return
    assert check_input(KLING, "text-to-audio", checked) == checked
