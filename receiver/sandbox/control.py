"""What tests tell and ask the sandbox: /control, with a key of its own. All that is told is gone with the process."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse

from receiver.sandbox import ledger, tasks
from receiver.sandbox.answers import CODES, Refusal, bad_parameter
from receiver.sandbox.api import read_body
from receiver.sandbox.auth import authorize_control
from receiver.sandbox.gates import Gate
from receiver.sandbox.parts import Sandbox
from receiver.sandbox.weather import ACCOUNT_CODES, Mode, Ordered, Part, message_of

#: HTTP statuses that can be ordered.
STATUSES: Final = range(200, 600)
MOST: Final = 1_000_000

#: Where answers can be ordered.
ANSWERED: Final = frozenset(Gate) - {Gate.CALLBACK}


async def read_ledger(request: Request) -> JSONResponse:
    """
    GET /control/ledger

    200 (see `ledger.read`); 401.
    """
    sandbox = _sandbox(request)
    await sandbox.state.write_counts()
    return JSONResponse(await sandbox.state.do(ledger.read))


async def health(request: Request) -> JSONResponse:
    """
    GET /control/health

    200 once the state is open and answers; 401.
    """
    await _sandbox(request).state.do(tasks.link_key)
    return JSONResponse({"status": "ok"})


async def hold(request: Request) -> JSONResponse:
    """
    POST /control/hold {"what": <gate>, "task": <external id>?, "count": 1?}

    The next ones at that gate are held until released. 200; 400; 401.
    """
    sandbox, given = await _told(request, {"what", "task", "count"})
    gate = Gate(given.word("what", list(Gate)))
    sandbox.gates.order(gate, task=given.text("task"), number=given.number("count", 1, 1, MOST))
    return _held(sandbox)


async def held(request: Request) -> JSONResponse:
    """
    GET /control/held

    200: what is held now, the oldest first, and what is still to be held; 401.
    """
    return _held(_sandbox(request))


async def release(request: Request) -> JSONResponse:
    """
    POST /control/release {"what": <gate>?, "task": <external id>?, "id": <of held>?, "cut": false?}

    Lets go on, or cuts, what matches; without `id` also forgets matching
    holds that nothing met yet. 200 with the number released; 400; 401.
    """
    sandbox, given = await _told(request, {"what", "task", "id", "cut"})
    released = sandbox.gates.release(
        gate=Gate(given.word("what", list(Gate))) if given.has("what") else None,
        task=given.text("task"),
        held=given.number("id", 0, 1, MOST) if given.has("id") else None,
        cut=given.flag("cut"),
    )
    return JSONResponse({"released": released})


async def read_faults(request: Request) -> JSONResponse:
    """
    GET /control/faults

    200: the rates of now; 401.
    """
    return JSONResponse(_sandbox(request).weather.faults.shown())


async def change_faults(request: Request) -> JSONResponse:
    """
    POST /control/faults {<fault>: <number, or text as its option takes>, …}

    Changes those that are named; tasks keep what was drawn for them. 200 with
    all of them; 400; 401.
    """
    sandbox, given = await _told(request, None)
    try:
        sandbox.weather.faults = sandbox.weather.faults.changed(given.fields)
    except ValueError as exc:
        raise bad_parameter(str(exc)) from exc
    return JSONResponse(sandbox.weather.faults.shown())


async def answer(request: Request) -> JSONResponse:
    """
    POST /control/answer

    {"what": <gate>, "status": 429?, "code": 1302?, "message": …?, "html": false?,
    "retry_after": <seconds>?, "task": <external id>?, "count": 1?}

    The next ones at that gate are answered so: at `create` before anything is
    made, at `create_reply` after. A code of providers.md 2.8 gives the status.
    200; 400; 401.
    """
    names = {"what", "status", "code", "message", "html", "retry_after", "task", "count"}
    sandbox, given = await _told(request, names)
    gate = Gate(given.word("what", sorted(ANSWERED)))
    code = given.number("code", 0, 0, 9999) if given.has("code") else None
    usual = 0 if code is None or code not in CODES else CODES[code][0]
    if not usual and not given.has("status"):
        raise bad_parameter("status is required without a known code")
    status = given.number("status", usual, STATUSES.start, STATUSES.stop - 1)
    ordered = Ordered(
        gate=gate,
        task=given.text("task"),
        status=status,
        code=code,
        message=given.text("message") or message_of(code, status),
        html=given.flag("html"),
        retry_after=given.number("retry_after", 0, 0, MOST) if given.has("retry_after") else None,
        left=given.number("count", 1, 1, MOST),
    )
    sandbox.weather.order(ordered)
    return JSONResponse({})


async def account(request: Request) -> JSONResponse:
    """
    POST /control/account {"code": 1102} or {"code": null}

    Puts the account in that state, or in good standing. 200; 400; 401.
    """
    sandbox, given = await _told(request, {"code"})
    code = given.number("code", 0, 0, 9999) if given.has("code") else None
    if code is not None and code not in ACCOUNT_CODES:
        raise bad_parameter(f"code must be null or one of {sorted(ACCOUNT_CODES)}")
    sandbox.weather.account_code = code
    return JSONResponse({"code": code})


async def down(request: Request) -> JSONResponse:
    """
    POST /control/down {"mode": "5xx"|"hang"|"cut"?, "what": "api"|"media"?, "seconds": <number>?}

    Without `what` both are down; without `seconds` until told. Callbacks go
    on. 200; 400; 401.
    """
    sandbox, given = await _told(request, {"mode", "what", "seconds"})
    mode = Mode(given.word("mode", list(Mode))) if given.has("mode") else Mode.SERVER_ERROR
    parts = frozenset({Part(given.word("what", list(Part)))}) if given.has("what") else frozenset(Part)
    seconds = given.fields.get("seconds")
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds < 0):
        raise bad_parameter("seconds must be a number from 0 on")
    sandbox.weather.down(mode, parts, seconds)
    return JSONResponse({})


async def up(request: Request) -> JSONResponse:
    """
    POST /control/up

    Ends the outage; requests that hang in it are cut. 200; 401.
    """
    _sandbox(request).weather.up()
    return JSONResponse({})


class _Given:
    """The fields of a control request."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self.fields = fields

    def has(self, name: str) -> bool:
        """Tell whether it is given and not null."""
        return self.fields.get(name) is not None

    def word(self, name: str, words: Collection[str]) -> str:
        """Return one of *words*."""
        value = self.fields.get(name)
        if not isinstance(value, str) or value not in words:
            raise bad_parameter(f"{name} must be one of {', '.join(words)}")
        return value

    def text(self, name: str) -> str | None:
        """Return text; None when it is not given."""
        value = self.fields.get(name)
        if value is not None and not isinstance(value, str):
            raise bad_parameter(f"{name} must be a string")
        return value

    def number(self, name: str, default: int, least: int, most: int) -> int:
        """Return a whole number."""
        value = self.fields.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise bad_parameter(f"{name} must be a whole number from {least} to {most}")
        return value

    def flag(self, name: str) -> bool:
        """Return a boolean, false when it is not given."""
        value = self.fields.get(name, False)
        if not isinstance(value, bool):
            raise bad_parameter(f"{name} must be true or false")
        return value


async def _told(request: Request, names: Collection[str] | None) -> tuple[Sandbox, _Given]:
    """Check the key, and that the body is a JSON object with no other *names*; None takes any."""
    sandbox = _sandbox(request)
    try:
        fields = json.loads(await read_body(request))
    except (ValueError, RecursionError) as exc:
        raise Refusal(400, 1200, "the body is not valid JSON") from exc
    if not isinstance(fields, dict):
        raise Refusal(400, 1200, "the body is not a JSON object")
    for name in sorted(fields.keys() - (fields if names is None else names)):
        raise bad_parameter(f"unknown field: {name!a}")
    return sandbox, _Given(fields)


def _sandbox(request: Request) -> Sandbox:
    sandbox: Sandbox = request.app.state.sandbox
    authorize_control(sandbox.config, request.headers.get("authorization"))
    return sandbox


def _held(sandbox: Sandbox) -> JSONResponse:
    now = [{"id": one.id, "what": one.gate, "task": one.task} for one in sandbox.gates.held()]
    ordered = [{"what": gate, "task": task, "count": left} for gate, task, left in sandbox.gates.ordered()]
    return JSONResponse({"held": now, "ordered": ordered})
