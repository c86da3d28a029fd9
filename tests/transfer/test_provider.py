from __future__ import annotations

import asyncio
import socket
import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from receiver.core.errors import Misconfigured, ProviderUnreachable
from receiver.core.model import Account, AccountId, ApiKey, Secret
from receiver.dialects.wire import WireRequest
from receiver.transfer.provider import MAX_BODY, ProviderClient, WireAnswer
from tests.transfer.servers import Behaviour, Exchange, RawHost

CREATE = WireRequest("POST", "/v1/audio?x=1", b'{"prompt": "rain"}')
QUERY = WireRequest("GET", "/v1/audio/7", None)
AUTHORIZATION = "Bearer s3cret-key"
ACCOUNT = Account(
    id=AccountId("sandbox"),
    dialect="kling",
    base_url="http://127.0.0.1:1",
    credentials=ApiKey(key=Secret("s3cret-key")),
    concurrency=1,
    asset_hosts=(),
    allow_cidrs=("127.0.0.0/8",),
    allow_http=True,
)


async def send_to(
    url: str,
    requests: list[WireRequest],
    *,
    timeout: float = 10,  # noqa: ASYNC109
    **changes: Any,
) -> list[WireAnswer]:
    client = ProviderClient()
    account = replace(ACCOUNT, base_url=url, **changes)
    try:
        return [
            await client.send(account, request, authorization=AUTHORIZATION, timeout=timedelta(seconds=timeout))
            for request in requests
        ]
    finally:
        await client.aclose()


def ask(behaviour: Behaviour, request: WireRequest = CREATE, **options: Any) -> WireAnswer:
    with RawHost(behaviour) as host:
        return asyncio.run(send_to(host.url, [request], **options))[0]


def answering(status: str, body: bytes = b"{}", *headers: str) -> Behaviour:
    def behaviour(exchange: Exchange) -> bool:
        exchange.answer(status, body, *headers)
        return True

    return behaviour


def saying(data: bytes) -> Behaviour:
    def behaviour(exchange: Exchange) -> bool:
        exchange.send(data)
        return False

    return behaviour


def silent(exchange: Exchange) -> bool:
    exchange.stopping.wait()
    return False


def test_one_request_gets_its_answer() -> None:
    with RawHost(answering("200 OK", b'{"code": 0}', "Content-Type: application/json; charset=utf-8")) as host:
        answer = asyncio.run(send_to(host.url + "/kling/", [CREATE]))[0]
        port = host.port
    assert answer == WireAnswer(status=200, content_type="application/json; charset=utf-8", body=b'{"code": 0}')
    assert len(host.seen) == 1
    seen = host.seen[0]
    assert (seen.line, seen.body) == ("POST /kling/v1/audio?x=1 HTTP/1.1", CREATE.body)
    assert seen.headers["authorization"] == AUTHORIZATION
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["host"] == f"127.0.0.1:{port}"


def test_a_query_has_no_body_and_shares_the_connection() -> None:
    with RawHost(answering("200 OK")) as host:
        asyncio.run(send_to(host.url, [QUERY, QUERY, CREATE]))
    assert host.connections == 1
    assert "content-type" not in host.seen[0].headers


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 404, 429, 500, 502, 503])
def test_every_status_is_an_answer_and_nothing_is_followed_or_repeated(status: int) -> None:
    with RawHost(answering(f"{status} Said", b"no", "Location: /elsewhere")) as host:
        answer = asyncio.run(send_to(host.url, [CREATE]))[0]
    assert (answer.status, answer.body, answer.content_type) == (status, b"no", "")
    assert len(host.seen) == 1


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], None),
        (["Retry-After: 7"], timedelta(seconds=7)),
        (["Retry-After: 0"], timedelta()),
        (["Retry-After: -7"], None),
        (["Retry-After: soon"], None),
        (["Retry-After: 99999999999999999999"], None),
        (["Retry-After: Fri, 20 Nov 2026 10:01:00 GMT"], None),
        (
            ["Date: Fri, 20 Nov 2026 10:00:00 GMT", "Retry-After: Fri, 20 Nov 2026 10:01:00 GMT"],
            timedelta(minutes=1),
        ),
        (["Date: Fri, 20 Nov 2026 10:00:00 GMT", "Retry-After: Fri, 20 Nov 2026 09:00:00 GMT"], timedelta()),
        (["Date: Fri, 20 Nov 2026 10:00:00 GMT", "Retry-After: Fri, 20 Nov 2026 09:00:00"], None),
    ],
)
def test_retry_after_is_read_in_both_its_forms(headers: list[str], expected: timedelta | None) -> None:
    assert ask(answering("429 Slow", b"", *headers)).retry_after == expected


@pytest.mark.parametrize(
    "url",
    ["https://10.0.0.1", "https://192.0.2.1", "http://169.254.169.254", "ftp://127.0.0.1", "https://user@127.0.0.1"],
)
def test_an_address_that_is_not_allowed_was_never_sent_to(url: str) -> None:
    with pytest.raises(ProviderUnreachable) as caught:
        asyncio.run(send_to(url, [CREATE]))
    assert caught.value.sent is False


def test_plain_http_needs_the_opt_in() -> None:
    with RawHost(answering("200 OK")) as host, pytest.raises(ProviderUnreachable) as caught:
        asyncio.run(send_to(host.url, [CREATE], allow_http=False))
    assert caught.value.sent is False
    assert host.connections == 0


def test_loopback_needs_the_opt_in() -> None:
    with RawHost(answering("200 OK")) as host, pytest.raises(ProviderUnreachable) as caught:
        asyncio.run(send_to(host.url, [CREATE], allow_cidrs=()))
    assert caught.value.sent is False
    assert host.connections == 0


def test_a_refused_connection_sent_nothing() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(ProviderUnreachable) as caught:
            asyncio.run(send_to(f"http://127.0.0.1:{taken.getsockname()[1]}", [CREATE]))
    assert caught.value.sent is False


def test_a_handshake_that_hangs_sent_nothing() -> None:
    with RawHost(silent) as host, pytest.raises(ProviderUnreachable) as caught:
        asyncio.run(send_to(f"https://127.0.0.1:{host.port}", [CREATE], timeout=0.2))
    assert caught.value.sent is False


def test_a_handshake_that_fails_sent_nothing() -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def babble() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1)
            connection.sendall(b"HTTP/1.1 400 plain\r\n\r\n")

    thread = threading.Thread(target=babble)
    thread.start()
    with listener, pytest.raises(ProviderUnreachable) as caught:
        asyncio.run(send_to(f"https://127.0.0.1:{listener.getsockname()[1]}", [CREATE]))
    thread.join()
    assert caught.value.sent is False


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (MAX_BODY + 1),
    ],
    ids=["cut", "short", "short chunk", "garbage", "gzip", "large"],
)
def test_an_unusable_answer_may_have_been_sent_for(data: bytes) -> None:
    with RawHost(saying(data)) as host, pytest.raises(ProviderUnreachable) as caught:
        asyncio.run(send_to(host.url, [CREATE]))
    assert caught.value.sent is True
    assert len(host.seen) == 1


def test_silence_ends_with_the_time_out() -> None:
    with pytest.raises(ProviderUnreachable) as caught:
        ask(silent, timeout=1.5)
    assert caught.value.sent is True


def test_a_drip_ends_with_the_time_out() -> None:
    def drip(exchange: Exchange) -> bool:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not exchange.stopping.wait(0.01):
            exchange.send(b" ")
        return False

    with pytest.raises(ProviderUnreachable):
        ask(drip, timeout=0.3)


def test_a_body_of_exactly_the_cap_is_taken() -> None:
    assert len(ask(answering("200 OK", b"x" * MAX_BODY)).body) == MAX_BODY


@pytest.mark.parametrize("authorization", ["", "Bearer a\r\nX: y", "Bearer é", "Bearer \x00", " Bearer"])
def test_credentials_that_no_header_can_carry_are_named_and_not_shown(authorization: str) -> None:
    async def scenario() -> None:
        client = ProviderClient()
        with pytest.raises(Misconfigured) as caught:
            await client.send(ACCOUNT, CREATE, authorization=authorization, timeout=timedelta(seconds=1))
        assert "sandbox" in str(caught.value)
        assert not authorization or authorization not in str(caught.value)

    asyncio.run(scenario())


def test_nothing_secret_is_in_errors_or_reprs() -> None:
    with pytest.raises(ProviderUnreachable) as caught:
        ask(saying(b"garbage\r\n\r\n"))
    error: BaseException | None = caught.value
    while error is not None:
        assert "s3cret" not in repr(error)
        assert "/v1/audio" not in repr(error)
        error = error.__cause__
    assert "link" not in repr(WireAnswer(status=200, content_type="", body=b"link"))
