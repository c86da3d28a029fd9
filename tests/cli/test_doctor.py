"""Each fault is really caused; the doctor names it, says how it is mended, and shows no secret."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from receiver.cli.doctor import environment, findings, public
from receiver.cli.doctor.command import examine
from receiver.cli.doctor.findings import Finding, Status
from receiver.cli.doctor.parts import Parts
from receiver.cli.keyring import webhook_variable
from receiver.core.model import AccountId, JobKind, Secret
from receiver.core.tokens import key_id
from receiver.local.postgres import EmbeddedPostgres
from receiver.local.store import EmbeddedStore
from receiver.settings import AccountSettings, Settings
from receiver.wiring import Clock, bucket_config, read_deals
from tests.cli.pooler import pooled
from tests.cli.rig import RECEIVER, until
from tests.cli.rig import environment as bare_environment
from tests.flow.rig import ACCOUNT, API_KEY, CALLBACK_SECRET, WEBHOOK_SECRET, Rig, Stage
from tests.flow.world import created
from tests.transfer.servers import Behaviour, Exchange, RawHost
from tests.transfer.stores import Answer, tampered

UNREACHED = "http://127.0.0.1:1"
PASSWORD = "the-right-password-of-all"
SECRETS = (API_KEY, CALLBACK_SECRET, WEBHOOK_SECRET, PASSWORD)


def look(
    settings: Settings,
    *,
    database: bool = True,
    bucket: bool = False,
    clock: Callable[[], datetime] | None = None,
    variables: dict[str, str] | None = None,
) -> list[Finding]:
    """Run every check; one that has nothing to do with a test is spared by leaving the part out."""
    url = settings.database_url.get_secret_value() if settings.database_url is not None and database else None
    parts = Parts(database_url=url, bucket=bucket_config(settings) if bucket else None)
    found = asyncio.run(examine(settings, parts, environment=variables or {}, clock=clock or Clock()))
    told = repr(found)
    assert not any(secret in told for secret in SECRETS)
    assert all(finding.mend for finding in found if finding.status is not Status.OK)
    return found


def of(found: list[Finding], name: str) -> list[Finding]:
    return [finding for finding in found if finding.name == name]


def only(found: list[Finding], name: str) -> Finding:
    (finding,) = of(found, name)
    return finding


@pytest.fixture
def settings(stage: Stage) -> Settings:
    """Of a service with one account, whose provider does not answer, in poll-only mode."""
    return changed(stage.settings(UNREACHED), public_url=None, port=0)


def changed(settings: Settings, **changes: Any) -> Settings:
    return settings.model_copy(update=changes)


def with_url(settings: Settings, url: str) -> Settings:
    return changed(settings, database_url=SecretStr(url))


# --- settings, profiles, disk --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "near"),
    [
        ("RECEIVER_PUBLC_URL", "RECEIVER_PUBLIC_URL"),
        ("RECEIVER_ACCOUNTS__STUDIO__API_KYE", "RECEIVER_ACCOUNTS__STUDIO__API_KEY"),
        ("RECEIVER_PORT_FILE", "RECEIVER_PORT"),
        ("KLING_APIKEY", "KLING_API_KEY"),
    ],
)
def test_a_variable_that_nobody_reads_is_named_with_the_nearest(variable: str, near: str) -> None:
    (finding,) = [each for each in environment.check(Settings(), {variable: "hunter2"}) if each.name == "settings"][1:]
    assert (finding.status, finding.mend) == (Status.WARNING, f"did you mean {near}?")
    assert variable in finding.found
    assert "hunter2" not in finding.found


READ = (
    *("RECEIVER_URL", "RECEIVER_API_KEY", "RECEIVER_DATABASE_URL_FILE", "COMETAPI_KEY_FILE", "receiver_port"),
    *("RECEIVER_ACCOUNTS__A_B__API_KEY_FILE", "KLING_HOME_DIRECTORY", "PATH"),
)


def test_variables_that_somebody_reads_are_not_named() -> None:
    found = environment.check(Settings(), dict.fromkeys(READ, "x"))
    assert [each.status for each in found if each.name == "settings"] == [Status.OK]


def test_a_wrong_value_is_told_in_the_same_form_and_ends_with_one() -> None:
    variables = bare_environment({"RECEIVER_PORT": "hunter2"})
    done = subprocess.run(
        [*RECEIVER, "doctor", "--json"], env=variables, capture_output=True, text=True, check=False, timeout=60
    )
    told = json.loads(done.stdout)
    assert (done.returncode, told["status"]) == (1, "broken")
    assert [(each["name"], each["status"]) for each in told["checks"]] == [("settings", "broken")]
    assert "RECEIVER_PORT" in told["checks"][0]["found"]
    assert "hunter2" not in done.stdout + done.stderr


def test_a_bad_profile_is_named_with_file_line_and_key_and_an_own_one_is_counted(
    settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "house.toml").write_text('extends = "kling"\nname = "house"\ncolour = "red"\n')
    broken = look(changed(settings, profiles_dir=tmp_path), database=False)
    assert re.search(r"house\.toml, line 3: colour", only(broken, "profiles").found)
    assert only(broken, "profiles").status is Status.BROKEN
    (tmp_path / "house.toml").unlink()
    (tmp_path / "kling.toml").write_text('extends = "kling"\nname = "kling"\n')
    well, shadow = of(look(changed(settings, profiles_dir=tmp_path), database=False), "profiles")
    assert (well.status, shadow.status) == (Status.OK, Status.WARNING)


def test_an_account_that_cannot_be_is_told(settings: Settings) -> None:
    wrong = changed(settings, accounts={"a": AccountSettings(dialect="kling")})
    assert only(look(wrong, database=False), "accounts").found == "account a: set api_key, or access_key and secret_key"


def test_a_secret_file_that_others_may_read_is_broken(settings: Settings) -> None:
    file = settings.data_dir / "callback-secret"
    file.write_text(CALLBACK_SECRET)
    file.chmod(0o644)
    finding = only(look(settings, database=False), "data directory")
    assert finding.status is Status.BROKEN
    assert finding.mend is not None
    assert finding.mend.startswith(f"chmod 600 {file}")


def test_a_quota_that_the_disk_has_not_is_told(settings: Settings) -> None:
    finding = only(look(changed(settings, spool_quota_mb=10**9), database=False), "data directory")
    assert (finding.status, "RECEIVER_SPOOL_QUOTA_MB" in str(finding.mend)) == (Status.WARNING, True)


# --- the database --------------------------------------------------------------------------------------------------


def as_superuser(server: EmbeddedPostgres, database: str = "receiver") -> psycopg.Connection[Any]:
    url = server.start().replace("//receiver@", "//postgres@").replace("@/receiver?", f"@/{database}?")
    return psycopg.connect(url, autocommit=True)


@pytest.fixture
def guarded(postgres_server: EmbeddedPostgres, server_directory: Path) -> Iterator[str]:
    """The name of a user who needs a password, and may do nothing."""
    name = f"guarded_{secrets.token_hex(4)}"
    rules = server_directory / "postgres" / "data" / "pg_hba.conf"
    before = rules.read_text()
    with as_superuser(postgres_server) as conn:
        conn.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), PASSWORD))
        rules.write_text(f"local all {name} scram-sha-256\n{before}")
        conn.execute("SELECT pg_reload_conf()")
        until(lambda: refused(postgres_server.start().replace("//receiver@", f"//{name}@")))
        yield name
        rules.write_text(before)
        conn.execute("SELECT pg_reload_conf()")
        conn.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def refused(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return True
    return False


def test_a_wrong_password_is_told_as_one(settings: Settings, database_url: str, guarded: str) -> None:
    url = database_url.replace("//receiver@", f"//{guarded}:wrong-password-for-sure@")
    found = look(with_url(settings, url))
    finding = only(found, "database")
    assert (finding.status, finding.found) == (Status.BROKEN, "no connection: the user or the password is wrong")
    assert "wrong-password-for-sure" not in repr(found)


def test_a_user_without_rights_is_told_what_it_lacks(settings: Settings, database_url: str, guarded: str) -> None:
    found = look(with_url(settings, database_url.replace("//receiver@", f"//{guarded}:{PASSWORD}@")))
    assert any(re.search(r"may not read and write .*\btask\b", each.found) for each in of(found, "database"))
    assert any(each.found == "the user may not make tables" for each in of(found, "database"))
    assert only(found, "migrations").status is Status.BROKEN


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://a:secret-of-a-url@127.0.0.1:1/a", "no connection: nothing listens there"),
        ("postgresql://a:secret-of-a-url@nowhere.invalid/a", "no connection: the host name is unknown"),
        ("host= password secret-of-a-url", "no connection: RECEIVER_DATABASE_URL is not like"),
    ],
)
def test_a_database_that_is_not_there_is_told_beside_the_rest(settings: Settings, url: str, said: str) -> None:
    found = look(with_url(settings, url))
    assert only(found, "database").found.startswith(said)
    assert only(found, "work").status is Status.WARNING
    assert of(found, f"account {ACCOUNT}")
    assert "secret-of-a-url" not in repr(found)


def test_a_database_of_another_name_is_told(settings: Settings, database_url: str) -> None:
    found = look(with_url(settings, database_url.replace("/test_", "/nothing_")))
    assert only(found, "database").found == "no connection: there is no such database"


def test_a_server_that_forgets_is_broken(settings: Settings) -> None:
    told = {each.found.partition(" is off")[0]: each.status for each in of(look(settings), "database")}
    assert told == {
        "fsync": Status.BROKEN,
        "synchronous_commit": Status.BROKEN,
        "full_page_writes": Status.WARNING,
    }


def test_a_database_that_only_reads_is_broken(settings: Settings, database_url: str) -> None:
    found = look(with_url(settings, f"{database_url}&options=-c%20default_transaction_read_only%3Don"))
    assert any(each.found.startswith("it only reads") for each in of(found, "database"))


def test_more_connections_than_the_server_has_are_told(settings: Settings) -> None:
    assert only(look(changed(settings, database_connections=500)), "connections").status is Status.WARNING


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("DELETE FROM migration WHERE name LIKE '0004%'", "1 to be applied: 0004_pre_secrets"),
        ("INSERT INTO migration (name) VALUES ('9999_pre_future')", "the database is newer than this program"),
        ("UPDATE migration SET sha256 = '0' WHERE name LIKE '0004%'", "the database was made with another text"),
    ],
)
def test_another_schema_is_told_and_nothing_is_read_from_it(
    settings: Settings, database_url: str, change: str, said: str
) -> None:
    with psycopg.connect(database_url) as conn:
        conn.execute(change.encode())
    found = look(settings)
    assert only(found, "migrations").found.startswith(said)
    assert only(found, "migrations").status is Status.BROKEN
    assert only(found, "work").found.startswith("tasks, workers, secrets and signatures were not looked at")


@pytest.mark.parametrize(
    ("notifications", "status", "said"),
    [
        (True, Status.OK, "a pooler of sessions stands between"),
        (False, Status.WARNING, "none arrive: a pooler of transactions stands between"),
    ],
)
def test_a_pooler_is_seen(
    settings: Settings,
    database_url: str,
    notifications: bool,  # noqa: FBT001
    status: Status,
    said: str,
) -> None:
    with pooled(database_url, notifications=notifications) as url:
        finding = only(look(with_url(settings, url)), "notifications")
    assert (finding.status, finding.found.partition(";")[0]) == (status, said)


# --- clocks --------------------------------------------------------------------------------------------------------


def shifted(by: timedelta) -> Callable[[], datetime]:
    return lambda: datetime.now(UTC) + by


def test_a_clock_that_is_off_is_told_for_database_and_bucket(settings: Settings) -> None:
    found = look(settings, bucket=True, clock=shifted(timedelta(minutes=20)))
    assert only(found, "clock").status is Status.WARNING
    assert float(only(found, "clock").found.split()[0]) == pytest.approx(-1200, abs=30)
    assert [each.status for each in of(found, "bucket")] == [Status.OK, Status.BROKEN]


def test_a_provider_whose_clock_is_off_is_broken_for_key_pairs_only(settings: Settings) -> None:
    def behaviour(exchange: Exchange) -> bool:
        date = format_datetime(datetime.now(UTC) - timedelta(seconds=90), usegmt=True)
        body = b'{"code":1203,"message":"task not found","request_id":"r"}'
        exchange.answer("404 Not Found", body, "Content-Type: application/json", f"Date: {date}")
        return True

    with RawHost(behaviour) as host:
        by_key = asked(settings, host, api_key="k")
        by_pair = asked(settings, host, access_key="ak", secret_key="s" * 40, api_key=None)
    assert [each.status for each in by_key] == [Status.OK, Status.WARNING]
    assert [each.status for each in by_pair] == [Status.OK, Status.BROKEN]
    # Answers tell whole seconds.
    assert re.search(r"differs by -9[01]\.\d s", by_pair[1].found)


def test_an_answer_that_takes_long_is_no_fault_of_a_clock(settings: Settings) -> None:
    answered: list[Exchange] = []

    def behaviour(exchange: Exchange) -> bool:
        body = b'{"code":1203,"message":"task not found","request_id":"r"}'
        date = format_datetime(datetime.now(UTC), usegmt=True)
        answered.append(exchange)
        exchange.answer("404 Not Found", body, "Content-Type: application/json", f"Date: {date}")
        return True

    def later() -> datetime:
        return datetime.now(UTC) + timedelta(seconds=40) * len(answered)

    with RawHost(behaviour) as host:
        by_pair = asked(settings, host, clock=later, access_key="ak", secret_key="s" * 40, api_key=None)
    assert [each.status for each in by_pair] == [Status.OK]


# --- the bucket ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said", "mend"),
    [
        ({"s3_bucket": "nothing-here"}, "there is no bucket", "RECEIVER_S3_BUCKET"),
        ({"s3_secret_key": SecretStr("wrong-secret-key")}, "403", "RECEIVER_S3_ACCESS_KEY"),
        ({"s3_endpoint": "http://127.0.0.1:1"}, "did not answer", "start the store"),
    ],
)
def test_a_bucket_of_no_use_is_told(settings: Settings, changes: dict[str, Any], said: str, mend: str) -> None:
    finding = only(look(changed(settings, **changes), database=False, bucket=True), "bucket")
    assert finding.status is Status.BROKEN
    assert said in finding.found
    assert mend in str(finding.mend)
    assert "wrong-secret-key" not in repr(finding)


def test_a_bucket_says_how_uploads_will_be_proven(settings: Settings) -> None:
    finding = only(look(settings, database=False, bucket=True), "bucket")
    assert finding.status is Status.OK
    assert "each upload is read back" in finding.found


def test_a_store_that_gives_other_bytes_is_broken(settings: Settings, bucket_server: EmbeddedStore) -> None:
    def tamper(exchange: Exchange, answer: Callable[[], Answer]) -> Answer:
        real = answer()
        if exchange.line.startswith("GET") and ".probe/" in exchange.line:
            return replace(real, body=bytes(len(real.body)))
        return real

    port = int(bucket_server.start().endpoint.rpartition(":")[2])
    with RawHost(tampered(port, tamper)) as host:
        finding = only(look(changed(settings, s3_endpoint=host.url), database=False, bucket=True), "bucket")
    assert finding.status is Status.BROKEN
    assert "other bytes" in finding.found


# --- the public URL ------------------------------------------------------------------------------------------------


def reached(url: str | None, settings: Settings) -> list[Finding]:
    return of(look(changed(settings, public_url=url), database=False), "public URL")


def test_without_a_public_url_all_is_polled(settings: Settings) -> None:
    assert [each.status for each in reached(None, settings)] == [Status.WARNING]


def test_a_public_url_where_nobody_answers_is_broken(settings: Settings) -> None:
    (finding,) = reached(UNREACHED, settings)
    assert finding.status is Status.BROKEN
    assert finding.found.startswith("nobody answers there")


def test_a_private_address_is_broken_for_a_provider_outside(settings: Settings) -> None:
    outside = changed(settings, accounts={"kling": AccountSettings(dialect="kling", api_key=SecretStr("k"))})
    found = asyncio.run(public.check("http://127.0.0.1:1", {}))
    assert [each.found for each in found] == ["leads to a private address"]
    found = asyncio.run(public.check(UNREACHED, read_deals(outside)))
    assert [each.found for each in found] == [
        "leads to a private address, where the providers of kling cannot reach it"
    ]


def test_something_else_at_the_public_url_is_told(settings: Settings) -> None:
    def behaviour(exchange: Exchange) -> bool:
        exchange.answer("200 OK", b"<html>hello</html>", "Content-Type: text/html")
        return True

    with RawHost(behaviour) as host:
        (finding,) = reached(host.url, settings)
    assert (finding.status, finding.found) == (Status.BROKEN, "GET /healthz is answered 200, and not by receiver")


def test_a_proxy_that_keeps_callbacks_for_itself_is_told(settings: Settings) -> None:
    def behaviour(exchange: Exchange) -> bool:
        if exchange.line.startswith("GET /healthz "):
            exchange.answer("200 OK", b'{"alive":true}', "Content-Type: application/json")
        else:
            exchange.answer("403 Forbidden", b"{}", "Content-Type: application/json")
        return True

    with RawHost(behaviour) as host:
        (finding,) = reached(host.url, settings)
        assert [exchange.line.split(" ")[:2] for exchange in host.seen] == [
            ["GET", "/healthz"],
            ["POST", f"/callbacks/{ACCOUNT}/1/{public.WRONG}"],
        ]
    assert finding.found == "a callback with a wrong token is answered 403, not 404"


# --- accounts ------------------------------------------------------------------------------------------------------


def asked(
    settings: Settings, host: RawHost, *, clock: Callable[[], datetime] | None = None, **account: Any
) -> list[Finding]:
    contract = settings.accounts[ACCOUNT].model_copy(
        update={
            "base_url": host.url,
            **{name: SecretStr(value) if value and name != "access_key" else value for name, value in account.items()},
        }
    )
    found = look(changed(settings, accounts={ACCOUNT: contract}), database=False, clock=clock)
    return of(found, f"account {ACCOUNT}")


def answering(status: str, body: bytes, media_type: str = "application/json") -> Behaviour:
    def behaviour(exchange: Exchange) -> bool:
        exchange.answer(status, body, f"Content-Type: {media_type}")
        return True

    return behaviour


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (("404 Not Found", b'{"code":1203,"message":"task not found"}'), Status.OK, "takes the key"),
        (("401 Unauthorized", b'{"code":1002,"message":"x"}'), Status.BROKEN, "the key is refused (code 1002)"),
        (("401 Unauthorized", b'{"code":1004,"message":"x"}'), Status.BROKEN, "the times of our token are refused"),
        (("429 Too Many Requests", b'{"code":1102,"message":"no balance"}'), Status.BROKEN, "code 1102: no balance"),
        (("502 Bad Gateway", b"<html>", "text/html"), Status.WARNING, "says nothing of the key (HTTP 502)"),
    ],
)
def test_what_a_provider_says_of_the_key_is_told(
    settings: Settings, answer: tuple[str, bytes], status: Status, said: str
) -> None:
    with RawHost(answering(*answer)) as host:
        (finding,) = asked(settings, host)
        assert [exchange.line.partition(" ")[0] for exchange in host.seen] == ["GET"]
    assert (finding.status, said in finding.found) == (status, True), finding


def test_a_provider_that_is_not_reached_is_broken(settings: Settings) -> None:
    finding = only(look(settings, database=False), f"account {ACCOUNT}")
    assert finding.status is Status.BROKEN
    assert "is not reached" in finding.found


# --- secrets and work ----------------------------------------------------------------------------------------------


def leave_open(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        rig.world.creates = [created()]
        await rig.accept()
        assert await rig.work(JobKind.SUBMIT)

    stage.play(story)


def test_a_secret_that_open_tasks_need_is_missed(stage: Stage, settings: Settings) -> None:
    leave_open(stage)
    found = look(changed(settings, callback_secrets=(SecretStr("x" * 40),)))
    missed = [each for each in of(found, "callback secrets") if each.status is Status.BROKEN]
    needed = key_id(Secret(CALLBACK_SECRET))
    assert any(f"1 open task(s) need {needed}" in each.found for each in missed)
    assert any(needed in str(each.mend) for each in missed)
    assert [each.status for each in of(look(settings), "callback secrets")] == [Status.OK]


def test_work_that_nobody_does_is_told(stage: Stage, settings: Settings) -> None:
    assert only(look(settings), "workers").status is Status.WARNING
    leave_open(stage)
    finding = only(look(settings), "workers")
    assert (finding.status, "1 task(s) are open" in finding.found) == (Status.BROKEN, True)


def test_what_waits_for_a_person_is_told(stage: Stage, settings: Settings, database_url: str) -> None:
    leave_open(stage)
    with psycopg.connect(database_url) as conn:
        conn.execute("UPDATE job SET state = 'dead', last_error = 'KeyError'")
        conn.execute("UPDATE task SET attention = 'create_unknown', due_at = now() - interval '1 minute'")
        conn.execute("UPDATE account SET paused_reason = 'authentication', paused_detail = '1000', paused_at = now()")
        conn.execute("INSERT INTO worker (id) VALUES (gen_random_uuid())")
    found = look(settings)
    assert only(found, "jobs").found == "given up: 1 query (KeyError)"
    assert {each.found for each in of(found, "tasks")} == {
        "1 open past their due time",
        "a person must look at some: 1 create_unknown",
    }
    assert any(each.found.startswith("submits are paused (authentication: 1000)") for each in found)
    assert only(found, "workers").status is Status.OK


def test_an_account_with_open_tasks_that_is_gone_is_told(stage: Stage, settings: Settings) -> None:
    leave_open(stage)
    found = of(look(changed(settings, accounts={})), "accounts")
    assert any(each.found.startswith("studio has open tasks") for each in found if each.status is Status.BROKEN)


def test_a_test_callback_that_was_signed_with_another_secret_is_told(
    stage: Stage, settings: Settings, database_url: str
) -> None:
    leave_open(stage)
    with psycopg.connect(database_url) as conn:
        conn.execute("INSERT INTO console_test (account, verdict) VALUES ('studio', 'bad')")
    finding = only(look(settings), f"signatures {ACCOUNT}")
    assert finding.status is Status.BROKEN
    assert "signature bad" in finding.found
    assert "RECEIVER_ACCOUNTS__STUDIO__WEBHOOK_SECRETS" in (finding.mend or "")


def test_the_variable_that_holds_webhook_secrets_is_the_providers_own_where_that_is_set(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts = {"kling": AccountSettings(dialect="kling", api_key=SecretStr("k"))}
    deal = read_deals(changed(settings, accounts=accounts))[AccountId("kling")]
    assert webhook_variable(deal) == "RECEIVER_ACCOUNTS__KLING__WEBHOOK_SECRETS"
    monkeypatch.setenv("KLING_WEBHOOK_SECRET", "whsec_anything")
    assert webhook_variable(deal) == "KLING_WEBHOOK_SECRET"


# --- how it is told ------------------------------------------------------------------------------------------------


def test_the_worst_finding_is_the_verdict() -> None:
    well, so_so, bad = findings.ok("a", "b"), findings.warning("a", "b", "c"), findings.broken("a", "b", "c")
    assert findings.worst([]) is Status.OK
    assert findings.worst([so_so, well]) is Status.WARNING
    assert findings.worst([so_so, bad, well]) is Status.BROKEN


def test_each_finding_is_a_line_and_its_mend_another(capsys: pytest.CaptureFixture[str]) -> None:
    findings.tell([findings.ok("one", "fine"), findings.broken("other", "odd\x1b[2J", "do [this]")], as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["ok       one    fine", r"broken   other  odd\x1b[2J", f"{'':<16}-> do [this]", "1 ok, 1 broken"]
