"""
A running deployment of separate operating-system processes, with the release's defaults.

Only accounts, ports and directories are set. The service is driven by its command line and by HTTP alone; what the
embedded database and store are called is read from the environment that `serve` gives to its children.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import functools
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import psycopg

from tests.system import processes
from tests.system.processes import Process, until

ACCOUNT = "studio"
ENDS = {"archived", "partial", "failed", "rejected", "expired", "cancelled"}
#: Seconds for a start; a machine that is busy with other tests makes a database in most of a minute.
START = 200
#: Variables of the person who runs the tests that would change the deployment.
STRANGERS = ("RECEIVER_", "SANDBOX_", "KLING_", "COMETAPI_", "DEERAPI_", "KKIAI_")
API_KEY = re.compile(r"API key \(shown once\): (rk_\S+)")
#: What a process of ours complains of, in the log as released: `<time> [warning  ] <event> [<logger>] <fields>`.
COMPLAINT = re.compile(r"^\S+ \[(?:warning|error|critical) *\] (\S+)", re.MULTILINE)

#: Every open task has one job that drives it, pending assets one that fetches them, a kept callback one that reads it.
WITHOUT_WORK = """
SELECT 'task ' || task.id FROM task
  LEFT JOIN job ON job.subject = task.id AND job.kind IN ('submit', 'query')
 WHERE task.state IN ('accepted', 'submitting', 'submitted', 'processing', 'succeeded')
 GROUP BY task.id HAVING count(job.id) <> 1
UNION ALL
SELECT 'assets of task ' || asset.task_id FROM asset
 WHERE asset.state = 'pending'
   AND asset.task_id NOT IN (SELECT subject FROM job WHERE kind = 'archive')
UNION ALL
SELECT 'callback ' || inbox.id FROM inbox
 WHERE inbox.outcome IS NULL
   AND inbox.id NOT IN (SELECT subject FROM job WHERE kind = 'advance')
"""


def free_port() -> int:
    """Draw a free port below the range of outgoing ones; each xdist worker draws from its own thousand."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = 11_000 + worker % 8 * 1000
    for port in secrets.SystemRandom().sample(range(first, first + 1000), 1000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            # Until ours listens there, no other run of these tests on this machine may draw it: both would hear of one.
            fcntl.lockf(_drawn(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
            return port
    raise AssertionError("no free port")


@functools.cache
def _drawn() -> int:
    """Open the file whose bytes stand for ports that were drawn, for as long as this process lives."""
    file, how = Path(tempfile.gettempdir()) / "receiver-system-ports", os.O_RDWR | os.O_CREAT
    try:
        return os.open(file, how, 0o600)
    except PermissionError:
        # Another user has run these tests on this machine.
        return os.open(file.with_name(f"{file.name}-{os.geteuid()}"), how, 0o600)


class Program:
    """`receiver <arguments>` as a process; its output goes to files."""

    def __init__(self, name: str, arguments: Sequence[str], variables: Mapping[str, str], logs: Path) -> None:
        self.name = name
        self.stdout = logs / f"{name}.out"
        self.stderr = logs / f"{name}.log"
        env = {key: value for key, value in os.environ.items() if not key.startswith(STRANGERS)} | dict(variables)
        argv = [sys.executable, "-m", "receiver", *arguments]
        with self.stdout.open("ab") as out, self.stderr.open("ab") as err:
            self._process = subprocess.Popen(argv, stdout=out, stderr=err, env=env, start_new_session=True)

    @property
    def pid(self) -> int:
        return self._process.pid

    def lives(self) -> bool:
        return self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, seconds: float = 60) -> int:
        return self._process.wait(seconds)

    def stop(self) -> int:
        """Ask it to stop and return its exit status; it is killed when it does not."""
        self.send(signal.SIGTERM)
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise


@dataclass(kw_only=True)
class Secrets:
    """What must never be logged."""

    account_key: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    webhook: str = field(default_factory=lambda: "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode())


class Sandbox:
    """The provider, in a process of its own; it judges."""

    def __init__(self, directory: Path, known: Secrets) -> None:
        self.state = directory / "sandbox"
        #: Of its command line, from the next start on.
        self.options: tuple[str, ...] = ()
        self._logs = directory / "logs"
        self._known = known
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        headers = {"authorization": f"Bearer {known.account_key}"}
        self.client = httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=60)
        self.program = self._start()

    def _start(self) -> Program:
        variables = {"SANDBOX_API_KEY": self._known.account_key, "SANDBOX_WEBHOOK_SECRET": self._known.webhook}
        arguments = ["sandbox", "--port", str(self.port), "--state-dir", str(self.state), *self.options]
        program = Program("sandbox", arguments, variables, self._logs)

        def answers() -> bool:
            assert program.lives(), program.stderr.read_text()[-3000:]
            return _answers(self.client, "/control/health")

        until(answers, what="the sandbox answers")
        return program

    def restart(self) -> None:
        """Start it again on its port and its state."""
        self.program.wait()
        self.program = self._start()

    def restart_with(self, *options: str) -> None:
        """Stop it cleanly and start it again with these options."""
        self.options = options
        assert self.program.stop() == 0
        self.program = self._start()

    def tell(self, route: str, /, **fields: Any) -> dict[str, Any]:
        """Tell its control something."""
        said: dict[str, Any] = self.client.post(f"/control/{route}", json=fields).raise_for_status().json()
        return said

    def held(self, what: str) -> list[dict[str, Any]]:
        """Return what is held now at that gate, the oldest first."""
        found = self.client.get("/control/held").raise_for_status().json()["held"]
        return [each for each in found if each["what"] == what]

    def ledger(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get("/control/ledger").raise_for_status().json()
        return found

    def close(self) -> None:
        self.client.close()
        if self.program.lives():
            assert self.program.stop() == 0


@dataclass(frozen=True)
class Order:
    """A task that the service took over."""

    id: str
    seconds: float


class Service:
    """One `receiver serve` with all that it starts, and a client of its API."""

    def __init__(self, name: str, directory: Path, variables: Mapping[str, str], key: str | None = None) -> None:
        self.name = name
        self.directory = directory / name
        self._logs = directory / "logs"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._own = {
            "RECEIVER_DATA_DIR": str(self.directory),
            "RECEIVER_PORT": str(self.port),
            "RECEIVER_WORKER_PORT": "0",
        }
        self.variables = {**variables, **self._own}
        self.key = key or ""
        #: All processes that were ever seen below it.
        self.seen: set[Process] = set()
        self.client = httpx.Client(base_url=self.url, trust_env=False, timeout=60)
        self.program: Program | None = None

    def start(self) -> Self:
        """Start it, or start it again, and return when it takes requests."""
        self.program = Program(self.name, ["serve"], self.variables, self._logs)
        until(self._is_ready, what=f"{self.name} is ready", patience=START)
        if not self.key:
            match = API_KEY.search(self.program.stdout.read_text())
            assert match, "the first start prints a key"
            self.key = match[1]
        self.client.headers["authorization"] = f"Bearer {self.key}"
        self.processes()
        return self

    def _is_ready(self) -> bool:
        assert self.program is not None
        assert self.program.lives(), self.program.stderr.read_text()[-3000:]
        return _answers(self.client, "/readyz")

    def processes(self) -> list[Process]:
        """Return what runs now, from the supervisor down to the database's back ends."""
        assert self.program is not None
        found = processes.tree(self.program.pid)
        self.seen.update(found)
        return found

    def process(self, role: str) -> Process:
        """Return the process of that role once it runs."""
        return until(
            lambda: next((each for each in self.processes() if each.role == role), None), what=f"{role} of {self.name}"
        )

    def kill9(self, role: str) -> Process:
        """Kill a process of that role and return it; back ends come and go, so the one that was seen may be gone."""

        def kill() -> Process | None:
            victim = self.process(role)
            return victim if victim.kill9() else None

        return until(kill, what=f"{role} of {self.name} is killed")

    def environment(self) -> dict[str, str]:
        """Return what `serve` tells its children: where the database and the bucket are, and the callback secret."""
        found = processes.environment_of(self.process("web"))
        return {name: value for name, value in found.items() if name.startswith("RECEIVER_")}

    def kill_tree(self) -> None:
        """Kill the supervisor and all below it, one right after the other."""
        for process in self.processes():
            process.kill9()
        assert self.program is not None
        self.program.wait()

    def stop(self) -> None:
        """Stop it as its operator would; nothing of it is left."""
        assert self.program is not None
        self.processes()
        assert self.program.stop() == 0
        assert processes.living(self.seen) == []
        assert processes.mentioning(str(self.directory)) == []

    def discard(self) -> None:
        """End whatever is left after a test, without judging."""
        self.client.close()
        if self.program is not None and self.program.lives():
            self.processes()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.program.stop()
        for process in processes.living(self.seen):
            process.kill9()

    def submit(self, number: int, *, first: int = 0) -> list[Order]:
        """Hand in that many tasks side by side, each with its own key, again until it is taken."""
        with ThreadPoolExecutor(8) as threads:
            return list(threads.map(self._submit, range(first, first + number)))

    def _submit(self, number: int) -> Order:
        seconds = 3 + number % 12 / 10
        given = {"prompt": f"rain on a tin roof, take {number}", "duration": seconds}
        body = {"account": ACCOUNT, "kind": "text-to-audio", "input": given, "reference": f"take-{number}"}

        def taken() -> Order | None:
            try:
                answer = self.client.post("/v1/tasks", json=body, headers={"idempotency-key": f"take-{number}"})
            except httpx.TransportError:
                return None
            assert answer.status_code in {202, 503}, answer.text
            return Order(answer.json()["id"], seconds) if answer.status_code == 202 else None

        return until(taken, what=f"task {number} is taken")

    def tasks(self) -> list[dict[str, Any]] | None:
        """Return all tasks as the list shows them; None while the service cannot answer."""
        try:
            answer = self.client.get("/v1/tasks", params={"limit": 200})
        except httpx.TransportError:
            return None
        assert answer.status_code in {200, 503}, answer.text
        listed: list[dict[str, Any]] | None = answer.json()["tasks"] if answer.status_code == 200 else None
        return listed

    def task(self, task: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get(f"/v1/tasks/{task}").raise_for_status().json()
        return found

    def ledger(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get("/v1/ledger").raise_for_status().json()
        return found

    def await_end(self, number: int) -> None:
        """Wait until that many tasks have ended."""

        def ended() -> bool:
            return sum(task["state"] in ENDS for task in self.tasks() or ()) >= number

        until(ended, what=f"{number} tasks end", patience=150)


@dataclass(kw_only=True)
class Deployment:
    """A sandbox and the services that use it; everything lies below one directory."""

    directory: Path
    known: Secrets = field(default_factory=Secrets)
    sandbox: Sandbox = field(init=False)
    services: list[Service] = field(default_factory=list)
    programs: list[Program] = field(default_factory=list)
    clients: list[httpx.Client] = field(default_factory=list)
    #: Where the objects lie when the store is not the service's own.
    bucket_of_ones_own: Path | None = None
    #: When it was made: for the report of how long things took.
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True)
        self.logs.mkdir()
        self.sandbox = Sandbox(self.directory, self.known)

    @property
    def logs(self) -> Path:
        return self.directory / "logs"

    @property
    def service(self) -> Service:
        return self.services[0]

    @property
    def bucket(self) -> Path:
        """Where the store keeps the objects."""
        return self.bucket_of_ones_own or self.service.directory / "store" / "objects" / "receiver"

    def serve(
        self, *, callbacks: str | None = "own", dialect: str = "sandbox", more: Mapping[str, str] | None = None
    ) -> Service:
        """
        Start another `receiver serve`.

        *callbacks*: where the provider is told to send them: "own" for the
        service itself, a URL, or None for nowhere.
        """
        key = self.services[0].key if self.services else None
        account = {
            "DIALECT": dialect,
            "BASE_URL": self.sandbox.url,
            "API_KEY": self.known.account_key,
            "WEBHOOK_SECRETS": json.dumps([self.known.webhook]),
            "ASSET_HOSTS": json.dumps(["127.0.0.1"]),
            "ALLOW_CIDRS": json.dumps(["127.0.0.0/8"]),
            "ALLOW_HTTP": "true",
        }
        variables = {f"RECEIVER_ACCOUNTS__{ACCOUNT.upper()}__{name}": value for name, value in account.items()}
        service = Service(f"service-{len(self.services)}", self.directory, {**variables, **(more or {})}, key)
        if callbacks is not None:
            service.variables["RECEIVER_PUBLIC_URL"] = service.url if callbacks == "own" else callbacks
        service.variables["RECEIVER_WORKER_PORT"] = (more or {}).get("RECEIVER_WORKER_PORT", "0")
        self.services.append(service)
        return service.start()

    def web(self) -> httpx.Client:
        """Start one more web process on the database and bucket of the first service; return a client of it."""
        port = free_port()
        shared = self.service.environment()
        variables = {**shared, "RECEIVER_PORT": str(port), "RECEIVER_DATA_DIR": str(self.directory / f"web-{port}")}
        self.programs.append(Program(f"web-{port}", ["web"], variables, self.logs))
        headers = {"authorization": f"Bearer {self.service.key}"}
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False, timeout=60)
        self.clients.append(client)
        until(lambda: _answers(client, "/readyz"), what="the second web answers")
        return client

    def worker(self) -> Program:
        """Start one more worker process on the database and bucket of the first service; nobody starts it again."""
        name = f"worker-{len(self.programs)}"
        variables = {**self.service.environment(), "RECEIVER_DATA_DIR": str(self.directory / name)}
        self.programs.append(Program(name, ["worker"], variables, self.logs))
        return self.programs[-1]

    @contextlib.contextmanager
    def database(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """Open the service's database directly."""
        with psycopg.connect(self.service.environment()["RECEIVER_DATABASE_URL"], autocommit=True) as conn:
            yield conn

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Run one query on the service's database."""
        with self.database() as conn:
            return conn.execute(query.encode(), values or None).fetchall()

    def written(self) -> Iterator[tuple[Path, str]]:
        """Yield all that any process has written for people: output, and the logs of the embedded parts."""
        for file in sorted([*self.logs.iterdir(), *self.directory.glob("*/*/server.log")]):
            yield file, file.read_text(errors="replace")

    def complaints(self) -> list[str]:
        """Return the events that our processes logged as warnings or worse."""
        return [event for file, text in self.written() if file.parent == self.logs for event in COMPLAINT.findall(text)]

    def close(self) -> None:
        """Stop all as their operator would; nothing is left."""
        for program in self.programs:
            assert not program.lives() or program.stop() == 0
        for service in reversed(self.services):
            if service.program is not None and service.program.lives():
                service.stop()
        self.sandbox.close()
        until(lambda: not processes.mentioning(str(self.directory)), what="all processes are gone", patience=60)

    def discard(self) -> None:
        """End whatever is left after a test, without judging."""
        for client in self.clients:
            client.close()
        for program in self.programs:
            if program.lives():
                program.send(signal.SIGKILL)
                program.wait()
        for service in reversed(self.services):
            service.discard()
        if self.sandbox.program.lives():
            self.sandbox.program.send(signal.SIGKILL)
            self.sandbox.program.wait()
        self.sandbox.client.close()


def _answers(client: httpx.Client, path: str) -> bool:
    try:
        return client.get(path, timeout=10).status_code == 200
    except httpx.TransportError:
        return False


class Stopwatch:
    """Says how long things took, in the captured output of a test."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._lock = threading.Lock()

    def lap(self, what: str) -> None:
        with self._lock:
            now = time.monotonic()
            sys.stdout.write(f"{now - self._began:6.1f} s  {what}\n")
            self._began = now
