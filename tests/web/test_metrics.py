from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from receiver.core.model import JobKind
from receiver.store import accounts
from tests.flow.rig import ACCOUNT, Stage
from tests.web.door import Door, play


async def values(door: Door) -> dict[tuple[str, ...], float]:
    answer = await door.get("/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def forget(door: Door) -> None:
    """Let the next scrape read anew, as if the time of the cache were over."""
    gauges: Any = door.client._transport.app.state.gauges  # type: ignore[attr-defined]
    gauges._queues = gauges._days = None


def test_gauges_tell_what_the_rows_say(stage: Stage) -> None:
    async def story(door: Door) -> None:
        rig = door.rig
        sent, waiting = await rig.submitted(), await rig.accept()
        late = await rig.accept()
        await rig.pass_time(late, "400 days", "due_at", "submit_by")
        await rig.sql("UPDATE task SET attention = 'cross_wired' WHERE id = %(t)s", t=waiting)
        await rig.sql("UPDATE job SET run_at = now() - interval '90 s' WHERE subject = %(t)s", t=waiting)
        async with rig.services.database.connection() as conn:
            await accounts.pause(conn, ACCOUNT, "authentication", "1002")
        found = await values(door)
        assert found["receiver_tasks_open", "accepted"] == 2
        assert found["receiver_tasks_open", "submitted"] == 1
        assert found["receiver_tasks_attention", "cross_wired"] == 1
        assert found["receiver_task_overdue_seconds",] > 86_400
        assert found["receiver_queue_jobs", "ready", "submit"] == 2
        assert found["receiver_queue_age_seconds", "submit"] >= 90
        assert found["receiver_queue_age_seconds", "archive"] == 0
        assert 86_000 < found["receiver_submit_slack_seconds",] <= 86_400
        assert found["receiver_account_paused", "authentication", "studio"] == 1
        assert found["receiver_account_slots_in_use", "studio"] == 1
        assert found["receiver_account_slots", "studio"] == rig.services.deals[ACCOUNT].account.concurrency
        assert found["receiver_account_day_tasks", "studio"] == 3
        assert found["receiver_database_up",] == 1
        assert ("receiver_archive_slack_seconds",) not in found
        assert sent

    play(stage, story)


def test_slack_is_shown_while_media_are_pending(stage: Stage) -> None:
    async def story(door: Door) -> None:
        task = await door.rig.succeeded()
        found = await values(door)
        (asset, _) = await door.rig.assets(task)
        left = (asset.deliver_by - door.rig.services.clock()).total_seconds()
        assert abs(found["receiver_archive_slack_seconds",] - left) < 60
        await door.rig.work(JobKind.ARCHIVE)
        await forget(door)
        after = await values(door)
        assert ("receiver_archive_slack_seconds",) not in after
        assert ("receiver_submit_slack_seconds",) not in after

    play(stage, story)


def test_scrapes_that_come_together_share_one_reading(stage: Stage) -> None:
    async def story(door: Door) -> None:
        before = await values(door)
        await door.rig.accept()
        assert (await values(door))["receiver_tasks_open", "accepted"] == before["receiver_tasks_open", "accepted"]
        await forget(door)
        assert (await values(door))["receiver_tasks_open", "accepted"] == 1

    play(stage, story)


def test_metrics_are_served_while_the_database_is_away(stage: Stage) -> None:
    async def story(door: Door) -> None:
        await door.rig.services.database.close()
        found = await values(door)
        assert found["receiver_database_up",] == 0
        assert ("receiver_database_connections_limit",) in found
        assert ("receiver_workers",) not in found

    play(stage, story, judged=False)
