"""What goes wrong, when: kills and outages drawn from the seed, side by side."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import httpx
import psycopg

from tests.chaos.scene import Scene, back_after, living
from tests.system import processes
from tests.system.deployment import Service
from tests.system.proxy import Fate

#: Drawn from a bag until it is empty, so that a short storm has each of them, too.
KILLS = ("web", "worker", "postgres", "backend", "rclone", "sandbox", "worker", "web", "serve")
#: Seconds between the ends and beginnings of what goes wrong in one place.
KILL_EVERY = (2.5, 6.0)
BUCKET_EVERY = (1.0, 4.0)
PROVIDER_EVERY = (1.5, 5.0)
DATABASE_EVERY = (10.0, 20.0)
LASTS = (0.5, 4.0)
#: Seconds; what is not back by then never comes back by itself.
PATIENCE = 90.0


class Storm:
    """One thread for each place where things go wrong."""

    def __init__(self, scene: Scene, seed: int) -> None:
        self._scene = scene
        self._over = threading.Event()
        #: Those that touch the same processes take turns.
        self._grip = threading.Lock()
        self._watchers: list[threading.Thread] = []
        self.kills: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.longest_recovery = (0.0, "nothing")
        #: What did not go as it must: shown, and the run has failed.
        self.broken: list[str] = []
        lanes = {
            "kill": (self._kill, KILL_EVERY),
            "bucket": (self._bucket, BUCKET_EVERY),
            "provider": (self._provider, PROVIDER_EVERY),
            "database": (self._database, DATABASE_EVERY),
        }
        self._bag: list[str] = []
        self._threads = [
            threading.Thread(target=self._lane, args=(random.Random(f"{seed} {name}"), act, every), name=name)  # noqa: S311
            for name, (act, every) in lanes.items()
        ]

    def blow(self, seconds: float) -> None:
        """Let everything go wrong for that long, and then nothing any more."""
        for thread in self._threads:
            thread.start()
        self._over.wait(seconds)
        self._over.set()
        for thread in [*self._threads, *self._watchers]:
            thread.join()

    def _lane(self, dice: random.Random, act: Callable[[random.Random], None], every: tuple[float, float]) -> None:
        while not self._over.wait(dice.uniform(*every)):
            try:
                act(dice)
            except Exception as exc:  # noqa: BLE001 - told at the end
                self.broken.append(f"{threading.current_thread().name}: {exc!r}")

    def _kill(self, dice: random.Random) -> None:
        if not self._bag:
            self._bag = list(KILLS)
            dice.shuffle(self._bag)
        role, service = self._bag.pop(), dice.choice(self._scene.services)
        began = time.monotonic()
        match role:
            case "rclone":
                self._scene.objects.kill9()
                threading.Event().wait(dice.uniform(0, 1))
                self._scene.objects.start()
            case "sandbox":
                self._kill_sandbox()
            case "serve":
                with self._grip:
                    self._kill_supervisor(service)
            case "postgres" | "backend":
                with self._grip:
                    self._kill_child(self._scene.first, role, dice)
                self._watch(role, began, self._scene.database_answers)
            case _:
                if not self._kill_child(service, role, dice):
                    return
                self._watch(role, began, lambda: _ready(service) if role == "web" else bool(living(service, role)))
        self.kills[role] += 1

    def _kill_child(self, service: Service, role: str, dice: random.Random) -> bool:
        """Kill a process of that role; False when there is none at the moment."""
        found = living(service, role)
        return bool(found) and dice.choice(found).kill9()

    def _kill_sandbox(self) -> None:
        sandbox = self._scene.deployment.sandbox
        found = processes.look(sandbox.program.pid)
        assert found is not None
        assert found.kill9()
        sandbox.restart()

    def _kill_supervisor(self, service: Service) -> None:
        assert service.program is not None
        service.processes()
        began = time.monotonic()
        found = processes.look(service.program.pid)
        assert found is not None
        assert found.kill9()
        service.program.wait()
        processes.until(lambda: not processes.living(service.seen), what="its children are gone", patience=30)
        self._scene.revive(service)
        self._note_recovery(time.monotonic() - began, "serve")

    def _watch(self, role: str, began: float, fact: Callable[[], bool]) -> None:
        def watch() -> None:
            took = back_after(began, fact, patience=PATIENCE)
            if took is None:
                self.broken.append(f"{role} was not back after {PATIENCE:.0f} s")
            else:
                self._note_recovery(took, role)

        watcher = threading.Thread(target=watch, name=f"watch {role}")
        self._watchers.append(watcher)
        watcher.start()

    def _note_recovery(self, took: float, what: str) -> None:
        self.longest_recovery = max(self.longest_recovery, (took, what))

    def _bucket(self, dice: random.Random) -> None:
        kind = dice.choice(["503", "hangs", "refuses", "cuts", "loses replies", "loses replies"])
        rate, proxy = dice.choice([0.5, 1.0]), self._scene.proxy
        fates = {"503": Fate.BUSY, "hangs": Fate.HANG, "cuts": Fate.CUT, "loses replies": Fate.LOSE}
        self.faults[f"bucket {kind}"] += 1
        if kind == "refuses":
            proxy.refuse()
        else:
            proxy.change(lambda _method, _path: fates[kind] if dice.random() < rate else Fate.PASS)
        self._over.wait(dice.uniform(*LASTS))
        proxy.change(lambda _method, _path: Fate.PASS)
        proxy.listen()

    def _provider(self, dice: random.Random) -> None:
        mode = dice.choice(["5xx", "hang", "cut"])
        what = dice.choice(["api", "media", None])
        lasts = dice.uniform(*LASTS)
        if self._scene.tell("down", mode=mode, seconds=lasts, what=what):
            self.faults[f"provider {mode} ({what or 'all'})"] += 1
        self._over.wait(lasts)

    def _database(self, dice: random.Random) -> None:
        act = dice.choice([self._stop_database, self._end_database])
        with self._grip:
            act(dice.uniform(1, 6))

    def _stop_database(self, lasts: float) -> None:
        """Stop all its processes for a while, and let them go on."""
        with _stopped(_family(self._scene.first)):
            self.faults["database stopped"] += 1
            self._over.wait(lasts)

    def _end_database(self, lasts: float) -> None:
        """Kill it, with nobody to start it again for a while."""
        program = self._scene.first.program
        assert program is not None
        supervisor = processes.look(program.pid)
        found = living(self._scene.first, "postgres")
        if supervisor is None or not found:
            return
        began = time.monotonic()
        with _stopped([supervisor]):
            self.faults["database down"] += 1
            assert found[0].kill9()
            self.kills["postgres"] += 1
            self._over.wait(lasts)
        self._watch(f"postgres ({lasts:.0f} s down)", began, self._scene.database_answers)


def calm(scene: Scene) -> None:
    """End all that may still go wrong."""
    scene.proxy.change(lambda _method, _path: Fate.PASS)
    scene.proxy.listen()
    scene.tell("up")


def _ready(service: Service) -> bool:
    try:
        return service.client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def _family(service: Service) -> list[processes.Process]:
    """Return the postmaster and its children."""
    found = living(service, "postgres")
    return processes.tree(found[0].pid) if found else []


@contextmanager
def _stopped(stopped: list[processes.Process]) -> Iterator[None]:
    for process in stopped:
        process.send(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in stopped:
            process.send(signal.SIGCONT)


class Monitor:
    """Looks into the database once a second: jobs that wait for a dead worker, tasks that are past their time."""

    LOOK = """
    SELECT (SELECT coalesce(extract(epoch FROM max(now() - lease_until)), 0)::float FROM job WHERE lease_until < now()),
           (SELECT count(*) FROM task WHERE due_at < now() - interval '60 s'),
           (SELECT count(*) FROM task WHERE ended_at IS NULL)
    """

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="monitor")
        #: Seconds that a job had no owner, after its lease.
        self.longest_lapse = 0.0
        self.overdue = 0
        self.most_open = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(1):
            with suppress(psycopg.OperationalError):
                ((lapse, overdue, still_open),) = self._scene.rows(self.LOOK)
                self.longest_lapse = max(self.longest_lapse, lapse)
                self.overdue = max(self.overdue, overdue)
                self.most_open = max(self.most_open, still_open)
