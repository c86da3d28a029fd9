"""Every sample of the documents, spoilt in every way: each reader of each profile answers, or says that it cannot."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final, get_args

from hypothesis import given
from hypothesis import strategies as st

from receiver.core.errors import CallbackUnreadable
from receiver.core.model import Report
from receiver.dialects import links
from receiver.dialects.answers import CreateAnswer, ListAnswer, ListPage, QueryAnswer, request_id
from receiver.dialects.profile import Profile
from receiver.dialects.spec import catalog
from receiver.dialects.wire import read_callback, read_create, read_list, read_query

HOST: Final = "https://v15-kling.klingai.com/example"
AUDIO: Final = {"id": "2", "url_mp3": f"{HOST}/a.mp3", "url_wav": f"{HOST}/a.wav", "duration_mp3": "5.04"}
VIDEO: Final = {"id": "3", "url": f"{HOST}/out.mp4?ksTime=6953fa63", "duration": "5.1"}
LEGACY: Final = {
    "task_id": "900000000000000001",
    "task_status": "succeed",
    "task_status_msg": "",
    "task_info": {"external_task_id": "kaa-000001", "parent_video": VIDEO},
    "task_result": {"videos": [VIDEO], "audios": [AUDIO]},
    "final_unit_deduction": "0.25",
    "final_balance_deduction": {"quota": "0", "list_price": "0"},
    "created_at": 1781080778802,
    "updated_at": 1781080794151,
}
NEW: Final = {
    "id": "900000000000000021",
    "status": "succeeded",
    "message": "",
    "create_time": 1781080778802,
    "external_id": "kaa-000003",
    "outputs": [{"type": "audio", "id": "22", "mp3_url": f"{HOST}/n.mp3"}, {"type": "video", **VIDEO}],
    "billing": [{"charge_type": "unit", "amount": "0.25", "package_type": "audio"}],
}
FAILED: Final = {"task_id": "31", "task_status": "failed", "task_status_msg": "risk control", "task_result": {}}
KLING: Final = {"code": 0, "message": "SUCCEED", "request_id": "5f1b2c3d-0000-4000-8000-000000000001"}
#: providers.md 3.2, 4.1, 6.
SAMPLES: Final[tuple[dict[str, Any], ...]] = (
    LEGACY,
    NEW,
    FAILED,
    KLING | {"data": LEGACY},
    KLING | {"data": [NEW, LEGACY, FAILED]},
    {"code": 1201, "message": "Task not found by id/external id: kaa-999999"},
    {"error": {"message": "no (request id: 2026020513285979)", "type": "comet_api_error", "param": "", "code": ""}},
    {"id": "task_1", "task_id": "task_1", "object": "video", "status": "queued", "created_at": 1781080778},
    {
        "code": "success",
        "data": {
            "task_id": "task_1",
            "status": "SUCCESS",
            "fail_reason": f"{HOST}/x.mp4",
            "submit_time": 1781080778,
            "data": KLING | {"data": LEGACY},
        },
    },
)
ODD: Final = st.one_of(
    st.sampled_from([None, True, 0, -1, 10**400, 1e308, "", "\0", "\ud800", "x" * 9000, [], {}, [[]], {"a": [1]}]),
    st.sampled_from(["succeed", "FAILURE", 1303, "success", "https://[", "http://a:0/", "1e9", "already exists", "٣"]),
    st.text(max_size=5),
)
NAMES: Final = (
    "data",
    "status",
    "task_status",
    "task_id",
    "id",
    "audios",
    "outputs",
    "code",
    "error",
    "url",
    "message",
)


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in pairs:
        yield (*above, key)
        yield from places(below, (*above, key))


def at(value: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        value = value[key]
    return value


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """Draw a sample in which some values are replaced, wrapped, moved, doubled or gone; now and then cut short."""
    value: Any = copy.deepcopy(draw(st.sampled_from(SAMPLES)))
    for _ in range(draw(st.integers(1, 4))):
        known = list(places(value))
        if not known:
            break
        *above, key = draw(st.sampled_from(known))
        holder = at(value, tuple(above))
        match draw(st.sampled_from(["drop", "odd", "list", "object", "copy", "rename"])):
            case "drop":
                del holder[key]
            case "odd":
                holder[key] = draw(ODD)
            case "list":
                holder[key] = [holder[key]]
            case "object":
                holder[key] = {"data": holder[key]}
            case "copy":
                holder[key] = copy.deepcopy(at(value, draw(st.sampled_from(known))))
            case _ if isinstance(holder, dict):
                holder[draw(st.sampled_from(NAMES))] = holder[key]
    body = json.dumps(value).encode()
    return body[: draw(st.integers(0, len(body)))] if draw(st.integers(0, 9)) == 0 else body


def reports_of(profile: Profile, kind: str, status: int, body: bytes) -> list[Report]:
    made = read_create(profile, status=status, content_type="application/json", body=body)
    asked = read_query(profile, kind, status=status, content_type="application/json", body=body)
    listed = read_list(profile, kind, status=status, content_type="application/json", body=body, size=3)
    assert isinstance(made, get_args(CreateAnswer))
    assert isinstance(asked, get_args(QueryAnswer))
    assert isinstance(listed, get_args(ListAnswer))
    found = [asked] if isinstance(asked, Report) else []
    found += listed.reports if isinstance(listed, ListPage) else ()
    # What PostgreSQL's text cannot hold would show as an escape.
    assert not [escape for escape in ("\\x00", "\\ud8") if escape in repr((made, asked, listed))]
    try:
        found.append(read_callback(profile, kind, body))
    except CallbackUnreadable:
        # The one error that the reader declares.
        return found
    return found


@given(spoilt(), st.sampled_from([200, 400, 401, 404, 429, 500, 503]))
def test_a_spoilt_sample_gets_an_answer_from_every_profile(body: bytes, status: int) -> None:
    for profile in catalog().values():
        for kind in profile.kinds:
            for report in reports_of(profile, kind, status, body):
                assert len({(media.clip, media.format) for media in report.media}) == len(report.media)
                assert "\\x00" not in repr(asdict(report))
                for media in report.media:
                    assert links.host(media.url)
                    links.expires_at(media.url)
    request_id(header=None, body=body)
