"""The description of the API: the OpenAPI document, and the page that people read."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Both forms of the description, made once at start."""

    document: bytes
    page: bytes
    #: What the Content-Security-Policy must let the page use: its own style and nothing else.
    style_source: str


async def document(request: Request) -> Response:
    """Give this document: OpenAPI 3.1."""
    made: Reference = request.app.state.reference
    return Response(made.document, media_type="application/json")


async def page(request: Request) -> Response:
    """Give the same as a page to read, which needs no script and nothing from elsewhere."""
    made: Reference = request.app.state.reference
    headers = {
        "Content-Security-Policy": f"default-src 'none'; style-src {made.style_source}; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
    return Response(made.page, media_type="text/html", headers=headers)


async def root(_: Request) -> Response:
    """Point to the page to read."""
    return RedirectResponse("/docs", status_code=307)
