"""The command `receiver`."""

from __future__ import annotations

import sys
from importlib import metadata
from typing import Annotated, NoReturn

import typer

from receiver.cli import (
    accounts,
    acts,
    assets,
    callbacks,
    demo,
    following,
    health,
    keys,
    ledger,
    run,
    secrets,
    submitting,
    tasks,
)
from receiver.cli.doctor.command import doctor
from receiver.core.errors import ReceiverError

app = typer.Typer(
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


app.command()(run.serve)
app.command()(run.web)
app.command()(run.worker)
app.command()(run.migrate)
app.command()(health.health)
# The sandbox reads its own options, so that it has the same ones without us.
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})(
    run.sandbox
)
app.command()(demo.demo)
app.command()(doctor)
app.command()(ledger.ledger)
for act in (submitting.submit, following.watch, acts.cancel, acts.retry, acts.refresh, acts.adopt, acts.events):
    tasks.app.command()(act)
app.add_typer(tasks.app, name="tasks")
app.add_typer(assets.app, name="assets")
app.add_typer(callbacks.app, name="callbacks")
app.add_typer(accounts.app, name="accounts")
app.add_typer(keys.app, name="keys")
app.add_typer(secrets.app, name="secrets")


def main() -> None:
    """Run the command line: exit status 0 done, 1 something failed, 2 usage."""
    try:
        app(prog_name="receiver")
    except ReceiverError as exc:
        fail(exc)
    except BaseExceptionGroup as group:
        # A server's tasks end together; what ended them may be an error like any other.
        known, rest = group.split(ReceiverError)
        if rest is not None or known is None:
            raise
        fail(*known.exceptions)


def fail(*errors: BaseException) -> NoReturn:
    """Say what went wrong in a line each and end with status 1."""
    for error in errors:
        code = error.code if isinstance(error, ReceiverError) else type(error).__name__
        sys.stderr.write(f"receiver: {code}: {error}\n")
    sys.exit(1)
