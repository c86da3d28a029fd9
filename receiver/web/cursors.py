"""
Where a page of a list ended: opaque text, and good for the same list and filter only.

It names the last row, so rows that come meanwhile neither repeat nor hide
others. It is no secret and proves nothing: whose rows are read says the API key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import struct
from typing import Final

from receiver.core.errors import FieldError, InvalidInput
from receiver.web.bodies import Taken

_FORM: Final = struct.Struct(">Q8s")


def write(last: int, asked: Taken) -> str:
    """Return the cursor behind the row *last* of a list that was asked for by *asked*."""
    return base64.urlsafe_b64encode(_FORM.pack(last, _digest(asked))).decode().rstrip("=")


def read(cursor: str | None, asked: Taken) -> int | None:
    """
    Return the row behind which the list that *asked* wants goes on; None is its beginning.

    Raises:
        InvalidInput: The cursor is none of ours, or belongs to another list or filter.
    """
    if cursor is None:
        return None
    try:
        last, digest = _FORM.unpack(base64.b64decode(cursor + "==", altchars=b"-_", validate=True))
    except (binascii.Error, struct.error, ValueError) as exc:
        raise InvalidInput([FieldError("cursor", "must be the next_cursor of an earlier answer")]) from exc
    if digest != _digest(asked):
        message = "belongs to another list or other filters; give those, or leave the cursor out to start anew"
        raise InvalidInput([FieldError("cursor", message)])
    return int(last)


def _digest(asked: Taken) -> bytes:
    """Hash the list and its filter; the size of a page may change, and the order of repeated values means nothing."""
    fields = asked.model_dump(mode="json", exclude={"cursor", "limit"}, exclude_defaults=True)
    plain = {name: sorted(value) if isinstance(value, list) else value for name, value in fields.items()}
    return hashlib.sha256(json.dumps([type(asked).__name__, plain], sort_keys=True).encode()).digest()[:8]
