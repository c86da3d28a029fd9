"""Settings: variables that nobody reads, and what differs from the defaults."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Final

from receiver.cli.api import KEY_VARIABLE, URL_VARIABLE
from receiver.cli.doctor.findings import Finding, ok, warning
from receiver.settings import FILE, NESTED, OWN_VARIABLES, PREFIX, Settings, is_secret, variables

NAME: Final = "settings"

_OF_ACCOUNT: Final = re.compile(rf"{PREFIX}ACCOUNTS{NESTED}(.+?){NESTED}.+")
#: Of the command line, not of the service.
_OF_CLIENT: Final = frozenset({URL_VARIABLE, KEY_VARIABLE})
#: Names that begin like a provider's may belong to other programs; only a near miss is worth a word.
_NEAR: Final = 0.85
_PROVIDERS: Final = tuple(
    sorted({own.variable.split("_")[0] + "_" for owns in OWN_VARIABLES.values() for own in owns} | {PREFIX})
)


def check(settings: Settings, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Name the variables that are set and never read, each with the nearest that is."""
    changed = sorted(settings.model_fields_set - {"accounts"})
    accounts = f"accounts: {', '.join(settings.accounts)}" if settings.accounts else "no account"
    yield ok(NAME, f"{accounts}; set: {', '.join(changed) or 'nothing else'}")
    for name in sorted(environment):
        if name.upper().startswith(_PROVIDERS) and not _is_known(name.upper()):
            yield from _unknown(name)
    if not settings.accounts:
        yield warning("accounts", "none is configured", "set KLING_API_KEY, or another key of .env.example")


def _unknown(name: str) -> Iterator[Finding]:
    near = difflib.get_close_matches(name.upper(), _readable(name.upper()), n=1, cutoff=0.6)
    if name.upper().startswith(PREFIX):
        hint = f"did you mean {near[0]}?" if near else "see .env.example for all names"
        yield warning(NAME, f"{name} is set, and nothing reads it", hint)
    elif difflib.get_close_matches(name.upper(), near, cutoff=_NEAR):
        yield warning(NAME, f"{name} is set, and nothing reads it", f"did you mean {near[0]}?")


def _is_known(name: str) -> bool:
    known = set(_readable(name))
    return name in known or (name.endswith(FILE) and name.removesuffix(FILE) in known and is_secret(name[: -len(FILE)]))


def _readable(name: str) -> list[str]:
    """Return every name that is read, those of the account that *name* speaks of among them."""
    of_account = _OF_ACCOUNT.fullmatch(name)
    return [*variables(of_account[1] if of_account else "NAME"), *_OF_CLIENT]
