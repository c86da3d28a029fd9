"""
Why the database did not do it: what the driver says, what that means, and what to do.

What it says is read, never shown, for it names hosts and users.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import errors
from psycopg_pool import PoolTimeout

URL: Final = "RECEIVER_DATABASE_URL"


@dataclass(frozen=True, slots=True)
class Reason:
    """What is wrong, and how it is mended; neither holds anything of the URL."""

    found: str
    mend: str
    #: Only a person ends it: to try again is of no use.
    lasting: bool = False


_LOGIN: Final = Reason("the user or the password is wrong", f"correct {URL}", lasting=True)
_NO_PASSWORD: Final = Reason("it wants a password, and none is set", f"put it into {URL}", lasting=True)
_NO_USER: Final = Reason(
    "there is no such user, or it may not log in", f"CREATE ROLE … LOGIN, or correct {URL}", lasting=True
)
_NO_DATABASE: Final = Reason("there is no such database", f"CREATE DATABASE …, or correct {URL}", lasting=True)
_CLOSED: Final = Reason(
    "it takes no connections, or none of this user", f"GRANT CONNECT to it, or correct {URL}", lasting=True
)
_NOT_LET_IN: Final = Reason(
    "the server does not let us in", f"add this machine to pg_hba.conf of the server, or correct {URL}", lasting=True
)
_TLS: Final = Reason("TLS failed", f"correct sslmode and sslrootcert in {URL}", lasting=True)
_WRONG_URL: Final = Reason("a value in the URL is not known", f"correct {URL}", lasting=True)
_NO_POSTGRESQL: Final = Reason(
    "something else than PostgreSQL answers there", f"correct host and port in {URL}", lasting=True
)
_REFUSED: Final = Reason("nothing listens there", f"start PostgreSQL, or correct host and port in {URL}")
_NO_SOCKET: Final = Reason("there is no server on that socket", f"start PostgreSQL, or correct the host in {URL}")
_NO_HOST: Final = Reason("the host name is unknown", f"correct the host in {URL}")
_UNREACHED: Final = Reason("no way leads there", f"look at the network, or correct the host in {URL}")
_SILENT: Final = Reason("it does not answer in time", f"look at the network and its firewalls, or correct {URL}")
_TAKEN: Final = Reason(
    "it has no connection left",
    "raise max_connections of the server or the limit of the user, or lower RECEIVER_DATABASE_CONNECTIONS",
)
_NONE_FREE: Final = Reason("it gave no connection in time", "look at its log, its load and its max_connections")
_STARTING: Final = Reason("it starts or stops at this moment", "try again")
_READS: Final = Reason("it only reads: a standby, or set so", f"point {URL} at the primary")
_POOLER: Final = Reason(
    "a pooler stands between and loses prepared statements",
    f"set its max_prepared_statements (PgBouncer 1.22), or its pool_mode to session, or point {URL} at the server",
    lasting=True,
)
_STATEMENTS: Final = Reason(
    "a pooler in the wrong mode stands between",
    f"set its pool_mode to transaction or session, or point {URL} at the server itself",
    lasting=True,
)
_DISK: Final = Reason("its disk is full", "make room on the server")
_CUT: Final = Reason("it ended the connection", "see the log of the server")
_UNKNOWN: Final = Reason("it failed, or does not let us in", f"see the log of the server, or correct {URL}")

#: By SQLSTATE, which every refusal of a statement has.
_BY_STATE: Final = {
    "08P01": _STATEMENTS,
    "25006": _READS,
    "26000": _POOLER,
    "28000": _NOT_LET_IN,
    "28P01": _LOGIN,
    "3D000": _NO_DATABASE,
    "42P05": _POOLER,
    "53100": _DISK,
    "53300": _TAKEN,
    "57P01": _STARTING,
    "57P02": _STARTING,
    "57P03": _STARTING,
}
#: A connection that was never made has no SQLSTATE: libpq keeps it for itself. Of several hosts the first that fits is
#: told, so what a server says stands before what says that there is none.
_BY_WORDS: Final = (
    ("not allowed in statement pooling|unsupported startup parameter", _STATEMENTS),
    ("no password supplied", _NO_PASSWORD),
    ("(password|SASL) authentication failed|no such user", _LOGIN),
    ("too many (clients|connections)|remaining connection slots|no more connections allowed", _TAKEN),
    ("role .* (does not exist|is not permitted to log in)", _NO_USER),
    ("database .* does not exist|no such database", _NO_DATABASE),
    ("not currently accepting connections|permission denied for database", _CLOSED),
    ("starting up|shutting down|in recovery mode", _STARTING),
    ("is read-only|in hot standby mode", _READS),
    ("does not support SSL|SSL error|SSL SYSCALL|certificate|channel binding|tls", _TLS),
    ("pg_hba.conf|GSSAPI|[aA]uthentication method|authentication failed", _NOT_LET_IN),
    ("invalid response to|expected authentication request", _NO_POSTGRESQL),
    ("invalid .* value|invalid port number|definition of service|unrecognized configuration parameter", _WRONG_URL),
    ("closed the connection|terminated abnormally|connection is (closed|lost)", _CUT),
    ("timeout expired|timed out", _SILENT),
    ("Connection refused", _REFUSED),
    ("No such file or directory", _NO_SOCKET),
    ("unreachable|No route to host", _UNREACHED),
    ("could not translate host name|failed to resolve host", _NO_HOST),
)


def reason(error: BaseException) -> Reason | None:
    """Return why the driver raised what stands behind *error*, one of ours; None where it has raised nothing."""
    match error.__cause__:
        case PoolTimeout():
            return _NONE_FREE
        case TimeoutError() | errors.ConnectionTimeout():
            return _SILENT
        case psycopg.Error(sqlstate=str(state)):
            return _BY_STATE.get(state, _UNKNOWN)
        case psycopg.Error() as raised:
            said = str(raised)
            return next((found for pattern, found in _BY_WORDS if re.search(pattern, said)), _UNKNOWN)
    return None
