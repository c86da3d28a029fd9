"""The command `receiver`."""

from __future__ import annotations

import sys

import typer

from receiver.cli import accounts, acts, demo, keys, ledger, run, tasks
from receiver.core.errors import ReceiverError

app = typer.Typer(
    help="Submits AI audio jobs, takes the providers' callbacks, and archives the audio before its links die.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(run.serve)
app.command()(run.web)
app.command()(run.worker)
app.command()(run.migrate)
# The sandbox reads its own options, so that it has the same ones without us.
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})(
    run.sandbox
)
app.command()(demo.demo)
app.command()(ledger.ledger)
for act in (acts.cancel, acts.retry, acts.refresh, acts.adopt, acts.events):
    tasks.app.command()(act)
app.add_typer(tasks.app, name="tasks")
app.add_typer(accounts.app, name="accounts")
app.add_typer(keys.app, name="keys")


def main() -> None:
    """Run the command line: exit status 0 done, 1 something failed, 2 usage."""
    try:
        app()
    except ReceiverError as exc:
        sys.stderr.write(f"receiver: {exc.code}: {exc}\n")
        sys.exit(1)
