"""kill -9 at each step of a task, with the other side holding what was asked; it ends as if nothing had happened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

import httpx
import psycopg
import pytest

from tests.system.deployment import ACCOUNT, Deployment, Order, Stopwatch, free_port
from tests.system.judging import require_all_archived
from tests.system.objects import bucket_behind_proxy
from tests.system.processes import PATIENCE, ended, until
from tests.system.proxy import Hold, Proxy, proxying

#: The tasks of all steps are under way at the same time.
ROOM = {f"RECEIVER_ACCOUNTS__{ACCOUNT.upper()}__CONCURRENCY": "20"}
TASK_ROW = b"SELECT FROM task WHERE id = %s FOR UPDATE"
ARCHIVE_JOB = b"SELECT FROM job WHERE kind = 'archive' AND subject = %s FOR UPDATE"
INBOX = b"LOCK TABLE inbox IN SHARE MODE"
REPEATS = "SELECT repeats FROM inbox WHERE task_id = %s"
WAITERS = "SELECT pid FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"
TASKS = b"LOCK TABLE task IN SHARE MODE"


@contextmanager
def locking(deployment: Deployment, lock: bytes, *values: int) -> Iterator[Callable[[], bool]]:
    """Hold *lock* until the end of the block, which may be that of the database; yield whether one waits for it."""
    holder = psycopg.connect(deployment.service.environment()["RECEIVER_DATABASE_URL"])
    try:
        holder.execute(lock, values)
        mine = holder.info.backend_pid

        def waited_for() -> bool:
            return bool(deployment.rows(WAITERS, mine))

        yield waited_for
    finally:
        with suppress(psycopg.OperationalError):
            holder.rollback()
        holder.close()


@dataclass
class Steps:
    """Brings a task to each step, and lets all go on at the end."""

    deployment: Deployment
    proxy: Proxy
    orders: dict[str, Order] = field(default_factory=dict)
    _let_go: ExitStack = field(default_factory=ExitStack)

    def _submit(self, step: str) -> str:
        (order,) = self.deployment.service.submit(1, first=len(self.orders))
        self.orders[step] = order
        return order.id

    def at_provider(self, step: str, gate: str, *, cut: bool = False) -> str:
        """Bring a new task to where the provider holds its create, or the reply to it."""
        sandbox = self.deployment.sandbox
        sandbox.tell("hold", what=gate)
        task = self._submit(step)
        until(lambda: task in {each["task"] for each in sandbox.held(gate)}, what=f"{step}: held")
        self._let_go.callback(sandbox.tell, "release", what=gate, task=task, cut=cut)
        return task

    def after_reply(self, step: str) -> None:
        """Bring a new task to where the reply to its create has come and is not yet committed."""
        sandbox = self.deployment.sandbox
        task = self.at_provider(step, "create_reply")
        self._wait_for_lock(step, TASK_ROW, task, partial(sandbox.tell, "release", what="create_reply", task=task))

    def in_download(self, step: str) -> None:
        """Let half of a new task's audio come."""
        sandbox = self.deployment.sandbox
        task = self._submit(step)
        sandbox.tell("hold", what="media", task=task)
        self._let_go.callback(sandbox.tell, "release", what="media", task=task)

    def at_bucket(self, step: str, method: str, part: str) -> tuple[str, Hold]:
        """Let the bucket do such a request of a new task, and hold its answer."""
        task = self._submit(step)
        hold = self.proxy.hold(method, f"/{task}/{part}")
        self._let_go.callback(self.proxy.release, hold, cut=True)
        return task, hold

    def at_database(self, step: str, lock: bytes, task: str, hold: Hold) -> None:
        """Bring a task whose manifest is stored to where its last transaction waits for *lock*."""
        assert hold.reached.wait(PATIENCE), step
        self._wait_for_lock(step, lock, task, partial(self.proxy.release, hold))

    def _wait_for_lock(self, step: str, lock: bytes, task: str, go_on: Callable[[], object]) -> None:
        waited_for = self._let_go.enter_context(locking(self.deployment, lock, int(task)))
        go_on()
        until(waited_for, what=f"{step}: waits for the database")

    def require(self, *states: str) -> None:
        """Each task is in a state of its step, and the worker still has its job."""
        rows = self.deployment.rows(
            "SELECT task.id::text, task.state, job.state FROM task JOIN job ON job.subject = task.id"
            " WHERE job.kind IN ('submit', 'archive')"
        )
        found = {task: (state, job) for task, state, job in rows}
        assert found == {
            order.id: (state, "leased") for order, state in zip(self.orders.values(), states, strict=True)
        }, self.orders

    def let_go(self) -> None:
        """Let go of all that is held."""
        self._let_go.close()


@pytest.mark.parametrize("victim", ["worker", "everything"])
def test_a_task_ends_right_whatever_step_of_it_the_kill_falls_on(
    victim: str, deployment: Deployment, watch: Stopwatch
) -> None:
    with bucket_behind_proxy(deployment) as (_, proxy, variables):
        # Callbacks would settle a create whose reply is held; each task is done when it is first asked after.
        deployment.sandbox.restart_with("--run-seconds", "0.3")
        service = deployment.serve(callbacks=None, more={**ROOM, **variables})
        steps = Steps(deployment, proxy)
        _, put = steps.at_bucket("after PUT", "PUT", "")
        _, read = steps.at_bucket("while it is read back", "GET", "")
        _, manifest = steps.at_bucket("after manifest", "PUT", "manifest-")
        before = steps.at_bucket("before the last transaction", "PUT", "manifest-")
        last = steps.at_bucket("before commit", "PUT", "manifest-")
        steps.in_download("mid download")
        steps.at_database("before the last transaction", TASK_ROW, *before)
        steps.at_database("before commit", ARCHIVE_JOB, *last)
        assert all(hold.reached.wait(PATIENCE) for hold in (put, read, manifest))
        until(lambda: deployment.sandbox.held("media"), what="half of the audio has come")
        steps.at_provider("before send, and it arrives later", "create")
        steps.at_provider("before send, and it never arrives", "create", cut=True)
        steps.at_provider("after send", "create_reply")
        steps.after_reply("after reply")
        steps.require(*["succeeded"] * 6, *["submitting"] * 4)
        watch.lap("each task is at its step")

        killed = service.process("worker")
        if victim == "worker":
            assert killed.kill9()
            until(partial(ended, killed), what="the worker is dead")
            steps.let_go()
        else:
            service.kill_tree()
            steps.let_go()
            service.start()
        watch.lap("killed, let go, started again")
        service.await_end(len(steps.orders))
        watch.lap("all ended")

        require_all_archived(deployment, list(steps.orders.values()))
        judge = {task["external_task_id"]: task for task in deployment.sandbox.ledger()["tasks"]}
        creates = {step: judge[order.id]["creates"] for step, order in steps.orders.items()}
        never = "before send, and it never arrives"
        assert creates == {step: 2 if step == never else 1 for step in steps.orders}


def kill_web(deployment: Deployment) -> None:
    web = deployment.service.process("web")
    assert web.kill9()
    until(partial(ended, web), what="web is dead")


def await_web(deployment: Deployment) -> None:
    def answers() -> bool:
        with suppress(httpx.TransportError):
            return deployment.service.client.get("/readyz").status_code == 200
        return False

    until(answers, what="web is back")


def hold_success(deployment: Deployment, number: int) -> Order:
    """Submit a task and hold its third callback, which tells of success."""
    sandbox = deployment.sandbox
    sandbox.tell("hold", what="callback", count=3)
    (order,) = deployment.service.submit(1, first=number)
    for _ in range(2):
        (held,) = until(lambda: sandbox.held("callback"), what="a callback is held")
        assert sandbox.tell("release", id=held["id"]) == {"released": 1}
    until(lambda: sandbox.held("callback"), what="the third one is held")
    return order


def test_a_callback_and_an_order_survive_the_kill_of_web_before_and_after_the_commit(
    deployment: Deployment, watch: Stopwatch
) -> None:
    with proxying("http://127.0.0.1:9", free_port()) as proxy:
        service = deployment.serve(callbacks=proxy.url)
        proxy.aim(service.url)
        orders = []

        orders.append(hold_success(deployment, 0))
        with locking(deployment, INBOX) as waited_for:
            deployment.sandbox.tell("release", what="callback")
            until(waited_for, what="the callback waits for its commit")
            kill_web(deployment)
        await_web(deployment)
        watch.lap("ack, before its commit")

        orders.append(hold_success(deployment, 1))
        hold = proxy.hold("POST", f"/{orders[1].id}/")
        deployment.sandbox.tell("release", what="callback")
        assert hold.reached.wait(PATIENCE)
        assert hold.status == 200
        kill_web(deployment)
        proxy.release(hold, cut=True)
        await_web(deployment)
        assert proxy.repeat(hold) == 200
        watch.lap("ack, after its commit")

        with ThreadPoolExecutor(1) as threads:
            with locking(deployment, TASKS) as waited_for:
                taken = threads.submit(service.submit, 1, first=2)
                until(waited_for, what="the order waits for its commit")
                kill_web(deployment)
            orders += taken.result()
        watch.lap("order, before its commit")

        hold = proxy.hold("POST", "/v1/tasks")
        service.client.base_url = httpx.URL(proxy.url)
        with ThreadPoolExecutor(1) as threads:
            taken = threads.submit(service.submit, 1, first=3)
            assert hold.reached.wait(PATIENCE)
            assert hold.status == 202
            kill_web(deployment)
            proxy.release(hold, cut=True)
            orders += taken.result()
        watch.lap("order, after its commit")

        service.await_end(4)
        require_all_archived(deployment, orders)
        number = int(orders[1].id)
        until(lambda: sorted(deployment.rows(REPEATS, number)) == [(0,), (0,), (1,)], what="the repeat is counted")
        assert service.ledger()["callbacks"]["duplicates"] >= 1
