"""
Every error that the product raises on purpose.

The branch says whose fault it is: the caller's (`Rejected`), a provider's
(`ProviderFault`), ours or the infrastructure's (`Unavailable`). `code` is
stable: the same word in the response, the log and the metric.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar


class ReceiverError(Exception):
    """The root; `code` is the stable name."""

    code: ClassVar[str] = "internal_error"


class Rejected(ReceiverError):
    """The caller must change something before trying again."""

    code = "rejected"


class ProviderFault(ReceiverError):
    """A provider, or a media host of one, did not do its part."""

    code = "provider_fault"


class Unavailable(ReceiverError):
    """We, the database or the bucket cannot do it now; the same call may work later."""

    code = "unavailable"


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with the input: where it is and how to mend it."""

    #: Dotted path into the request ("input.prompt").
    field: str
    message: str


class InvalidInput(Rejected):
    """One or more fields are wrong; all of them are named, up to a hundred."""

    code = "invalid_input"

    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__("; ".join(f"{e.field}: {e.message}" for e in errors))
        self.errors = tuple(errors)


class Unauthorized(Rejected):
    """No API key, or one that is unknown."""

    code = "unauthorized"


class NotFound(Rejected):
    """There is no such thing for this caller."""

    code = "not_found"


class TokenUnknown(Rejected):
    """The callback URL is not one of ours."""

    code = "token_unknown"


class SignatureRejected(Rejected):
    """A callback's signature is wrong, or missing where it is required."""

    code = "signature_rejected"


class BodyTooLarge(Rejected):
    """The body is larger than the route takes."""

    code = "body_too_large"


class MalformedBody(Rejected):
    """The body is not the JSON that the route takes."""

    code = "malformed_body"


class RangeUnsatisfiable(Rejected):
    """The range of bytes lies outside the object."""

    code = "range_unsatisfiable"

    def __init__(self, message: str, *, size: int) -> None:
        super().__init__(message)
        #: Bytes of the whole object.
        self.size = size


class IdempotencyMismatch(Rejected):
    """The idempotency key was used before with another request."""

    code = "idempotency_mismatch"


class Conflict(Rejected):
    """The task is not in a state in which this can be done."""

    code = "conflict"


class AlreadySent(Conflict):
    """Only a task that was never sent can be cancelled."""

    code = "already_sent"


class NotRetryable(Conflict):
    """There is nothing to try again; the message says what to do instead."""

    code = "not_retryable"


class MayChargeTwice(Conflict):
    """The provider does not refuse a repeated id, so sending again may be paid twice; the caller must say so."""

    code = "may_charge_twice"


class AlreadyKnown(Conflict):
    """The provider's task is one of ours already."""

    code = "already_known"


class SpendLimit(Rejected):
    """The day's limit of an account or a key is reached; it opens again at midnight UTC."""

    code = "spend_limit"

    def __init__(self, message: str, *, opens_in: timedelta) -> None:
        super().__init__(message)
        self.opens_in = opens_in


class LimitTooSmall(Rejected):
    """So much at once never fits into the day's limit of an account or a key: send less, or have the limit raised."""

    code = "limit_too_small"


class MoveRefused(ReceiverError):
    """An observation can never follow the task's state; it is recorded, without effect."""

    code = "move_refused"


class CallbackUnreadable(ProviderFault):
    """A callback's body is no report that we know."""

    code = "callback_unreadable"


class ProviderUnreachable(ProviderFault):
    """No usable answer: time-out, refused, cut, or not what the protocol says. Says nothing about a create."""

    code = "provider_unreachable"

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        #: Whether bytes of the request may have reached the provider.
        self.sent = sent


class FetchBlocked(ProviderFault):
    """The guard refused the address; nothing was dialled."""

    code = "fetch_blocked"


class LinkDead(ProviderFault):
    """403, 404 or 410 for a media link: a fresh one is needed."""

    code = "link_dead"


class DownloadFailed(ProviderFault):
    """The media did not come whole; trying again may help."""

    code = "download_failed"


class MediaInvalid(ProviderFault):
    """The bytes are not the audio that was promised."""

    code = "media_invalid"


class StoreUnavailable(Unavailable):
    """The database did not answer; nothing was recorded."""

    code = "store_unavailable"


class StoreConflict(StoreUnavailable):
    """Two transactions stood in each other's way and this one was undone; the same again will do."""

    code = "store_conflict"


class DataRefused(ReceiverError):
    """The database cannot hold a value; repeating cannot help."""

    code = "data_refused"


class BucketUnavailable(Unavailable):
    """The bucket did not take or give the object; trying again may help."""

    code = "bucket_unavailable"


class BucketMismatch(Unavailable):
    """The bucket holds other bytes than were sent; nothing was recorded."""

    code = "bucket_mismatch"


class SpoolFull(Unavailable):
    """Not enough room on disk for the bytes on their way."""

    code = "spool_full"


class TrackUnavailable(Unavailable):
    """The sound could not be cut out of a video here; trying again may help."""

    code = "track_unavailable"


class NotConfigured(Unavailable):
    """Another process, with newer or older settings, can do it: this one knows no such account or product."""

    code = "not_configured"


class Misconfigured(ReceiverError):
    """The process cannot start as it is set up; the message says what to change."""

    code = "misconfigured"
