"""What the shell offers for a word that is being typed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

import httpx

from receiver.cli import api
from receiver.core.errors import ReceiverError
from receiver.core.model import State
from receiver.dialects import spec

#: Nobody waits longer for a word.
_LIMIT = httpx.Timeout(1.0)


def states(incomplete: str) -> list[str]:
    """Offer the states of a task."""
    return _fitting(State, incomplete)


def kinds(incomplete: str) -> list[str]:
    """Offer the kinds that any provider makes."""
    return _fitting({kind for profile in spec.catalog().values() for kind in profile.kinds}, incomplete)


def accounts(incomplete: str) -> list[str]:
    """Offer the accounts of the service, if it answers at once."""
    key, url = os.environ.get(api.KEY_VARIABLE, "").strip(), os.environ.get(api.URL_VARIABLE, api.DEFAULT_URL)
    if not (key.isascii() and key.isprintable() and key and api.is_url(url)):
        return []
    try:
        with api.Client(url, key, limit=_LIMIT) as service:
            told = service.get("/v1/accounts").document["accounts"]
    except (api.Problem, ReceiverError):
        # A word that cannot be completed is no error.
        return []
    return _fitting((str(each["id"]) for each in told), incomplete)


#: How typer asks for the words of a parameter.
Completer = Callable[[str], list[str]]


def _fitting(words: Iterable[str], incomplete: str) -> list[str]:
    return sorted(str(word) for word in words if word.startswith(incomplete))
