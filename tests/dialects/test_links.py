from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.dialects.links import expires_at, host

BASE = "https://v15-kling.klingai.com/example/a.mp3"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("cacheKey=a&x-kcdn-pid=112781&ksSecret=0&ksTime=6953fa63", at("2025-12-30T16:14:27")),
        ("ksTime=69884f0c", at("2026-02-08T08:53:32")),
        ("KSTIME=6A0F6420", at("2026-05-21T19:59:28")),
        ("Expires=1781080794&Signature=x", at("2026-06-10T08:39:54")),
        ("expires=1781080794", at("2026-06-10T08:39:54")),
        ("x-oss-expires=1781080794", at("2026-06-10T08:39:54")),
        ("x-oss-date=20260610T083954Z&x-oss-expires=86400", at("2026-06-11T08:39:54")),
        ("X-Amz-Date=20260610T083954Z&X-Amz-Expires=60&X-Amz-Signature=x", at("2026-06-10T08:40:54")),
        ("x-amz-expires=60&x-amz-date=20260610T083954Z", at("2026-06-10T08:40:54")),
        ("Expires=1781080794&ksTime=69884f0c", at("2026-02-08T08:53:32")),
        ("Expires=1781080794&Expires=1781080795", at("2026-06-10T08:39:54")),
        ("", None),
        ("x-kcdn-pid=112344&pkey=x&cacheKey=y", None),
        ("ksTime=xyz", None),
        ("ksTime=", None),
        ("ksTime=00000001", None),
        ("ksTime=ffffffffff", None),
        ("Expires=never", None),
        ("Expires=-5", None),
        ("Expires=\u0661\u0667", None),
        ("Expires=99999999999999999999", None),
        ("Expires=1781080794151", None),
        ("x-oss-expires=86400", None),
        ("x-oss-date=20260610T083954Z&x-oss-expires=1781080794", None),
        ("X-Amz-Date=20260230T083954Z&X-Amz-Expires=60", None),
        ("X-Amz-Date=yesterday&X-Amz-Expires=60", None),
        ("X-Amz-Date=20260610T083954Z", None),
        ("X-Amz-Date=20260610T083954Z&X-Amz-Expires=0", None),
        ("X-Amz-Expires=60", None),
    ],
)
def test_d17_the_four_forms_are_read_and_garbage_is_none(query: str, expected: datetime | None) -> None:
    assert expires_at(f"{BASE}?{query}") == expected


@given(st.text())
def test_any_text_is_no_more_than_unknown(text: str) -> None:
    expires_at(text)
    expires_at(f"{BASE}?Expires={text}&ksTime={text}&X-Amz-Date={text}&X-Amz-Expires={text}")
    assert host(text)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"{BASE}?ksSecret=abc", "v15-kling.klingai.com"),
        ("https://user:pass@Media.Example.NET:8443/a?b=c", "media.example.net"),
        ("http://[::1]:80/a", "::1"),
        ("http://[oops/a", "unreadable"),
        ("/only/a/path?token=1", "unreadable"),
        ("https://bad host/a", "unreadable"),
    ],
)
def test_a_host_is_all_that_a_log_sees(url: str, expected: str) -> None:
    assert host(url) == expected
