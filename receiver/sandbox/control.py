"""
What tests tell and ask the sandbox: /control, with a key of its own.

All that is told is gone with the process. Each route takes `?house=<name>`, or
`"house"` in its body: without one it concerns all houses.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from receiver.sandbox import answers, ledger, tasks
from receiver.sandbox.answers import CODES, Refusal, bad_parameter
from receiver.sandbox.gates import Gate
from receiver.sandbox.given import house_of, sandbox_of, told
from receiver.sandbox.houses import HOUSES, KLING
from receiver.sandbox.ordered import Ordered
from receiver.sandbox.parts import Sandbox
from receiver.sandbox.weather import ACCOUNT_CODES, Mode, Part, Weather

#: HTTP statuses that can be ordered.
STATUSES: Final = range(200, 600)
MOST: Final = 1_000_000

#: Where answers can be ordered.
ANSWERED: Final = frozenset(Gate) - {Gate.CALLBACK}


async def read_ledger(request: Request) -> JSONResponse:
    """
    GET /control/ledger

    200 (see `ledger.read`); 400; 401.
    """
    sandbox = sandbox_of(request)
    await sandbox.state.write_counts()
    return JSONResponse(await sandbox.state.do(partial(ledger.read, house=house_of(request))))


async def houses(request: Request) -> JSONResponse:
    """
    GET /control/houses

    200: what is simulated, with the path below which each answers; 401.
    """
    sandbox_of(request)
    return JSONResponse(
        {
            name: {
                "path": f"/{name}",
                "about": house.about,
                "products": dict(house.paths),
                "external_ids": house.external_ids,
                "lists": house.lists,
            }
            for name, house in HOUSES.items()
        }
    )


async def requests(request: Request) -> JSONResponse:
    """
    GET /control/requests?since=<id>

    200: the requests to the API with a higher id, the oldest first, with what
    came and the status of the answer: null when there was none; 400; 401.
    """
    sandbox, since = sandbox_of(request), request.query_params.get("since", "0")
    if not (since.isascii() and since.isdigit()):
        raise bad_parameter("since must be a whole number")
    return JSONResponse({"requests": list(sandbox.traffic.shown(house=house_of(request), since=int(since)))})


async def health(request: Request) -> JSONResponse:
    """
    GET /control/health

    200 once the state is open and answers; 401.
    """
    await sandbox_of(request).state.do(tasks.link_key)
    return JSONResponse({"status": "ok"})


async def hold(request: Request) -> JSONResponse:
    """
    POST /control/hold {"what": <gate>, "task": <external id>?, "count": 1?}

    The next ones at that gate are held until released. 200; 400; 401.
    """
    sandbox, given = await told(request, {"what", "task", "count"})
    gate = Gate(given.word("what", list(Gate)))
    sandbox.gates.order(gate, house=given.house, task=given.text("task"), number=given.number("count", 1, 1, MOST))
    return _held(sandbox)


async def held(request: Request) -> JSONResponse:
    """
    GET /control/held

    200: what is held now, the oldest first, and what is still to be held; 401.
    """
    return _held(sandbox_of(request))


async def release(request: Request) -> JSONResponse:
    """
    POST /control/release {"what": <gate>?, "task": <external id>?, "id": <of held>?, "cut": false?}

    Lets go on, or cuts, what matches; without `id` also forgets matching
    holds that nothing met yet. 200 with the number released; 400; 401.
    """
    sandbox, given = await told(request, {"what", "task", "id", "cut"})
    released = sandbox.gates.release(
        gate=Gate(given.word("what", list(Gate))) if given.has("what") else None,
        house=given.house,
        task=given.text("task"),
        held=given.number("id", 0, 1, MOST) if given.has("id") else None,
        cut=given.flag("cut"),
    )
    return JSONResponse({"released": released})


async def read_faults(request: Request) -> JSONResponse:
    """
    GET /control/faults

    200: the rates of now, without a house Kling's; 400; 401.
    """
    sandbox = sandbox_of(request)
    return JSONResponse(sandbox.weather[house_of(request) or KLING].faults.shown())


async def change_faults(request: Request) -> JSONResponse:
    """
    POST /control/faults {<fault>: <number, or text as its option takes>, …}

    Changes those that are named; tasks keep what was drawn for them. 200 with
    all of them; 400; 401.
    """
    sandbox, given = await told(request, None)
    weathers = _weathers(sandbox, given.house)
    try:
        changed = [weather.faults.changed(given.fields) for weather in weathers]
    except ValueError as exc:
        raise bad_parameter(str(exc)) from exc
    for weather, faults in zip(weathers, changed, strict=True):
        weather.faults = faults
    return JSONResponse(changed[0].shown())


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
    sandbox, given = await told(request, names)
    gate = Gate(given.word("what", sorted(ANSWERED)))
    code = given.number("code", 0, 0, 9999) if given.has("code") else None
    usual = 0 if code is None or code not in CODES else CODES[code][0]
    if not usual and not given.has("status"):
        raise bad_parameter("status is required without a known code")
    status = given.number("status", usual, STATUSES.start, STATUSES.stop - 1)
    message = given.text("message") or (f"status {status}" if code is None or code not in CODES else CODES[code][1])
    response: Response
    if given.flag("html"):
        response, reply = answers.page(status), "html"
    elif code is None:
        response, reply = PlainTextResponse(message, status), "text"
    else:
        response, reply = answers.refused(Refusal(status, code, message), HOUSES[given.house or KLING]), str(code)
    if given.has("retry_after"):
        response.headers["retry-after"] = str(given.number("retry_after", 0, 0, MOST))
    number, task = given.number("count", 1, 1, MOST), given.text("task")
    reply = f"{status} {reply}"
    sandbox.orders.add(Ordered.of(response, gate=gate, house=given.house, task=task, reply=reply, number=number))
    return JSONResponse({})


async def raw_answers(request: Request) -> JSONResponse:
    """
    POST /control/answers

    {"on": <gate>, "status": 429, "headers": {…}?, "body": <text, or any JSON>?,
    "times": 1?, "task": <external id>?}, or {"clear": true}

    As /control/answer, byte for byte: text is sent as it is, by default as
    text/plain, everything else as JSON. `clear` forgets what nothing met yet.
    200; 400; 401.
    """
    sandbox, given = await told(request, {"on", "status", "headers", "body", "times", "task", "clear"})
    if given.flag("clear"):
        sandbox.orders.clear()
        return JSONResponse({})
    gate = Gate(given.word("on", sorted(ANSWERED)))
    status = given.number("status", 0, STATUSES.start, STATUSES.stop - 1)
    headers, body = {name.lower(): text for name, text in given.texts("headers").items()}, given.fields.get("body", "")
    response: Response = PlainTextResponse(body, status) if isinstance(body, str) else JSONResponse(body, status)
    response.headers.update(headers)
    number, task = given.number("times", 1, 1, MOST), given.text("task")
    reply = f"{status} given"
    sandbox.orders.add(Ordered.of(response, gate=gate, house=given.house, task=task, reply=reply, number=number))
    return JSONResponse({})


async def account(request: Request) -> JSONResponse:
    """
    POST /control/account {"code": 1102} or {"code": null}

    Puts the account in that state, or in good standing. 200; 400; 401.
    """
    sandbox, given = await told(request, {"code"})
    code = given.number("code", 0, 0, 9999) if given.has("code") else None
    if code is not None and code not in ACCOUNT_CODES:
        raise bad_parameter(f"code must be null or one of {sorted(ACCOUNT_CODES)}")
    for weather in _weathers(sandbox, given.house):
        weather.account_code = code
    return JSONResponse({"code": code})


async def down(request: Request) -> JSONResponse:
    """
    POST /control/down {"mode": "5xx"|"hang"|"cut"?, "what": "api"|"media"?, "seconds": <number>?}

    Without `what` both are down; without `seconds` until told. Callbacks go
    on. 200; 400; 401.
    """
    sandbox, given = await told(request, {"mode", "what", "seconds"})
    mode = Mode(given.word("mode", list(Mode))) if given.has("mode") else Mode.SERVER_ERROR
    parts = frozenset({Part(given.word("what", list(Part)))}) if given.has("what") else frozenset(Part)
    seconds = given.fields.get("seconds")
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds < 0):
        raise bad_parameter("seconds must be a number from 0 on")
    for weather in _weathers(sandbox, given.house):
        weather.down(mode, parts, seconds)
    return JSONResponse({})


async def up(request: Request) -> JSONResponse:
    """
    POST /control/up

    Ends the outage; requests that hang in it are cut. 200; 401.
    """
    for weather in _weathers(sandbox_of(request), house_of(request)):
        weather.up()
    return JSONResponse({})


def _weathers(sandbox: Sandbox, house: str | None) -> list[Weather]:
    """Return the weather of one house, or of all."""
    return [weather for name, weather in sandbox.weather.items() if house in {None, name}]


def _held(sandbox: Sandbox) -> JSONResponse:
    now = [{"id": one.id, "what": one.gate, "house": one.house, "task": one.task} for one in sandbox.gates.held()]
    ordered = [
        {"what": gate, "house": house, "task": task, "count": left}
        for gate, house, task, left in sandbox.gates.ordered()
    ]
    return JSONResponse({"held": now, "ordered": ordered})
