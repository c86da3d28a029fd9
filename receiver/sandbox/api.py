"""The houses' API: create, get one, list."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from receiver.sandbox import answers, checks, course, orders, statements, tasks
from receiver.sandbox.answers import Refusal
from receiver.sandbox.background import first_of
from receiver.sandbox.gates import Gate
from receiver.sandbox.plan import SUBMITTED, Unsure
from receiver.sandbox.records import Counted, Order, Product, Task
from receiver.sandbox.tasks import Made
from receiver.sandbox.visit import CUT_BY_CONTROL, ORDERED, Visit, read_body
from receiver.sandbox.wire import Cut


async def create(request: Request, visit: Visit) -> Response:
    """
    POST <path of a product>

    200 made; 400 1200 no JSON object, 1201 a field is wrong or the external id
    is used; 401 (see `auth`); 413 body too large; 429 1302 too fast, 1303 no
    free slot; whatever the faults say. Once the body is read, the task is made
    even when the client has gone.
    """
    visit.authorize(request)
    sandbox, house = visit.sandbox, visit.house
    order = orders.read_order(await read_body(request, visit.seen), visit.product or Product.SOUND, house)
    refuse = partial(tasks.refuse, house=house, order=order)
    if not await visit.go_on(Gate.CREATE, order.external_id):
        await sandbox.state.do(partial(refuse, reply="cut", fault=CUT_BY_CONTROL))
        return Cut()
    if (ordered := sandbox.orders.take(Gate.CREATE, house.name, order.external_id)) is not None:
        await sandbox.state.do(partial(refuse, reply=ordered.reply, fault=ORDERED))
        return ordered.response()
    if (refusal := visit.weather.account_refusal(Counted.CREATE) or visit.weather.too_fast()) is not None:
        await sandbox.state.do(partial(refuse, reply=f"{refusal.http} {refusal.code}", fault=refusal.fault or ""))
        raise refusal
    made = await _make(visit, order)
    teller = sandbox.life.begin(made.change)
    if made.change.task.plan.first:
        await first_of(teller.passed(SUBMITTED), sandbox.stopping.wait())
    return await _reply(visit, made)


async def query(request: Request, visit: Visit) -> Response:
    """
    GET <path of a product>/{id}

    The id is the task's or, where the house knows it, the external one. 200;
    400 1201 unknown; 401; whatever the faults say.
    """
    visit.authorize(request)
    given: str = request.path_params["given"]
    may_wait = visit.sandbox.gates.expects(Gate.QUERY)
    products = {product for product in visit.house.paths.values() if product is visit.product}
    find = partial(tasks.find, house=visit.house, given=given, products=products)
    task = await visit.sandbox.state.do(find)
    external_id = given if task is None else task.order.external_id
    if (instead := await visit.instead(Gate.QUERY, external_id)) is not None:
        return instead
    if may_wait:
        task = await visit.sandbox.state.do(find)
    if task is None:
        raise answers.unknown_task(given)
    return answers.succeeded(_record(visit, task), visit.house)


async def list_page(request: Request, visit: Visit) -> Response:
    """
    GET <path of a product>?pageNum=&pageSize=

    The newest first. 200; 400 1201 a parameter is wrong; 401; whatever the
    faults say.
    """
    visit.authorize(request)
    number, size = checks.read_page(request.query_params)
    if (instead := await visit.instead(Gate.LIST, None)) is not None:
        return instead
    page = partial(tasks.page, house=visit.house, product=visit.product or Product.SOUND, number=number, size=size)
    listed = await visit.sandbox.state.do(page)
    return answers.succeeded([_record(visit, task) for task in listed], visit.house)


def _record(visit: Visit, task: Task) -> statements.Said:
    return statements.record(task, visit.house, visit.links.make, visit.links.source())


async def _make(visit: Visit, order: Order) -> Made:
    config = visit.sandbox.config
    create_task = partial(
        tasks.create,
        house=visit.house,
        order=order,
        now=visit.sandbox.life.now(),
        concurrency=config.concurrency,
        draw=course.draw(order, seed=config.seed, run_seconds=config.run_seconds),
        odds=visit.weather.odds(),
    )
    made = await visit.sandbox.state.do(create_task)
    if isinstance(made, Refusal):
        raise made
    return made


async def _reply(visit: Visit, made: Made) -> Response:
    """Answer the create that made a task, or leave its client in doubt."""
    task, sandbox = made.change.task, visit.sandbox
    if not await visit.go_on(Gate.CREATE_REPLY, task.order.external_id):
        await sandbox.state.do(partial(tasks.replied, attempt=made.attempt, reply="cut", fault=CUT_BY_CONTROL))
        return Cut()
    if (ordered := sandbox.orders.take(Gate.CREATE_REPLY, task.house, task.order.external_id)) is not None:
        await sandbox.state.do(partial(tasks.replied, attempt=made.attempt, reply=ordered.reply, fault=ORDERED))
        return ordered.response()
    if made.unsure is not None:
        return _unsure(visit, made.unsure)
    if visit.house.wraps:
        return JSONResponse(statements.queued(task))
    return answers.succeeded(statements.created(task, visit.house), visit.house, create=True)


def _unsure(visit: Visit, unsure: Unsure) -> Response:
    match unsure:
        case Unsure.CUT:
            return Cut()
        case Unsure.HANG:
            return visit.hang()
        case Unsure.HTML:
            return answers.page(502)
        case _:
            return visit.refused(answers.refusal_of(unsure, fault=unsure))
