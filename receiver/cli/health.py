"""Ask a process on this machine whether it is well; for a container's or a supervisor's own check."""

from __future__ import annotations

import sys
from http.client import HTTPConnection, HTTPException
from typing import Annotated, Final, Literal

import typer

from receiver.cli import reading
from receiver.core.errors import Misconfigured

#: Seconds; a container's check is given a little more.
_PATIENCE: Final = 5
_OK: Final = 200
_WHY: Final = {503: "it runs, but its database does not answer it; `receiver doctor` says more"}
_STRANGER: Final = "another program seems to listen there"


def health(
    role: Annotated[Literal["web", "worker"], typer.Argument(help="Which process")] = "web",
    *,
    alive: Annotated[
        bool, typer.Option("--alive", help="Only that it answers, whatever its database does; a restart mends no more")
    ] = False,
) -> None:
    """Ask the web or the worker on this machine whether it is ready: exit status 0 when it is, else 1."""
    settings = reading.settings()
    host, port = (settings.host, settings.port) if role == "web" else (settings.worker_host, settings.worker_port)
    if not port:
        raise Misconfigured(f"the port of {role} is 0: it takes any free one, so it cannot be asked")
    address = reading.address(host, port)
    path = "/healthz" if alive else "/readyz"
    # Containers call this every few seconds: the client of the standard library is there at once.
    connection = HTTPConnection(address, timeout=_PATIENCE)
    try:
        connection.request("GET", path)
        status = connection.getresponse().status
    except (OSError, HTTPException) as exc:
        sys.stderr.write(f"{role} does not answer at {address}: {_why(exc)}\n")
        raise typer.Exit(1) from None
    finally:
        connection.close()
    if status != _OK:
        sys.stderr.write(f"{role} answers {status} at {address}{path}: {_WHY.get(status, _STRANGER)}\n")
        raise typer.Exit(1)
    sys.stdout.write(f"{role} is {'alive' if alive else 'ready'}\n")


def _why(exc: OSError | HTTPException) -> str:
    match exc:
        case ConnectionRefusedError():
            return "nothing listens there; it does not run, or elsewhere (`receiver doctor` says more)"
        case TimeoutError():
            return f"not within {_PATIENCE} s; it is overloaded, or hangs"
        case ConnectionError():
            return "it ended the connection; it stops at this moment, or is another program"
        case HTTPException():
            return f"what comes is no HTTP ({type(exc).__name__}): {_STRANGER}"
    return exc.strerror or type(exc).__name__
