"""Kling's text-to-audio API: create, get one, list."""

from __future__ import annotations

from functools import partial
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from receiver.sandbox import answers, checks, course, tasks
from receiver.sandbox.answers import Refusal
from receiver.sandbox.auth import authorize
from receiver.sandbox.background import first_of
from receiver.sandbox.gates import Gate
from receiver.sandbox.parts import Sandbox
from receiver.sandbox.plan import SUBMITTED, Unanswered, Unsure
from receiver.sandbox.records import Counted, Order
from receiver.sandbox.tasks import Made
from receiver.sandbox.wire import Cut

PATH: Final = "/v1/audio/text-to-audio"

#: Bytes of a request body.
MAX_BODY: Final = 64 * 1024

CUT_BY_CONTROL: Final = "held_cut"
ORDERED: Final = "answer"


async def create(request: Request, sandbox: Sandbox, _number: int) -> Response:
    """
    POST /v1/audio/text-to-audio

    200 made; 400 1200 no JSON object, 1201 a field is wrong or the external id
    is used; 401 (see `auth`); 413 body too large; 429 1302 too fast, 1303 no
    free slot; whatever the faults say. Once the body is read, the task is made
    even when the client has gone.
    """
    authorize(sandbox.config, request.headers.get("authorization"))
    order = checks.read_order(await read_body(request))
    if not await sandbox.gates.go_on(Gate.CREATE, order.external_id):
        await sandbox.state.do(partial(tasks.refuse, order=order, reply="cut", fault=CUT_BY_CONTROL))
        return Cut()
    if (ordered := sandbox.weather.ordered(Gate.CREATE, order.external_id)) is not None:
        await sandbox.state.do(partial(tasks.refuse, order=order, reply=ordered.reply(), fault=ORDERED))
        return ordered.response()
    if (refusal := sandbox.weather.account_refusal(Counted.CREATE) or sandbox.weather.too_fast()) is not None:
        reply, fault = f"{refusal.http} {refusal.code}", refusal.fault or ""
        await sandbox.state.do(partial(tasks.refuse, order=order, reply=reply, fault=fault))
        raise refusal
    made = await _make(sandbox, order)
    teller = sandbox.life.begin(made.change)
    if made.change.task.plan.first:
        await first_of(teller.passed(SUBMITTED), sandbox.stopping.wait())
    return await _reply(sandbox, made)


async def query(request: Request, sandbox: Sandbox, number: int) -> Response:
    """
    GET /v1/audio/text-to-audio/{id}

    The id is the task's or the external one. 200; 400 1201 unknown; 401;
    whatever the faults say.
    """
    authorize(sandbox.config, request.headers.get("authorization"))
    given: str = request.path_params["given"]
    may_wait = sandbox.gates.expects(Gate.QUERY)
    task = await sandbox.state.do(partial(tasks.find, given=given))
    external_id = given if task is None else task.order.external_id
    if (instead := await _instead(sandbox, Gate.QUERY, Counted.QUERY, external_id, number)) is not None:
        return instead
    if may_wait:
        task = await sandbox.state.do(partial(tasks.find, given=given))
    if task is None:
        raise answers.unknown_task(given)
    return answers.succeeded(answers.record(task, sandbox.links.make))


async def list_page(request: Request, sandbox: Sandbox, number: int) -> Response:
    """
    GET /v1/audio/text-to-audio?pageNum=&pageSize=

    The newest first. 200; 400 1201 a parameter is wrong; 401; whatever the
    faults say.
    """
    authorize(sandbox.config, request.headers.get("authorization"))
    page, size = checks.read_page(request.query_params)
    if (instead := await _instead(sandbox, Gate.LIST, Counted.LIST, None, number)) is not None:
        return instead
    listed = await sandbox.state.do(partial(tasks.page, number=page, size=size))
    return answers.succeeded([answers.record(task, sandbox.links.make) for task in listed])


async def read_body(request: Request) -> bytes:
    """
    Read the whole body.

    Raises:
        Refusal: 413: it is longer than `MAX_BODY`.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise Refusal(413, 1200, f"the body is larger than {MAX_BODY} bytes")
    return bytes(body)


async def _make(sandbox: Sandbox, order: Order) -> Made:
    config = sandbox.config
    draw = course.draw(order, seed=config.seed, run_seconds=config.run_seconds)
    create_task = partial(
        tasks.create,
        order=order,
        now=sandbox.life.now(),
        concurrency=config.concurrency,
        draw=draw,
        odds=sandbox.weather.odds(),
    )
    made = await sandbox.state.do(create_task)
    if isinstance(made, Refusal):
        raise made
    return made


async def _reply(sandbox: Sandbox, made: Made) -> Response:
    """Answer the create that made a task, or leave its client in doubt."""
    task = made.change.task
    if not await sandbox.gates.go_on(Gate.CREATE_REPLY, task.order.external_id):
        await sandbox.state.do(partial(tasks.replied, attempt=made.attempt, reply="cut", fault=CUT_BY_CONTROL))
        return Cut()
    if (ordered := sandbox.weather.ordered(Gate.CREATE_REPLY, task.order.external_id)) is not None:
        reply = ordered.reply()
        await sandbox.state.do(partial(tasks.replied, attempt=made.attempt, reply=reply, fault=ORDERED))
        return ordered.response()
    return answers.succeeded(answers.created(task)) if made.unsure is None else _unsure(sandbox, made.unsure)


def _unsure(sandbox: Sandbox, unsure: Unsure) -> Response:
    match unsure:
        case Unsure.CUT:
            return Cut()
        case Unsure.HANG:
            return sandbox.hang()
        case Unsure.HTML:
            return answers.page(502)
        case _:
            return answers.refused(answers.refusal_of(unsure, fault=unsure))


async def _instead(
    sandbox: Sandbox, gate: Gate, kind: Counted, external_id: str | None, number: int
) -> Response | None:
    """Return what is answered in place of the truth; None when that is told."""
    if not await sandbox.gates.go_on(gate, external_id):
        await sandbox.note(kind, external_id, CUT_BY_CONTROL)
        return Cut()
    if (ordered := sandbox.weather.ordered(gate, external_id)) is not None:
        await sandbox.note(kind, external_id, ORDERED)
        return ordered.response()
    if (refusal := sandbox.weather.account_refusal(kind)) is not None:
        await sandbox.note(kind, external_id, "account")
        return answers.refused(refusal)
    fault = sandbox.weather.odds().query(kind, number)
    if fault is None:
        return None
    await sandbox.note(kind, external_id, fault)
    if fault is Unanswered.HANG:
        return sandbox.hang()
    return answers.refused(answers.refusal_of("5000", fault=fault))
