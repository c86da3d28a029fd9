"""Render the OpenAPI document as a page for people."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from receiver.web import openapi
from receiver.web.reference import Reference


@cache
def reference() -> Reference:
    """Return the document and its page."""
    made = openapi.document()
    env = Environment(loader=PackageLoader("receiver.web"), autoescape=select_autoescape(), undefined=StrictUndefined)
    page = env.get_template("docs.html").render(document=made)
    return Reference(document=openapi.text_of(made).encode(), page=page.encode())
