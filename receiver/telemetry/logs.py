"""Structured logs: structlog's and the standard library's lines by the same steps, the guard last."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from types import TracebackType
from typing import Final, Literal, TextIO

import structlog

from receiver.telemetry.scrub import Scrubber

LogFormat = Literal["console", "json"]

#: What is known of the request at hand, for each of its lines. One variable for all of it: structlog's own, one for
#: each name, cost a callback as much as its signature.
_WITHIN: Final[ContextVar[Mapping[str, str] | None]] = ContextVar("receiver_within", default=None)


#: Many who read JSON take a number for a float, and a larger one for another one.
_EXACT: Final = 2**53


def configure(*, form: LogFormat, level: str, secrets: Iterable[str] = ()) -> None:
    """
    Send all that is logged, warnings and uncaught errors among it, to stderr; call once per process.

    *secrets* are cut out of every line, whoever writes it.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _merge_within,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    rendering = _rendering(form, Scrubber(secrets))
    handler = logging.StreamHandler(sys.stderr)
    # The standard library's lines; ours are finished when they come, and need no record.
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    structlog.configure(
        processors=[*shared, *rendering],
        logger_factory=partial(_Lines, handler),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # Below warnings these name URLs with their signed queries, or say what we say ourselves.
    for noisy in ("httpx", "httpcore", "botocore", "boto3", "urllib3", "s3transfer", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # Each try of each connection, in words; what comes of it is told by those who wanted one.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    logging.captureWarnings(capture=True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


class _Lines:
    """Writes the finished lines of one module between those of the standard library."""

    def __init__(self, handler: logging.StreamHandler[TextIO], name: str) -> None:
        self.name = name
        self._handler = handler

    def msg(self, line: str) -> None:
        self._handler.acquire()
        try:
            self._handler.stream.write(f"{line}\n")
            self._handler.flush()
        except (OSError, ValueError):
            # Where it would be told is what is broken; the work goes on, as with the standard library.
            return
        finally:
            self._handler.release()

    debug = info = warning = error = critical = msg


def _pair(key: str, value: object) -> str:
    is_plain = isinstance(value, str) and _QUOTED.isdisjoint(value)
    return f"{key}={value if is_plain else repr(value)}"


#: Characters of a text that a line for people shows in quotes.
_QUOTED: Final = frozenset(" \t=\r\n\"'")
#: What structlog's own columns show where nothing is coloured, in half of the time.
_COLUMNS: Final = [
    structlog.dev.Column("timestamp", lambda _, value: f"{value}"),
    structlog.dev.Column("level", lambda _, value: f"[{value:<9}]"),
    structlog.dev.Column("event", lambda _, value: f"{value:<30}"),
    structlog.dev.Column("logger", lambda _, value: f"[{value}]"),
    structlog.dev.Column("", _pair),
]


@contextmanager
def within(names: Mapping[str, str]) -> Iterator[None]:
    """Let every line of this task say *names* until the block ends."""
    token = _WITHIN.set(names)
    try:
        yield
    finally:
        _WITHIN.reset(token)


def _merge_within(_: object, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    names = _WITHIN.get()
    return line if names is None else {**names, **line}


def _rendering(form: LogFormat, guard: Scrubber) -> list[structlog.typing.Processor]:
    """Return what turns a line into text; tracebacks become text before the guard reads them."""
    if form == "json":
        # Local variables hold URLs with signatures, and keys.
        plain = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        return [structlog.processors.ExceptionRenderer(plain), guard, _exact, structlog.processors.JSONRenderer()]
    console = structlog.dev.ConsoleRenderer(
        columns=None if sys.stderr.isatty() else _COLUMNS, exception_formatter=structlog.dev.plain_traceback
    )
    return [structlog.processors.format_exc_info, guard, console]


def _exact(_: object, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Write ids as text, as the API does."""
    return {name: str(value) if isinstance(value, int) and value > _EXACT else value for name, value in line.items()}


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    structlog.get_logger(__name__).critical("process.crashed", exc_info=(kind, error, trace))


def _uncaught_in_thread(raised: threading.ExceptHookArgs) -> None:
    if raised.exc_value is not None:
        structlog.get_logger(__name__).critical(
            "thread.crashed", exc_info=(raised.exc_type, raised.exc_value, raised.exc_traceback)
        )
