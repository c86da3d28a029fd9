"""Unguessable URLs: a MAC over what the URL names, made with one of several secrets."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from receiver.core.errors import Misconfigured, TokenUnknown
from receiver.core.model import AccountId, Secret, TaskId

#: Characters; 32 random bytes in hexadecimal are 64.
SHORTEST_SECRET = 32


@dataclass(frozen=True, slots=True)
class TokenKeys:
    """The first secret signs, all verify, so that a secret can be changed without losing a callback in flight."""

    secrets: tuple[Secret, ...]

    def __post_init__(self) -> None:
        if not self.secrets or any(len(secret.reveal()) < SHORTEST_SECRET for secret in self.secrets):
            raise Misconfigured(f"a callback secret needs at least {SHORTEST_SECRET} characters")

    def callback_token(self, account: AccountId, task: TaskId) -> str:
        """Return `<key id>.<mac>` for the callback URL of *task*."""
        return self._sign("callback", account, str(task))

    def check_callback(self, token: str, account: str, task: str) -> None:
        """
        Check the token of a callback URL in constant time.

        Raises:
            TokenUnknown: None of the secrets made it.
        """
        given = token.encode("utf-8", "replace")
        matches = [hmac.compare_digest(given, each.encode()) for each in self._all("callback", account, task)]
        if not any(matches):
            raise TokenUnknown("no such callback URL")

    def fingerprint(self) -> str:
        """Return what may be kept in the database to notice a changed set of secrets."""
        return ",".join(sorted(key_id(secret) for secret in self.secrets))

    def _sign(self, *parts: str) -> str:
        return _token(self.secrets[0], parts)

    def _all(self, *parts: str) -> Sequence[str]:
        return [_token(secret, parts) for secret in self.secrets]


def key_id(secret: Secret) -> str:
    """Return the public name of *secret*: 8 hexadecimal digits that do not reveal it."""
    return hashlib.sha256(b"receiver key id\0" + secret.reveal().encode()).hexdigest()[:8]


def _token(secret: Secret, parts: Sequence[str]) -> str:
    text = "\0".join(parts).encode("utf-8", "replace")
    mac = hmac.digest(secret.reveal().encode(), text, "sha256")
    return f"{key_id(secret)}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"
