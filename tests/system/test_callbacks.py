"""Callbacks in great number: repeats have one effect, and what was answered 200 is kept whatever dies."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import repeat, takewhile

from tests.system import processes
from tests.system.catching import Caught, catching, signed
from tests.system.deployment import Deployment, Stopwatch
from tests.system.judging import require_all_archived
from tests.system.posting import Rush

REPEATS = 1000
DISTINCT = 5000
#: What is killed after so many answers.
KILLS = {1000: "web", 2000: "postgres", 3000: "web", 3800: "backend"}


def test_a_thousand_copies_of_a_callback_at_two_webs_get_200_and_have_one_effect(
    deployment: Deployment, watch: Stopwatch
) -> None:
    with catching() as catcher:
        # Polls of this dialect begin late: what moves the task is the callback.
        (deployment.directory / "patient.toml").write_text('extends = "kling"\nname = "patient"\nusual_seconds = 600\n')
        profiles = {"RECEIVER_PROFILES_DIR": str(deployment.directory)}
        service = deployment.serve(callbacks=catcher.url, dialect="patient", more=profiles)
        second = deployment.web()
        (order,) = service.submit(1)
        callback = catcher.of(order.id, "succeed")
        assert service.task(order.id)["state"] in {"submitted", "submitting"}

        watch.lap("caught")
        # Where a commit takes two seconds, a callback is turned away and sent again.
        again = takewhile(lambda _: len(rush.kept) < REPEATS, repeat(callback))
        rush = Rush([service.url, str(second.base_url).rstrip("/")], again)
        asyncio.run(rush.run())
        watch.lap(f"{len(rush.kept)} answers, refused {dict(rush.refused)}")
        service.await_end(1)

        assert (len(rush.kept) >= REPEATS, rush.cut, rush.refused.keys() <= {503}) == (True, 0, True)
        told = service.ledger()["callbacks"]
        assert told["received"] == 1
        assert 0 <= told["duplicates"] - (len(rush.kept) - 1) <= rush.refused.total()
        assert deployment.rows("SELECT outcome, verified FROM inbox") == [("moved", True)]
        require_all_archived(deployment, [order])
        story = Counter(event["type"] for event in second.get(f"/v1/tasks/{order.id}").json()["events"])
        assert story.pop("asset.wanted") == 2
        assert story.pop("asset.stored") == 2
        assert set(story.values()) == {1}, story
        assert deployment.sandbox.ledger()["requests"]["query"] == 0
        assert rush.refused or deployment.complaints() == []


def distinct(deployment: Deployment, bases: list[Caught]) -> Iterator[Caught]:
    """Make callbacks of which no two are alike, each signed, and each with the same meaning as one that was sent."""
    for number in range(DISTINCT):
        base = bases[number % len(bases)]
        told = json.loads(base.body)
        body = json.dumps({**told, "updated_at": told["updated_at"] + number // len(bases)}).encode()
        yield Caught(base.path, signed(deployment.known.webhook, f"{number + 1}", body), body)


def test_every_callback_that_was_answered_200_is_kept_although_web_and_database_are_killed(
    deployment: Deployment, watch: Stopwatch
) -> None:
    with catching() as catcher:
        service = deployment.serve(callbacks=catcher.url)
        orders = service.submit(8)
        bases = [catcher.of(order.id, "processing") for order in orders]
        kills = {moment: partial(service.kill9, role) for moment, role in KILLS.items()}
        rush = Rush([service.url], distinct(deployment, bases), kills)

        watch.lap("caught")
        asyncio.run(rush.run())
        watch.lap(f"{len(rush.kept)} kept, {rush.cut} cut, refused {dict(rush.refused)}")

        assert len(rush.kept) + rush.cut + rush.refused.total() == DISTINCT
        assert len(rush.kept) > DISTINCT * 0.8
        assert rush.refused.keys() <= {503}
        with deployment.database() as conn:
            rows = conn.execute("SELECT task_id, digest, body FROM inbox WHERE verified").fetchall()
        found = {(str(task), bytes(digest)) for task, digest, body in rows if hashlib.sha256(body).digest() == digest}
        assert {(each.task, hashlib.sha256(each.body).digest()) for each in rush.kept} <= found
        processes.until(lambda: _unread(deployment) == 0, what="all callbacks are read")
        watch.lap("all read")
        service.await_end(8)
        require_all_archived(deployment, orders)


def _unread(deployment: Deployment) -> int:
    return int(deployment.rows("SELECT count(*) FROM inbox WHERE outcome IS NULL")[0][0])
