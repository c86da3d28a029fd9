"""The command `receiver`."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections import UserDict
from importlib import metadata
from types import MappingProxyType
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from receiver.cli import failing
from receiver.core.errors import ReceiverError

#: Every command and group, in the order of `--help`, and where it is; imported when it is asked for.
COMMANDS: Final = MappingProxyType(
    {
        "serve": "receiver.cli.run:serve",
        "web": "receiver.cli.run:web",
        "worker": "receiver.cli.run:worker",
        "migrate": "receiver.cli.run:migrate",
        "health": "receiver.cli.health:health",
        "sandbox": "receiver.cli.simulating:sandbox",
        "demo": "receiver.cli.demo:demo",
        "doctor": "receiver.cli.doctor.command:doctor",
        "ledger": "receiver.cli.ledger:ledger",
        "tasks": "receiver.cli.tasks:app",
        "assets": "receiver.cli.assets:app",
        "callbacks": "receiver.cli.callbacks:app",
        "accounts": "receiver.cli.accounts:app",
        "keys": "receiver.cli.keys:app",
        "secrets": "receiver.cli.secrets:app",
    }
)
#: What the system says when it has no room for what is written.
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
#: The sandbox reads its own options, so that it has the same ones without us.
_READS_ITSELF: Final = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


class _Commands(UserDict[str, Any]):
    """Commands by name, from where each is."""

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - typer has no public name for a command
        module, _, found = super().__getitem__(name).partition(":")
        return _command(name, getattr(importlib.import_module(module), found))


class _Root(TyperGroup):
    """The group of all commands; to import them all takes a second, and most calls need one."""

    def __init__(self, **attributes: Any) -> None:  # noqa: ANN401 - those of typer
        super().__init__(**attributes)
        self.commands = _Commands(COMMANDS)

    def list_commands(self, ctx: object) -> list[str]:
        """Return the names; the inherited one asks for the commands, too."""
        del ctx
        return list(self.commands)


def _command(name: str, found: Any) -> Any:  # noqa: ANN401 - typer has no public name for a command
    if isinstance(found, typer.Typer):
        group = typer.main.get_group(found)
        group.name = name
        return group
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command(name, context_settings=_READS_ITSELF if name == "sandbox" else None)(found)
    return typer.main.get_command(alone)


app = typer.Typer(
    cls=_Root,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(*, asked: bool) -> None:
    if asked:
        sys.stdout.write(f"receiver {metadata.version('receiver')}\n")
        raise typer.Exit


@app.callback()
def root(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=lambda value: _version(asked=value), is_eager=True, help="Show the version"),
    ] = False,
) -> None:
    """Submits AI audio jobs, takes the providers' callbacks, and archives the audio before its links die."""
    del version


def main() -> None:
    """Run the command line: exit status 0 done, 1 something failed, 2 usage; see `failing` for one more."""
    try:
        try:
            app(prog_name="receiver")
        finally:
            # Not left to the interpreter, which ends with a status and words of its own.
            sys.stdout.flush()
    except (ReceiverError, BaseExceptionGroup) as exc:
        errors = failing.known(exc)
        if not errors:
            raise
        failing.fail(*errors)
    except OSError as exc:
        if exc.errno not in _FULL:
            raise
        # What is still to be written would fail once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.stderr.write(f"receiver: cannot_write: {exc.strerror}\n")
        sys.exit(1)
