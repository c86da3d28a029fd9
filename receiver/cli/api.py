"""A small client of a running service, and how what it refuses is shown."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Final, Self

import httpx
import typer

from receiver.cli.tables import clean, span
from receiver.core.errors import FieldError, Misconfigured, Unavailable

URL_VARIABLE: Final = "RECEIVER_URL"
KEY_VARIABLE: Final = "RECEIVER_API_KEY"
DEFAULT_URL: Final = "http://127.0.0.1:8080"
#: Seconds for each step of a request; the service answers at once or not at all.
LIMIT: Final = httpx.Timeout(30.0, connect=5.0)

_URL: Final = re.compile(r"https?://[^/?#@\s]+(/[^?#\s]*)?")
_NOT_NOW: Final = 503
_BROKEN: Final = 500
#: What the command line can do where the service only says what is wrong.
_FIXES: Final[Mapping[str, str]] = {
    "unauthorized": f"set {KEY_VARIABLE} to a key of this service",
    "may_charge_twice": "if a second charge is accepted, add --may-charge-twice",
    "body_too_large": "send less at once; a file of tasks is sent in portions: tasks submit --file",
}
_UNSATISFIABLE: Final = 416

#: The option that every command of a running service has.
Url = Annotated[str, typer.Option("--url", envvar=URL_VARIABLE, help="Where the service listens")]


class ServiceUnreachable(Unavailable):
    """The service does not answer."""

    code = "service_unreachable"


class NotTheService(Unavailable):
    """Something else than the service answers at the URL."""

    code = "unexpected_answer"


class Problem(Exception):
    """What the service said when it refused (RFC 9457)."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        fields: Sequence[FieldError],
        *,
        title: str = "",
        request_id: str | None = None,
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.fields = tuple(fields)
        self.title = title
        self.request_id = request_id
        self.retry_after = retry_after

    @property
    def passing(self) -> bool:
        """Whether the same request may work in a moment."""
        return self.status == _NOT_NOW

    def shown(self) -> str:
        """Return what a person sees: what is wrong, each field that is, and what to do."""
        # The detail of wrong fields is those fields once more.
        what = self.title if self.fields and self.title else self.detail
        lines = [f"receiver: {clean(self.code)}: {clean(what)}"]
        lines += [f"  {clean(each.field)}: {clean(each.message)}" for each in self.fields]
        if (fix := self._fix()) is not None:
            lines.append(f"  {fix}")
        return "".join(f"{line}\n" for line in lines)

    def _fix(self) -> str | None:
        if self.status >= _BROKEN and self.status != _NOT_NOW:
            return f"the service's log tells more of request {clean(self.request_id)}"
        if self.retry_after is not None:
            return f"try again in {span(self.retry_after.total_seconds())}"
        return _FIXES.get(self.code)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service answered: its very text, and what that says."""

    status: int
    text: str
    document: Mapping[str, Any]


class Client:
    """
    Ask one service, with one key.

    Each method raises `Problem` when the service refuses, `ServiceUnreachable` when it does not answer, and
    `NotTheService` when the answer is none of its own.
    """

    def __init__(self, url: str, key: str, *, limit: httpx.Timeout = LIMIT) -> None:
        self._url = url
        self._http = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=limit, trust_env=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, query: Mapping[str, str | int | Sequence[str] | None] | None = None) -> Answer:
        """GET a document; parameters that are None are left out, those with several values repeated."""
        params = {name: value for name, value in (query or {}).items() if value is not None}
        return self._read(self._send(self._http.build_request("GET", path, params=params)))

    def post(self, path: str, document: Mapping[str, Any], *, idempotency_key: str | None = None) -> Answer:
        """POST a document; with an idempotency key the same call may be repeated."""
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        return self._read(self._send(self._http.build_request("POST", path, json=document, headers=headers)))

    def content(self, asset: str) -> bytes:
        """GET all bytes of an asset, by the presigned URL where the service gives one."""
        request = self._http.build_request("GET", f"/v1/assets/{asset}/content")
        return self._send(request, follow=True).content

    @contextmanager
    def streamed(self, path: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """
        GET bytes as they come, by the presigned URL where the service gives one.

        The `If-Range` of *headers* is left out there: a store has ETags of its own.
        An answer 416 is yielded, too; reading may raise `httpx.TransportError`.
        """
        with ExitStack() as stack:
            request = self._http.build_request("GET", path, headers=headers)
            response = self._send(request, stream=stack)
            if response.has_redirect_location:
                target = response.headers["location"]
                kept = {name: value for name, value in headers.items() if name != "If-Range"}
                request = self._http.build_request("GET", target, headers=kept)
                del request.headers["Authorization"]
                response = self._send(request, stream=stack)
            yield response

    def _send(self, request: httpx.Request, *, follow: bool = False, stream: ExitStack | None = None) -> httpx.Response:
        try:
            response = self._http.send(request, follow_redirects=follow, stream=stream is not None)
        except httpx.TransportError as exc:
            why = clean(str(exc)) or type(exc).__name__
            raise ServiceUnreachable(
                f"{self._url} does not answer ({why}); is `receiver serve` running? {URL_VARIABLE} or --url says where"
            ) from exc
        except httpx.HTTPError as exc:
            raise NotTheService(f"{self._url} answers what cannot be read ({type(exc).__name__})") from exc
        if stream is not None:
            stream.callback(response.close)
            if response.is_success or response.has_redirect_location or response.status_code == _UNSATISFIABLE:
                return response
            self._read_whole(response)
        if not response.is_success:
            raise self._problem(response)
        return response

    def _read_whole(self, response: httpx.Response) -> None:
        try:
            response.read()
        except httpx.TransportError as exc:
            raise ServiceUnreachable(f"{self._url} ended within its answer ({type(exc).__name__})") from exc

    def _read(self, response: httpx.Response) -> Answer:
        return Answer(response.status_code, response.text, self._document(response))

    def _problem(self, response: httpx.Response) -> Problem:
        told = self._document(response)
        if not isinstance(told.get("code"), str):
            raise self._foreign(response)
        errors = told.get("errors") or ()
        fields = [FieldError(str(each["field"]), str(each["message"])) for each in errors]
        after = response.headers.get("retry-after", "")
        return Problem(
            response.status_code,
            told["code"],
            str(told.get("detail")),
            fields,
            title=str(told.get("title", "")),
            request_id=told.get("request_id"),
            retry_after=timedelta(seconds=int(after)) if after.isdecimal() else None,
        )

    def _document(self, response: httpx.Response) -> Mapping[str, Any]:
        try:
            document = response.json()
        except ValueError as exc:
            raise self._foreign(response) from exc
        if not isinstance(document, dict):
            raise self._foreign(response)
        return document

    def _foreign(self, response: httpx.Response) -> NotTheService:
        return NotTheService(f"{self._url} answers {response.status_code} with something that is not receiver's")


def is_url(text: str) -> bool:
    """Return whether *text* may be where a service listens."""
    return _URL.fullmatch(text) is not None


@contextmanager
def connected(url: str, key: str | None = None) -> Iterator[Client]:
    """
    Yield a client, and end the command with status 1 when the service refuses something.

    Args:
        url: Where the service listens.
        key: The API key; by default that of the environment, so that it never stands on a command line.

    Raises:
        Misconfigured: There is no usable key.
        typer.BadParameter: The URL is none.
        typer.Exit: The service refused; why is on stderr.
    """
    if not is_url(url):
        raise typer.BadParameter(f"must look like {DEFAULT_URL}", param_hint=f"--url / {URL_VARIABLE}")
    key = (os.environ.get(KEY_VARIABLE, "") if key is None else key).strip()
    if not key:
        raise Misconfigured(f"{KEY_VARIABLE} is not set; the first start of the service printed a key")
    if not (key.isascii() and key.isprintable()):
        raise Misconfigured(f"{KEY_VARIABLE} holds characters that no key has")
    with Client(url.rstrip("/"), key) as client:
        try:
            yield client
        except Problem as exc:
            sys.stderr.write(exc.shown())
            raise typer.Exit(1) from exc
