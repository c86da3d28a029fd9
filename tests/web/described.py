"""What the OpenAPI document says of an answer, and whether the answer agrees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import httpx
from openapi_schema_validator import OAS31Validator

PROBLEM: Final = "application/problem+json"

Json = dict[str, Any]


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Json]]:
    """Yield method, path and what is said of each operation."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def answers(operation: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """Yield each documented answer: a good one by its status as text, a problem by its code."""
    for status, response in operation["responses"].items():
        content = response.get("content", {})
        if PROBLEM in content:
            yield from ((int(status), code) for code in content[PROBLEM]["examples"])
        else:
            yield int(status), status


def judge(document: Mapping[str, Any], operation: Mapping[str, Any], answer: httpx.Response) -> None:
    """Assert that the answer's status, type, body and headers are those that the document names."""
    where = f"{operation['operationId']} {answer.status_code}"
    assert str(answer.status_code) in operation["responses"], f"{where} is not documented: {answer.text[:500]}"
    response = operation["responses"][str(answer.status_code)]
    missing = {name for name in response.get("headers", {}) if name not in answer.headers}
    assert not missing, f"{where} lacks {missing}"
    content = response.get("content", {})
    kind = answer.headers.get("content-type", "")
    if not content:
        assert answer.content == b"", where
        return
    assert kind in content or "*/*" in content, f"{where} is {kind}"
    if kind.endswith("json"):
        schema = {**content[kind]["schema"], "components": document["components"]}
        wrong = [f"{error.json_path}: {error.message}" for error in OAS31Validator(schema).iter_errors(answer.json())]
        assert wrong == [], where
