"""
Every metric of the product, declared once: name, help text, labels, and who serves it. Logs are in `logs`.

Labels are bounded: configured accounts, kinds, states, codes and route templates,
never ids or URLs. Counters and histograms count what this process did; gauges are
read at the moment of a scrape, those of the database by web alone.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final, Literal

from prometheus_client import Counter, Gauge, Histogram, Metric, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

Role = Literal["web", "worker", "both"]
Kind = Literal["counter", "gauge", "histogram"]

#: Seconds; from an answer within one process to one that has waited for a provider.
_QUICK: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_SLOW: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
#: Seconds; from too late to the 30 days of the longest window.
_SLACK: Final = (0, 60, 300, 900, 3600, 10_800, 21_600, 43_200, 86_400, 259_200, 604_800, 1_209_600, 2_592_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """One metric as an operator sees it; a counter's name ends in `_total`."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]
    role: Role


#: The one table: what tests, rules and dashboards are compared with.
DECLARED: Final[list[Declared]] = []

# A second series for each one, which says when the process began to count.
disable_created_metrics()


def _counter(name: str, text: str, labels: tuple[str, ...], role: Role) -> Counter:
    DECLARED.append(Declared(name=f"{name}_total", kind="counter", help=text, labels=labels, role=role))
    return Counter(name, text, labels)


def _histogram(name: str, text: str, labels: tuple[str, ...], role: Role, buckets: tuple[float, ...]) -> Histogram:
    DECLARED.append(Declared(name=name, kind="histogram", help=text, labels=labels, role=role))
    return Histogram(name, text, labels, buckets=buckets)


def _reading(name: str, text: str, labels: tuple[str, ...], role: Role) -> Declared:
    DECLARED.append(Declared(name=name, kind="gauge", help=text, labels=labels, role=role))
    return DECLARED[-1]


CALLBACKS: Final = _counter(
    "receiver_callbacks", "Callbacks kept or repeated, by what became of them", ("account", "outcome"), "web"
)
CALLBACK_SECONDS: Final = _histogram(
    "receiver_callback_answer_seconds",
    "Seconds from a callback's head to its answer, by outcome or error code",
    ("outcome",),
    "web",
    _QUICK,
)
CALLBACKS_ADVANCED: Final = _counter(
    "receiver_callbacks_advanced",
    "Kept callbacks applied to their task, by what became of them",
    ("outcome",),
    "worker",
)
CREATES: Final = _counter(
    "receiver_creates", "Creates sent, by the provider's answer", ("account", "outcome"), "worker"
)
QUERIES: Final = _counter(
    "receiver_queries", "Questions to providers, by their answer", ("account", "outcome"), "worker"
)
PROVIDER_SECONDS: Final = _histogram(
    "receiver_provider_seconds",
    "Seconds of one request to a provider's API, by method and whether an answer came",
    ("account", "method", "outcome"),
    "worker",
    _SLOW,
)
ACCOUNTS_PAUSED: Final = _counter(
    "receiver_accounts_paused", "Times an account was paused", ("account", "reason"), "both"
)
ASSETS: Final = _counter(
    "receiver_assets", "Assets, by what became of a pass over them", ("account", "outcome"), "worker"
)
ASSET_BYTES: Final = _counter("receiver_asset_bytes", "Bytes proven to be in the bucket", ("account",), "worker")
ASSET_SECONDS: Final = _histogram(
    "receiver_asset_seconds",
    "Seconds from the first byte asked for to the proof in the bucket",
    ("account",),
    "worker",
    _SLOW,
)
ASSET_SLACK: Final = _histogram(
    "receiver_asset_slack_seconds",
    "Seconds that were left until an asset's link or window ended when it was proven stored, 0 when it was late",
    ("account",),
    "worker",
    _SLACK,
)
TASK_SLACK: Final = _histogram(
    "receiver_task_slack_seconds",
    "Seconds that were left until a task's deadline when it ended, 0 when it was late",
    ("account", "state"),
    "both",
    _SLACK,
)
TASKS_ACCEPTED: Final = _counter("receiver_tasks_accepted", "Tasks accepted", ("account", "kind"), "web")
TASKS_ENDED: Final = _counter("receiver_tasks_ended", "Tasks that ended, by their state", ("account", "state"), "both")
UNITS: Final = _counter(
    "receiver_units_charged", "Units that the provider reported for ended tasks", ("account",), "worker"
)
JOBS: Final = _counter("receiver_jobs", "Jobs handled, by kind and how they ended", ("kind", "outcome"), "worker")
RETRIES: Final = _counter(
    "receiver_job_retries", "Jobs put off after an error, by its code", ("kind", "error"), "worker"
)
LEASES_LOST: Final = _counter(
    "receiver_leases_lost", "Lapsed leases of jobs that another try took over", ("kind",), "worker"
)
GAPS: Final = _counter("receiver_gaps_mended", "Jobs that were missing and made anew", ("kind",), "worker")
HTTP_REQUESTS: Final = _counter(
    "receiver_http_requests", "HTTP requests answered, by route template", ("method", "route", "status"), "both"
)
HTTP_SECONDS: Final = _histogram(
    "receiver_http_request_seconds",
    "Seconds from a request's head to the end of its answer, by route template; callbacks have a metric of their own",
    ("route",),
    "both",
    _QUICK,
)
REQUESTS_REFUSED: Final = _counter(
    "receiver_requests_refused", "HTTP requests refused, by error code", ("route", "error"), "both"
)

DATABASE_CONNECTIONS: Final = _reading(
    "receiver_database_connections", "Connections of this process's pool, in use or idle", ("state",), "both"
)
DATABASE_CONNECTIONS_LIMIT: Final = _reading(
    "receiver_database_connections_limit", "Connections that this process's pool may open", (), "both"
)
DATABASE_WAITING: Final = _reading(
    "receiver_database_requests_waiting", "Requests of this process that wait for a connection", (), "both"
)
SPOOL_BYTES: Final = _reading("receiver_spool_bytes", "Bytes that this worker's downloads take on disk", (), "worker")
SPOOL_QUOTA: Final = _reading(
    "receiver_spool_quota_bytes", "Bytes that this worker's downloads may take on disk", (), "worker"
)
DATABASE_UP: Final = _reading(
    "receiver_database_up", "1 when the database answered this scrape's question, else 0", (), "web"
)
QUEUE_JOBS: Final = _reading(
    "receiver_queue_jobs", "Jobs by kind and state; counted up to 100,000", ("kind", "state"), "web"
)
QUEUE_AGE: Final = _reading(
    "receiver_queue_age_seconds", "How long the oldest ready job of a kind has waited for a worker", ("kind",), "web"
)
ARCHIVE_SLACK: Final = _reading(
    "receiver_archive_slack_seconds",
    "Seconds until the first link or window of pending media ends; absent while nothing is pending",
    (),
    "web",
)
SUBMIT_SLACK: Final = _reading(
    "receiver_submit_slack_seconds",
    "Seconds until the first task that waits to be sent ends unsent; absent while none waits",
    (),
    "web",
)
TASKS_OPEN: Final = _reading("receiver_tasks_open", "Open tasks by state; counted up to 100,000", ("state",), "web")
TASKS_ATTENTION: Final = _reading(
    "receiver_tasks_attention", "Tasks that a person must look at, by reason; counted up to 1,000", ("reason",), "web"
)
TASK_OVERDUE: Final = _reading(
    "receiver_task_overdue_seconds", "How long the open task with the earliest deadline is past it, else 0", (), "web"
)
ACCOUNT_PAUSED: Final = _reading(
    "receiver_account_paused", "1 while submits of an account are paused, with the reason", ("account", "reason"), "web"
)
ACCOUNT_CIRCUIT: Final = _reading(
    "receiver_account_circuit_open",
    "1 while nothing is sent to an account's provider because its answers failed, with the reason",
    ("account", "reason"),
    "web",
)
ACCOUNT_SLOTS: Final = _reading(
    "receiver_account_slots", "Tasks that may be at the provider at once", ("account",), "web"
)
ACCOUNT_SLOTS_IN_USE: Final = _reading(
    "receiver_account_slots_in_use", "Tasks that are at the provider", ("account",), "web"
)
ACCOUNT_DAY_TASKS: Final = _reading("receiver_account_day_tasks", "Tasks accepted today (UTC)", ("account",), "web")
ACCOUNT_DAY_TASKS_LIMIT: Final = _reading(
    "receiver_account_day_tasks_limit", "Tasks that may be accepted in a day (UTC)", ("account",), "web"
)
ACCOUNT_DAY_UNITS: Final = _reading("receiver_account_day_units", "Units charged today (UTC)", ("account",), "web")
ACCOUNT_DAY_UNITS_LIMIT: Final = _reading(
    "receiver_account_day_units_limit", "Units that may be charged in a day (UTC)", ("account",), "web"
)
ACCOUNT_CALLBACKS: Final = _reading(
    "receiver_account_callbacks",
    "Callbacks of the last 24 hours: received, repeated and signed ones, and tasks for which they were expected, "
    "came late, or never came (lost)",
    ("account", "weather"),
    "web",
)
WORKERS: Final = _reading("receiver_workers", "Workers that were seen within the last 30 seconds", (), "web")

_BUILD_LABELS: Final = ("version", "python")
DECLARED.append(
    Declared(name="receiver_build_info", kind="gauge", help="1, with the release", labels=_BUILD_LABELS, role="both")
)
BUILD: Final = Gauge("receiver_build_info", "1, with the release", _BUILD_LABELS)
BUILD.labels(version=version("receiver"), python=platform.python_version()).set(1)


class Readings(Collector):
    """Values of gauges, read at one moment; collected like a registry. A gauge without a value is not there."""

    def __init__(self) -> None:
        self._families: dict[str, GaugeMetricFamily] = {}

    def add(self, gauge: Declared, value: float, *labels: str) -> None:
        """Set the value of *gauge* for one set of labels, in the order of their declaration."""
        family = self._families.get(gauge.name)
        if family is None:
            family = self._families[gauge.name] = GaugeMetricFamily(gauge.name, gauge.help, labels=gauge.labels)
        family.add_metric(labels, value)

    def collect(self) -> Iterator[Metric]:
        """Yield the families, as a registry does."""
        yield from self._families.values()
