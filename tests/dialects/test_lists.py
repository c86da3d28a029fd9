"""Asking for many tasks at once, and reading what comes."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.core.model import Format, ProviderStatus
from receiver.dialects.answers import ListAnswer
from receiver.dialects.spec import catalog, load
from receiver.dialects.wire import (
    LAST_PAGE,
    AccountRefused,
    Busy,
    ListPage,
    UnknownTask,
    Unsure,
    batch_request,
    list_request,
    read_list,
    read_query,
)

KLING: Final = catalog()["kling"]
NEW: Final = catalog()["kling-text2video"]
JSON: Final = "application/json"


def listed(body: Any, *, size: int = 3, profile: str = "kling", kind: str = "text-to-audio") -> ListAnswer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_list(catalog()[profile], kind, status=200, content_type=JSON, body=raw, size=size)


def entry(number: int, status: str = "processing", **more: Any) -> dict[str, Any]:
    info = {"external_task_id": f"kaa-{number}"}
    return {"task_id": f"9000{number}", "task_status": status, "task_info": info, "task_result": {}} | more


def page(*entries: Any) -> dict[str, Any]:
    return {"code": 0, "message": "SUCCEED", "request_id": "r", "data": list(entries)}


def test_a_page_keeps_the_providers_order() -> None:
    result = {"audios": [{"id": "c", "url_mp3": "https://v15-kling.klingai.com/a.mp3"}]}
    answer = listed(page(entry(3), entry(2, "succeed", task_result=result), entry(1, "failed", task_status_msg="risk")))

    assert isinstance(answer, ListPage)
    assert [report.external_task_id for report in answer.reports] == ["kaa-3", "kaa-2", "kaa-1"]
    assert [report.status for report in answer.reports] == [
        ProviderStatus.PROCESSING,
        ProviderStatus.SUCCEEDED,
        ProviderStatus.FAILED,
    ]
    assert [media.format for media in answer.reports[1].media] == [Format.MP3]
    assert answer.reports[2].reason == "risk"
    assert not answer.is_last


@pytest.mark.parametrize("entries", [[], [entry(1)], [entry(1), entry(2)]])
def test_a_page_that_is_not_full_is_the_last(entries: list[Any]) -> None:
    answer = listed(page(*entries))

    assert isinstance(answer, ListPage)
    assert answer.is_last
    assert len(answer.reports) == len(entries)


def test_no_list_at_all_is_an_empty_page() -> None:
    assert listed({"code": 0, "data": None}) == ListPage(reports=(), is_last=True)


def test_an_odd_entry_hides_no_other() -> None:
    answer = listed(page(entry(1), {"task_id": "x"}, "odd", entry(2, "pondering"), {"task_id": "\0"}, entry(4)), size=6)

    assert isinstance(answer, ListPage)
    assert [report.external_task_id for report in answer.reports] == ["kaa-1", "kaa-4"]
    assert (answer.unreadable, answer.is_last) == (4, False)


@pytest.mark.parametrize("data", [{}, "x", 1, {"task_id": "1", "task_status": "succeed"}])
def test_what_is_no_list_is_unsure(data: object) -> None:
    assert listed({"code": 0, "data": data}) == Unsure("http 200, code 0, no list")


def test_a_refused_list_is_read_as_a_query_is() -> None:
    assert listed({"code": 1302, "message": "slow"}) == Busy("1302", "slow", concurrency=False)
    assert listed({"code": 1000, "message": "no"}) == AccountRefused("1000", "no", authentication=True)
    assert listed({"code": 1201, "message": "Task not found"}) == Unsure("http 200, code 1201")


def test_videos_in_a_list_are_media_where_the_product_is_one() -> None:
    result = {"videos": [{"id": "v", "url": "https://v15-kling.klingai.com/out.mp4", "duration": "5.1"}]}
    answer = listed(page(entry(1, "succeed", task_result=result)), profile="kling-videos", kind="video-to-audio")

    assert isinstance(answer, ListPage)
    assert [(media.clip, media.format) for media in answer.reports[0].media] == [("v", Format.MP4)]


@pytest.mark.parametrize(("page_number", "size"), [(0, 1), (LAST_PAGE + 1, 1), (1, 0), (1, 501)])
def test_a_page_out_of_the_providers_range_is_not_asked_for(page_number: int, size: int) -> None:
    with pytest.raises(ValueError, match="pages go from 1"):
        list_request(KLING, "text-to-audio", page=page_number, size=size)


@pytest.mark.parametrize("profile", ["cometapi", "deerapi", "kkiai", "new-api"])
def test_no_list_route_of_the_resellers_is_documented(profile: str) -> None:
    spec = catalog()[profile]
    for kind in spec.kinds:
        assert spec.kinds[kind].list_path is None
        with pytest.raises(ValueError, match="no list route"):
            list_request(spec, kind, page=1)


def test_a_list_path_with_a_query_of_its_own_keeps_it() -> None:
    text = 'extends = "kling"\nname = "x"\n[kinds.text-to-audio]\nlist_path = "/list?kind=sound"\npage_size = 20'

    request = list_request(load(text, origin="x.toml"), "text-to-audio", page=2)

    assert request.path == "/list?kind=sound&pageNum=2&pageSize=20"


def test_many_ids_are_asked_for_at_once_up_to_the_providers_limit() -> None:
    ids = [f"8936059464028119{number:02}" for number in range(21)]

    request = batch_request(NEW, "text-to-video", ids=ids[:20], ours=True)

    assert request.path == "/tasks?external_task_ids=" + ",".join(ids[:20])
    for wrong in (ids, []):
        with pytest.raises(ValueError, match="1 to 20 ids"):
            batch_request(NEW, "text-to-video", ids=wrong)
    with pytest.raises(ValueError, match="1 to 1 ids"):
        batch_request(KLING, "text-to-audio", ids=ids[:2])


def test_a_comma_in_an_id_separates_nothing() -> None:
    assert batch_request(NEW, "text-to-video", ids=["a,b", "c"]).path == "/tasks?task_ids=a%2Cb,c"


def test_the_new_standards_answer_is_a_list_of_the_known() -> None:
    body = {
        "code": 0,
        "data": [
            {
                "id": "893605946402811985",
                "status": "succeeded",
                "external_id": "kaa-1",
                "outputs": [
                    {"type": "video", "id": "v", "url": "https://v15-kling.klingai.com/a.mp4", "duration": "5.0"},
                    {"type": "image", "url": "https://v15-kling.klingai.com/a.png"},
                ],
            }
        ],
    }
    answer = listed(body, size=2, profile="kling-text2video", kind="text-to-video")

    assert isinstance(answer, ListPage)
    assert answer.is_last
    assert [media.format for media in answer.reports[0].media] == [Format.MP4]
    asked = read_query(NEW, "text-to-video", status=200, content_type=JSON, body=json.dumps(body).encode())
    assert asked == answer.reports[0]
    nothing = read_query(NEW, "text-to-video", status=200, content_type=JSON, body=b'{"code":0,"data":[]}')
    assert nothing == UnknownTask()


def test_the_result_of_a_query_by_time_is_a_list_too() -> None:
    answer = listed({"code": 0, "result": [entry(1)], "count": 1, "has_more": False})

    assert isinstance(answer, ListPage)
    assert [report.external_task_id for report in answer.reports] == ["kaa-1"]


@given(st.binary(max_size=200), st.integers(100, 599))
def test_any_bytes_get_an_answer(body: bytes, status: int) -> None:
    answer = read_list(KLING, "text-to-audio", status=status, content_type=JSON, body=body, size=3)

    assert isinstance(answer, ListPage | AccountRefused | Busy | Unsure)
