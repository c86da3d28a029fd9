"""Standard Webhooks, with the vectors of providers.md 2.6."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.core.errors import Misconfigured
from receiver.core.model import Secret, Verdict
from receiver.dialects.signature import check_secret, verify

SECRET = Secret("whsec_dGVzdHNlY3JldHRlc3RzZWNyZXR0ZXN0c2VjcmV0MTI=")
OTHER = Secret("whsec_" + base64.b64encode(b"another secret, as long").decode())
STAMP = "1781080794"
NOW = datetime.fromtimestamp(int(STAMP), UTC)
PUBLIC_ID = "9876543210"
PUBLIC_BODY = (
    b'{"id":"1234567890","status":"succeeded","message":"","create_time":1781080778802,"update_time":1781080794151}'
)
PUBLIC_SIGNATURE = "v1,UsKlJP00XoQyOn410NM9xv34sP+Gl0jnOO9Lcpr7NJ4="
LEGACY_ID = "8674665223082153551"
LEGACY_BODY = (
    b'{"task_id":"900000000000000001","task_status":"succeed","task_status_msg":"",'
    b'"task_info":{"external_task_id":"kaa-000001"},"task_result":{"audios":[{"id":"900000000000000002",'
    b'"url_mp3":"https://v15-kling.klingai.com/example/a.mp3","url_wav":"https://v15-kling.klingai.com/example/a.wav",'
    b'"duration_mp3":"5.04","duration_wav":"5.0"}]},"created_at":1781080778802,"updated_at":1781080794151}'
)
LEGACY_SIGNATURE = "v1,ciNEv/FhszUcfdl+JYCHN1JNn67xnTq/wu/PkexFNis="


def sign(secret: Secret, webhook_id: str, timestamp: str, body: bytes) -> str:
    key = base64.b64decode(secret.reveal().removeprefix("whsec_"))
    mac = hmac.new(key, f"{webhook_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return "v1," + base64.b64encode(mac.digest()).decode()


def check(
    *,
    secrets: tuple[Secret, ...] = (SECRET,),
    webhook_id: str | None = PUBLIC_ID,
    timestamp: str | None = STAMP,
    signatures: str | None = PUBLIC_SIGNATURE,
    body: bytes = PUBLIC_BODY,
    now: datetime = NOW,
) -> Verdict:
    return verify(secrets, webhook_id=webhook_id, timestamp=timestamp, signatures=signatures, body=body, now=now)


def test_d23_the_public_vector_is_good() -> None:
    assert check() is Verdict.GOOD


def test_the_legacy_vector_is_good() -> None:
    assert len(LEGACY_BODY) == 387
    assert check(webhook_id=LEGACY_ID, signatures=LEGACY_SIGNATURE, body=LEGACY_BODY) is Verdict.GOOD


@pytest.mark.parametrize("body", [PUBLIC_BODY + b" ", PUBLIC_BODY.replace(b":", b": ", 1), b""])
def test_one_more_space_in_the_body_is_bad(body: bytes) -> None:
    assert check(body=body) is Verdict.BAD


@pytest.mark.parametrize("name", ["webhook_id", "timestamp", "signatures"])
@pytest.mark.parametrize("value", [None, ""])
def test_a_partly_signed_callback_is_unsigned(name: str, value: str | None) -> None:
    headers: dict[str, str | None] = {
        "webhook_id": PUBLIC_ID,
        "timestamp": STAMP,
        "signatures": PUBLIC_SIGNATURE,
        name: value,
    }
    assert verify((SECRET,), **headers, body=PUBLIC_BODY, now=NOW) is Verdict.ABSENT


def test_without_a_secret_nothing_can_be_checked() -> None:
    assert check(secrets=()) is Verdict.ABSENT


@pytest.mark.parametrize(
    ("offset", "verdict"),
    [(-301, Verdict.STALE), (-300, Verdict.GOOD), (300, Verdict.GOOD), (301, Verdict.STALE)],
)
def test_a_timestamp_is_fresh_within_five_minutes(offset: int, verdict: Verdict) -> None:
    assert check(now=NOW + timedelta(seconds=offset)) is verdict


@pytest.mark.parametrize("stamp", ["soon", "1781080794.0", "-1", " 1781080794", "9" * 40, "\u0661"])
def test_a_good_mac_over_an_unreadable_timestamp_is_stale(stamp: str) -> None:
    raw = stamp.encode("latin-1", "replace").decode("latin-1")
    assert check(timestamp=raw, signatures=sign(SECRET, PUBLIC_ID, raw, PUBLIC_BODY)) is Verdict.STALE


def test_a_stale_timestamp_under_a_bad_mac_is_bad() -> None:
    assert check(timestamp="1781000000") is Verdict.BAD


def test_during_a_rotation_any_signature_with_any_secret_is_enough() -> None:
    assert check(secrets=(OTHER, SECRET)) is Verdict.GOOD
    assert check(signatures=f"v1,{'A' * 43}= {PUBLIC_SIGNATURE}") is Verdict.GOOD
    assert check(secrets=(OTHER,)) is Verdict.BAD


@pytest.mark.parametrize(
    "signatures",
    [
        PUBLIC_SIGNATURE.replace("v1,", "v2,"),
        PUBLIC_SIGNATURE.removeprefix("v1,"),
        "v1,",
        PUBLIC_SIGNATURE[:-1],
        PUBLIC_SIGNATURE.lower(),
        "v1,\u00e9\u00ff",
        "garbage",
    ],
)
def test_other_signatures_are_bad(signatures: str) -> None:
    assert check(signatures=signatures) is Verdict.BAD


@given(st.text(), st.text(), st.text(), st.binary())
def test_strangers_never_pass_and_never_crash(webhook_id: str, timestamp: str, signatures: str, body: bytes) -> None:
    verdict = check(webhook_id=webhook_id, timestamp=timestamp, signatures=signatures, body=body)
    assert verdict in {Verdict.BAD, Verdict.ABSENT}


@given(st.binary(), st.integers(-600, 600))
def test_any_body_signed_in_time_is_good(body: bytes, offset: int) -> None:
    verdict = check(body=body, signatures=sign(SECRET, PUBLIC_ID, STAMP, body), now=NOW + timedelta(seconds=offset))
    assert verdict is (Verdict.GOOD if abs(offset) <= 300 else Verdict.STALE)


def test_a_secret_is_kept_without_the_space_around_it() -> None:
    assert check_secret(f" {SECRET.reveal()}\n") == SECRET


@pytest.mark.parametrize(
    "text",
    [
        "",
        "whsec_",
        "dGVzdHNlY3JldHRlc3RzZWNyZXR0ZXN0c2VjcmV0MTI=",
        "whsec_not base64!",
        "whsec_c2hvcnQ=",
        "whsec_\u00e9",
    ],
)
def test_a_bad_secret_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        check_secret(text)
    assert not text.removeprefix("whsec_") or text.removeprefix("whsec_") not in str(caught.value)
