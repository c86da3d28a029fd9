"""The spine, undisturbed: every accepted task ends as audio in the bucket."""

from __future__ import annotations

from tests.system import processes
from tests.system.deployment import Deployment, Stopwatch
from tests.system.judging import manifests_of, require_all_archived

TASKS = 24


def test_every_accepted_task_ends_as_audio_that_is_charged_and_stored_once(
    deployment: Deployment, watch: Stopwatch
) -> None:
    service = deployment.serve()
    watch.lap("first start")
    orders = service.submit(TASKS)
    watch.lap("submitted")
    service.await_end(TASKS)
    watch.lap("ended")

    require_all_archived(deployment, orders)
    assert manifests_of(deployment) == TASKS
    assert {task["creates"] for task in deployment.sandbox.ledger()["tasks"]} == {1}
    told = {"received": TASKS * 3, "duplicates": 0}  # the last ones may come after a poll has told all
    processes.until(lambda: service.ledger()["callbacks"] == told, what="each callback is kept once")
    assert "signed" in {service.task(order.id)["trust"] for order in orders}
    pids = {service.process(role).pid for role in ("web", "worker", "postgres", "rclone")}
    assert len(pids | {deployment.sandbox.program.pid}) == 5
    assert deployment.complaints() == []
    service.stop()
    watch.lap("stopped")
    service.start()
    watch.lap("later start")
    require_all_archived(deployment, orders)
    assert deployment.complaints() == []


def test_tasks_are_archived_when_no_callback_ever_comes(deployment: Deployment, watch: Stopwatch) -> None:
    service = deployment.serve(callbacks=None)
    orders = service.submit(TASKS)
    service.await_end(TASKS)
    watch.lap("ended")

    require_all_archived(deployment, orders)
    assert service.ledger()["callbacks"] == {"received": 0, "duplicates": 0}
    assert deployment.sandbox.ledger()["requests"]["create"] == TASKS
    assert all(task["callbacks"] == [] for task in deployment.sandbox.ledger()["tasks"])
    assert {service.task(order.id)["trust"] for order in orders} == {"confirmed"}
    assert deployment.complaints() == []


def test_with_a_database_and_a_bucket_of_ones_own_no_embedded_part_starts_and_replicas_share_the_work(
    deployment: Deployment,
) -> None:
    first = deployment.serve()
    given = first.environment()
    names = ("DATABASE_URL", "CALLBACK_SECRETS_FILE", "S3_ENDPOINT", "S3_ACCESS_KEY", "S3_SECRET_KEY", "S3_BUCKET")
    second = deployment.serve(more={f"RECEIVER_{name}": given[f"RECEIVER_{name}"] for name in names})

    roles = {process.role for process in second.processes()} - {"serve"}
    assert roles == {"web", "worker"}
    assert not (second.directory / "postgres").exists()
    assert not (second.directory / "store").exists()
    orders = [*first.submit(12), *second.submit(12, first=12)]
    second.await_end(24)
    require_all_archived(deployment, orders, service=second)
    assert deployment.complaints() == []
    second.stop()
    assert first.ledger()["accepted"] == 24
