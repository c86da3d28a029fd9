"""Row `burst`: many callbacks at once for a few thousand tasks, until the last one is kept and advanced."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import signal
import sys
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

import psycopg
import uvloop

from bench import load, machine
from bench.figures import Figure, middle
from bench.load import Order, Result
from bench.parts import ACCOUNT, HOST, Keys, Parts, await_answer, free_port, program, service_environment
from receiver import wiring
from receiver.core import ids
from receiver.core.model import JobKind, TaskId
from receiver.jobs.worker import SLOTS, Worker
from receiver.settings import Settings
from receiver.telemetry import logs

TASKS: Final = 5_000
#: Of each task, in any order: it is there, it runs, it has ended, and that once more.
CALLBACKS: Final = 4 * TASKS
CONNECTIONS: Final = 256
#: Callbacks advanced a second, from the first one kept: must and goal.
BARS: Final = (2_000.0, 5_000.0)
#: Seconds until all must be advanced.
PATIENCE: Final = 300.0
_LOOK: Final = 0.05
_EMPTY: Final = b"TRUNCATE task, job, inbox, inbox_repeat, event, asset, worker CASCADE"
_TASKS: Final = b"""
WITH made AS (
    INSERT INTO task (id, owner, account, kind, input, request_hash, state, provider_task_id, submit_by, settle_by,
                      due_at, first_sent_at, last_sent_at, sends)
    SELECT id, 'bench', %(account)s, 'text-to-audio', '{"prompt": "rain"}', sha256(id::text::bytea), 'submitted',
           'p' || id, now(), now() + interval '1 day', now() + interval '1 day', now(), now(), 1
      FROM unnest(%(ids)s::bigint[]) AS x (id)
    RETURNING id, account, due_at
)
INSERT INTO job (kind, subject, account, state, run_at, deliver_by)
SELECT 'query', id, account, 'waiting', due_at, due_at FROM made
"""
_ABSENT: Final = b"SELECT 1 - least(count(*), 1) FROM worker"
_LEFT: Final = b"SELECT EXISTS (SELECT FROM job WHERE kind = 'advance')"
_TOOK: Final = b"SELECT extract(epoch FROM clock_timestamp() - min(received_at))::float8 FROM inbox"
_STATES: Final = b"SELECT state, count(*) FROM task GROUP BY 1"


@dataclass(frozen=True, slots=True)
class Run:
    """One burst."""

    #: Callbacks a second, from the first one kept until all were advanced.
    rate: float
    #: Seconds until the last was answered.
    answered: float
    statuses: dict[str, int]
    #: Microseconds of CPU for each callback.
    cpu: dict[str, float]

    def __str__(self) -> str:
        used = ", ".join(f"{name} {each:.0f}" for name, each in self.cpu.items())
        return f"{self.rate:,.0f}/s, all answered after {self.answered:.1f} s; us of CPU a callback: {used}"


def measure(parts: Parts, *, rounds: int) -> tuple[list[Figure], list[str]]:
    """Send the burst in each round to a web and a worker that know all its tasks."""
    keys = Keys(secrets.token_hex(32), "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode())
    runs = []
    for _ in range(rounds):
        runs.append(run(parts, keys))
        print(f"burst: {runs[-1]}", file=sys.stderr, flush=True)
    rates = [each.rate for each in runs]
    must, goal = BARS
    figure = Figure(
        id="burst", unit="callbacks/s", ours=middle(rates), against=None, ratio=middle(rates), must=must, goal=goal,
        rounds={"ours": rates},
    )  # fmt: skip
    cpu = {name: middle([each.cpu[name] for each in runs]) for name in runs[0].cpu}
    used = ", ".join(f"{name} {each:.0f} µs" for name, each in cpu.items())
    return [figure], [f"burst: CPU for each callback: {used}; answers {[each.statuses for each in runs]}"]


def run(parts: Parts, keys: Keys) -> Run:
    """
    Send one burst and wait until it is advanced.

    Raises:
        RuntimeError: A callback that was answered 200 is not there, or there were other answers than 200 and 503.
    """
    port, tasks = free_port(), [ids.task_id(datetime.now(UTC), number) for number in range(TASKS)]
    env = service_environment(parts, keys, port) | {f"RECEIVER_ACCOUNTS__{ACCOUNT.upper()}__CONCURRENCY": str(TASKS)}
    # All take the cores as they find them: what one does not use, another does.
    parts = replace(parts, pin=False)
    if machine.can_pin():
        for pid in machine.family_of("postgres"):
            os.sched_setaffinity(pid, os.sched_getaffinity(0))
    with psycopg.connect(parts.database_url, autocommit=True) as conn:
        conn.execute(_EMPTY)
        with (
            program(parts, "web-burst", ["-m", "receiver", "web"], env) as web,
            program(parts, "worker-burst", ["-m", "bench.burst"], env) as worker,
        ):
            await_answer(f"http://{HOST}:{port}/healthz", web, parts.log_of("web-burst"))
            _await(conn, _ABSENT)
            conn.execute(_TASKS, {"account": ACCOUNT, "ids": tasks})
            conn.execute("ANALYZE")
            before = _used(web.pid, worker.pid)
            answered, result = _send(keys, port, web.pid, tasks)
            _await(conn, _LEFT)
            took = _number(conn, _TOOK)
            after = _used(web.pid, worker.pid)
            cpu = {name: (after[name] - before[name]) / CALLBACKS * 1e6 for name in after}
        _check(conn, result)
    return Run(rate=CALLBACKS / took, answered=answered, statuses=result.statuses, cpu=cpu)


def _used(web: int, worker: int) -> dict[str, float]:
    busy = {name: machine.busy_seconds(pid) for name, pid in (("web", web), ("worker", worker))}
    return busy | {"database": machine.busy_with("postgres")}


def _send(keys: Keys, port: int, pid: int, tasks: list[TaskId]) -> tuple[float, Result]:
    order = Order(
        port=port, path=None, callback_secret=keys.callback, webhook_secret=keys.webhook, connections=CONNECTIONS,
        warm_up=0.0, seconds=PATIENCE, supply=CALLBACKS, server_pid=pid, tasks=tuple(tasks),
    )  # fmt: skip
    result = load.run(order)
    return CALLBACKS / result.rate, result


def _await(conn: psycopg.Connection, left: bytes) -> None:
    until = time.monotonic() + PATIENCE
    while found := _number(conn, left):
        if time.monotonic() > until:
            raise RuntimeError(f"{found:.0f} after {PATIENCE:.0f} s: {left.decode()}")
        time.sleep(_LOOK)


def _check(conn: psycopg.Connection, result: Result) -> None:
    kept = _number(conn, b"SELECT count(*) FROM inbox WHERE outcome IN ('moved', 'noted')")
    states = {str(state): int(number) for state, number in conn.execute(_STATES).fetchall()}
    if kept != result.statuses.get("200") or not result.statuses.keys() <= {"200", "503"}:
        raise RuntimeError(f"answers {result.statuses}, {kept:.0f} rows that were read")
    if kept == CALLBACKS and states != {"succeeded": TASKS}:
        raise RuntimeError(f"the tasks are {states}")


def _number(conn: psycopg.Connection, query: bytes) -> float:
    row = conn.execute(query).fetchone()
    return float(row[0]) if row else 0.0


async def work() -> None:
    """Run the released worker, which advances and does nothing else: no media are there, and nobody to be asked."""
    settings = Settings()
    logs.configure(form=settings.log_format, level=settings.log_level)
    async with wiring.open_services(settings) as services:
        wiring.spare_what_lives()
        worker = Worker(services, slots={JobKind.ADVANCE: SLOTS[JobKind.ADVANCE]})
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop.set)
        await worker.run()


if __name__ == "__main__":
    uvloop.run(work())
