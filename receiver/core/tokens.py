"""Unguessable URLs: a MAC over what the URL names, made with one of several secrets."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass, field

from receiver.core.errors import Misconfigured, TokenUnknown
from receiver.core.model import AccountId, AssetId, Secret, TaskId

#: In a callback URL in place of a task id: the test callback of a provider's console (providers.md 2.6).
CONSOLE_TEST = "test"
#: Characters; 32 random bytes in hexadecimal are 64.
SHORTEST_SECRET = 32


@dataclass(frozen=True, slots=True)
class TokenKeys:
    """The first secret signs, all verify, so that a secret can be changed without losing a callback in flight."""

    secrets: tuple[Secret, ...]
    #: Of each secret: `<key id>.` and the key; made once, since every callback needs them.
    _keys: tuple[tuple[bytes, bytes], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.secrets or any(len(secret.reveal()) < SHORTEST_SECRET for secret in self.secrets):
            raise Misconfigured(f"a callback secret needs at least {SHORTEST_SECRET} characters")
        keys = tuple((f"{key_id(secret)}.".encode(), secret.reveal().encode()) for secret in self.secrets)
        object.__setattr__(self, "_keys", keys)

    def callback_token(self, account: AccountId, task: TaskId) -> str:
        """Return `<key id>.<mac>` for the callback URL of *task*."""
        name, key = self._keys[0]
        return _token(name, key, _text("callback", account, str(task))).decode()

    def console_token(self, account: AccountId) -> str:
        """Return `<key id>.<mac>` for the URL that a provider's console tests *account* with."""
        name, key = self._keys[0]
        return _token(name, key, _text("callback", account, CONSOLE_TEST)).decode()

    def asset_token(self, asset: AssetId) -> str:
        """Return `<key id>.<mac>` for the URL that gives the bytes of *asset*; no callback token is one."""
        name, key = self._keys[0]
        return _token(name, key, _text("asset", str(asset))).decode()

    def check_callback(self, token: str, account: str, task: str) -> None:
        """
        Check the token of a callback URL in constant time.

        Raises:
            TokenUnknown: None of the secrets made it.
        """
        if not self._made(token, _text("callback", account, task)):
            raise TokenUnknown("no such callback URL")

    def is_asset_token(self, token: str, asset: str) -> bool:
        """Return whether one of the secrets made *token* for the bytes of *asset*, in constant time."""
        return self._made(token, _text("asset", asset))

    def fingerprint(self) -> str:
        """Return what may be kept in the database to notice a changed set of secrets."""
        return ",".join(sorted(key_id(secret) for secret in self.secrets))

    def _made(self, token: str, text: bytes) -> bool:
        given = token.encode("utf-8", "replace")
        matches = [hmac.compare_digest(given, _token(name, key, text)) for name, key in self._keys]
        return any(matches)


def key_id(secret: Secret) -> str:
    """Return the public name of *secret*: 8 hexadecimal digits that do not reveal it."""
    return hashlib.sha256(b"receiver key id\0" + secret.reveal().encode()).hexdigest()[:8]


def _text(*parts: str) -> bytes:
    return "\0".join(parts).encode("utf-8", "replace")


def _token(name: bytes, key: bytes, text: bytes) -> bytes:
    return name + base64.urlsafe_b64encode(hmac.digest(key, text, "sha256")).rstrip(b"=")
