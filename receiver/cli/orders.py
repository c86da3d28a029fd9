"""Tasks as they are given on the command line, or one a line in a file."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import typer

#: Tasks and bytes of one request; the service takes a little more.
CHUNK: Final = 1000
CHUNK_BYTES: Final = 3_500_000
#: Mistakes of a file that are told at once.
TOLD: Final = 20

_FIELD: Final = re.compile(r"([^=:]+)(:=|=)(.*)", re.DOTALL)
_FIELDS: Final = frozenset({"account", "kind", "input", "reference", "labels", "idempotency_key"})


@dataclass(frozen=True, slots=True)
class Line:
    """A task of a file: its line, counted from 1, and what is sent."""

    number: int
    document: Mapping[str, Any]

    @property
    def size(self) -> int:
        """Return the bytes that it adds to a request."""
        return len(json.dumps(self.document)) + 2


class WrongLine(ValueError):
    """A line of a file is no task; says why."""


class WrongLines(Exception):
    """Some lines of a file are no tasks; each is told with its number."""


def read_fields(given: Iterable[str]) -> dict[str, Any]:
    """
    Read `name=text` and `name:=json`.

    Raises:
        typer.BadParameter: One is neither, holds no JSON, or names a field again.
    """
    found: dict[str, Any] = {}
    for each in given:
        match = _FIELD.fullmatch(each)
        if match is None:
            raise typer.BadParameter(f"{each!r} is neither name=text nor name:=json")
        name, sign, text = match.groups()
        if name in found:
            raise typer.BadParameter(f"{name!r} is given twice")
        found[name] = text if sign == "=" else _read_json(name, text)
    return found


def read_labels(given: Iterable[str]) -> dict[str, str]:
    """
    Read `name=text`.

    Raises:
        typer.BadParameter: One is not that, or names a label again.
    """
    found: dict[str, str] = {}
    for each in given:
        name, sign, text = each.partition("=")
        if not (name and sign):
            raise typer.BadParameter(f"{each!r} is not name=text", param_hint="--label")
        if name in found:
            raise typer.BadParameter(f"{name!r} is given twice", param_hint="--label")
        found[name] = text
    return found


def read_lines(text: str, defaults: Mapping[str, Any], *, name: str, run: str) -> list[Line]:
    """
    Read a task from each line that is not blank.

    One without an idempotency key gets one, made of the file's *name*, of *run*,
    of what it says and of how often that was said before: the same file can be
    sent again, also after other lines of it were mended, and makes nothing twice.

    Raises:
        WrongLines: Names them all; nothing may be sent.
    """
    lines, wrong = [], []
    said: Counter[str] = Counter()
    for number, each in enumerate(text.split("\n"), 1):
        if not each.strip():
            continue
        try:
            document = {**defaults, **_document(each)}
        except WrongLine as exc:
            wrong.append(f"line {number}: {exc}")
            continue
        meaning = json.dumps(document, sort_keys=True)
        said[meaning] += 1
        if document.get("idempotency_key") is None:
            digest = hashlib.sha256(json.dumps([name, run, meaning, said[meaning]]).encode())
            document["idempotency_key"] = f"file-{digest.hexdigest()}"
        lines.append(Line(number, document))
    if wrong:
        more = [f"and {len(wrong) - TOLD} more"] if len(wrong) > TOLD else []
        raise WrongLines("\n".join(f"  {each}" for each in wrong[:TOLD] + more))
    return lines


def chunks(lines: Sequence[Line]) -> Iterator[list[Line]]:
    """Yield *lines* in portions that one request can take."""
    chunk: list[Line] = []
    room = CHUNK_BYTES
    for line in lines:
        if chunk and (len(chunk) == CHUNK or line.size > room):
            yield chunk
            chunk, room = [], CHUNK_BYTES
        chunk.append(line)
        room -= line.size
    if chunk:
        yield chunk


def _document(line: str) -> dict[str, Any]:
    try:
        document = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise WrongLine("this is no JSON") from exc
    if not isinstance(document, dict):
        raise WrongLine("must be a JSON object")
    if unknown := document.keys() - _FIELDS:
        raise WrongLine(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(sorted(_FIELDS))}")
    return document


def _read_json(name: str, text: str) -> object:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise typer.BadParameter(f"what follows {name}:= is no JSON; for text write {name}=…") from exc


def _refuse_constant(name: str) -> None:
    raise ValueError(name)
