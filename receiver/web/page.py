"""Render the OpenAPI document as a page for people: no script, no font or picture from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from receiver.web import openapi
from receiver.web.operation import JSON
from receiver.web.problems import PROBLEM_JSON
from receiver.web.reference import Reference

_CODE: Final = re.compile(r"`([^`]+)`")
_PARAMETER: Final = re.compile(r"{(\w+)}")
#: Keywords of a schema that bound a number of things from below and above.
_SPANS: Final = (
    ("minimum", "maximum", ""),
    ("minLength", "maxLength", " characters"),
    ("minItems", "maxItems", " of them"),
    ("minProperties", "maxProperties", " of them"),
)


@cache
def reference() -> Reference:
    """Return the document and its page; both are the same for the life of the process."""
    made = openapi.document()
    env = Environment(
        loader=PackageLoader("receiver.web"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {
        "prose": _prose,
        "kind": _kind,
        "bounds": _bounds,
        "fields": _fields,
        "pretty": _pretty,
        "breakable": _breakable,
    }
    env.globals |= {"problem_json": PROBLEM_JSON, "curl": _curl}
    style = env.get_template("docs.css").render()
    page = env.get_template("docs.html").render(
        document=made,
        groups=_groups(made),
    )
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return Reference(document=openapi.text_of(made).encode(), page=page.encode(), style_source=f"'sha256-{digest}'")


def _groups(made: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the operations by tag, in the order of the document."""
    known = [
        {"method": method.upper(), "path": path, **operation}
        for path, item in made["paths"].items()
        for method, operation in item.items()
    ]
    return [tag | {"operations": [each for each in known if tag["name"] in each["tags"]]} for tag in made["tags"]]


def _prose(text: str) -> Markup:
    """Return *text* as paragraphs in which what stands between backticks is code."""
    return Markup("\n").join(Markup("<p>{}</p>").format(_inline(part)) for part in text.strip().split("\n\n"))


def _inline(text: str) -> Markup:
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped before


def _kind(schema: Mapping[str, Any]) -> Markup:
    """Return what a value of *schema* is, in words that link to the schemas they name."""
    told = Markup("anything")
    match schema:
        case {"$ref": str(target)}:
            name = target.rpartition("/")[2]
            told = Markup('<a href="#schema-{0}">{0}</a>').format(name)
        case {"anyOf": kinds} | {"oneOf": kinds}:
            told = Markup(" or ").join(_kind(each) for each in kinds)
        case {"allOf": [first, *_]}:
            told = _kind(first)
        case {"const": value}:
            told = Markup("<code>{}</code>").format(json.dumps(value))
        case {"enum": values}:
            told = Markup(" or ").join(Markup("<code>{}</code>").format(value) for value in values)
        case {"type": "array", "items": items}:
            told = Markup("list of {}").format(_kind(items))
        case {"type": "object", "additionalProperties": dict(values)} if values:
            told = Markup("map of {}").format(_kind(values))
        case {"type": "string"}:
            told = escape(str(schema.get("format", "text")).replace("-", " "))
        case {"type": str(kind)}:
            told = escape({"integer": "whole number", "boolean": "true or false"}.get(kind, kind))
    return told


def _bounds(schema: Mapping[str, Any]) -> Markup:
    """Return what *schema* demands of a value beside its kind."""
    whole: dict[str, Any] = {}
    for each in (*schema.get("anyOf", ()), schema):
        whole |= each
    told = [
        f"from {whole[least]}{unit}" if most not in whole else f"{whole.get(least, 'up')} to {whole[most]}{unit}"
        for least, most, unit in _SPANS
        if least in whole or most in whole
    ]
    if "pattern" in whole:
        told.append(f"matches `{whole['pattern']}`")
    if whole.get("default") not in (None, [], {}):
        told.append(f"else `{_plain(whole['default'])}`")
    lines = Markup("").join(Markup("<li>{}</li>").format(_inline(each)) for each in told)
    return Markup('<ul class="bounds">{}</ul>').format(lines) if told else lines


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _fields(schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    """Yield name, schema and whether it is always there, of each field."""
    for name, field in schema.get("properties", {}).items():
        yield name, field, name in schema.get("required", ())


def _pretty(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _lines(body: Mapping[str, Any]) -> str:
    """Return *body* as JSON with a line for each of its fields."""
    told = ",\n".join(f"    {json.dumps(name)}: {json.dumps(value)}" for name, value in body.items())
    return f"{{\n{told}\n  }}"


def _breakable(path: str) -> Markup:
    """Return *path* so that a narrow column breaks it after a slash."""
    return Markup("/<wbr>").join(path.split("/"))


def _curl(operation: Mapping[str, Any]) -> str:
    """Return a command that calls *operation*; `$URL`, `$KEY` and path parameters are variables of the shell."""
    path = _PARAMETER.sub(lambda found: f"${found[1].upper()}", operation["path"])
    method = "" if operation["method"] == "GET" else f"-X {operation['method']} "
    lines = [f'curl -sS {method}"$URL{path}"']
    if operation["security"]:
        lines.append('-H "Authorization: Bearer $KEY"')
    if any(parameter["name"] == "Idempotency-Key" for parameter in operation.get("parameters", ())):
        lines.append('-H "Idempotency-Key: $(uuidgen)"')
    body = operation.get("requestBody", {}).get("content", {}).get(JSON, {})
    if "example" in body:
        lines += ["-H 'Content-Type: application/json'", f"-d '{_lines(body['example'])}'"]
    return " \\\n  ".join(lines)
