"""Submit one task to a running service, or a file of them."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from receiver.cli import api, completing, following, looking, orders
from receiver.cli.looking import AsJson
from receiver.cli.orders import Line, WrongLines
from receiver.cli.tables import cell, clean, files_of, rows, state_cell
from receiver.core.errors import FieldError
from receiver.core.model import State

#: In the place of an account: the service chooses it.
ANY_ACCOUNT: Final = "-"
STDIN: Final = Path("-")


@dataclass(frozen=True, slots=True)
class _Sent:
    """A line of a file and the task that stands for it."""

    line: int
    id: str
    existed: bool


Account = Annotated[
    str | None,
    typer.Argument(help="Which configured account pays; - lets the service choose", autocompletion=completing.accounts),
]
Kind = Annotated[
    str | None, typer.Argument(help="What is made, such as text-to-audio", autocompletion=completing.kinds)
]
Fields = Annotated[list[str] | None, typer.Argument(metavar="NAME=TEXT|NAME:=JSON", help="What the provider needs")]
File = Annotated[
    Path | None,
    typer.Option(
        "--file",
        metavar="PATH",
        help="Submit the tasks of this file, or of stdin (-): on each line a JSON object with kind, input and, if you"
        " like, account, reference, labels, idempotency_key. The arguments hold for lines that lack them",
    ),
]
Run = Annotated[
    str, typer.Option(help="With --file: under another name the same lines make other tasks, else they make none")
]
Reference = Annotated[str | None, typer.Option(help="Your own id; need not be unique")]
Label = Annotated[list[str] | None, typer.Option(metavar="NAME=TEXT", help="May be given again")]
IdempotencyKey = Annotated[str | None, typer.Option(help="With the same key the same task is made only once")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for the end; status 1 unless all are archived")]
Timeout = Annotated[int | None, typer.Option(metavar="SECONDS", min=1, help="With --wait: no longer than this")]


@dataclass(frozen=True, slots=True)
class _Manner:
    """How the command goes on once the tasks are accepted."""

    wait: bool
    within: timedelta | None
    as_json: bool


def submit(
    account: Account = None,
    kind: Kind = None,
    fields: Fields = None,
    *,
    file: File = None,
    run: Run = "",
    reference: Reference = None,
    label: Label = None,
    idempotency_key: IdempotencyKey = None,
    wait: Wait = False,
    timeout: Timeout = None,
    as_json: AsJson = False,
    url: api.Url = api.DEFAULT_URL,
) -> None:
    """
    Submit one task, or a file of them; an id is printed once its task is durable.

    Example: receiver tasks submit kling text-to-audio prompt='rain on a tin roof' duration:=5.0
    """
    given = {
        "account": None if account == ANY_ACCOUNT else account,
        "kind": kind,
        "input": orders.read_fields(fields or ()) or None,
        "reference": reference,
        "labels": orders.read_labels(label or ()) or None,
    }
    document = {name: value for name, value in given.items() if value is not None}
    manner = _Manner(wait, None if timeout is None else timedelta(seconds=timeout), as_json)
    if file is not None:
        if idempotency_key is not None:
            raise typer.BadParameter("one key cannot stand for a file; give idempotency_key in its lines")
        lines = _read(file, document, run)
        with api.connected(url) as service:
            _many(service, lines, manner)
        return
    if account is None or kind is None:
        raise typer.BadParameter("name an account and a kind, or give --file")
    with api.connected(url) as service:
        _one(service, {"input": {}, **document}, idempotency_key, manner)


def _one(service: api.Client, document: Mapping[str, Any], idempotency_key: str | None, manner: _Manner) -> None:
    answer = service.post("/v1/tasks", document, idempotency_key=idempotency_key)
    task = answer.document["id"]
    if manner.wait:
        if sys.stdout.isatty() or sys.stderr.isatty():
            sys.stderr.write(f"{clean(task)} is accepted\n")
        with following.progress("waiting", 1), _on_time(manner.within, [task]):
            (answer,) = following.wait_for(service, [task], within=manner.within)
    told = answer.document
    if manner.as_json:
        looking.echo(answer)
    elif sys.stdout.isatty():
        rest = f"due {clean(told['due_at'])}" if told["due_at"] else f"{files_of(told)} files {told['reason'] or ''}"
        Console(highlight=False).print(cell(told["id"], style="bold"), state_cell(told["state"]), cell(rest))
    else:
        sys.stdout.write(rows([following.line_of(told) if manner.wait else [told["id"]]]))
    if manner.wait and told["state"] != State.ARCHIVED:
        raise typer.Exit(1)


def _read(file: Path, defaults: Mapping[str, Any], run: str) -> list[Line]:
    try:
        text = (sys.stdin.buffer.read() if file == STDIN else file.read_bytes()).decode("utf-8-sig")
    except OSError as exc:
        raise typer.BadParameter(f"{clean(file)}: {exc.strerror}", param_hint="--file") from exc
    except UnicodeDecodeError as exc:
        raise typer.BadParameter(f"{clean(file)} is no UTF-8", param_hint="--file") from exc
    try:
        lines = orders.read_lines(text, defaults, name=file.name, run=run)
    except WrongLines as exc:
        sys.stderr.write(f"receiver: invalid_file: nothing was submitted; mend {clean(file)}\n{exc}\n")
        raise typer.Exit(1) from exc
    if not lines:
        raise typer.BadParameter(f"{clean(file)} holds no task", param_hint="--file")
    return lines


def _many(service: api.Client, lines: Sequence[Line], manner: _Manner) -> None:
    sent: list[_Sent] = []
    with following.progress("submitting", len(lines)) as advance:
        for chunk in orders.chunks(lines):
            sent += _send(service, chunk, before=len(sent))
            advance(len(chunk))
            if not manner.as_json:
                _print_sent(sent[-len(chunk) :])
    existed = sum(each.existed for each in sent)
    note = f", {existed} of them by an earlier run of the same lines" if existed else ""
    sys.stderr.write(f"{len(sent)} tasks are accepted{note}\n")
    ends = _ends(service, [each.id for each in sent], manner.within) if manner.wait else {}
    if manner.as_json:
        told = [{"line": each.line, "id": each.id, "existed": each.existed} for each in sent]
        sys.stdout.write(json.dumps({"tasks": told, **({"states": ends} if manner.wait else {})}) + "\n")
    if manner.wait:
        sys.stderr.write(", ".join(f"{number} {state}" for state, number in ends.items()) + "\n")
        if set(ends) != {State.ARCHIVED}:
            raise typer.Exit(1)


def _send(service: api.Client, chunk: Sequence[Line], *, before: int) -> list[_Sent]:
    document = {"tasks": [line.document for line in chunk]}
    try:
        answer = following.patiently(partial(service.post, "/v1/tasks:batch", document))
    except api.Problem as exc:
        exc.fields = tuple(_located(each, chunk) for each in exc.fields)
        if before:
            sys.stderr.write(f"{before} tasks are accepted; the same command goes on after them\n")
        raise
    made = answer.document["tasks"]
    return [_Sent(line.number, each["id"], each["existed"]) for line, each in zip(chunk, made, strict=True)]


def _located(error: FieldError, chunk: Sequence[Line]) -> FieldError:
    """Say which line of the file is meant by a place in the batch."""
    what, _, rest = error.field.partition(".")
    number, _, field = rest.partition(".")
    if what != "tasks" or not (number.isascii() and number.isdigit() and int(number) < len(chunk)):
        return error
    line = f"line {chunk[int(number)].number}"
    return FieldError(f"{line}: {field}" if field else line, error.message)


def _print_sent(sent: Sequence[_Sent]) -> None:
    if not sys.stdout.isatty():
        sys.stdout.write(rows((each.line, each.id, "existed" if each.existed else "new") for each in sent))
        sys.stdout.flush()


def _ends(service: api.Client, ids: Sequence[str], within: timedelta | None) -> dict[str, int]:
    """Wait for all tasks and return how many ended how."""
    states: Counter[str] = Counter()
    with following.progress("waiting", len(ids)) as advance, _on_time(within, ids):
        for answer in following.wait_for(service, ids, within=within):
            states[answer.document["state"]] += 1
            advance(1)
    return dict(states)


@contextmanager
def _on_time(within: timedelta | None, ids: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except following.TimeOver as exc:
        seconds = 0 if within is None else int(within.total_seconds())
        what = f"task {clean(ids[0])} has" if len(ids) == 1 else "some of the tasks have"
        sys.stderr.write(f"receiver: not_ended: {what} not ended after {seconds} s; the work goes on\n")
        raise typer.Exit(1) from exc
