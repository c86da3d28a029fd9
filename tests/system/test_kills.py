"""kill -9 of each process in turn while tasks are under way; nothing is lost, paid twice or stored twice."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest

from tests.system import processes
from tests.system.deployment import ENDS, Deployment, Order, Service, Stopwatch
from tests.system.judging import require_all_archived

TASKS = 24
#: Draws the moments; another one tries others.
SEED = os.environ.get("SYSTEM_TESTS_SEED", "1")


def await_changes(service: Service, number: int) -> None:
    """Wait until that many changes of tasks have been seen, which is in the middle of the work, or none can come."""
    seen: set[tuple[str, str, int]] = set()

    def enough() -> bool:
        tasks = service.tasks() or ()
        for task in tasks:
            if task["state"] != "accepted":
                stored = sum(asset["state"] == "stored" for asset in task["assets"])
                seen.add((task["id"], task["state"], stored))
        return len(seen) >= number or (bool(tasks) and all(task["state"] in ENDS for task in tasks))

    processes.until(enough, what=f"{number} changes", pause=0.02)


def keep_open(service: Service, orders: list[Order]) -> None:
    """Let the kill fall into the work: who looks too seldom to see its middle hands in some more."""
    if not any(task["state"] not in ENDS for task in service.tasks() or ()):
        orders += service.submit(6, first=len(orders))


def kill_child(role: str) -> Callable[[Deployment], None]:
    """Kill one process of the service; its supervisor starts it again."""

    def kill(deployment: Deployment) -> None:
        postmaster = deployment.service.process("postgres")
        victim = deployment.service.kill9(role)
        processes.until(lambda: not victim.lives(), what=f"{role} is dead")
        processes.until(lambda: deployment.service.process(role) != victim, what=f"{role} is back")
        if role != "postgres":
            assert postmaster.lives()

    return kill


def kill_sandbox(deployment: Deployment) -> None:
    victim = processes.look(deployment.sandbox.program.pid)
    assert victim is not None
    assert victim.role == "sandbox"
    assert victim.kill9()
    deployment.sandbox.restart()


def kill_everything(deployment: Deployment) -> None:
    seen = deployment.service.processes()
    deployment.service.kill_tree()
    processes.until(lambda: not processes.living(seen), what="the whole tree is dead")
    deployment.service.start()


def kill_supervisor(deployment: Deployment) -> None:
    seen = deployment.service.processes()
    assert seen[0].role == "serve"
    assert seen[0].kill9()
    assert deployment.service.program is not None
    deployment.service.program.wait()
    processes.until(lambda: not processes.living(deployment.service.seen), what="all children are dead")
    deployment.service.start()


def kill_worker_at_work(deployment: Deployment) -> None:
    """Kill the worker while it holds a job, which waits for the lapse of its lease then."""
    victim = deployment.service.process("worker")
    with deployment.database() as conn:
        processes.until(
            lambda: (
                conn.execute("SELECT FROM job WHERE kind = 'archive' AND state = 'leased' LIMIT 1").fetchone()
                is not None
            ),
            what="an upload is under way",
            pause=0.001,
        )
        assert victim.kill9()
    processes.until(lambda: deployment.service.process("worker") != victim, what="the worker is back")


KILLS: dict[str, Callable[[Deployment], None]] = {
    **{role: kill_child(role) for role in ("web", "postgres", "backend", "rclone")},
    "worker": kill_worker_at_work,
    "sandbox": kill_sandbox,
    "everything": kill_everything,
    "supervisor": kill_supervisor,
}


@pytest.mark.parametrize("victim", KILLS)
def test_no_task_is_lost_paid_twice_or_stored_twice_when_it_is_killed(
    victim: str, deployment: Deployment, watch: Stopwatch
) -> None:
    service = deployment.serve()
    orders = service.submit(TASKS)
    moment = random.Random(f"{SEED} {victim}").randrange(6, 60)  # noqa: S311 - to be drawn again
    await_changes(service, moment)
    keep_open(service, orders)

    KILLS[victim](deployment)
    watch.lap(f"{victim} was killed after {moment} changes and is back")
    service.await_end(len(orders))
    watch.lap("all ended")

    require_all_archived(deployment, orders)


def test_all_are_killed_one_after_the_other_while_the_same_tasks_are_under_way(
    deployment: Deployment, watch: Stopwatch
) -> None:
    service = deployment.serve()
    orders = service.submit(TASKS)
    dice = random.Random(f"{SEED} all")  # noqa: S311 - to be drawn again
    victims = dice.sample(sorted(KILLS.keys() - {"worker", "everything", "supervisor"}), 5)
    for number, victim in enumerate(victims):
        await_changes(service, 6 + number * 5)
        keep_open(service, orders)
        KILLS[victim](deployment)
    watch.lap(f"killed and back: {', '.join(victims)}")
    service.await_end(len(orders))
    watch.lap("all ended")

    require_all_archived(deployment, orders)
