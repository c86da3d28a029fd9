"""The check of the demo finds what is wrong: real files of a real service, held against false ledgers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from receiver.cli import api
from receiver.cli.demonstration import checking
from receiver.cli.demonstration.board import Board, Row
from receiver.cli.demonstration.checking import Fetched, Judged, Made
from receiver.cli.demonstration.orders import VIDEO_KIND, VIDEO_SECONDS, Order, Placed
from receiver.cli.demonstration.parts import StopRequest
from receiver.core.model import Format
from receiver.sandbox import film
from tests.cli.asking import own_task
from tests.cli.rig import Demo

#: The first test waits for the whole service to start.
pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]


@pytest.fixture
def service(kept: Demo) -> Iterator[api.Client]:
    with api.connected(kept.url, kept.key) as client:
        yield client


@pytest.fixture
def row(service: api.Client, kept: Demo) -> Row:
    """One archived task of sound."""
    task = service.get(f"/v1/tasks/{own_task(kept)}").document
    return seen(service, task["id"], Order(prompt=task["input"]["prompt"], seconds=task["input"]["duration"]))


def seen(service: api.Client, task: str, order: Order) -> Row:
    board = Board(service)
    board.placed.append(Placed(task=task, order=order))
    assert board.look()
    assert board.ended
    return board.rows[0]


def truth(row: Row) -> Judged:
    """What the sandbox would say of it."""
    files = {
        (asset.task, asset.clip, asset.format): Made(bytes=asset.bytes or 0, sha256=asset.sha256 or "")
        for asset in row.assets
    }
    return Judged(charges=1, files=files, lost=0)


def fetch(service: api.Client, row: Row, judged: Judged) -> list[Fetched]:
    return list(checking.fetch_all(service, [row], judged, StopRequest()))


def test_whole_files_are_verified_in_both_formats(service: api.Client, row: Row) -> None:
    fetched = fetch(service, row, truth(row))
    assert {each.format for each in fetched} == {"mp3", "wav"}
    assert all(each.verified and not each.faults for each in fetched)


def test_a_video_is_checked_with_its_sound_and_for_its_length(service: api.Client, kept: Demo) -> None:
    task = own_task(kept, VIDEO_KIND)
    whole = seen(service, task, Order(kind=VIDEO_KIND, prompt="", seconds=VIDEO_SECONDS))
    assert [(each.format, each.faults) for each in fetch(service, whole, truth(whole))] == [
        ("mp3", ()),
        ("wav", ()),
        ("mp4", ()),
    ]
    long = seen(service, task, Order(kind=VIDEO_KIND, prompt="", seconds=VIDEO_SECONDS + 1))
    assert all("were ordered" in each.faults[0] for each in fetch(service, long, truth(long)))


def test_what_is_no_whole_video_is_seen() -> None:
    data = b"\0\0\0\x14ftypisom" + bytes(8)
    assert checking._walk(data, Format.MP4, timedelta()) == "it is no whole mp4: no_moov"


def test_sound_out_of_a_video_is_held_against_the_packets_that_the_sandbox_put_in() -> None:
    mine, other, silent = film.shoot(1, sound=True), film.shoot(2, sound=True), film.shoot(1, sound=False)
    put_in = Made(bytes=None, sha256=mine.sound_sha256 or "")
    assert checking._compare(mine.data, "", put_in) == []
    for wrong in (other.data, silent.data, mine.data[:9000], b""):
        assert checking._compare(wrong, "", put_in) == ["another sound than in the sandbox's video"]
    assert checking._walk(mine.data, Format.M4A, timedelta(seconds=3)) == "it is no whole m4a: walked_to_the_end"


def test_a_charge_is_counted_for_the_task_and_the_provider_that_it_is_of() -> None:
    task = {
        "house": "kling",
        "external_task_id": "7",
        "charged": "5",
        "callbacks": [{"outcome": "200"}, {"outcome": "lost"}],
        "attempts": [{"reply": "cut"}, {"reply": "502 html"}, {"reply": "400 1201"}, {"reply": "200 0"}],
        "audios": [],
        "videos": [{"id": "9", "format": "mp4", "bytes": 1, "sha256": "aa", "sound_sha256": "bb"}],
    }
    again, free = {**task, "charged": "0.25"}, {**task, "external_task_id": "8", "charged": "0", "videos": []}
    told = {"tasks": [task, again, free], "unmade": [], "charges": 2, "houses": {"kling": {"charges": 2}}}
    judged = checking.read(told, cuts=True)
    assert (judged.charged, judged.houses, judged.spoilt, judged.lost) == ({"7": 2}, {"kling": 2}, {"kling": 6}, 3)
    assert judged.files == {
        ("7", "9", "mp4"): Made(bytes=1, sha256="aa"),
        ("7", "9", "m4a"): Made(bytes=None, sha256="bb"),
    }
    assert checking.read(told, cuts=False).files.keys() == {("7", "9", "mp4")}


def test_other_bytes_than_the_sandbox_made_are_seen(service: api.Client, row: Row) -> None:
    judged = truth(row)
    false = {name: replace(made, sha256="0" * 64) for name, made in judged.files.items()}
    fetched = fetch(service, row, replace(judged, files=false))
    assert [(each.verified, each.faults) for each in fetched] == [(False, ("other bytes than the sandbox made",))] * 2


def test_a_file_that_the_sandbox_never_made_is_seen(service: api.Client, row: Row) -> None:
    fetched = fetch(service, row, replace(truth(row), files={}))
    assert [(each.verified, each.faults) for each in fetched] == [(False, ("the sandbox never made it",))] * 2


def test_a_record_that_is_wrong_is_seen(service: api.Client, row: Row) -> None:
    false = replace(row, assets=tuple(replace(asset, sha256="0" * 64) for asset in row.assets))
    fetched = fetch(service, false, truth(row))
    assert not any(each.verified for each in fetched)
    assert all("another hash than the service recorded" in each.faults for each in fetched)


def test_a_clip_of_another_length_is_seen_though_its_hash_is_right(service: api.Client, row: Row) -> None:
    placed = replace(row.placed, order=replace(row.placed.order, seconds=row.placed.order.seconds + 0.5))
    fetched = fetch(service, replace(row, placed=placed), truth(row))
    assert all(each.verified and "were ordered" in each.faults[0] for each in fetched)


def test_a_file_that_cannot_be_fetched_is_seen(service: api.Client, row: Row) -> None:
    gone = replace(row, assets=tuple(replace(asset, id="1234567890") for asset in row.assets))
    fetched = fetch(service, gone, truth(row))
    assert [(each.bytes, each.sha256, each.verified) for each in fetched] == [(0, None, False)] * 2
