from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from receiver.core import keeping
from receiver.core.model import Asset, AssetId, AssetState, Format, Media, TaskId, Trust

MP3, WAV, MP4, M4A = Format.MP3, Format.WAV, Format.MP4, Format.M4A
NOW = datetime(2026, 11, 21, tzinfo=UTC)


def media(*formats: Format) -> list[Media]:
    return [Media(clip="c", position=0, format=each, url=f"https://a.example/{each}") for each in formats]


def assets(*named: tuple[str, Format]) -> list[Asset]:
    return [
        Asset(
            id=AssetId(1),
            task_id=TaskId(7),
            clip=clip,
            position=0,
            format=form,
            state=AssetState.STORED,
            url="https://a.example/x",
            trust=Trust.CONFIRMED,
            link_expires_at=None,
            gone_at=NOW + timedelta(days=1),
        )
        for clip, form in named
    ]


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (set(), [MP3, WAV]),
        ({"cuts"}, [MP3, WAV]),
        ({"keep_video"}, [MP3, WAV, MP4]),
        ({"keep_video", "cuts"}, [MP3, WAV, MP4]),
        ({"only_videos"}, [MP3, WAV, MP4]),
        ({"only_videos", "cuts"}, [MP3, WAV, M4A]),
        ({"only_videos", "keep_video"}, [MP3, WAV, MP4]),
        ({"only_videos", "keep_video", "cuts"}, [MP3, WAV, M4A, MP4]),
    ],
)
def test_sound_is_always_kept_and_videos_by_option_or_for_their_sound(options: set[str], kept: list[Format]) -> None:
    on = {name: name in options for name in ("only_videos", "keep_video", "cuts")}
    assert [each.format for each in keeping.wanted(media(MP3, WAV, MP4), **on)] == kept


def test_the_sound_of_a_video_is_had_by_the_same_link_under_the_same_name() -> None:
    (offered,) = media(MP4)
    cut, kept = keeping.wanted([offered], only_videos=True, keep_video=True, cuts=True)
    assert (cut.clip, cut.position, cut.url) == (kept.clip, kept.position, kept.url)
    assert kept == offered


BOTH = [("c", MP3), ("c", WAV)]


@pytest.mark.parametrize(
    ("named", "promised"),
    [
        (BOTH, {MP3, WAV}),
        ([*BOTH, ("v", MP4)], {MP3, WAV}),
        ([*BOTH, ("v", M4A)], {MP3, WAV}),
        ([("v", M4A), ("v", MP4)], {MP4}),
        ([*BOTH, ("v", MP4)], {MP3, WAV, MP4}),
        ([("v", M4A)], set()),
        ([], {MP3, MP4}),
    ],
)
def test_a_clip_with_all_that_is_promised_for_its_kind_is_whole(
    named: list[tuple[str, Format]], promised: set[Format]
) -> None:
    assert not keeping.lacks_format(assets(*named), promised)


@pytest.mark.parametrize(
    ("named", "promised"),
    [
        ([*BOTH, ("d", MP3)], {MP3, WAV}),
        ([("v", MP4)], {MP3, WAV}),
        ([("v", M4A)], {MP3, WAV}),
        ([("v", M4A)], {MP4}),
        (BOTH, {MP3, WAV, MP4}),
    ],
)
def test_a_clip_without_a_promised_format_or_no_clip_of_a_promised_kind_is_noticed(
    named: list[tuple[str, Format]], promised: set[Format]
) -> None:
    assert keeping.lacks_format(assets(*named), promised)


def test_only_videos_without_any_sound_beside_them_are_uncut() -> None:
    assert keeping.is_uncut(assets(("v", MP4)))
    assert not keeping.is_uncut(assets(("v", MP4), ("v", M4A)))
    assert not keeping.is_uncut(assets(("v", MP4), *BOTH))
    assert not keeping.is_uncut([])
