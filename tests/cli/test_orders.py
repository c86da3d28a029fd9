"""Tasks from the command line and from a file, before anything is sent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
import typer

from receiver.cli import orders
from receiver.cli.orders import Line, WrongLines


def test_fields_are_text_or_json() -> None:
    given = ["a=1", "b:=1", "c=x=y:=z", 'd:={"e": [null]}', "f="]
    assert orders.read_fields(given) == {"a": "1", "b": 1, "c": "x=y:=z", "d": {"e": [None]}, "f": ""}


@pytest.mark.parametrize("wrong", [["a"], ["=b"], [":=1"], ["a:=NaN"], ["a:="], ["a=1", "a=2"]])
def test_wrong_fields_are_refused(wrong: list[str]) -> None:
    with pytest.raises(typer.BadParameter):
        orders.read_fields(wrong)


@pytest.mark.parametrize("wrong", [["a"], ["=b"], ["a=1", "a=2"]])
def test_wrong_labels_are_refused(wrong: list[str]) -> None:
    with pytest.raises(typer.BadParameter):
        orders.read_labels(wrong)


def read(
    text: str, defaults: Mapping[str, Any] | None = None, *, name: str = "tasks.jsonl", run: str = ""
) -> list[Line]:
    return orders.read_lines(text, defaults or {}, name=name, run=run)


def keys(lines: list[Line]) -> list[str]:
    return [line.document["idempotency_key"] for line in lines]


def test_each_line_is_a_task_with_its_number_and_what_it_lacks() -> None:
    lines = read('{"kind": "a"}\r\n\n  \n{"kind": "b", "account": "y", "idempotency_key": "mine"}', {"account": "x"})
    assert [line.number for line in lines] == [1, 4]
    assert lines[1].document == {"kind": "b", "account": "y", "idempotency_key": "mine"}
    assert (lines[0].document["account"], len(lines[0].document["idempotency_key"])) == ("x", 69)


def test_the_key_of_a_line_stays_when_other_lines_change() -> None:
    one, two, other = '{"kind": "a", "input": {}}', '{"kind": "b"}', '{ "input": {},"kind":"a" }'
    first = keys(read(f"{one}\n{two}\n{one}"))
    assert len(set(first)) == 3
    assert keys(read(f"{one}\n{two}\n{one}")) == first
    assert keys(read(f"\n{other}\n{one}\n{two}")) == [first[0], first[2], first[1]]
    assert not set(keys(read(one, run="again"))) & set(first)
    assert not set(keys(read(one, name="other.jsonl"))) & set(first)
    assert not set(keys(read(one, {"account": "x"}))) & set(first)


def test_all_wrong_lines_are_told() -> None:
    wrong = ["{", "[]", "1", '{"kind": NaN}', '{"knd": "a"}', "[" * 100_000]
    with pytest.raises(WrongLines) as told:
        read("\n".join(['{"kind": "a"}', *wrong]))
    assert [line.split(":")[0] for line in str(told.value).splitlines()] == [f"  line {n}" for n in range(2, 8)]
    with pytest.raises(WrongLines, match="and 80 more"):
        read("x\n" * 100)


def test_a_portion_is_what_one_request_takes() -> None:
    small, large = '{"kind": "a"}\n', json.dumps({"kind": "x" * 1_000_000}) + "\n"
    assert [len(chunk) for chunk in orders.chunks(read(small * 2500))] == [1000, 1000, 500]
    assert [len(chunk) for chunk in orders.chunks(read(large * 7))] == [3, 3, 1]
    assert [len(chunk) for chunk in orders.chunks(read(json.dumps({"kind": "x" * 5_000_000})))] == [1]
    assert list(orders.chunks([])) == []
