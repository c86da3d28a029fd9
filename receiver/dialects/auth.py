"""The Authorization header of a request to a provider."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final

import jwt

from receiver.core.errors import Misconfigured
from receiver.core.model import ApiKey, Credentials, KeyPair, Secret

#: A token is made for each request, so its life only has to outlast one (providers.md 2.1).
_LIFE: Final = timedelta(seconds=1800)
#: How far their clock may be behind ours.
_LEEWAY: Final = timedelta(seconds=5)
#: Printable ASCII: what a header can carry as one word.
_KEY: Final = re.compile(r"[\x21-\x7e]+")


def check_key(text: str) -> Secret:
    """
    Return an API key as settings hold it, without white space around it.

    Raises:
        Misconfigured: It is empty, or holds what no key does; nothing of it is repeated.
    """
    key = text.strip()
    if not _KEY.fullmatch(key):
        raise Misconfigured("a key is one word of printable ASCII; give it without `Bearer`")
    return Secret(key)


def bearer(credentials: Credentials, *, now: datetime) -> str:
    """
    Return the header's value; a secret, never to be logged.

    *now* is the aware time that the provider's clock should show.
    """
    match credentials:
        case ApiKey(key=key):
            return f"Bearer {key.reveal()}"
        case KeyPair(access_key=access_key, secret_key=secret_key):
            claims = {
                "iss": access_key,
                "exp": int((now + _LIFE).timestamp()),
                "nbf": int((now - _LEEWAY).timestamp()),
            }
            token = jwt.encode(claims, secret_key.reveal(), algorithm="HS256", headers={"alg": "HS256", "typ": "JWT"})
            return f"Bearer {token}"
