"""Envelopes and refusals, as each house renders them. Shapes as in providers.md 6."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final

from starlette.responses import HTMLResponse, JSONResponse, Response

from receiver.sandbox.houses import HOUSES, KLING, Errors, House
from receiver.sandbox.plan import Unsure

#: HTTP status and message of each code of providers.md 2.8; the messages are invented but for 1303.
CODES: Final = MappingProxyType(
    {
        1000: (401, "Authentication failed"),
        1001: (401, "Authorization is empty"),
        1002: (401, "Authorization is invalid"),
        1003: (401, "Authorization is not yet valid"),
        1004: (401, "Authorization has expired"),
        1100: (429, "Account exception"),
        1101: (429, "Account in arrears"),
        1102: (429, "Resource pack exhausted or expired"),
        1103: (403, "No access to the requested resource"),
        1200: (400, "Invalid request parameters"),
        1201: (400, "Invalid parameter value"),
        1202: (404, "Method is invalid"),
        1203: (404, "Resource does not exist"),
        1300: (400, "Platform policy is triggered"),
        1301: (400, "Content safety policy is triggered"),
        1302: (429, "Requests are too frequent"),
        1303: (429, "parallel task over resource pack limit"),
        1304: (429, "IP is not in the whitelist"),
        5000: (500, "Internal error"),
        5001: (503, "Service temporarily unavailable"),
        5002: (504, "Internal timeout, tasks are backlogged"),
    }
)

UNAUTHORIZED: Final = frozenset({1000, 1001, 1002, 1003, 1004})
NO_ROUTE: Final = frozenset({1202, 1203})
#: What a gateway refuses before it asks Kling; its words for what Kling refused [INF].
GATEWAYS_OWN: Final = UNAUTHORIZED | NO_ROUTE | {1302, 5001}
INVALID: Final = "invalid_request"
UPSTREAM: Final = "fail_to_fetch_task"
NO_TASK: Final = "task_not_exist"
WORDS: Final = MappingProxyType({1200: INVALID, 1201: INVALID})


class Refusal(Exception):
    """The request is refused; `http` and `code` are those of providers.md 2.8."""

    def __init__(
        self, http: int, code: int, message: str, *, fault: str | None = None, word: str | None = None
    ) -> None:
        super().__init__(message)
        self.http = http
        self.code = code
        self.message = message
        #: The simulator's reason when it is not the request's; the ledger shows it.
        self.fault = fault
        #: Where codes are text; None: the usual one of `code`.
        self.word = word


def bad_parameter(message: str) -> Refusal:
    """Return the refusal of a request that is readable but wrong."""
    return Refusal(400, 1201, message)


def duplicate(external_id: str) -> Refusal:
    """Return the refusal of an external id that the account has used before."""
    return bad_parameter(f"External_task_id {external_id} already exists")


def unknown_task(given: str) -> Refusal:
    """Return the refusal of an id that is neither a task's nor an external one."""
    return Refusal(400, 1201, f"Task not found by id/external id: {given}", word=NO_TASK)


def no_free_slot() -> Refusal:
    """Return the refusal of a create over the concurrency; nothing was made."""
    return Refusal(429, 1303, "parallel task over resource pack limit")


def unmade() -> Refusal:
    """Return the refusal that leaves in doubt whether a task was made; none was."""
    return refusal_of(Unsure.ERROR_5001, fault=Unsure.UNMADE)


def refusal_of(code: str, *, fault: str) -> Refusal:
    """Return the refusal with one of the codes of providers.md 2.8."""
    number = int(code)
    http, message = CODES[number]
    return Refusal(http, number, message, fault=fault)


def page(status: int) -> HTMLResponse:
    """Return what a proxy shows in place of an answer."""
    phrase = HTTPStatus(status).phrase
    return HTMLResponse(f"<html><head><title>{status} {phrase}</title></head><body>{phrase}</body></html>", status)


def refused(refusal: Refusal, house: House = HOUSES[KLING]) -> Response:
    """Render *refusal*; no house has `data` in it (providers.md 6.9)."""
    request_id = str(uuid.uuid4())
    gateways = refusal.code in GATEWAYS_OWN
    if house.errors is Errors.OBJECT and refusal.code in NO_ROUTE:
        # A wrong path has led to a page (providers.md 3.2).
        return page(refusal.http)
    if house.errors is Errors.OBJECT and gateways:
        return JSONResponse(_error_object(refusal, request_id), refusal.http)
    if house.errors is Errors.TEXT:
        if refusal.code in UNAUTHORIZED | NO_ROUTE:
            return JSONResponse(_error_object(refusal, request_id), refusal.http)
        word = refusal.word or WORDS.get(refusal.code, UPSTREAM)
        kling = json.dumps({"code": refusal.code, "message": refusal.message, "request_id": request_id})
        message = kling if word == UPSTREAM else refusal.message
        return JSONResponse({"code": word, "message": message, "data": None}, refusal.http)
    content: dict[str, Any] = {"code": refusal.code, "message": refusal.message}
    return JSONResponse(content | ({"request_id": request_id} if house.request_id else {}), refusal.http)


def _error_object(refusal: Refusal, request_id: str) -> dict[str, Any]:
    message = f"{refusal.message} (request id: {request_id})"
    return {"error": {"message": message, "type": "gateway_error", "param": "", "code": None}}


def succeeded(data: Mapping[str, Any] | list[dict[str, Any]], house: House, *, create: bool = False) -> JSONResponse:
    """Wrap *data* in the house's envelope of success."""
    content: dict[str, Any] = {"code": house.ok}
    if house.message:
        content["message"] = "SUCCEED" if house.ok == 0 else ""
    if house.create_request_id if create else house.request_id:
        content["request_id"] = str(uuid.uuid4())
    return JSONResponse(content | {"data": data})
