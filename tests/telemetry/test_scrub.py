from __future__ import annotations

import io
import json
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import structlog

from receiver.core.model import State
from receiver.telemetry import logs
from receiver.telemetry.scrub import Scrubber

KEY = "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7cF0iL3oR6uX9zA2b"


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (
            "GET https://cdn.example.com/a/b.mp3?ksSecret=abc&ksTime=1 done",
            "GET https://cdn.example.com/a/b.mp3?*** done",
        ),
        ('"/bucket/key?X-Amz-Signature=0a1b" 403', '"/bucket/key?***" 403'),
        ("postgresql://receiver:hunter2@db/receiver", "postgresql://***@db/receiver"),
        ("authorization: Bearer abcdefghij.klm", "authorization: Bearer ***"),
        ("key rk_abcdefghijkl was used", "key rk_*** was used"),
        ("whsec_MDEyMzQ1Njc4OWFiY2RlZg== is the secret", "whsec_*** is the secret"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJhayJ9.abc-_x", "***"),
        (f"token 0a1b2c3d.{KEY}", "token ***"),
        ("POST /callbacks/studio/123/0a1b2c3d.x HTTP", "POST /callbacks/studio/123/*** HTTP"),
        ("GET /a/17/0a1b2c3d.x", "GET /a/17/***"),
        ("Signature:\n0123456789abcdef0123", "Signature:\n***"),
        ("AWS4 Credential=AKIAIOSFODNN7EXAMPLE/2026", "AWS4 Credential=***"),
        ("x-amz-security-token=abc next", "x-amz-security-token=*** next"),
        ("{'secret_key': 'abc'}", "{'secret_key': '***'}"),
        ("password=abc host=db", "password=*** host=db"),
    ],
)
def test_what_looks_like_a_secret_is_cut(written: str, kept: str) -> None:
    assert Scrubber().text(written) == kept


@pytest.mark.parametrize(
    "harmless",
    [
        "callback.advanced",
        "token_unknown",
        "/callbacks/{account}/{task}/{token}",
        "why? a = b",
        "authentication: 1002 access denied",
        "2026-11-21T01:02:03.456789Z",
        "the secret of success: try again",
        "https://cdn.example.com/a/b.mp3",
        "829999123456789012",
        "5bba60b8-c2a2-472e-be57-baa5c7dff0f8",
    ],
)
def test_what_is_no_secret_stays_readable(harmless: str) -> None:
    assert Scrubber().text(harmless) == harmless


def test_a_known_secret_is_cut_in_every_form_wherever_it_stands() -> None:
    scrub = Scrubber(["p/ss w+rd-of-ours", "whsec_MDEyMzQ1Njc4OWFi", "short"])
    line = {
        "event": "it is p/ss w+rd-of-ours!",
        "quoted": "p%2Fss%20w%2Brd-of-ours and p%2Fss+w%2Brd-of-ours",
        "deep": {"list": ["MDEyMzQ1Njc4OWFi", {"key": ("p/ss w+rd-of-ours",)}]},
        "object": ValueError("p/ss w+rd-of-ours"),
        "token": "whatever it is",
        "number": 7,
        "harmless": "short",
    }
    assert scrub(None, "", line) == {
        "event": "it is ***!",
        "quoted": "*** and ***",
        "deep": {"list": ["***", {"key": ["***"]}]},
        "object": "***",
        "token": "***",
        "number": 7,
        "harmless": "short",
    }


@contextmanager
def logging_to(form: logs.LogFormat, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Set logging up as a process does, with standard error in our hands, and put everything back."""
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level, hooks = root.handlers, root.level, (sys.excepthook, threading.excepthook)
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    logs.configure(form=form, level="info", secrets=["p/ss w+rd-of-ours"])
    try:
        yield written
    finally:
        root.handlers, (sys.excepthook, threading.excepthook) = handlers, hooks
        root.setLevel(level)
        logging.captureWarnings(capture=False)
        structlog.configure(**before)


def fail() -> None:
    raise ValueError("GET https://cdn.example.com/a?sig=abc with p/ss w+rd-of-ours")


def crash() -> None:
    try:
        fail()
    except ValueError as exc:
        raise RuntimeError("rk_abcdefghijkl") from exc


def test_an_id_keeps_its_last_digits_for_readers_of_json(monkeypatch: pytest.MonkeyPatch) -> None:
    with logging_to("json", monkeypatch) as written:
        structlog.get_logger("test.scrub").info("task.accepted", task_id=59_549_523_350_017_613, attempt=1)
    line = json.loads(written.getvalue())
    assert (line["task_id"], line["attempt"]) == ("59549523350017613", 1)


@pytest.mark.parametrize("event", ["thing.done", "a thing whose name takes more room than there is"])
def test_a_line_for_people_looks_as_structlog_shows_it(event: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"word": State.ACCEPTED, "words": "it's so", "number": 7, "none": None, "list": ["a b", 1], "nothing": ""}
    with logging_to("console", monkeypatch) as written:
        structlog.get_logger("test.scrub").warning(event, **said)
    line = written.getvalue()
    known = {"timestamp": line.partition(" ")[0], "level": "warning", "event": event, "logger": "test.scrub"}
    assert line == structlog.dev.ConsoleRenderer(colors=False)(None, "", {**known, **said}) + "\n"


def test_a_log_that_cannot_be_written_stops_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    with logging_to("console", monkeypatch) as written:
        written.close()
        structlog.get_logger("test.scrub").info("task.accepted")


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_way_to_the_log_leads_past_the_guard(form: logs.LogFormat, monkeypatch: pytest.MonkeyPatch) -> None:
    with logging_to(form, monkeypatch) as written:
        log = structlog.get_logger("test.scrub")
        with structlog.contextvars.bound_contextvars(request_id="rk_abcdefghijkl"):
            log.info("thing.done", url="https://cdn.example.com/a?sig=abc", password="p/ss w+rd-of-ours")
        log.debug("thing.hidden")
        logging.getLogger("theirs").warning("asked %s", "https://cdn.example.com/a?sig=abc")
        try:
            crash()
        except RuntimeError:
            log.exception("thing.crashed")
            sys.excepthook(*sys.exc_info())
        thread = threading.Thread(target=crash)
        thread.start()
        thread.join()
    text = written.getvalue()
    for secret in ("sig=abc", "p/ss w+rd", "rk_abcdefghijkl"):
        assert secret not in text
    for event in (
        "thing.done",
        "asked https://cdn.example.com/a?***",
        "thing.crashed",
        "process.crashed",
        "thread.crashed",
    ):
        assert event in text
    assert "ValueError" in text
    assert "thing.hidden" not in text
    if form == "json":
        lines: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
        assert all({"event", "level", "timestamp", "logger"} <= line.keys() for line in lines)
        assert len(lines) == 5
