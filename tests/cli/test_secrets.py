"""Secrets that the operator sets: what is told, what is refused, and that the overlap never ends too soon."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner, Result

from receiver.cli.main import app
from receiver.core.errors import Conflict, NotFound, ReceiverError
from receiver.core.model import AccountId, AssetId, JobKind, Secret, TaskId
from receiver.core.tokens import TokenKeys, key_id
from tests.flow.rig import ACCOUNT, CALLBACK_SECRET, WEBHOOK_SECRET, Rig, Stage
from tests.flow.world import created

OLD, NEW = CALLBACK_SECRET, "n" * 64
SECOND_WEBHOOK = "whsec_" + "QUJD" * 8
Run = Callable[..., Result]


@pytest.fixture
def run(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command with the variables of a production set-up."""
    variables = {
        "RECEIVER_DATABASE_URL": database_url,
        "RECEIVER_CALLBACK_SECRETS": OLD,
        "RECEIVER_ACCOUNTS__STUDIO__DIALECT": "sandbox",
        "RECEIVER_ACCOUNTS__STUDIO__API_KEY": "k",
        "RECEIVER_ACCOUNTS__STUDIO__WEBHOOK_SECRETS": f"{WEBHOOK_SECRET},{SECOND_WEBHOOK}",
    }

    def ran(*arguments: str, **more: str) -> Result:
        with monkeypatch.context() as patch:
            for name, value in {**variables, **more}.items():
                patch.setenv(name, value)
            result = CliRunner().invoke(app, ["secrets", *arguments])
        if isinstance(result.exception, ReceiverError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result

    return ran


def name(secret: str) -> str:
    return key_id(Secret(secret))


def open_task(stage: Stage) -> TaskId:
    """Leave a task at the provider whose callback URL was made with OLD."""
    found = []

    async def story(rig: Rig) -> None:
        rig.world.creates = [created()]
        found.append(await rig.accept())
        assert await rig.work(JobKind.SUBMIT)

    stage.play(story)
    return found[0]


def test_the_list_shows_needs_and_no_secret(stage: Stage, run: Run) -> None:
    open_task(stage)
    told = run("list", "--json", RECEIVER_CALLBACK_SECRETS=f"{NEW},{OLD}").stdout
    lines = {line["fingerprint"]: line for line in json.loads(told)["secrets"]}
    assert (lines[name(NEW)]["state"], lines[name(NEW)]["open_tasks"]) == ("signs", 0)
    assert (lines[name(OLD)]["state"], lines[name(OLD)]["open_tasks"]) == ("accepted", 1)
    assert lines[name(OLD)]["needed_until"] is not None
    assert lines[name(OLD)]["age_seconds"] >= 0
    assert lines[name(NEW)]["age_seconds"] is None
    assert lines[name(WEBHOOK_SECRET)]["of"] == ACCOUNT
    assert not any(secret in told for secret in (OLD, NEW, WEBHOOK_SECRET))


def test_a_needed_secret_that_nobody_has_is_listed(stage: Stage, run: Run) -> None:
    open_task(stage)
    lines = run("list", RECEIVER_CALLBACK_SECRETS=NEW).stdout.splitlines()
    assert [line.split("\t")[1:3] for line in lines if "missing" in line] == [[name(OLD), "missing"]]


def test_a_set_secret_is_changed_in_three_steps_and_none_loses_a_callback(run: Run) -> None:
    """Each set accepts what the sets before and after it sign with, since machines change one after the other."""
    run("list")  # the schema is there
    sets = [OLD]
    sets.append(run("rotate").stdout.strip())
    new = name(sets[1].rpartition(",")[2])
    sets.append(run("promote", new, RECEIVER_CALLBACK_SECRETS=sets[1]).stdout.strip())
    sets.append(run("retire", name(OLD), RECEIVER_CALLBACK_SECRETS=sets[2]).stdout.strip())
    keys = [TokenKeys(tuple(map(Secret, text.split(",")))) for text in sets]
    assert [[key_id(secret) for secret in each.secrets] for each in keys] == [
        [name(OLD)],
        [name(OLD), new],
        [new, name(OLD)],
        [new],
    ]
    account = AccountId("studio")
    for one, next_one in pairwise(keys):
        one.check_callback(next_one.console_token(account), account, "test")
        if next_one is not keys[3]:
            next_one.check_callback(one.console_token(account), account, "test")


def test_the_new_value_is_all_of_stdout_and_the_guide_shows_no_secret(run: Run) -> None:
    result = run("rotate")
    assert re.fullmatch(rf"{OLD},[0-9a-f]{{64}}\n", result.stdout)
    assert "RECEIVER_CALLBACK_SECRETS" in result.stderr
    assert not any(part in result.stderr for part in result.stdout.strip().split(","))


def test_a_file_of_ones_own_is_told_a_secret_a_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "secrets").write_text(f"{OLD}\n")
    result = run("rotate", RECEIVER_CALLBACK_SECRETS="", RECEIVER_CALLBACK_SECRETS_FILE=str(tmp_path / "secrets"))
    assert re.fullmatch(rf"{OLD}\n[0-9a-f]{{64}}\n", result.stdout)
    assert "without a restart" in result.stderr
    assert (tmp_path / "secrets").read_text() == f"{OLD}\n"


def test_a_secret_that_open_tasks_need_is_kept_unless_forced(stage: Stage, run: Run) -> None:
    open_task(stage)
    with pytest.raises(Conflict, match=r"1 open task\(s\) have callback URLs made with .*, until 20"):
        run("retire", name(OLD), RECEIVER_CALLBACK_SECRETS=f"{NEW},{OLD}")
    forced = run("retire", name(OLD), "--force", RECEIVER_CALLBACK_SECRETS=f"{NEW},{OLD}")
    assert forced.stdout == f"{NEW}\n"


def test_tasks_whose_secret_was_never_written_down_need_them_all(stage: Stage, run: Run, database_url: str) -> None:
    open_task(stage)
    with psycopg.connect(database_url) as conn:
        conn.execute("ALTER TABLE event DISABLE TRIGGER event_append_only")
        conn.execute("UPDATE event SET data = data - 'callback_key' - 'callback' WHERE type = 'task.sending'")
    with pytest.raises(Conflict, match="before their secret was recorded"):
        run("retire", name(OLD), RECEIVER_CALLBACK_SECRETS=f"{NEW},{OLD}")


def test_the_secret_that_signs_stays_even_by_force(run: Run) -> None:
    with pytest.raises(Conflict, match="signs"):
        run("retire", name(OLD), "--force")


@pytest.mark.parametrize("command", ["retire", "promote"])
def test_an_unknown_fingerprint_is_refused(run: Run, command: str) -> None:
    with pytest.raises(NotFound):
        run(command, "12345678")


def test_who_retires_a_secret_is_warned_of_the_urls_of_audio_that_end(run: Run) -> None:
    run("list")  # the schema is there
    made = TokenKeys((Secret(OLD),)).asset_token(AssetId(1))
    result = run("retire", name(OLD), RECEIVER_CALLBACK_SECRETS=f"{NEW},{OLD}")
    assert result.stderr.startswith(f"Warning: each play_url (/a/…) that {name(OLD)} made ends with it")
    assert not TokenKeys((Secret(result.stdout.strip()),)).is_asset_token(made, "1")


def test_a_webhook_secret_is_changed_by_a_guide(run: Run) -> None:
    guide = run("rotate", "--account", "studio")
    assert guide.stdout == ""
    assert "RECEIVER_ACCOUNTS__STUDIO__WEBHOOK_SECRETS" in guide.stderr
    assert name(WEBHOOK_SECRET) in guide.stderr
    assert run("retire", name(WEBHOOK_SECRET)).stdout == f"{SECOND_WEBHOOK}\n"
    with pytest.raises(NotFound):
        run("rotate", "--account", "nobody")


def test_a_callback_in_flight_with_the_old_webhook_secret_is_signed_during_the_overlap(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.submitted()
        assert await rig.call_back(task, rig.world.record("processing", task))
        rows = await rig.sql("SELECT verified FROM inbox WHERE task_id = %(t)s", t=task)
        assert rows == [{"verified": True}]

    stage.play(story, webhook_secrets=(SECOND_WEBHOOK, WEBHOOK_SECRET))


def test_a_callback_url_made_before_the_file_changed_is_good_in_a_web_that_runs(stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "callback-secrets"
    file.write_text(f"{OLD}\n")

    async def story(rig: Rig) -> None:
        before = rig.services.tokens.callback_token(ACCOUNT, TaskId(1))
        made = file.with_suffix(".new")
        made.write_text(f"{NEW}\n{OLD}\n")
        made.replace(file)
        elsewhere = TokenKeys((Secret(NEW), Secret(OLD))).callback_token(ACCOUNT, TaskId(1))
        for token in (before, elsewhere):
            await asyncio.to_thread(rig.services.tokens.check_callback, token, ACCOUNT, "1")
        task = await rig.submitted()
        (sent,) = await rig.sql("SELECT data FROM event WHERE type = 'task.sending' AND task_id = %(t)s", t=task)
        assert sent["data"]["callback_key"] == name(NEW)

    stage.play(story, settings={"callback_secrets_file": file})
