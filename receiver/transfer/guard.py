"""
Where we may connect to: checked on the text of a URL and again on the address that is dialled.

One parser reads a URL, and what it read is what is dialled; the name is
resolved once, and its literal addresses are dialled. So there is no second
reading for a hostile URL or resolver to answer differently.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final
from urllib.parse import quote

import httpcore

from receiver.core.errors import FetchBlocked, Misconfigured

Address = IPv4Address | IPv6Address
#: Gives the addresses of a name, literal, in the resolver's order.
Resolver = Callable[[str, int], Awaitable[list[str]]]

#: Characters. Signed links of content networks stay well under 4,000.
MAX_URL: Final = 8192
#: Characters of a host name.
MAX_NAME: Final = 253
MAX_PORT: Final = 65535
#: Addresses of one name that are tried.
MAX_ADDRESSES: Final = 3

#: Global by `is_global`, but no place for media on any supported Python (storage.md 3.1).
BAD_V4: Final = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "168.63.129.16/32",
    )
)
GLOBAL_V6: Final = IPv6Network("2000::/3")
#: Inside 2000::/3: protocol assignments, documentation, 6to4, AS112, documentation again (storage.md 3.1).
BAD_V6: Final = tuple(
    IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)

_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9.-]+)(?::(?P<port>[0-9]{1,5}))?(?P<rest>[/?#].*)?",
    re.IGNORECASE,
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
#: Forms that some resolvers read as an IPv4 number ("127.1", "0x7f000001", "2130706433").
_NUMBER_LIKE: Final = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)")
#: What goes out as it is; spaces and bytes beyond ASCII are percent-encoded.
_PRINTABLE: Final = "".join(map(chr, range(0x21, 0x7F)))
_DEFAULT_PORT: Final = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchPolicy:
    """What one account may fetch from; also the key under which connections are kept alive."""

    #: Registrable suffixes ("klingai.com"), or literal addresses; None allows any public host.
    hosts: tuple[str, ...] | None
    #: Networks that are allowed although they are not public, on any port.
    allow_cidrs: tuple[str, ...] = ()
    allow_http: bool = False
    #: Ports of addresses that are not in `allow_cidrs`.
    ports: tuple[int, ...] | range = (443,)

    def __post_init__(self) -> None:
        """Refuse networks that cannot be read, before anything is fetched."""
        _networks(self.allow_cidrs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A URL that passed: exactly what is dialled and sent."""

    scheme: str
    #: Lower case; a literal IPv6 address without its brackets.
    host: str
    port: int
    #: Path and query, encoded. Carries signatures: never logged.
    path: str

    def __repr__(self) -> str:
        return f"Target({self.scheme}://{self.netloc})"

    @property
    def netloc(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORT[self.scheme] else f"{host}:{self.port}"


@lru_cache(maxsize=64)
def _networks(cidrs: tuple[str, ...]) -> tuple[IPv4Network | IPv6Network, ...]:
    try:
        return tuple(ip_network(cidr) for cidr in cidrs)
    except ValueError as exc:
        raise Misconfigured(f"allow_cidrs: {exc}") from exc


def in_networks(address: Address, cidrs: tuple[str, ...]) -> bool:
    """Tell whether *address* lies in one of *cidrs*."""
    return any(address in network for network in _networks(cidrs))


def address_allowed(ip: Address, cidrs: tuple[str, ...] = ()) -> bool:
    """
    Tell whether *ip* may be dialled: public by an explicit rule, or in *cidrs*.

    The rule does not lean on `is_global` alone, which calls multicast, NAT64,
    6to4 and others global on some Pythons (storage.md 3.1).
    """
    if in_networks(ip, cidrs):
        return True
    if isinstance(ip, IPv6Address):
        return ip.scope_id is None and ip in GLOBAL_V6 and not any(ip in network for network in BAD_V6)
    return ip.is_global and not any(ip in network for network in BAD_V4)


def check_url(url: str, policy: FetchPolicy) -> None:
    """
    Check the text of *url* against *policy*; resolves and dials nothing.

    Raises:
        FetchBlocked: The URL is not one that *policy* lets us fetch.
    """
    target_of(url, policy)


def target_of(url: str, policy: FetchPolicy) -> Target:
    """
    Read *url* and check it against *policy*; the message never quotes the URL.

    Raises:
        FetchBlocked: The URL is not one that *policy* lets us fetch.
    """
    if len(url) > MAX_URL or _CONTROL.search(url):
        raise FetchBlocked("the URL is too long or holds control characters")
    parts = _URL.fullmatch(url)
    if parts is None:
        raise FetchBlocked("the URL is not https://host/path with a plain host name")
    scheme = parts["scheme"].lower()
    if scheme == "http" and not policy.allow_http:
        raise FetchBlocked("the URL is not https")
    host = _checked_host(parts["host"].lower(), policy)
    port = int(parts["port"] or _DEFAULT_PORT[scheme])
    _check_port(port, policy)
    return Target(scheme=scheme, host=host, port=port, path=_path(parts["rest"] or "/"))


def _path(rest: str) -> str:
    """Drop the fragment, which is never sent, and encode what no request line can hold."""
    path = rest.partition("#")[0]
    return quote(path if path.startswith("/") else f"/{path}", safe=_PRINTABLE)


def _check_port(port: int, policy: FetchPolicy) -> None:
    if not 0 < port <= MAX_PORT or (port not in policy.ports and not policy.allow_cidrs):
        raise FetchBlocked(f"port {port} is not allowed")


def _checked_host(host: str, policy: FetchPolicy) -> str:
    bare = host.strip("[]")
    literal = _literal(bare)
    if literal is None:
        _check_name(host, policy)
    elif not address_allowed(literal, policy.allow_cidrs):
        raise FetchBlocked("the address is not public")
    if policy.hosts is None:
        return bare
    listed = {entry.lower().strip(".[]") for entry in policy.hosts}
    if bare not in listed and (literal is not None or not any(bare.endswith(f".{entry}") for entry in listed)):
        raise FetchBlocked(f"host {bare} is not on the account's list")
    return bare


def _check_name(host: str, policy: FetchPolicy) -> None:
    labels = host.split(".")
    if len(host) > MAX_NAME or not all(_LABEL.fullmatch(label) for label in labels):
        raise FetchBlocked("the host is no plain host name")
    if _NUMBER_LIKE.fullmatch(labels[-1]):
        raise FetchBlocked("the host is an address in an unusual notation")
    if len(labels) == 1 and not policy.allow_cidrs:
        raise FetchBlocked("the host is a local name")


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


async def resolve(host: str, port: int) -> list[str]:
    """
    Ask the system's resolver for the addresses of *host*.

    Raises:
        httpcore.ConnectError: The name has no address, or nobody can say.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        raise httpcore.ConnectError("the name cannot be resolved") from exc
    return [str(address[0]) for *_, address in found]


class GuardBackend(httpcore.AsyncNetworkBackend):
    """Dials only addresses that the policy allows; knows nothing of URLs."""

    def __init__(
        self,
        policy: FetchPolicy,
        *,
        resolver: Resolver = resolve,
        inner: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self._policy = policy
        self._resolver = resolver
        self._inner = httpcore.AnyIOBackend() if inner is None else inner

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """
        Resolve *host* once, check every address, dial the literal ones in turn within *timeout* seconds.

        Raises:
            FetchBlocked: An address or the port is not allowed; nothing was dialled.
            httpcore.ConnectError: None of the addresses took the connection.
        """
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._addresses(host, port)
                each = None if timeout is None else timeout / len(addresses)
                return await self._dial(addresses, port, each, local_address, socket_options)
        except TimeoutError as exc:
            raise httpcore.ConnectTimeout("no connection in time") from exc

    async def connect_unix_socket(
        self,
        *args: object,
        **options: object,
    ) -> httpcore.AsyncNetworkStream:
        """
        Refuse: nothing outside is a socket of this machine.

        Raises:
            FetchBlocked: Always.
        """
        del args, options
        raise FetchBlocked("unix sockets are not allowed")

    async def sleep(self, seconds: float) -> None:
        """Wait between attempts; httpcore asks for it, though we let it make none."""
        await asyncio.sleep(seconds)

    async def _addresses(self, host: str, port: int) -> list[Address]:
        literal = _literal(host)
        texts = [host] if literal is not None else await self._resolver(host, port)
        addresses = list(dict.fromkeys(ip_address(text) for text in texts))
        if not addresses:
            raise httpcore.ConnectError("the name has no address")
        cidrs = self._policy.allow_cidrs
        # One bad address rejects the name: a name that is public and private at once is an attack or a mistake.
        if not all(address_allowed(address, cidrs) for address in addresses):
            raise FetchBlocked("the name has an address that is not public")
        if port not in self._policy.ports and not all(in_networks(address, cidrs) for address in addresses):
            raise FetchBlocked(f"port {port} is not allowed")
        return addresses[:MAX_ADDRESSES]

    async def _dial(
        self,
        addresses: list[Address],
        port: int,
        each: float | None,
        local_address: str | None,
        socket_options: Iterable[Any] | None,
    ) -> httpcore.AsyncNetworkStream:
        failure: Exception = httpcore.ConnectError("no address took the connection")
        for address in addresses:
            try:
                stream = await self._inner.connect_tcp(str(address), port, each, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as exc:
                failure = exc
                continue
            peer = stream.get_extra_info("server_addr")
            if not peer or _literal(str(peer[0])) != address:
                await stream.aclose()
                raise FetchBlocked("the connection leads elsewhere than it was dialled")
            return _Stream(stream)
        raise failure


class _Stream(httpcore.AsyncNetworkStream):
    """A connection that is closed when its TLS handshake is cancelled; httpcore would leave it open."""

    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        return await self._inner.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        try:
            return await self._inner.start_tls(ssl_context, server_hostname, timeout)
        except asyncio.CancelledError:
            await self._inner.aclose()
            raise

    def get_extra_info(self, info: str) -> object:
        return self._inner.get_extra_info(info)
