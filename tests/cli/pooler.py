"""Something between us and PostgreSQL that lends out its connections, as poolers of transactions do."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import parse_qs, urlsplit

_KEY_DATA, _NOTIFICATION = b"K", b"A"


@contextmanager
def pooled(database_url: str, *, notifications: bool) -> Iterator[str]:
    """Yield the URL of a wire to the server that gives process ids of its own, and notifications only if told."""
    parts = urlsplit(database_url)
    (directory,) = parse_qs(parts.query)["host"]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=_accept, args=(listener, f"{directory}/.s.PGSQL.5432", notifications))
        accepting.start()
        where = f"127.0.0.1:{listener.getsockname()[1]}"
        yield f"postgresql://{parts.username}@{where}{parts.path}?sslmode=disable&gssencmode=disable"
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()


def _accept(listener: socket.socket, server: str, notifications: bool) -> None:  # noqa: FBT001
    threads = []
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            break
        upstream = socket.socket(socket.AF_UNIX)
        upstream.connect(server)
        there = threading.Thread(target=_pass_on, args=(client, upstream))
        back = threading.Thread(target=_filter, args=(upstream, client, notifications))
        threads += [there, back]
        there.start()
        back.start()
    for thread in threads:
        thread.join()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    # Either side may go away first; so does the other then.
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def _filter(source: socket.socket, sink: socket.socket, notifications: bool) -> None:  # noqa: FBT001
    """Pass whole messages of the server on: a byte that names it, its length with these four bytes, its body."""
    with suppress(OSError), source, sink, source.makefile("rb") as reader:
        while kind := reader.read(1):
            length = reader.read(4)
            body = reader.read(struct.unpack("!I", length)[0] - 4)
            if kind == _KEY_DATA:
                body = struct.pack("!I", struct.unpack("!I", body[:4])[0] + 1) + body[4:]
            if kind != _NOTIFICATION or notifications:
                sink.sendall(kind + length + body)
