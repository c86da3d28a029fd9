"""What the documents name in backticks exists in the code, or stands here with a reason."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from receiver.cli.api import KEY_VARIABLE, URL_VARIABLE
from receiver.cli.main import app
from receiver.core.model import State
from receiver.dialects.spec import catalog
from receiver.settings import FILE, is_secret, variables
from receiver.telemetry import DECLARED
from receiver.web.operations import OPERATIONS
from tests.docs import reading
from tools.documents.commands import options, tree

#: Not ours, and why they stand in a document.
FOREIGN = {
    "max_connections": "a setting of PostgreSQL",
    "max_prepared_statements": "a setting of PgBouncer",
    "secrets_dir": "of pydantic-settings",
    "flow.change.commit": "a function by its module",
    "envelope.bare": "a key of a profile by its table",
    "/cometapi": "a path of the sandbox",
    "s3api": "a part of another server",
    "RECEIVER_CALLBACK_SECRETS_FILE": "a setting of its own, beside the files of secrets",
    "CAP_DAC_READ_SEARCH": "a right of Linux",
    "CAP_DAC_OVERRIDE": "a right of Linux",
    "promtool test rules": "another program",
}
#: Suffixes that Prometheus gives to the series of a metric.
SERIES = ("_total", "_bucket", "_sum", "_count")

VARIABLE = re.compile(r"(?:RECEIVER|KLING|COMETAPI|DEERAPI|KKIAI)_[A-Z0-9_]+")
METRIC = re.compile(r"receiver_[a-z0-9_]+")
COMMAND = re.compile(r"receiver(?: [^`|>&;]*)?")
PATH = re.compile(r"(?:(?:GET|POST|HEAD|DELETE|PUT) )?(/[^\s`]*)")
WORD = re.compile(r"[a-z]+(?:_[a-z0-9]+)+|[a-z]+\.[a-z_]+(?:\.[a-z_]+)?")
FILE_NAME = re.compile(r"(?:deploy|docs|receiver|tests|tools|requirements|bench)/[\w./@-]*")
TARGET = re.compile(r"make ([a-z-]+)")

SPANS = [
    (f"{page.relative_to(reading.ROOT)}:{line}", text) for page in reading.pages() for line, text in reading.spans(page)
]


@cache
def source() -> str:
    """All that is code: modules, SQL, profiles, pages, deployment."""
    files = [
        each
        for folder in ("receiver", "deploy", "tests", "bench", "tools")
        for each in (reading.ROOT / folder).rglob("*")
        if each.suffix in {".py", ".sql", ".toml", ".yml", ".yaml", ".html", ".service", ".sh"}
        or each.name == "Dockerfile"
        if each != Path(__file__)
    ]
    return "\n".join(each.read_text("utf-8", errors="replace") for each in files)


@cache
def commands() -> dict[str, Any]:
    root: Any = typer.main.get_command(app)
    return dict(tree(root))


@cache
def of_providers() -> set[str]:
    """All paths of providers' APIs."""
    kinds = [kind for profile in catalog().values() for kind in profile.kinds.values()]
    paths = [(kind.create_path, kind.query_path, kind.external_query_path, kind.list_path) for kind in kinds]
    return {path.partition("?")[0] for each in paths for path in each if path}


def named(pattern: re.Pattern[str]) -> Iterator[tuple[str, re.Match[str]]]:
    for where, text in SPANS:
        match = pattern.fullmatch(text)
        if match is not None and text not in FOREIGN:
            yield where, match


def in_blocks(pattern: re.Pattern[str]) -> Iterator[tuple[str, re.Match[str]]]:
    for page in reading.pages():
        for block in reading.blocks(page):
            for match in pattern.finditer(re.sub(r"\s# .*", "", block.text)):
                yield block.where, match


def test_every_setting_exists() -> None:
    account = {re.sub(r"__NAME__", "__{}__", name) for name in variables("NAME")}
    secret = {f"{name}{FILE}" for name in variables("NAME") if is_secret(name)}
    known = {re.sub(r"__NAME__", "__{}__", name) for name in account | secret} | {URL_VARIABLE, KEY_VARIABLE}
    wrong = [
        f"{where}: {match[0]}"
        for where, match in (*named(VARIABLE), *in_blocks(VARIABLE))
        if re.sub(r"__[A-Z0-9]+__", "__{}__", match[0]) not in known
    ]
    assert wrong == []


def test_every_metric_exists() -> None:
    names = {each.name for each in DECLARED}
    known = names | {name + suffix for name in names for suffix in SERIES}
    assert [f"{where}: {match[0]}" for where, match in named(METRIC) if match[0] not in known] == []


def test_every_command_exists_with_its_options() -> None:
    wrong = []
    for where, match in (*named(COMMAND), *in_blocks(re.compile(r"(?m)(?<![\w./-])receiver [a-z][^`|>&;)\n#:]*"))):
        words = match[0].split()
        name = next((" ".join(words[:n]) for n in (3, 2) if " ".join(words[:n]) in commands()), None)
        if name is None:
            group = [each for each in commands() if each.startswith(" ".join(words[:2]) + " ")]
            if not (group and len(words) == 2) and len(words) > 1 and not words[1].startswith("-"):
                wrong.append(f"{where}: {match[0]}")
            continue
        given = {word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)}
        wrong += [f"{where}: {match[0]}: {each}" for each in given - options(name, commands()[name])]
    assert wrong == []


def test_every_option_by_itself_exists() -> None:
    known = {each for name, command in commands().items() for each in options(name, command)}
    known |= {"--version", "--install-completion", "--show-completion"}
    wrong = [f"{where}: {match[0]}" for where, match in named(re.compile(r"--[a-z-]+")) if match[0] not in known]
    assert wrong == []


def test_every_path_is_served() -> None:
    served = [re.sub(r"\{\w+\}", "[^/]+", each.path) for each in OPERATIONS]
    groups = {"/v1", "/v1/", "/v1/…", "/callbacks/", "/callbacks/…", "/a/", "/a/…"}
    wrong = []
    for where, match in named(PATH):
        path = match[1].partition("?")[0]
        parts = path.strip("/").split("/")
        outside = parts[0] in {"etc", "opt", "usr", "var", "srv", "root", "tmp"} or path in of_providers()
        if not outside and path not in groups and not any(re.fullmatch(each, path) for each in served):
            wrong.append(f"{where}: {match[0]}")
    assert wrong == []


def test_every_word_of_the_code_stands_in_the_code() -> None:
    events = {f"task.{state}" for state in State}
    wrong = [
        f"{where}: {match[0]}"
        for where, match in named(WORD)
        if match[0] not in events
        and not METRIC.fullmatch(match[0])
        and not re.search(rf"(?<![\w]){re.escape(match[0])}(?![\w])", source())
    ]
    assert wrong == []


def test_every_file_is_there() -> None:
    wrong = [f"{where}: {match[0]}" for where, match in named(FILE_NAME) if not (reading.ROOT / match[0]).exists()]
    assert [
        each
        for each in wrong
        if "receiver-data" not in each and "deploy/secrets" not in each and "deploy/.env" not in each
    ] == []


def test_every_target_of_make_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (reading.ROOT / "Makefile").read_text(), re.MULTILINE))
    assert [f"{where}: {match[0]}" for where, match in named(TARGET) if match[1] not in targets] == []


@pytest.mark.parametrize("word", sorted(FOREIGN))
def test_what_is_excused_is_still_named(word: str) -> None:
    assert word in {text for _, text in SPANS}


def test_the_reader_of_options_knows_the_sandbox() -> None:
    assert {"--lose", "--state-dir"} <= options("receiver sandbox", argparse.Namespace())
