"""The page of the HTTP API, from the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from receiver.web import openapi, problems
from receiver.web.operation import JSON
from tools.documents.markdown import MADE, code, plain, table, value

_BOUNDS: Final = (
    ("minimum", "at least {}"),
    ("exclusiveMinimum", "more than {}"),
    ("maximum", "at most {}"),
    ("minLength", "at least {} characters"),
    ("maxLength", "at most {} characters"),
    ("minItems", "at least {} of them"),
    ("maxItems", "at most {} of them"),
    ("maxProperties", "at most {} of them"),
    ("pattern", "matches `{}`"),
)
_WORDS: Final = {"integer": "whole number", "boolean": "true or false", "string": "text", "null": "`null`"}


def page() -> str:
    """Return the page."""
    made = openapi.document()
    return "".join(
        [
            f"{MADE}\n\n# HTTP API\n\n",
            f"The running service shows the same at `/docs`, and as OpenAPI {made['openapi']} at `/openapi.json`; a ",
            "copy of that document is [openapi.json](../openapi.json).\n\n",
            made["info"]["description"].strip() + "\n\n",
            *_index(made),
            *(part for tag in made["tags"] for part in _group(made, tag)),
            "## Models\n\n",
            *(part for name, schema in made["components"]["schemas"].items() for part in _model(name, schema)),
            "## Problem codes\n\n",
            table(
                ("code", "status", "meaning"),
                ((code(name), status, plain(text)) for name, (status, text) in problems.catalogue().items()),
            ),
        ]
    )


def _operations(made: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in made["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def _index(made: Mapping[str, Any]) -> Iterator[str]:
    lines = (
        (f"[{operation['operationId']}](#{operation['operationId']})", code(f"{method} {path}"), operation["summary"])
        for method, path, operation in _operations(made)
    )
    yield table(("operation", "request", ""), lines)


def _group(made: Mapping[str, Any], tag: Mapping[str, str]) -> Iterator[str]:
    yield f"## {tag['name'].capitalize()}\n\n{tag['description']}\n\n"
    for method, path, operation in _operations(made):
        if operation["tags"] == [tag["name"]]:
            yield from _operation(method, path, operation)


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {operation['operationId']} {{ #{operation['operationId']} }}\n\n`{method} {path}`"
    yield "\n\n" if operation["security"] else " without a key\n\n"
    yield plain(f"{operation['summary']}.\n\n")
    if "description" in operation:
        yield plain(operation["description"]) + "\n\n"
    yield table(
        ("parameter", "in", "type", "meaning"),
        (
            (code(each["name"]), each["in"], _kind(each["schema"]), _meaning(each, each["schema"]))
            for each in operation.get("parameters", ())
        ),
    )
    if "requestBody" in operation:
        media, body = next(iter(operation["requestBody"]["content"].items()))
        optional = "" if operation["requestBody"]["required"] else "; it may be left out"
        yield f"Body: {_kind(body['schema']) or 'any'} as `{media}`{optional}.\n\n"
    yield table(("answer", "body", "meaning"), _answers(operation["responses"]))


def _answers(responses: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for status, response in responses.items():
        content = response.get("content", {})
        refused = problems.PROBLEM_JSON in content
        kinds = [_kind(body["schema"]) if media == JSON else code(media) for media, body in content.items()]
        headers = "; ".join(f"`{name}`: {head['description']}" for name, head in response.get("headers", {}).items())
        text = plain(response["description"]) + (f" ({headers})" if headers else "")
        yield code(status), "[Problem](#problem)" if refused else ", ".join(kinds), text


def _model(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {name} {{ #{name.lower()} }}\n\n"
    if "description" in schema:
        yield plain(schema["description"]) + "\n\n"
    if "enum" in schema:
        yield "One of " + ", ".join(map(code, schema["enum"])) + ".\n\n"
    required = schema.get("required", ())
    yield table(
        ("field", "type", "always there", "meaning"),
        (
            (code(field), _kind(given), "yes" if field in required else "", _meaning(given, given))
            for field, given in schema.get("properties", {}).items()
        ),
    )


def _kind(schema: Mapping[str, Any]) -> str:
    """Return what kind of value *schema* takes, in words."""
    match schema:
        case {"$ref": str(ref)}:
            name = ref.rpartition("/")[2]
            told = f"[{name}](#{name.lower()})"
        case {"anyOf": kinds} | {"oneOf": kinds}:
            told = " or ".join(dict.fromkeys(_kind(each) for each in kinds))
        case {"const": given}:
            told = value(given)
        case {"enum": values}:
            told = " or ".join(map(value, values))
        case {"type": "array", "items": items}:
            told = f"list of {_kind(items)}"
        case {"type": "object", "additionalProperties": dict(of)} if of:
            told = f"map of {_kind(of)}"
        case _:
            kind = schema.get("format", schema.get("type", ""))
            told = _WORDS.get(kind, str(kind).replace("-", " "))
    return told


def _meaning(described: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Return what a field means and what is demanded of it."""
    whole: dict[str, Any] = {}
    for each in (*schema.get("anyOf", ()), schema):
        whole |= each
    told = [text.format(whole[name]) for name, text in _BOUNDS if name in whole]
    if whole.get("default") not in (None, [], {}):
        told.append(f"else {value(whole['default'])}")
    text = plain(described.get("description", ""))
    return "; ".join([*([text] if text else []), *told])
