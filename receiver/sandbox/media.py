"""The files: behind links that lapse, and as spoilt as the faults say."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from http import HTTPStatus
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from receiver.sandbox import answers, fetches
from receiver.sandbox.api import CUT_BY_CONTROL, ORDERED
from receiver.sandbox.fetches import REFUSED, Fetch
from receiver.sandbox.gates import Gate
from receiver.sandbox.parts import Sandbox
from receiver.sandbox.plan import Spoilt
from receiver.sandbox.records import Format
from receiver.sandbox.shapes import DROPS, MEDIA_TYPES, Clip

#: Seconds of invented media.
INVENTED: Final = Decimal("3.0")


async def media(request: Request, sandbox: Sandbox, _number: int) -> Response:
    """
    GET /media/{task}/{clip}.{mp3|wav}?cacheKey=…&ksSecret=…&ksTime=…

    200, 206, 416; 403 the link is wrong, altered or has lapsed; 404 it is dead;
    whatever the faults say.
    """
    link = sandbox.links.read(request.url.path, request.scope["query_string"].decode("latin-1"))
    if link is None:
        return PlainTextResponse("Forbidden", 403)
    task_id, clip = request.path_params["task"], request.path_params["clip"]
    form = Format(request.path_params["form"])
    begin = partial(fetches.begin, task_id=task_id, clip=clip, form=form, link=link, odds=sandbox.weather.odds())
    fetch = await sandbox.state.do(begin)
    if fetch is None:
        raise HTTPException(404)
    if (ordered := sandbox.weather.ordered(Gate.MEDIA, fetch.external_id)) is not None:
        return _Recorded(ordered.response(), sandbox, fetch, fault=ORDERED)
    return _Recorded(_answer(request, sandbox, fetch, task_id), sandbox, fetch, fault=fetch.spoilt)


async def invented(request: Request, sandbox: Sandbox, _number: int) -> Response:
    """
    GET /stranger/{number}.{mp3|wav}

    200: real audio that no task made, and that only forged callbacks link to.
    """
    content = await sandbox.studio.invent(request.path_params["task"], Format(request.path_params["form"]), INVENTED)
    return Response(content, media_type=MEDIA_TYPES[Format(request.path_params["form"])])


def _answer(request: Request, sandbox: Sandbox, fetch: Fetch, task_id: int) -> Response:
    audio, spoilt = fetch.audio, fetch.spoilt
    if spoilt is not None and spoilt in REFUSED:
        return PlainTextResponse(HTTPStatus(REFUSED[spoilt]).phrase, REFUSED[spoilt])
    match spoilt:
        case Spoilt.HTML:
            return answers.page(200)
        case Spoilt.JSON:
            return JSONResponse({"code": 1203, "message": "Resource does not exist"})
        case Spoilt.EMPTY:
            return Response(b"", media_type=MEDIA_TYPES[audio.format])
        case _:
            return Clip(
                sandbox.studio.path(task_id, audio.clip, audio.format),
                audio,
                spoilt=None if request.method == "HEAD" else spoilt,
                halfway=partial(sandbox.gates.go_on, Gate.MEDIA, fetch.external_id),
                pause=partial(sandbox.pause, sandbox.weather.faults.slow.seconds / DROPS),
            )


class _Recorded(Response):
    """Answers, then tells the ledger what was answered."""

    def __init__(self, answer: Response, sandbox: Sandbox, fetch: Fetch, *, fault: str | None) -> None:
        super().__init__()
        self._fault = fault
        self._answer = answer
        self._sandbox = sandbox
        self._fetch = fetch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer, fault = self._answer, self._fault
        await answer(scope, receive, send)
        if isinstance(answer, Clip):
            status, sent = answer.status, answer.sent
            fault = CUT_BY_CONTROL if answer.cut else fault
        else:
            status, sent = answer.status_code, len(answer.body)
        end = partial(fetches.end, fetch_id=self._fetch.id, status=status, sent=sent, fault=fault)
        await self._sandbox.state.do(end)
