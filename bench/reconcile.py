"""Row `reconcile`: requests to a provider until quiet tasks are settled, all of whose callbacks were lost."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Final

import psycopg

from bench.figures import Figure
from bench.parts import HOST, Keys, Parts, await_answer, free_port, program, service_environment

#: With a list, and without: there the cost of each task is its own.
TASKS: Final = {"list": 10_000, "none": 2_000}
#: Of one request to the service.
BATCH: Final = 1000
#: Sounds that all tasks share, so that the run is not spent on making them.
CLIPS: Final = 8
#: Of one run, until all is archived.
PATIENCE: Final = 15 * 60.0
LOOK: Final = 2.0
#: Must and goal: requests in all where the provider has a list, requests for each task where it has none.
BARS: Final = {"list": (60.0, 25.0), "none": (2.5, 1.5)}
_HOUSES: Final = {"list": "kling", "none": "deerapi"}
_STATES: Final = b"SELECT state, count(*) FROM task WHERE account = %s GROUP BY 1"
_EMPTY: Final = b"TRUNCATE task, job, inbox, inbox_repeat, event, asset CASCADE"


@dataclass(frozen=True, slots=True)
class Run:
    """What one provider was asked."""

    lists: int
    queries: int
    #: Seconds from the first order: until the provider had all, all had been settled, and all were archived.
    made: float
    settled: float
    archived: float

    @property
    def requests(self) -> int:
        """Return how many there were in all."""
        return self.lists + self.queries


def measure(parts: Parts) -> tuple[list[Figure], list[str]]:
    """Settle quiet tasks with a provider's list, then without; return a figure for each."""
    figures, notes = [], []
    keys = Keys(secrets.token_hex(32), "")
    for name, (must, goal) in BARS.items():
        tasks = TASKS[name]
        found = settle(parts, keys, _HOUSES[name], tasks)
        given = float(found.requests) if name == "list" else found.requests / tasks
        unit = f"requests for {tasks:,}" if name == "list" else "requests a task"
        figures.append(
            Figure(
                id=f"reconcile-{name}", unit=unit, ours=given, against=None, ratio=given, bar="at most",
                must=must, goal=goal, rounds={"ours": [given]},
            )
        )  # fmt: skip
        notes.append(
            f"reconcile-{name}: {tasks:,} tasks, {found.lists} pages and {found.queries} single questions; the provider"
            f" had all after {found.made:.0f} s, all were settled after {found.settled:.0f} s and archived after"
            f" {found.archived:.0f} s"
        )
        print(notes[-1], file=sys.stderr, flush=True)
    return figures, notes


def settle(parts: Parts, keys: Keys, house: str, tasks: int) -> Run:
    """
    Submit *tasks* to one house of the sandbox without any callback, and wait until all are archived.

    Raises:
        RuntimeError: It took too long, or a task ended otherwise.
    """
    with _service(replace(parts, pin=False), keys, house) as (service, key, sandbox, sandbox_key):
        began = time.monotonic()
        for first in range(0, tasks, BATCH):
            _submit(service, key, house, min(BATCH, tasks - first))
        made = _await(parts, house, tasks, {"submitted", "processing", "succeeded", "archived"}, began)
        settled = _await(parts, house, tasks, {"succeeded", "archived"}, began)
        archived = _await(parts, house, tasks, {"archived"}, began)
        asked = _asked(sandbox, sandbox_key, house)
    return Run(lists=asked["list"], queries=asked["query"], made=made, settled=settled, archived=archived)


@contextmanager
def _service(parts: Parts, keys: Keys, house: str) -> Iterator[tuple[str, str, str, str]]:
    """Run the sandbox, a web and a worker, all as released; yield the URLs and keys of service and sandbox."""
    with psycopg.connect(parts.database_url, autocommit=True) as conn:
        conn.execute(_EMPTY)
    ports = {name: free_port() for name in ("sandbox", "web")}
    sandbox, service = (f"http://{HOST}:{port}" for port in ports.values())
    secret = secrets.token_hex(16)
    account = {
        "DIALECT": house,
        "BASE_URL": f"{sandbox}/{house}",
        "API_KEY": secret,
        "CONCURRENCY": str(max(TASKS.values())),
        "ASSET_HOSTS": json.dumps([HOST]),
        "ALLOW_CIDRS": json.dumps([f"{HOST}/32"]),
        "ALLOW_HTTP": "true",
    }
    env = service_environment(parts, keys, ports["web"])
    env = {name: value for name, value in env.items() if "_ACCOUNTS__" not in name}
    env |= {f"RECEIVER_ACCOUNTS__{house.upper()}__{name}": value for name, value in account.items()}
    simulated = [f"--state-dir={parts.directory / house}", "--concurrency=0", f"--clips={CLIPS}", "--lose=1"]
    argv = ["-m", "receiver", "sandbox", f"--port={ports['sandbox']}", *simulated]
    key = subprocess.run(
        [sys.executable, "-m", "receiver", "keys", "create"], env=env, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()
    with ExitStack() as stack:
        for name, words, given in (
            (f"sandbox-{house}", argv, {"PATH": env["PATH"], "SANDBOX_API_KEY": secret}),
            (f"web-{house}", ["-m", "receiver", "web"], env),
            (f"worker-{house}", ["-m", "receiver", "worker"], {**env, "RECEIVER_WORKER_PORT": "0"}),
        ):
            process = stack.enter_context(program(parts, name, words, given))
            if not name.startswith("worker"):
                await_answer(sandbox if name.startswith("sandbox") else service, process, parts.log_of(name))
        yield service, key, sandbox, secret


def _submit(service: str, key: str, house: str, number: int) -> None:
    task = {"account": house, "kind": "text-to-audio", "input": {"prompt": "rain on a tin roof", "duration": 3}}
    request = urllib.request.Request(  # noqa: S310  our own loopback address
        f"{service}/v1/tasks:batch",
        data=json.dumps({"tasks": [task] * number}).encode(),
        headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=60).close()  # noqa: S310  our own loopback address


def _asked(sandbox: str, key: str, house: str) -> dict[str, int]:
    """Return how many requests of each sort the sandbox counted at a house."""
    request = urllib.request.Request(  # noqa: S310  our own loopback address
        f"{sandbox}/control/ledger?house={house}", headers={"authorization": f"Bearer {key}"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310  our own loopback address
        found: dict[str, int] = json.load(answer)["requests"]
    return found


def _await(parts: Parts, house: str, tasks: int, wanted: set[str], began: float) -> float:
    with psycopg.connect(parts.database_url, autocommit=True) as conn:
        while True:
            states = {str(state): int(number) for state, number in conn.execute(_STATES, [house]).fetchall()}
            took = time.monotonic() - began
            if sum(number for state, number in states.items() if state in wanted) == tasks:
                return took
            if took > PATIENCE:
                raise RuntimeError(f"after {took:.0f} s the tasks are {states}")
            print(f"reconcile {house}: {took:4.0f} s {states}", file=sys.stderr, flush=True)
            time.sleep(LOOK)
