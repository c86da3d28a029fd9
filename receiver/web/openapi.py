"""
Make the OpenAPI document from the table of operations and the models they take and give.

`python -m receiver.web.openapi > docs/openapi.json` writes the copy for readers; a test keeps it equal.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version
from typing import Any, Final, Literal

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from receiver.core.errors import (
    BucketUnavailable,
    RangeUnsatisfiable,
    ReceiverError,
    SpendLimit,
    StoreUnavailable,
    Unauthorized,
)
from receiver.web import problems
from receiver.web.operation import JSON, Header, Operation, Reply
from receiver.web.operations import OPERATIONS, PATH_PARAMETERS, TAGS
from receiver.web.problems import PROBLEM_JSON, Problem

Json = dict[str, Any]
_Modes = dict[tuple[type[BaseModel], Literal["validation", "serialization"]], Json]

_REF: Final = "#/components/schemas/{model}"
_ABOUT: Final = """\
Submit AI audio jobs, and get the audio from your own bucket: the service keeps every callback, asks where none comes,
and archives the media before its links die.

Every `/v1` route needs an API key, sent as `Authorization: Bearer <key>`; `receiver keys create` makes one. `HEAD`
works wherever `GET` does. Times are RFC 3339 in UTC, ids are text.

Every refusal is a problem by RFC 9457 (`application/problem+json`). Its `code` is a stable word to act on. Where a
`Retry-After` comes, the same request may work after it.

Every answer carries an `X-Request-Id`, which the log names too; send one of your own, and it is kept. New answers may
hold more fields than this document names, so leave alone what you do not know.
"""
_RETRY_AFTER: Final = Header("Retry-After", "Seconds to wait before the same request", {"type": "integer"})
_OF_ERRORS: Final[Mapping[type[ReceiverError], tuple[Header, ...]]] = {
    Unauthorized: (Header("WWW-Authenticate", "How to send the key"),),
    RangeUnsatisfiable: (Header("Content-Range", "How many bytes there are"),),
    SpendLimit: (_RETRY_AFTER,),
    StoreUnavailable: (_RETRY_AFTER,),
    BucketUnavailable: (_RETRY_AFTER,),
}


class _Schemas(GenerateJsonSchema):
    """Leaves out the titles that only repeat the names of fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401 - pydantic's own alias is not exported
        """Return False for every field."""
        del schema
        return False


@cache
def document() -> Json:
    """Return the document; it is the same for the life of the process and must not be changed."""
    schemas, defs = _schemas()
    paths: dict[str, Json] = {}
    for each in OPERATIONS:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each, schemas, defs)
    for each in OPERATIONS:
        if each.query is not None:
            defs.pop(each.query.__name__)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "receiver",
            "version": version("receiver"),
            "summary": "AI audio jobs, submitted once and archived before their links die",
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "Where this document came from"}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(defs.items())),
            "examples": {code: _example(code, *known) for code, known in problems.catalogue().items()},
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key; `receiver keys create`"}
            },
        },
    }


def _schemas() -> tuple[_Modes, Json]:
    """Return the schema of each model, and those that they refer to by name."""
    wanted: _Modes = {(Problem, "validation"): {}}
    for each in OPERATIONS:
        taken = [model for model in (each.takes, each.query) if isinstance(model, type)]
        wanted |= {(model, "validation"): {} for model in taken}
        given = [reply.body for reply in each.gives.values() if isinstance(reply.body, type)]
        wanted |= {(model, "serialization"): {} for model in given}
    found, rest = models_json_schema(list(wanted), ref_template=_REF, schema_generator=_Schemas)
    modes = {(model, mode): schema for (model, mode), schema in found.items() if issubclass(model, BaseModel)}
    return modes, rest["$defs"]


def _operation(each: Operation, schemas: _Modes, defs: Json) -> Json:
    summary, text = each.text
    made: Json = {"operationId": each.name, "tags": [each.tag], "summary": summary}
    if text:
        made["description"] = text
    parameters = [
        *_path_parameters(each.path),
        *_query_parameters(each, defs),
        *(_parameter("header", head.name, head.text, dict(head.schema)) for head in each.headers),
    ]
    if parameters:
        made["parameters"] = parameters
    if each.takes is not None:
        schema = schemas[each.takes, "validation"] if isinstance(each.takes, type) else {}
        media = JSON if isinstance(each.takes, type) else each.takes
        made["requestBody"] = {"required": not each.takes_empty, "content": {media: {"schema": schema}}}
        if each.example is not None:
            made["requestBody"]["content"][media]["example"] = dict(each.example)
    replies = {str(status): _reply(reply, schemas) for status, reply in each.gives.items()}
    refusals = {str(status): _refusal(status, errors) for status, errors in each.refusals.items()}
    made["responses"] = dict(sorted((replies | refusals).items()))
    made["security"] = [{"key": []}] if each.auth else []
    return made


def _path_parameters(path: str) -> Iterable[Json]:
    for name in re.findall(r"{(\w+)}", path):
        yield _parameter("path", name, PATH_PARAMETERS[name], {"type": "string"}) | {"required": True}


def _query_parameters(each: Operation, defs: Json) -> Iterable[Json]:
    if each.query is None:
        return
    model = defs[each.query.__name__]
    for name, given in model["properties"].items():
        schema = dict(given)
        text = schema.pop("description", "")
        # A parameter that is absent is not null: a query cannot say null.
        kinds = [kind for kind in schema.pop("anyOf", []) if kind != {"type": "null"}]
        schema = {key: value for key, value in schema.items() if value is not None}
        schema |= kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {}
        yield _parameter("query", name, text, schema) | {"required": name in model.get("required", ())}


def _parameter(place: str, name: str, text: str, schema: Json) -> Json:
    return {"name": name, "in": place, "description": text, "schema": schema}


def _reply(reply: Reply, schemas: _Modes) -> Json:
    made: Json = {"description": reply.text}
    if reply.headers:
        made["headers"] = _headers(reply.headers)
    if isinstance(reply.body, type):
        made["content"] = {JSON: {"schema": schemas[reply.body, "serialization"]}}
        if reply.example is not None:
            made["content"][JSON]["example"] = dict(reply.example)
    elif reply.body is not None:
        kind = {"text": {"type": "string"}, "application": {"type": "object"}}.get(reply.body.partition("/")[0], {})
        made["content"] = {reply.body: {"schema": kind}}
    return made


def _refusal(status: int, errors: tuple[type[ReceiverError], ...]) -> Json:
    codes = [error.code for error in errors]
    schema = {
        "allOf": [
            {"$ref": _REF.format(model="Problem")},
            {"properties": {"status": {"const": status}, "code": {"enum": codes}}},
        ]
    }
    examples = {code: {"$ref": f"#/components/examples/{code}"} for code in codes}
    made: Json = {
        "description": "; ".join(f"`{error.code}`: {problems.about(error)}" for error in errors),
        "content": {PROBLEM_JSON: {"schema": schema, "examples": examples}},
    }
    headers = {head.name: head for error in errors for head in _OF_ERRORS.get(error, ())}
    if headers:
        made["headers"] = _headers(tuple(headers.values()))
    return made


def _headers(headers: tuple[Header, ...]) -> Json:
    return {head.name: {"description": head.text, "schema": dict(head.schema)} for head in headers}


def _example(code: str, status: int, text: str) -> Json:
    shown: Json = {
        "type": problems.type_of(code),
        "title": problems.TITLES[status],
        "status": status,
        "code": code,
        "detail": text,
        "request_id": "5f0c9ad1b2e34c67",
    }
    return {"summary": text, "value": shown}


def text_of(made: Mapping[str, Any]) -> str:
    """Return the document as it is kept in `docs/openapi.json`."""
    return json.dumps(made, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text_of(document()))
