"""The tasks of a running service: every verb that there is for them."""

from __future__ import annotations

import typer

from receiver.cli import acts, api, following, looking, submitting

app = typer.Typer(
    help=f"Tasks of a running service; its API key is taken from {api.KEY_VARIABLE}.", no_args_is_help=True
)
app.command()(looking.show)
app.command("list")(looking.listing)
for verb in (submitting.submit, following.watch, acts.cancel, acts.retry, acts.refresh, acts.adopt, acts.events):
    app.command()(verb)
