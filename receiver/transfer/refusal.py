"""What to do when the bucket's start-up proof fails."""

from __future__ import annotations

import re
from typing import Final

from receiver.core.errors import BucketUnavailable, Misconfigured

#: What the proof says of a failure, and what to do.
_MENDS: Final = (
    ("there is no bucket|NoSuchBucket", "make the bucket, or correct RECEIVER_S3_BUCKET and RECEIVER_S3_REGION"),
    ("name that a bucket can have", "correct RECEIVER_S3_BUCKET"),
    (
        "InvalidAccessKeyId|SignatureDoesNotMatch|AuthorizationHeaderMalformed",
        "correct RECEIVER_S3_ACCESS_KEY and RECEIVER_S3_SECRET_KEY",
    ),
    ("AccessDenied|403", "give the key the rights to list, get, put and delete in the bucket, or correct it"),
    ("RequestTimeTooSkewed", "synchronise the clocks (chrony, systemd-timesyncd)"),
    ("redirect|301|307", "correct RECEIVER_S3_REGION or RECEIVER_S3_ENDPOINT"),
    ("other bytes", "something between changes what is stored: take proxies out of the way, or use another store"),
    ("credentials", "set RECEIVER_S3_ACCESS_KEY and RECEIVER_S3_SECRET_KEY"),
    ("RECEIVER_S3_ENDPOINT", "correct it"),
    ("SSLError", "correct RECEIVER_S3_ENDPOINT, or what this machine knows of certificates"),
    ("ProxyConnectionError", "correct HTTP_PROXY, HTTPS_PROXY and NO_PROXY of the environment"),
    ("EndpointConnectionError|Connect|Timeout", "start the store, or correct RECEIVER_S3_ENDPOINT"),
)


def mend(error: Misconfigured | BucketUnavailable) -> str:
    """Return what to do about what the proof has said."""
    return next((mend for pattern, mend in _MENDS if re.search(pattern, str(error))), "see the log of the store")
