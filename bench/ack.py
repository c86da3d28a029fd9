"""Rows `ack` and `ack-p99`: signed callbacks a second, each checked, deduplicated and committed with its job."""

from __future__ import annotations

import base64
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

import psycopg

from bench import load, machine
from bench.figures import Figure, against, middle
from bench.load import Order, Result
from bench.parts import Keys, Parts, await_answer, free_port, program, service_environment

CONNECTIONS: Final = 64
WARM_UP: Final = 1.5
#: Requests to prepare for each second of a run: more than the fastest here can take.
SUPPLY: Final = {"floor": 32_000, "ours": 32_000, "baseline": 6_000}
_DATABASE: Final = "bench_baseline"
_PATHS: Final = {"floor": "/hook", "ours": None, "baseline": "/hook"}


@dataclass(frozen=True, slots=True)
class Server:
    """One of the three that are compared."""

    name: str
    port: int
    pid: int


def measure(parts: Parts, *, rounds: int, seconds: float) -> tuple[list[Figure], list[str]]:
    """Run the three in turn and return the two rows, with what a reader should know."""
    keys = Keys(secrets.token_hex(32), "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode())
    results: dict[str, list[Result]] = {name: [] for name in _PATHS}
    kept = 0
    with _servers(parts, keys) as servers:
        for turn in range(rounds):
            for server in servers[turn % 3 :] + servers[: turn % 3]:
                empty(parts)
                result = drive(parts, keys, server, seconds=seconds)
                kept += check(parts, server, result)
                results[server.name].append(result)
                print(_line(server.name, result), file=sys.stderr, flush=True)
    return _figures(results), _notes(results, kept)


@contextmanager
def _servers(parts: Parts, keys: Keys) -> Iterator[list[Server]]:
    baseline = {"PATH": os.defpath, "BENCH_DATABASE": parts.create_database(_DATABASE)}
    ours = free_port()
    plans: dict[str, tuple[list[str], dict[str, str], int]] = {
        "ours": (["-m", "receiver", "web"], service_environment(parts, keys, ours), ours)
    }
    for name in ("floor", "baseline"):
        port = free_port()
        plans[name] = (["-m", "bench.servers", name, str(port)], baseline, port)
    with ExitStack() as stack:
        servers = []
        for name, (argv, env, port) in plans.items():
            process = stack.enter_context(program(parts, name, argv, env))
            await_answer(f"http://127.0.0.1:{port}/healthz", process, parts.log_of(name))
            servers.append(Server(name, port, process.pid))
        yield servers


def drive(parts: Parts, keys: Keys, server: Server, *, seconds: float) -> Result:
    """Load one server and return what came of it."""
    order = Order(
        port=server.port,
        path=_PATHS[server.name],
        callback_secret=keys.callback,
        webhook_secret=keys.webhook,
        connections=CONNECTIONS,
        warm_up=WARM_UP,
        seconds=seconds,
        supply=int(SUPPLY[server.name] * (WARM_UP + seconds)),
        server_pid=server.pid,
    )
    with machine.on_core(machine.OTHER_CORE, pin=parts.pin):
        return load.run(order)


def empty(parts: Parts) -> None:
    """Let each run begin with empty tables."""
    with psycopg.connect(parts.database_url, autocommit=True) as conn:
        conn.execute("TRUNCATE inbox, inbox_repeat, job")
    with psycopg.connect(parts.url_of(_DATABASE), autocommit=True) as conn:
        conn.execute("TRUNCATE inbox")


def check(parts: Parts, server: Server, result: Result) -> int:
    """
    Compare the rows with the answers of 200 and return their number; the floor keeps none.

    Raises:
        RuntimeError: They differ, or there were other answers.
    """
    told = result.statuses.get("200", 0)
    if set(result.statuses) != {"200"}:
        raise RuntimeError(f"{server.name} answered {result.statuses}")
    if server.name == "floor":
        return 0
    with psycopg.connect(parts.database_url if server.name == "ours" else parts.url_of(_DATABASE)) as conn:
        rows = _count(conn, "SELECT count(*) FROM inbox")
        if server.name == "ours":
            signed = _count(conn, "SELECT count(*) FROM inbox WHERE verified AND length(body) > 800")
            wanted = _count(conn, "SELECT count(*) FROM job JOIN inbox ON kind = 'advance' AND subject = inbox.id")
            if not rows == signed == wanted:
                raise RuntimeError(f"{rows} rows, {signed} of them signed, {wanted} with a job")
    if rows != told:
        raise RuntimeError(f"{server.name}: {told} answers of 200, {rows} rows")
    return rows if server.name == "ours" else 0


def _count(conn: psycopg.Connection, query: str) -> int:
    row = conn.execute(query.encode()).fetchone()
    return int(row[0]) if row else 0


def _figures(results: dict[str, list[Result]]) -> list[Figure]:
    rates = {name: [r.rate for r in each] for name, each in results.items()}
    tails = {name: [r.p99 for r in each] for name, each in results.items()}
    return [
        against("floor", rates, name="ack", unit="callbacks/s", must=0.5, goal=0.75),
        against("baseline", rates, name="ack", unit="callbacks/s", must=10, goal=15),
        against("floor", tails, name="ack-p99", unit="ms", bar="at most", must=4, goal=2),
    ]


def _notes(results: dict[str, list[Result]], kept: int) -> list[str]:
    notes = [f"ack: {kept:,} answers of 200 from ours, as many rows, signed, each with its job; the worker did not run"]
    for name, each in results.items():
        busy = ", ".join(f"{r.server_busy:.0%}" for r in each)
        load = ", ".join(f"{r.load_busy:.0%}" for r in each)
        notes.append(f"ack {name}: p50 {middle([r.p50 for r in each]):.1f} ms; CPU server {busy}; load {load}")
    if any(r.ran_dry for each in results.values() for r in each):
        notes.append("ack: the prepared requests were used up before the time was over")
    return notes


def _line(name: str, r: Result) -> str:
    speed = f"{r.rate:,.0f}/s, p50 {r.p50:.1f} ms, p99 {r.p99:.1f} ms, worst {r.worst:.1f} ms"
    return f"ack {name}: {speed}; CPU {r.server_busy:.0%}, load {r.load_busy:.0%}"
