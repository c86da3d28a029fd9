"""Structured logs, and every metric of the product, declared once."""

from __future__ import annotations

import logging
import sys
from typing import Final, Literal

import structlog
from prometheus_client import Counter, Histogram

CALLBACKS: Final = Counter("receiver_callbacks", "Callbacks answered, by what became of them", ["account", "outcome"])
CALLBACKS_ADVANCED: Final = Counter(
    "receiver_callbacks_advanced", "Kept callbacks applied to their task, by what became of them", ["outcome"]
)
CREATES: Final = Counter("receiver_creates", "Creates sent, by the provider's answer", ["account", "outcome"])
QUERIES: Final = Counter("receiver_queries", "Questions to providers, by their answer", ["account", "outcome"])
ACCOUNTS_PAUSED: Final = Counter("receiver_accounts_paused", "Times an account was paused", ["account", "reason"])
ASSETS: Final = Counter("receiver_assets", "Assets, by what became of a pass over them", ["account", "outcome"])
ASSET_BYTES: Final = Counter("receiver_asset_bytes", "Bytes proven to be in the bucket", ["account"])
ASSET_SECONDS: Final = Histogram(
    "receiver_asset_seconds",
    "Seconds from the first byte asked for to the proof in the bucket",
    ["account"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)
JOBS: Final = Counter("receiver_jobs", "Jobs handled, by kind and how they ended", ["kind", "outcome"])
GAPS: Final = Counter("receiver_gaps_mended", "Jobs that were missing and made anew", ["kind"])
REQUESTS_REFUSED: Final = Counter("receiver_requests_refused", "HTTP requests refused", ["route", "error"])

LogFormat = Literal["console", "json"]


def configure(*, form: LogFormat, level: str) -> None:
    """Send structlog and the standard library's loggers through one formatter to stderr; call once per process."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    # Local variables hold URLs with signatures, and keys.
    plain = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    rendering: list[structlog.typing.Processor] = (
        [structlog.processors.ExceptionRenderer(plain), structlog.processors.JSONRenderer()]
        if form == "json"
        else [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # Below warnings these name URLs with their signed queries, or say what we say ourselves.
    for noisy in ("httpx", "httpcore", "botocore", "boto3", "urllib3", "s3transfer", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # Each try of each connection, in words; what comes of it is told by those who wanted one.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
