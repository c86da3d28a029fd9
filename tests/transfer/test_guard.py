from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from ipaddress import ip_address
from typing import Any

import httpcore
import pytest

from receiver.core.errors import FetchBlocked, Misconfigured
from receiver.transfer.client import GuardedClient
from receiver.transfer.guard import FetchPolicy, GuardBackend, address_allowed, check_url, target_of
from tests.transfer.servers import RawHost

PUBLIC = FetchPolicy(hosts=None)
LISTED = FetchPolicy(hosts=("klingai.com", "cdn.example"))
LOOPBACK = FetchPolicy(hosts=None, allow_cidrs=("127.0.0.0/8",), allow_http=True)


class CountingStream(httpcore.AsyncNetworkStream):
    def __init__(self, peer: tuple[str, int]) -> None:
        self.peer = peer
        self.closed = False

    async def aclose(self) -> None:
        self.closed = True

    def get_extra_info(self, info: str) -> Any:
        return self.peer if info == "server_addr" else None


class Dialler(httpcore.AsyncNetworkBackend):
    """The network itself: remembers what was dialled."""

    def __init__(self, *, peer: str | None = None, dead: tuple[str, ...] = ()) -> None:
        self.dialled: list[str] = []
        self.streams: list[CountingStream] = []
        self._peer = peer
        self._dead = dead

    async def connect_tcp(
        self,
        host: str,
        port: int,
        *args: object,
        **options: object,
    ) -> httpcore.AsyncNetworkStream:
        del args, options
        self.dialled.append(host)
        if host in self._dead:
            raise httpcore.ConnectError("refused")
        self.streams.append(CountingStream((self._peer or host, port)))
        return self.streams[-1]


def answers(*rounds: list[str]) -> Any:
    left = list(rounds)

    async def resolver(*_: object) -> list[str]:
        return left.pop(0) if len(left) > 1 else left[0]

    return resolver


async def fetch_through(policy: FetchPolicy, url: str, *, resolver: Any = None) -> Dialler:
    dialler = Dialler()
    backend = (
        GuardBackend(policy, inner=dialler)
        if resolver is None
        else GuardBackend(policy, inner=dialler, resolver=resolver)
    )
    client = GuardedClient(
        policy,
        connect=timedelta(seconds=5),
        read=timedelta(seconds=5),
        connections=2,
        backend=backend,
    )
    try:
        async with client.stream("GET", url, headers={}):
            pass
    finally:
        await client.aclose()
        assert dialler.dialled == []
    return dialler


BAD_URLS = [
    "",
    "klingai.com",
    "//cdn.example.com/a.mp3",
    "file:///etc/passwd",
    "ftp://example.com/a",
    "gopher://example.com/a",
    "data:audio/mpeg;base64,AAAA",
    "javascript:alert(1)",
    "http://example.com/a.mp3",
    "https:///a.mp3",
    "https://",
    "https://user@example.com/",
    "https://user:pw@example.com/",
    "https://example.com@127.0.0.1/",
    "https://127.0.0.1#@example.com/",
    "https://127.0.0.1\\@example.com/",
    "https://example.com\\.evil.example/",
    "https://exa mple.com/",
    "https://example.com\r\nHost: evil.example/",
    "https://example.com/\x00",
    "https://example.com/a\nb",
    "https://example.com:80/",
    "https://example.com:22/",
    "https://example.com:0/",
    "https://example.com:65536/",
    "https://example.com:99999/",
    "https://example.com:-1/",
    "https://example.com:443:443/",
    "https://exämple.com/",
    "https://127。0。0。1/",
    "https://①②⑦.0.0.1/",
    "https://%31%32%37.0.0.1/",
    "https://example..com/",
    "https://.example.com/",
    "https://example.com./",
    "https://-a.example.com/",
    "https://a_b.example.com/",
    f"https://{'a' * 64}.example.com/",
    f"https://{'a.' * 130}com/",
    "https://localhost/",
    "https://metadata/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.1/",
    "https://127.1/",
    "https://0/",
    "https://0177.0.0.1/",
    "https://127.0.0.01/",
    "https://1.2.3.4.5/",
    "https://256.256.256.256/",
    "https://10.0.0.1/",
    "https://127.0.0.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://172.16.5.4/",
    "https://192.168.1.1/",
    "https://100.64.0.1/",
    "https://168.63.129.16/",
    "https://0.0.0.0/",
    "https://224.0.0.1/",
    "https://255.255.255.255/",
    "https://[::1]/",
    "https://[::]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[::127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[64:ff9b:1::1]/",
    "https://[2002:7f00:1::]/",
    "https://[fe80::1]/",
    "https://[fe80::1%25eth0]/",
    "https://[fc00::1]/",
    "https://[fec0::1]/",
    "https://[ff02::1]/",
    "https://[2001:db8::1]/",
    "https://[2001::1]/",
    "https://[3fff::1]/",
    "https://[5f00::1]/",
    "https://[::1/",
    "https://::1/",
    "https://[]/",
    "https://[127.0.0.1]/",
    "https://example.com/" + "a" * 9000,
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_hostile_url_is_refused_without_a_dial(url: str) -> None:
    with pytest.raises(FetchBlocked) as caught:
        asyncio.run(fetch_through(PUBLIC, url))
    assert len(url) < 12 or url not in str(caught.value)
    with pytest.raises(FetchBlocked):
        check_url(url, PUBLIC)


BAD_ADDRESSES = [
    "0.0.0.0",  # noqa: S104
    "10.1.2.3",
    "100.64.1.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.31.196.1",
    "192.52.193.1",
    "192.88.99.1",
    "192.168.0.1",
    "192.175.48.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.251",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "168.63.129.16",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:0:127.0.0.1",
    "64:ff9b::a00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:2::1",
    "2001:10::1",
    "2001:db8::1",
    "2002:a00:1::1",
    "2620:4f:8000::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "2a00:1450::1%eth0",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]


@pytest.mark.parametrize("address", BAD_ADDRESSES)
def test_a_name_that_resolves_to_a_place_inside_is_refused_without_a_dial(address: str) -> None:
    assert not address_allowed(ip_address(address))
    with pytest.raises(FetchBlocked):
        asyncio.run(fetch_through(PUBLIC, "https://cdn.example/a.mp3", resolver=answers([address])))


@pytest.mark.parametrize("address", BAD_ADDRESSES)
@pytest.mark.parametrize("order", [1, -1])
def test_one_bad_address_among_good_ones_rejects_the_name(address: str, order: int) -> None:
    found = ["93.184.216.34", "2a00:1450:4001::1", address][::order]
    with pytest.raises(FetchBlocked):
        asyncio.run(fetch_through(PUBLIC, "https://cdn.example/a.mp3", resolver=answers(found)))


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "1.1.1.1", "2a00:1450:4001::1", "2606:4700::1111"])
def test_public_addresses_are_allowed(address: str) -> None:
    assert address_allowed(ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "https://klingai.com/a.mp3",
        "https://cdn.klingai.com/a.mp3?sign=x&ksTime=65a",
        "https://a.b.cdn.example:443/x",
        "HTTPS://CDN.KLINGAI.COM/A",
    ],
)
def test_hosts_under_a_listed_suffix_pass(url: str) -> None:
    check_url(url, LISTED)


@pytest.mark.parametrize(
    "url",
    [
        "https://notklingai.com/a",
        "https://klingai.com.evil.example/a",
        "https://klingai.co/a",
        "https://example/a",
        "https://8.8.8.8/a",
        "https://evil.example/?klingai.com",
        "https://evil.example/#.klingai.com",
        "https://evil.example#.klingai.com",
        "https://xn--klingai-9za.com/",
    ],
)
def test_hosts_outside_the_list_are_refused(url: str) -> None:
    with pytest.raises(FetchBlocked):
        check_url(url, LISTED)


def test_a_suffix_never_matches_the_end_of_a_literal_address() -> None:
    with pytest.raises(FetchBlocked):
        check_url("https://8.8.4.4/a", FetchPolicy(hosts=("4.4",)))
    check_url("https://8.8.4.4/a", FetchPolicy(hosts=("8.8.4.4",)))


def test_the_second_answer_of_a_rebinding_resolver_is_checked_too() -> None:
    async def scenario() -> Dialler:
        dialler = Dialler()
        backend = GuardBackend(PUBLIC, inner=dialler, resolver=answers(["93.184.216.34"], ["127.0.0.1"]))
        await backend.connect_tcp("rebind.example", 443)
        with pytest.raises(FetchBlocked):
            await backend.connect_tcp("rebind.example", 443)
        return dialler

    assert asyncio.run(scenario()).dialled == ["93.184.216.34"]


def test_the_literal_address_is_dialled_and_never_the_name() -> None:
    dialler = Dialler(dead=("93.184.216.34",))
    backend = GuardBackend(PUBLIC, inner=dialler, resolver=answers(["93.184.216.34", "93.184.216.35"]))
    asyncio.run(backend.connect_tcp("cdn.example", 443, 5.0))
    assert dialler.dialled == ["93.184.216.34", "93.184.216.35"]


def test_a_connection_that_leads_elsewhere_is_closed() -> None:
    dialler = Dialler(peer="10.0.0.1")
    backend = GuardBackend(PUBLIC, inner=dialler, resolver=answers(["93.184.216.34"]))
    with pytest.raises(FetchBlocked):
        asyncio.run(backend.connect_tcp("cdn.example", 443))
    assert dialler.streams[0].closed


def test_another_port_needs_an_allowed_network() -> None:
    policy = FetchPolicy(hosts=None, allow_cidrs=("10.0.0.0/8",))
    dialler = Dialler()
    outside = GuardBackend(policy, inner=dialler, resolver=answers(["93.184.216.34"]))
    with pytest.raises(FetchBlocked):
        asyncio.run(outside.connect_tcp("cdn.example", 8443))
    assert dialler.dialled == []
    inside = GuardBackend(policy, inner=dialler, resolver=answers(["10.0.0.7"]))
    asyncio.run(inside.connect_tcp("cdn.internal", 8443))
    assert dialler.dialled == ["10.0.0.7"]


def test_unix_sockets_are_refused() -> None:
    with pytest.raises(FetchBlocked):
        asyncio.run(GuardBackend(LOOPBACK).connect_unix_socket("/var/run/docker.sock"))


def test_a_name_without_an_address_is_a_connect_error() -> None:
    with pytest.raises(httpcore.ConnectError):
        asyncio.run(GuardBackend(PUBLIC, inner=Dialler(), resolver=answers([])).connect_tcp("cdn.example", 443))


def test_a_silent_resolver_is_a_connect_timeout() -> None:
    async def silent(*_: object) -> list[str]:
        await asyncio.Event().wait()
        return []

    with pytest.raises(httpcore.ConnectTimeout):
        asyncio.run(GuardBackend(PUBLIC, inner=Dialler(), resolver=silent).connect_tcp("cdn.example", 443, 0.01))


def test_an_unreadable_network_stops_the_start() -> None:
    with pytest.raises(Misconfigured):
        FetchPolicy(hosts=None, allow_cidrs=("10.0.0.0/33",))


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://cdn.example", "/"),
        ("https://cdn.example?a=b", "/?a=b"),
        ("https://cdn.example/a#t=3", "/a"),
        ("https://cdn.example/a%2Fb?sign=%3D+/", "/a%2Fb?sign=%3D+/"),
        ("https://cdn.example/my song é.mp3", "/my%20song%20%C3%A9.mp3"),
    ],
)
def test_path_and_query_go_out_as_they_came(url: str, path: str) -> None:
    assert target_of(url, PUBLIC).path == path


def test_a_target_never_shows_its_query() -> None:
    assert "s3cret" not in repr(target_of("https://cdn.example/a?sign=s3cret", PUBLIC))


def test_environment_proxies_cookies_and_redirects_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    async def scenario(url: str) -> list[int]:
        client = GuardedClient(LOOPBACK, connect=timedelta(seconds=5), read=timedelta(seconds=5), connections=1)
        statuses = []
        for _ in range(2):
            async with client.stream("GET", f"{url}/?sign=s3cret", headers={}) as response:
                statuses.append(response.status)
                await response.aread()
        await client.aclose()
        return statuses

    def redirect(exchange: Any) -> bool:
        exchange.answer("302 Found", b"", "Location: /elsewhere", "Set-Cookie: a=b; Path=/")
        return True

    with RawHost(redirect) as host:
        assert asyncio.run(scenario(host.url)) == [302, 302]
    assert [exchange.headers.get("cookie") for exchange in host.seen] == [None, None]
    assert host.connections == 1


def test_no_query_string_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def scenario(url: str) -> None:
        client = GuardedClient(LOOPBACK, connect=timedelta(seconds=5), read=timedelta(seconds=5), connections=1)
        async with client.stream("GET", f"{url}/a?sign=s3cret", headers={}) as response:
            await response.aread()
        await client.aclose()

    def answer(exchange: Any) -> bool:
        exchange.answer("200 OK", b"ok")
        return True

    with RawHost(answer) as host:
        asyncio.run(scenario(host.url))
    assert "s3cret" in host.seen[0].line
    assert "s3cret" not in caplog.text
