"""Callback signatures as Standard Webhooks has them (providers.md 2.6)."""

from __future__ import annotations

import binascii
import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Final

from receiver.core.errors import Misconfigured
from receiver.core.model import Secret, Verdict

#: Either way between their clock and ours.
TOLERANCE: Final = timedelta(minutes=5)

_PREFIX: Final = "whsec_"
#: Bytes. A shorter key is a slip of the hand.
_LEAST_KEY: Final = 16
_SECONDS: Final = re.compile(r"[0-9]{1,12}")


def check_secret(text: str) -> Secret:
    """
    Return a webhook secret as settings hold it, without white space around it.

    Raises:
        Misconfigured: It is not `whsec_` followed by base64 of at least 16 bytes.
    """
    secret = Secret(text.strip())
    _key(secret)
    return secret


def verify(
    secrets: Sequence[Secret],
    *,
    webhook_id: str | None,
    timestamp: str | None,
    signatures: str | None,
    body: bytes,
    now: datetime,
) -> Verdict:
    """
    Check a callback's signature headers over its raw *body*.

    Any listed signature may match with any secret: during a rotation both sign.
    Without any secret there is nothing to check with, so the callback counts as
    unsigned: gateways pass on signatures that only they could check (providers.md 3.5).

    Raises:
        Misconfigured: A secret is not what `check_secret` lets through.
    """
    if not secrets or not webhook_id or not timestamp or not signatures:
        return Verdict.ABSENT
    signed = b".".join((_raw(webhook_id), _raw(timestamp), body))
    offered = [_raw(entry[3:]) for entry in signatures.split() if entry.startswith("v1,")]
    matches = False
    for secret in secrets:
        expected = b64encode(hmac.digest(_key(secret), signed, sha256))
        for signature in offered:
            # No early end: the time says nothing about which one matched.
            matches |= hmac.compare_digest(signature, expected)
    if not matches:
        return Verdict.BAD
    return Verdict.GOOD if _is_fresh(timestamp, now) else Verdict.STALE


def _is_fresh(timestamp: str, now: datetime) -> bool:
    if not _SECONDS.fullmatch(timestamp):
        return False
    return abs(int(timestamp) - now.timestamp()) <= TOLERANCE.total_seconds()


def _raw(header: str) -> bytes:
    """Return the header's bytes; the server decoded them as Latin-1."""
    return header.encode("latin-1", "replace")


@lru_cache(maxsize=256)
def _key(secret: Secret) -> bytes:
    prefix, encoded = secret.reveal()[: len(_PREFIX)], secret.reveal()[len(_PREFIX) :]
    if prefix != _PREFIX:
        raise Misconfigured(f"a webhook secret begins with {_PREFIX}")
    try:
        key = b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise Misconfigured(f"a webhook secret is base64 after {_PREFIX}") from exc
    if len(key) < _LEAST_KEY:
        raise Misconfigured(f"a webhook secret holds at least {_LEAST_KEY} bytes")
    return key
