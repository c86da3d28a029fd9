"""The files: behind links that lapse, and as spoilt as the faults say."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from receiver.sandbox import answers, fetches, film
from receiver.sandbox.fetches import REFUSED, Fetch
from receiver.sandbox.gates import Gate
from receiver.sandbox.plan import Spoilt
from receiver.sandbox.records import Format
from receiver.sandbox.shapes import DROPS, MEDIA_TYPES, Clip
from receiver.sandbox.visit import CUT_BY_CONTROL, ORDERED, Visit


async def media(request: Request, visit: Visit) -> Response:
    """
    GET /media/{task}/{clip}.{mp3|wav|mp4}?cacheKey=…&ksSecret=…&ksTime=…

    200, 206, 416; 403 the link is wrong, altered or has lapsed; 404 it is dead;
    whatever the faults say.
    """
    link = visit.links.read(request.url.path, request.scope["query_string"].decode("latin-1"))
    if link is None:
        return PlainTextResponse("Forbidden", 403)
    task_id, clip = request.path_params["task"], request.path_params["clip"]
    form = Format(request.path_params["form"])
    begin = partial(fetches.begin, house=visit.house.name, task_id=task_id, clip=clip, form=form, link=link)
    fetch = await visit.sandbox.state.do(partial(begin, odds=visit.weather.odds()))
    if fetch is None:
        raise HTTPException(404)
    if (ordered := visit.sandbox.orders.take(Gate.MEDIA, visit.house.name, fetch.external_id)) is not None:
        return _Recorded(ordered.response(), visit, fetch, fault=ORDERED)
    return _Recorded(_answer(request, visit, fetch), visit, fetch, fault=fetch.spoilt)


async def invented(request: Request, visit: Visit) -> Response:
    """
    GET /stranger/{number}.{mp3|wav|mp4}

    200: real media that no task made, and that only forged callbacks link to.
    """
    form = Format(request.path_params["form"])
    content = await visit.sandbox.studio.invent(request.path_params["task"], form)
    return Response(content, media_type=MEDIA_TYPES[form])


async def source(_request: Request, _visit: Visit) -> Response:
    """
    GET /source.mp4

    200: a silent video of three seconds, for orders that need one.
    """
    return Response(film.shoot(0, sound=False).data, media_type=MEDIA_TYPES[Format.MP4])


def _answer(request: Request, visit: Visit, fetch: Fetch) -> Response:
    sandbox, file, spoilt = visit.sandbox, fetch.file, fetch.spoilt
    if spoilt is not None and spoilt in REFUSED:
        return PlainTextResponse(HTTPStatus(REFUSED[spoilt]).phrase, REFUSED[spoilt])
    match spoilt:
        case Spoilt.HTML:
            return answers.page(200)
        case Spoilt.JSON:
            return JSONResponse({"code": 1203, "message": "Resource does not exist"})
        case Spoilt.EMPTY:
            return Response(b"", media_type=MEDIA_TYPES[file.format])
        case _:
            return Clip(
                sandbox.studio.path(fetch.task, file),
                file,
                spoilt=None if request.method == "HEAD" else spoilt,
                halfway=partial(visit.go_on, Gate.MEDIA, fetch.external_id),
                pause=partial(sandbox.pause, visit.weather.faults.slow.seconds / DROPS),
            )


class _Recorded(Response):
    """Answers, then tells the ledger what was answered."""

    def __init__(self, answer: Response, visit: Visit, fetch: Fetch, *, fault: str | None) -> None:
        super().__init__()
        self._fault = fault
        self._answer = answer
        self._sandbox = visit.sandbox
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
