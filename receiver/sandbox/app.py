"""The HTTP side: every route, and how refusals are rendered."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from receiver.sandbox import answers, checks, course, ledger, tasks
from receiver.sandbox.answers import Refusal
from receiver.sandbox.auth import authorize, authorize_control
from receiver.sandbox.background import background
from receiver.sandbox.config import SandboxConfig, webhook_key
from receiver.sandbox.courier import Courier, new_client
from receiver.sandbox.life import Life
from receiver.sandbox.links import Links
from receiver.sandbox.records import Counted, Format
from receiver.sandbox.state import State, StateClosed
from receiver.sandbox.studio import Studio

API: Final = "/v1/audio/text-to-audio"

#: Bytes of a request body.
MAX_BODY: Final = 64 * 1024

#: Encoders at one time.
STUDIO_THREADS: Final = 2

MEDIA_TYPES: Final = {Format.MP3: "audio/mpeg", Format.WAV: "audio/wav"}

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """The parts that the routes use."""

    config: SandboxConfig
    state: State
    life: Life
    links: Links
    studio: Studio


class MediaFile(FileResponse):
    """A whole clip in few reads; Range and If-Range are the base's."""

    chunk_size = 1024 * 1024


def build_app(config: SandboxConfig, *, clock: Clock = time.time) -> Starlette:
    """
    Return the application; its lifespan opens the state and lets the tasks live.

    `app.state.alive` is True from start to end of the lifespan; a database
    error ends it early.

    Raises:
        ValueError: `config.public_url` is not set; links need it.
    """
    if config.public_url is None:
        raise ValueError("public_url is not set")
    base = config.public_url

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with open_sandbox(config, base, clock) as sandbox:
            app.state.sandbox = sandbox
            app.state.alive = True
            try:
                yield
            finally:
                app.state.alive = False

    routes = [
        Route(API, create, methods=["POST"]),
        Route(API, list_page, methods=["GET"]),
        Route(API + "/{given}", query, methods=["GET"]),
        Route("/media/{task:int}/{clip:int}.{form}", media, methods=["GET"]),
        Route("/control/ledger", control_ledger, methods=["GET"]),
        Route("/control/health", control_health, methods=["GET"]),
    ]
    kinds = (Refusal, HTTPException, ClientDisconnect, StateClosed, Exception)
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers=dict.fromkeys(kinds, render_error))
    app.router.redirect_slashes = False
    return app


@asynccontextmanager
async def open_sandbox(config: SandboxConfig, base: str, clock: Clock) -> AsyncIterator[Sandbox]:
    """
    Open the state and go on with the tasks in it; *base* is where links point.

    Raises:
        StateLocked: Another process works on the state directory.
    """
    with ThreadPoolExecutor(STUDIO_THREADS, "sandbox-studio") as threads:
        async with State.open(config.state_dir) as state, new_client() as client, background() as group:
            key = None if config.webhook_secret is None else webhook_key(config.webhook_secret)
            link_key = await state.do(tasks.link_key)
            links = Links(key=link_key, base=base.rstrip("/"), lifetime=config.link_seconds, clock=clock)
            studio = Studio(config.state_dir / "media", threads)
            courier = Courier(state, client, key=key, clock=clock)
            life = Life(group=group, state=state, studio=studio, courier=courier, link=links.make, clock=clock)
            life.resume(await state.do(tasks.unfinished))
            yield Sandbox(config=config, state=state, life=life, links=links, studio=studio)


async def create(request: Request) -> JSONResponse:
    """
    POST /v1/audio/text-to-audio

    200 made; 400 1200 no JSON object, 1201 a field is wrong or the external id
    is used; 401 (see `auth`); 413 body too large; 429 1303 no free slot. Once
    the body is read, the task is made even when the client has gone.
    """
    sandbox: Sandbox = request.app.state.sandbox
    sandbox.state.count(Counted.CREATE)
    authorize(sandbox.config, request.headers.get("authorization"))
    order = checks.read_order(await read_body(request))
    config = sandbox.config
    draw = course.draw(order, seed=config.seed, run_seconds=config.run_seconds)
    now = sandbox.life.now()
    made = await sandbox.state.do(
        partial(tasks.create, order=order, now=now, concurrency=config.concurrency, draw=draw)
    )
    if isinstance(made, Refusal):
        raise made
    sandbox.life.begin(made)
    return answers.succeeded(answers.created(made.task))


async def query(request: Request) -> JSONResponse:
    """
    GET /v1/audio/text-to-audio/{id}

    The id is the task's or the external one. 200; 400 1201 unknown; 401.
    """
    sandbox: Sandbox = request.app.state.sandbox
    sandbox.state.count(Counted.QUERY)
    authorize(sandbox.config, request.headers.get("authorization"))
    given: str = request.path_params["given"]
    task = await sandbox.state.do(partial(tasks.find, given=given))
    if task is None:
        raise answers.unknown_task(given)
    return answers.succeeded(answers.record(task, sandbox.links.make))


async def list_page(request: Request) -> JSONResponse:
    """
    GET /v1/audio/text-to-audio?pageNum=&pageSize=

    The newest first. 200; 400 1201 a parameter is wrong; 401.
    """
    sandbox: Sandbox = request.app.state.sandbox
    sandbox.state.count(Counted.LIST)
    authorize(sandbox.config, request.headers.get("authorization"))
    number, size = checks.read_page(request.query_params)
    listed = await sandbox.state.do(partial(tasks.page, number=number, size=size))
    return answers.succeeded([answers.record(task, sandbox.links.make) for task in listed])


async def media(request: Request) -> Response:
    """
    GET /media/{task}/{clip}.{mp3|wav}?cacheKey=…&ksSecret=…&ksTime=…

    200, 206, 416; 403 the link is wrong, altered or has lapsed.
    """
    sandbox: Sandbox = request.app.state.sandbox
    sandbox.state.count(Counted.MEDIA)
    if not sandbox.links.good(request.url.path, request.scope["query_string"].decode("latin-1")):
        return PlainTextResponse("Forbidden", 403)
    task_id, clip = request.path_params["task"], request.path_params["clip"]
    form = Format(request.path_params["form"])
    audio = await sandbox.state.do(partial(tasks.audio, task_id=task_id, clip=clip, form=form))
    if audio is None:
        raise HTTPException(404)
    headers = {"etag": f'"{audio.sha256}"'}
    return MediaFile(sandbox.studio.path(task_id, clip, form), headers=headers, media_type=MEDIA_TYPES[form])


async def control_ledger(request: Request) -> JSONResponse:
    """
    GET /control/ledger

    200 (see `ledger.read`); 401.
    """
    sandbox: Sandbox = request.app.state.sandbox
    authorize_control(sandbox.config, request.headers.get("authorization"))
    await sandbox.state.write_counts()
    return JSONResponse(await sandbox.state.do(ledger.read))


async def control_health(request: Request) -> JSONResponse:
    """
    GET /control/health

    200 once the state is open and answers; 401.
    """
    sandbox: Sandbox = request.app.state.sandbox
    authorize_control(sandbox.config, request.headers.get("authorization"))
    await sandbox.state.do(tasks.link_key)
    return JSONResponse({"status": "ok"})


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


def render_error(_request: Request, exc: Exception) -> Response:
    """Render whatever a route raised in Kling's envelope (providers.md 2.8)."""
    match exc:
        case Refusal():
            refusal = exc
        case HTTPException(status_code=405):
            refusal = Refusal(404, 1202, "Method is invalid")
        case HTTPException(status_code=404):
            refusal = Refusal(404, 1203, "Resource does not exist")
        case HTTPException(status_code=status):
            refusal = Refusal(status, 1200, "Request is invalid")
        case ClientDisconnect():
            refusal = Refusal(400, 1200, "The request was cut")
        case StateClosed():
            refusal = Refusal(503, 5001, "Server is stopping")
        case _:
            refusal = Refusal(500, 5000, "Internal error")
    return answers.refused(refusal)
