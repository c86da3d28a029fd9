"""How a command ends that failed: a line for each error, and a status."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final, NoReturn

from receiver.core.errors import BucketUnavailable, Misconfigured, ReceiverError, StoreUnavailable

if TYPE_CHECKING:
    from receiver.store import refusal

#: Of a process that a person must set up otherwise before it can run; EX_CONFIG of sysexits.h.
HOPELESS: Final = 78


def known(exc: BaseException) -> tuple[ReceiverError, ...]:
    """Return the errors of ours that *exc* stands for; none where it is, or holds, a fault."""
    if isinstance(exc, ReceiverError):
        return (exc,)
    if isinstance(exc, BaseExceptionGroup):
        # A server's tasks end together; what ended them may be an error like any other.
        found = [known(each) for each in exc.exceptions]
        return tuple(error for errors in found for error in errors) if all(found) else ()
    return ()


def fail(*errors: ReceiverError) -> NoReturn:
    """Say what went wrong in a line each and end with status 1."""
    tell(*errors)
    sys.exit(1)


def tell(*errors: ReceiverError) -> None:
    """Say what went wrong and what to do, in a line each."""
    for error in errors:
        sys.stderr.write(f"receiver: {error.code}: {_words(error)}\n")


def hopeless(error: ReceiverError) -> bool:
    """Tell whether only a person can mend it."""
    why = _of_the_database(error)
    return isinstance(error, Misconfigured) or (why is not None and why.lasting)


def _words(error: ReceiverError) -> str:
    if (why := _of_the_database(error)) is not None:
        return f"the database: {why.found}; {why.mend}"
    return f"{error}{_for_the_bucket(error)}"


# Whoever met the database or the bucket has loaded what speaks to it; all others are spared that.
def _of_the_database(error: ReceiverError) -> refusal.Reason | None:
    """Return what its driver means; None where it said nothing."""
    if not isinstance(error, StoreUnavailable) or error.__cause__ is None:
        return None
    from receiver.store import refusal  # noqa: PLC0415

    return refusal.reason(error)


def _for_the_bucket(error: ReceiverError) -> str:
    """Return what to do about it where its client had something to say."""
    met = type(error.__cause__).__module__.startswith("botocore.")
    if not (met and isinstance(error, Misconfigured | BucketUnavailable)):
        return ""
    from receiver.transfer.refusal import mend  # noqa: PLC0415

    return f"; {mend(error)}"
