"""What an operation is: a method at a path, all that it takes, and every answer that it gives."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from receiver.core.errors import (
    BodyTooLarge,
    InvalidInput,
    MalformedBody,
    ReceiverError,
    StoreUnavailable,
    Unauthorized,
)
from receiver.web.problems import status_of

JSON: Final = "application/json"

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Header:
    """A header that an operation heeds, or that an answer carries."""

    name: str
    text: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})


@dataclass(frozen=True, slots=True)
class Reply:
    """One good answer: its meaning, and its body as a model, as bytes of a media type, or none."""

    text: str
    body: type[BaseModel] | str | None = None
    headers: tuple[Header, ...] = ()
    example: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """
    A method at a path.

    What follows from the rest need not be said: a key may be wrong (`auth`), a
    body unreadable, too large or invalid (`takes`), a query invalid (`query`).
    """

    #: `<noun>_<verb>`; unique, stable: generated clients name their functions after it.
    name: str
    method: str
    path: str
    #: Its docstring is the summary and the description; a class is plain ASGI, which the application builds.
    handler: Endpoint | type[Any]
    tag: str
    takes: type[BaseModel] | str | None = None
    #: A body as it may be sent.
    example: Mapping[str, Any] | None = None
    #: No body at all is taken too.
    takes_empty: bool = False
    query: type[BaseModel] | None = None
    headers: tuple[Header, ...] = ()
    gives: Mapping[int, Reply] = field(default_factory=dict)
    problems: tuple[type[ReceiverError], ...] = ()
    auth: bool = True

    @property
    def text(self) -> tuple[str, str]:
        """Return the summary and the description."""
        handler = self.handler.__call__ if isinstance(self.handler, type) else self.handler
        summary, _, rest = inspect.cleandoc(handler.__doc__ or "").partition("\n")
        return summary.strip().removesuffix("."), rest.strip()

    @property
    def refusals(self) -> Mapping[int, tuple[type[ReceiverError], ...]]:
        """Return the errors that it may answer, by status."""
        errors = list(self.problems)
        errors += [Unauthorized, StoreUnavailable] if self.auth else []
        errors += [BodyTooLarge] if self.takes is not None else []
        errors += [MalformedBody, InvalidInput] if self.takes is not None and not isinstance(self.takes, str) else []
        errors += [InvalidInput] if self.query is not None else []
        found: dict[int, tuple[type[ReceiverError], ...]] = {}
        for error in dict.fromkeys(errors):
            status = status_of(error)
            found[status] = (*found.get(status, ()), error)
        return dict(sorted(found.items()))
