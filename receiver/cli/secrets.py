"""
Callback and webhook secrets: which there are, who needs them, and how one is changed without losing a callback.

Nothing shows a secret but `rotate`, `promote` and `retire` where the operator has to set one: it is all of stdout then.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import secrets as random
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from receiver import wiring
from receiver.cli import keyring, run
from receiver.cli.keyring import Known
from receiver.cli.tables import cell, clean, rows, span, table
from receiver.core.errors import Conflict, NotFound
from receiver.core.model import AccountId, Secret
from receiver.core.tokens import key_id
from receiver.flow.services import Deal
from receiver.local import private
from receiver.settings import PREFIX, Settings
from receiver.store import db, keys, secrets
from receiver.store.secrets import CALLBACKS, Need

app = typer.Typer(
    help="Secrets of the callback URLs and of the providers' signatures; opens the database itself.",
    no_args_is_help=True,
)

VARIABLE: Final = f"{PREFIX}CALLBACK_SECRETS"
#: A create that was begun with the secret that signed before is under way no longer.
SETTLED: Final = timedelta(minutes=1)
_LATER: Final = "When no open task (receiver secrets list) and nobody's play_url (/a/…) needs the others any more"

Fingerprint = Annotated[str, typer.Argument(help="As `receiver secrets list` shows it")]
AsJson = Annotated[bool, typer.Option("--json", help="Write one JSON document")]


@app.command("list")
def listing(*, as_json: AsJson = False) -> None:
    """List the secrets by fingerprint: their age, which open tasks need them, when one last signed. Shows no secret."""
    with _opened() as (_, known):
        lines = [*_callback_lines(known), *_webhook_lines(known)]
    if as_json:
        sys.stdout.write(json.dumps({"secrets": lines}) + "\n")
    elif sys.stdout.isatty():
        shown = table(
            "of", "fingerprint", "state", "age", "open tasks", "needed until", "last used", right=("open tasks",)
        )
        for line in lines:
            shown.add_row(*map(cell, _columns(line)))
        Console(highlight=False).print(shown)
    else:
        sys.stdout.write(rows(map(_columns, lines)))


@app.command()
def rotate(
    *,
    account: Annotated[
        str | None, typer.Option(help="Say how the webhook secret of this account is changed instead")
    ] = None,
) -> None:
    """
    Begin to use a new secret for callback URLs; those made before stay good until `retire`.

    Where we keep the secrets ourselves this is all, and no process need be restarted. Elsewhere the new value of the
    setting is written to stdout, and what to do with it to stderr.
    """
    with _opened() as (settings, known):
        if account is not None:
            _guide_webhook(known, account)
            return
        made = random.token_hex(32)
        name = key_id(Secret(made))
        if (file := run.own_secrets_file(settings)) is not None:
            _rewrite(file, lambda texts: [made, *texts])
            _note(settings, [name, *map(key_id, known.callbacks)])
            _say(f"{name} signs from now on; every process takes it up by itself.")
            _say(f"{_LATER}: receiver secrets retire {key_id(known.callbacks[0])}")
            return
    _put_out(settings, [*_texts(known), made])
    _say(f"1. {_where(settings)}: {name} is last, so that it is accepted and does not sign.")
    _say(f"2. When every web process has it: receiver secrets promote {name}")


@app.command()
def promote(fingerprint: Fingerprint) -> None:
    """
    Let a secret that all processes accept sign from now on.

    Where you set the secrets, the new value of the setting is written to stdout, and what to do with it to stderr.
    """
    with _opened() as (settings, known):
        chosen = _chosen(known, fingerprint).reveal()
        if (file := run.own_secrets_file(settings)) is not None:
            _rewrite(file, lambda texts: [chosen, *(text for text in texts if text != chosen)])
            _say(f"{fingerprint} signs from now on; every process takes it up by itself.")
            _say(f"{_LATER}: receiver secrets retire FINGERPRINT")
            return
    _put_out(settings, [chosen, *(text for text in _texts(known) if text != chosen)])
    _say(f"1. {_where(settings)}: {fingerprint} is first, so that it signs.")
    _say(f"2. {_LATER}: receiver secrets retire FINGERPRINT")


@app.command()
def retire(
    fingerprint: Fingerprint,
    *,
    force: Annotated[
        bool, typer.Option(help="Also while open tasks need it: their callbacks get 404, they are polled")
    ] = False,
) -> None:
    """
    Stop accepting a secret; refused while open tasks have callback URLs that were made with it.

    It is not refused for URLs of audio without a key (`play_url`, /a/…): those that were made with it end, which is
    told. Where you set the secrets, the new value of the setting is written to stdout, and what to do with it to
    stderr.
    """
    with _opened() as (settings, known):
        if (found := _webhook_of(known, fingerprint)) is not None:
            _retire_webhook(*found)
            return
        chosen = _chosen(known, fingerprint)
        file = run.own_secrets_file(settings)
        _check_retirable(known, chosen, file, force=force)
        left = [text for text in _texts(known) if text != chosen.reveal()]
        # Nobody knows who was given such a URL, so that none can be waited for.
        _say(f"Warning: each play_url (/a/…) that {fingerprint} made ends with it; the API tells the new ones.")
        if file is not None:
            _rewrite(file, lambda texts: [text for text in texts if text != chosen.reveal()])
            _note(settings, [key_id(Secret(text)) for text in left], gone=fingerprint)
            _say(f"{fingerprint} is accepted no more; every process takes it up by itself.")
            return
    _put_out(settings, left)
    _say(f"{_where(settings)}: {fingerprint} is left out.")


@contextmanager
def _opened() -> Iterator[tuple[Settings, Known]]:
    """Open the database and read what is known; the database stays open meanwhile."""
    settings = run.read_settings()
    with run.database(settings) as url:
        wiring.check_migrated(url)
        yield settings, asyncio.run(keyring.known_of(url, settings))


def _callback_lines(known: Known) -> Iterator[dict[str, Any]]:
    for place, secret in enumerate(known.callbacks):
        name = key_id(secret)
        yield _line(known, CALLBACKS, name, "signs" if place == 0 else "accepted", known.needs.get(name))
    for name, need in known.missing().items():
        yield _line(known, CALLBACKS, name, "missing", need)
    if None in known.needs:
        yield _line(known, CALLBACKS, None, "not recorded", known.needs[None])


def _webhook_lines(known: Known) -> Iterator[dict[str, Any]]:
    for name, deal in known.deals.items():
        test, seen = known.tests[name], known.weather[name]
        for secret in deal.account.webhook_secrets:
            line = _line(known, name, key_id(secret), "accepted", None)
            if test is not None and test.secret == key_id(secret):
                line["last_test_at"] = test.at.isoformat()
            line["last_signed_at"] = None if seen.last_signed_at is None else seen.last_signed_at.isoformat()
            yield line


def _line(known: Known, account: str, name: str | None, state: str, need: Need | None) -> dict[str, Any]:
    age = None if name is None else known.age(account, name)
    return {
        "of": account or "callback URLs",
        "fingerprint": name,
        "state": state,
        "age_seconds": None if age is None else round(age.total_seconds()),
        "open_tasks": 0 if need is None else need.tasks,
        "needed_until": None if need is None else need.until.isoformat(),
        "last_test_at": None,
        "last_signed_at": None,
    }


def _columns(line: Mapping[str, Any]) -> Sequence[object]:
    used = max((at for at in (line["last_test_at"], line["last_signed_at"]) if at is not None), default=None)
    names = ("of", "fingerprint", "state")
    return [*(line[name] for name in names), span(line["age_seconds"]), line["open_tasks"], line["needed_until"], used]


def _chosen(known: Known, fingerprint: str) -> Secret:
    for secret in known.callbacks:
        if key_id(secret) == fingerprint:
            return secret
    raise NotFound(f"there is no secret {clean(fingerprint)}; see `receiver secrets list`")


def _check_retirable(known: Known, chosen: Secret, file: Path | None, *, force: bool) -> None:
    """Refuse what would lose callbacks."""
    name, signs = key_id(chosen), key_id(known.callbacks[0])
    if name == signs:
        raise Conflict(f"{name} signs; make another one sign first: receiver secrets rotate")
    if force:
        return
    if need := known.needs.get(name):
        raise Conflict(
            f"{need.tasks} open task(s) have callback URLs made with {name}, until {need.until:%Y-%m-%d %H:%M} UTC at "
            "the latest; wait, or lose their callbacks with --force (they are then found by asking the provider)"
        )
    if need := known.needs.get(None):
        raise Conflict(f"{need.tasks} open task(s) were sent before their secret was recorded; wait, or use --force")
    if file is not None and time.time() - file.stat().st_mtime < SETTLED.total_seconds():
        raise Conflict(f"the secrets changed less than a minute ago; tasks may still be under way with {name}: wait")


def _rewrite(file: Path, change: Callable[[list[str]], list[str]]) -> None:
    """Change our own file of secrets, whole or not at all, one process at a time."""
    folder = os.open(file.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        texts = [secret.reveal() for secret in wiring.read_secrets(file)]
        private.write(file, "".join(f"{text}\n" for text in change(texts)))
    finally:
        os.close(folder)


def _note(settings: Settings, names: Sequence[str], *, gone: str | None = None) -> None:
    """Write down which secrets there are, so that the next start agrees and ages count from now."""

    async def note(url: str) -> None:
        conn = await db.connect(url)
        try:
            async with db.translated():
                await secrets.note(conn, CALLBACKS, names)
                if gone is not None:
                    await secrets.forget(conn, CALLBACKS, gone)
                await keys.record(conn, "callback_secrets", ",".join(sorted(names)))
        finally:
            await conn.close()

    with run.database(settings) as url:
        asyncio.run(note(url))


def _texts(known: Known) -> list[str]:
    return [secret.reveal() for secret in known.callbacks]


def _put_out(settings: Settings, texts: Sequence[str]) -> None:
    """Write the new value of the setting: the one place where secrets are shown."""
    between = "," if settings.callback_secrets_file is None else "\n"
    sys.stdout.write(between.join(texts) + "\n")


def _where(settings: Settings) -> str:
    if settings.callback_secrets_file is not None:
        return f"Put what stands on stdout into {settings.callback_secrets_file} on every machine, without a restart"
    return f"Set {VARIABLE} to what stands on stdout, for every web and worker, and restart each"


def _webhook_of(known: Known, fingerprint: str) -> tuple[Deal, str] | None:
    for deal in known.deals.values():
        if fingerprint in map(key_id, deal.account.webhook_secrets):
            return deal, fingerprint
    return None


def _guide_webhook(known: Known, account: str) -> None:
    """Say how a provider's webhook secret is changed: it is made there, so that only the order is ours to tell."""
    deal = known.deals.get(AccountId(account))
    if deal is None:
        raise NotFound(f"there is no account {clean(account)}; known: {', '.join(known.deals) or 'none'}")
    variable = keyring.webhook_variable(deal)
    names = ", ".join(map(key_id, deal.account.webhook_secrets)) or "none"
    _say(f"Webhook secrets of {account} now: {names}. All of them are accepted; their order does not matter.")
    _say("1. Make the new secret in the provider's console, and do not switch the old one off yet.")
    _say(f"2. Add it to {variable}, separated by a comma, and restart every web process.")
    _say("3. Let the console send its test callback; `receiver secrets list` shows which secret signed it.")
    _say("4. Switch the old one off in the console. Callbacks in flight are still accepted.")
    _say("5. A day later: receiver secrets retire FINGERPRINT")


def _retire_webhook(deal: Deal, fingerprint: str) -> None:
    variable = keyring.webhook_variable(deal)
    left = [secret.reveal() for secret in deal.account.webhook_secrets if key_id(secret) != fingerprint]
    sys.stdout.write(",".join(left) + "\n")
    _say(f"Set {variable} to what stands on stdout and restart every web process: {fingerprint} is left out.")
    if not left:
        _say(
            f"None is left: signatures of {deal.account.id} can no longer be checked, and its callbacks are only hints."
        )


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
