"""Start and stop as an operator sees them."""

from __future__ import annotations

import signal
import stat

from tests.system import processes
from tests.system.deployment import Deployment, Program, Stopwatch
from tests.system.judging import require_all_archived


def test_a_killed_supervisor_leaves_no_process_behind(deployment: Deployment) -> None:
    service = deployment.serve()
    service.submit(6)
    seen = service.processes()
    assert {"serve", "web", "worker", "postgres", "rclone"} <= {process.role for process in seen}

    assert seen[0].kill9()
    assert service.program is not None
    assert service.program.wait() == -signal.SIGKILL

    processes.until(lambda: not processes.mentioning(str(service.directory)), what="all of it is gone")
    assert processes.living(service.seen) == []


def test_a_second_service_on_the_same_directory_says_so_and_leaves_the_first_alone(deployment: Deployment) -> None:
    service = deployment.serve()
    before = {process.role: process for process in service.processes()}

    second = Program("second", ["serve"], service.variables, deployment.logs)

    assert second.wait(60) == 1
    said = second.stderr.read_text().splitlines()
    assert len(said) == 1, said
    assert str(service.directory) in said[0]
    assert said[0].startswith("receiver: misconfigured: another receiver runs on ")
    assert second.stdout.read_text() == ""
    assert all(process.lives() for process in before.values())
    orders = service.submit(2)
    service.await_end(2)
    require_all_archived(deployment, orders)
    assert deployment.complaints() == []


def test_a_stop_in_the_middle_of_the_work_is_clean_and_the_next_start_goes_on(
    deployment: Deployment, watch: Stopwatch
) -> None:
    service = deployment.serve()
    orders = service.submit(24)
    processes.until(
        lambda: any(task["state"] == "archived" for task in service.tasks() or ()), what="the first is done"
    )
    watch.lap("first archived")

    service.stop()
    watch.lap("stopped")
    assert "signal=" not in service.program.stderr.read_text() if service.program else False

    service.start()
    service.await_end(24)
    watch.lap("all ended")
    require_all_archived(deployment, orders)
    assert deployment.complaints() == []


def test_secrets_and_data_are_for_their_owner_alone(deployment: Deployment) -> None:
    service = deployment.serve()

    private = [service.directory / name for name in ("callback-secret", "store/key.json", "store/server.log")]
    private += [service.directory / "postgres/data", service.directory / "store"]
    private += list((service.directory / "postgres").rglob(".s.PGSQL.5432"))

    assert len(private) == 6
    for path in private:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
