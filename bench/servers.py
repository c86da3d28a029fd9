"""
What the acknowledgement is compared with: `python -m bench.servers floor|baseline PORT`.

Both are served by the service's own function, hence with its event loop, parser and settings. The floor does what any
endpoint must; the baseline is `bench.usual`, on the database that BENCH_DATABASE names.
"""

from __future__ import annotations

import json
import os
import sys

import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from bench.parts import HOST
from receiver.web.server import serve


def floor() -> Starlette:
    """Build the bare endpoint: read the body, parse it, answer."""

    async def hook(request: Request) -> Response:
        json.loads(await request.body())
        return Response(b'{"ok":true}', media_type="application/json")

    return Starlette(routes=[Route("/hook", hook, methods=["POST"])])


async def run(name: str, port: int) -> None:
    if name == "floor":
        app = floor()
    else:
        from bench import usual  # noqa: PLC0415  the floor runs without its libraries

        app = await usual.build(os.environ["BENCH_DATABASE"])
    await serve(app, host=HOST, port=port, name=name, protocol=HttpToolsProtocol)


if __name__ == "__main__":
    uvloop.run(run(sys.argv[1], int(sys.argv[2])))
