"""The Authorization header of a request to a provider."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import jwt

from receiver.core.model import ApiKey, Credentials, KeyPair

#: A token is made for each request, so its life only has to outlast one (providers.md 2.1).
_LIFE: Final = timedelta(seconds=1800)
#: How far their clock may be behind ours.
_LEEWAY: Final = timedelta(seconds=5)


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
