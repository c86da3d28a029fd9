"""Ask a process on this machine whether it is well; for a container's or a supervisor's own check."""

from __future__ import annotations

import sys
from typing import Annotated, Final, Literal

import httpx
import typer

from receiver.cli.run import read_settings

#: Seconds; a container's check is given a little more.
_PATIENCE: Final = 5
_OK: Final = 200
#: Listening everywhere is reached here.
_HERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - compared, not bound


def health(
    role: Annotated[Literal["web", "worker"], typer.Argument(help="Which process")] = "web",
    *,
    alive: Annotated[
        bool, typer.Option("--alive", help="Only that it answers, whatever its database does; a restart mends no more")
    ] = False,
) -> None:
    """Ask the web or the worker on this machine whether it is ready: exit status 0 when it is, else 1."""
    settings = read_settings()
    host, port = (settings.host, settings.port) if role == "web" else (settings.worker_host, settings.worker_port)
    host = _HERE.get(host, host)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    path = "/healthz" if alive else "/readyz"
    try:
        with httpx.Client(trust_env=False, timeout=_PATIENCE) as client:
            status = client.get(f"http://{address}{path}").status_code
    except httpx.TransportError as exc:
        sys.stderr.write(f"{role} does not answer at {address}: {type(exc).__name__}\n")
        raise typer.Exit(1) from None
    if status != _OK:
        sys.stderr.write(f"{role} answers {status} at {address}{path}\n")
        raise typer.Exit(1)
    sys.stdout.write(f"{role} is {'alive' if alive else 'ready'}\n")
