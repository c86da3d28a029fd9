"""Unguessable URLs: a MAC over what the URL names, made with one of several secrets."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable

from receiver.core.errors import Misconfigured, TokenUnknown
from receiver.core.model import AccountId, AssetId, Secret, TaskId

#: In a callback URL in place of a task id: the test callback of a provider's console (providers.md 2.6).
CONSOLE_TEST = "test"
#: Characters; 32 random bytes in hexadecimal are 64.
SHORTEST_SECRET = 32


def _never() -> None:
    """Know of no other secrets."""


class TokenKeys:
    """
    The first secret signs, all verify, so that a secret can be changed without losing a callback in flight.

    *renew* is asked before each signature and each check; it gives the new set when
    there is one. So where all processes read one file, a secret is accepted
    everywhere before anything is signed with it, and nowhere once it is taken out.
    """

    __slots__ = ("_keys", "_renew", "_secrets")

    def __init__(self, secrets: tuple[Secret, ...], *, renew: Callable[[], tuple[Secret, ...] | None] = _never) -> None:
        self._renew = renew
        self._take(secrets)

    def __repr__(self) -> str:
        return f"TokenKeys({self.fingerprint()})"

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """The secrets that are known now; the first signs."""
        return self._secrets

    def callback_token(self, account: AccountId, task: TaskId) -> str:
        """Return `<key id>.<mac>` for the callback URL of *task*."""
        return self._signed(_text("callback", account, str(task)))

    def console_token(self, account: AccountId) -> str:
        """Return `<key id>.<mac>` for the URL that a provider's console tests *account* with."""
        return self._signed(_text("callback", account, CONSOLE_TEST))

    def asset_token(self, asset: AssetId) -> str:
        """Return `<key id>.<mac>` for the URL that gives the bytes of *asset*; no callback token is one."""
        return self._signed(_text("asset", str(asset)))

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

    def _signed(self, text: bytes) -> str:
        self._look()
        return _token(*self._keys[0], text).decode()

    def _made(self, token: str, text: bytes) -> bool:
        self._look()
        given = token.encode("utf-8", "replace")
        matches = [hmac.compare_digest(given, _token(name, key, text)) for name, key in self._keys]
        return any(matches)

    def _look(self) -> None:
        """Take up another set of secrets when there is one."""
        found = self._renew()
        if found is not None:
            self._take(found)

    def _take(self, secrets: tuple[Secret, ...]) -> None:
        check_secrets(secrets)
        self._secrets = secrets
        # `<key id>.` and the key; made once, since every callback needs them.
        self._keys = tuple((f"{key_id(secret)}.".encode(), secret.reveal().encode()) for secret in secrets)


def check_secrets(secrets: tuple[Secret, ...]) -> None:
    """
    Refuse what no URL should be made with.

    Raises:
        Misconfigured: There is no secret, or one is too short.
    """
    if not secrets or any(len(secret.reveal()) < SHORTEST_SECRET for secret in secrets):
        raise Misconfigured(f"a callback secret needs at least {SHORTEST_SECRET} characters")


def maker_of(token: str) -> str:
    """Return the key id of the secret that *token* says it was made with."""
    return token.partition(".")[0]


def key_id(secret: Secret) -> str:
    """Return the public name of *secret*: 8 hexadecimal digits that do not reveal it."""
    return hashlib.sha256(b"receiver key id\0" + secret.reveal().encode()).hexdigest()[:8]


def _text(*parts: str) -> bytes:
    return "\0".join(parts).encode("utf-8", "replace")


def _token(name: bytes, key: bytes, text: bytes) -> bytes:
    return name + base64.urlsafe_b64encode(hmac.digest(key, text, "sha256")).rstrip(b"=")
