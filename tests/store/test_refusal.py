"""Why a database is of no use, from what really comes of it, and from what libpq says of those that are not here."""

from __future__ import annotations

import asyncio
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
import pytest
from psycopg import errors, sql
from psycopg_pool import PoolTimeout

from receiver.core.errors import StoreUnavailable
from receiver.local.postgres import EmbeddedPostgres
from receiver.store import db, refusal
from receiver.store.migrate import migrate, pending
from receiver.store.refusal import Reason

PASSWORD = "planted-password"


def why(url: str) -> str:
    """What is said of a database, the same by both drivers."""
    found = []
    with pytest.raises(StoreUnavailable) as alone:
        pending(url)
    with pytest.raises(StoreUnavailable) as pooled:
        asyncio.run(db.connect(url))
    for caught in (alone, pooled):
        reason = refusal.reason(caught.value)
        assert reason is not None
        assert PASSWORD not in repr(reason) + str(caught.value)
        found.append(reason.found)
    assert found[0] == found[1]
    return found[0]


@pytest.fixture
def barred(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """The name of a user who may have no connection."""
    name = f"barred_{secrets.token_hex(4)}"
    with psycopg.connect(postgres_server.start().replace("//receiver@", "//postgres@"), autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE ROLE {} LOGIN CONNECTION LIMIT 0").format(sql.Identifier(name)))
        yield name
        conn.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """Yield the URL of something that answers whoever comes with *answer*, and ends."""

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            # Who has had enough goes away first.
            with client, suppress(OSError):
                client.recv(4096)
                client.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"postgresql://a:{PASSWORD}@127.0.0.1:{listener.getsockname()[1]}/a"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_what_the_server_refuses_is_told(postgres_server: EmbeddedPostgres, database_url: str, barred: str) -> None:
    assert why(database_url.replace("/test_", "/nothing_")) == "there is no such database"
    assert why(database_url.replace("//receiver@", "//nobody@")) == "there is no such user, or it may not log in"
    assert why(database_url.replace("//receiver@", f"//{barred}@")) == "it has no connection left"
    assert why(f"{database_url}&options=-c%20nothing%3D1") == "a value in the URL is not known"
    assert why(f"{database_url}&target_session_attrs=standby") == "it only reads: a standby, or set so"
    closed = postgres_server.start().replace("@/receiver?", "@/template0?")
    assert why(closed) == "it takes no connections, or none of this user"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"postgresql://a:{PASSWORD}@127.0.0.1:1/a", "nothing listens there"),
        (f"postgresql://a:{PASSWORD}@nowhere.invalid/a", "the host name is unknown"),
        (f"postgresql://a:{PASSWORD}@/a?host=/nonexistent", "there is no server on that socket"),
        (f"postgresql://a:{PASSWORD}@127.0.0.1:1/a?sslmode=perhaps", "a value in the URL is not known"),
        (f"postgresql://a:{PASSWORD}@127.0.0.1:99999/a", "a value in the URL is not known"),
    ],
)
def test_what_is_not_there_is_told(url: str, said: str) -> None:
    assert why(url) == said


@pytest.mark.parametrize(
    ("answer", "mode", "said"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "disable", "something else than PostgreSQL answers there"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "require", "something else than PostgreSQL answers there"),
        (b"N", "require", "TLS failed"),
        (b"", "disable", "it ended the connection"),
    ],
)
def test_what_answers_otherwise_is_told(answer: bytes, mode: str, said: str) -> None:
    with answering(answer) as url:
        assert why(f"{url}?sslmode={mode}&gssencmode=disable") == said


def test_what_may_not_be_written_is_told(database_url: str) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        migrate(f"{database_url}&options=-c%20default_transaction_read_only%3Don")
    assert said_of(caught.value).found == "it only reads: a standby, or set so"


def said_of(error: StoreUnavailable) -> Reason:
    reason = refusal.reason(error)
    assert reason is not None
    return reason


def behind(cause: BaseException) -> StoreUnavailable:
    error = StoreUnavailable("x")
    error.__cause__ = cause
    return error


WORDS = {
    'FATAL:  password authentication failed for user "a"': ("the user or the password is wrong", True),
    "fe_sendauth: no password supplied": ("it wants a password, and none is set", True),
    "FATAL:  SASL authentication failed": ("the user or the password is wrong", True),
    'FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "a"': (
        "the server does not let us in",
        True,
    ),
    "server does not support SSL, but SSL was required": ("TLS failed", True),
    "SSL error: certificate verify failed": ("TLS failed", True),
    'server certificate for "a" does not match host name "b"': ("TLS failed", True),
    "FATAL:  sorry, too many clients already": ("it has no connection left", False),
    "FATAL:  no more connections allowed (max_client_conn)": ("it has no connection left", False),
    "FATAL:  the database system is starting up": ("it starts or stops at this moment", False),
    "FATAL:  unsupported startup parameter: options": ("a pooler in the wrong mode stands between", True),
    "No route to host": ("no way leads there", False),
    "Connection timed out": ("it does not answer in time", False),
    "Passwort-Authentifizierung fehlgeschlagen": ("it failed, or does not let us in", False),
}


@pytest.mark.parametrize("words", WORDS)
def test_what_libpq_says_is_understood(words: str) -> None:
    raised = psycopg.OperationalError(f'connection to server at "10.0.0.2", port 5432 failed: {words}')
    reason = said_of(behind(raised))
    assert (reason.found, reason.lasting) == WORDS[words]


def test_of_several_hosts_the_one_that_answered_is_told() -> None:
    refused, wrong = "Connection refused", 'FATAL:  password authentication failed for user "a"'
    for lines in ((refused, wrong), (wrong, refused)):
        raised = psycopg.OperationalError("\n".join(lines))
        assert said_of(behind(raised)).found == "the user or the password is wrong"


STATES = {
    "25006": "it only reads: a standby, or set so",
    "26000": "a pooler stands between and loses prepared statements",
    "42P05": "a pooler stands between and loses prepared statements",
    "53300": "it has no connection left",
    "57P01": "it starts or stops at this moment",
    "XX000": "it failed, or does not let us in",
}


@pytest.mark.parametrize("state", STATES)
def test_a_statement_that_was_refused_is_told_by_its_sqlstate(state: str) -> None:
    async def run() -> None:
        async with db.translated():
            raise errors.lookup(state)

    with pytest.raises(StoreUnavailable) as caught:
        asyncio.run(run())
    assert said_of(caught.value).found == STATES[state]


def test_silence_is_told_and_of_what_the_driver_did_not_raise_nothing() -> None:
    for cause in (TimeoutError(), errors.ConnectionTimeout("connection timeout expired")):
        assert said_of(behind(cause)).found == "it does not answer in time"
    assert said_of(behind(PoolTimeout())).found == "it gave no connection in time"
    assert refusal.reason(StoreUnavailable("the service stops")) is None
