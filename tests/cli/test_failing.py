"""How a command ends that cannot do its work."""

from __future__ import annotations

import re
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
import typer

from receiver.cli import failing
from receiver.cli.health import health
from receiver.core.errors import BucketUnavailable, Misconfigured, NotFound, StoreUnavailable
from receiver.core.model import Secret
from receiver.local.store import StoreAddress
from receiver.transfer.bucket import Bucket
from receiver.transfer.s3 import BucketConfig
from tests.cli.rig import RECEIVER, environment
from tests.transfer.servers import Behaviour, Exchange, RawHost

PASSWORD = "planted-password"


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = environment({"RECEIVER_LOG_LEVEL": "error", **variables})
    return subprocess.run([*RECEIVER, *arguments], env=env, capture_output=True, text=True, check=False, timeout=100)


def test_a_web_that_cannot_run_as_it_is_set_up_says_so_by_its_status(database_url: str, tmp_path: Path) -> None:
    url = database_url.replace("/test_", "/nothing_").replace("//receiver@", f"//receiver:{PASSWORD}@")
    chosen = {"RECEIVER_DATA_DIR": str(tmp_path), "RECEIVER_CALLBACK_SECRETS": "s" * 40}
    done = run("web", RECEIVER_DATABASE_URL=url, **chosen)
    assert (done.returncode, done.stdout) == (failing.HOPELESS, "")
    assert done.stderr == (
        "receiver: store_unavailable: the database: there is no such database;"
        " CREATE DATABASE …, or correct RECEIVER_DATABASE_URL\n"
    )


def test_serve_ends_when_a_part_of_it_can_never_run(
    database_url: str, bucket_address: StoreAddress, bucket_prefix: str, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = run(
            "serve",
            RECEIVER_DATABASE_URL=database_url,
            RECEIVER_S3_ENDPOINT=bucket_address.endpoint,
            RECEIVER_S3_ACCESS_KEY=bucket_address.access_key,
            RECEIVER_S3_SECRET_KEY=bucket_address.secret_key,
            RECEIVER_S3_BUCKET=bucket_address.bucket,
            RECEIVER_S3_PREFIX=bucket_prefix,
            RECEIVER_DATA_DIR=str(tmp_path),
            RECEIVER_CALLBACK_SECRETS="s" * 40,
            RECEIVER_PORT=port,
            RECEIVER_WORKER_PORT="0",
        )
    said = [line for line in done.stderr.splitlines() if line.startswith("receiver: ")]
    assert done.returncode == 1
    assert said[-2:] == [
        f"receiver: misconfigured: web cannot listen on 127.0.0.1:{port}: stop what does, or set another port",
        "receiver: misconfigured: web cannot run as it is set up; it has said why",
    ]


def refused(state: str) -> StoreUnavailable:
    error = StoreUnavailable("x")
    error.__cause__ = psycopg.errors.lookup(state)()
    return error


def test_only_what_a_person_must_mend_is_hopeless() -> None:
    assert failing.hopeless(Misconfigured("no such thing"))
    assert failing.hopeless(refused("28P01"))
    assert not failing.hopeless(refused("53300"))
    assert not failing.hopeless(BucketUnavailable("away"))


def test_of_errors_that_come_together_all_are_known_or_none() -> None:
    one, other = NotFound("a"), Misconfigured("b")
    assert failing.known(ExceptionGroup("", [one, ExceptionGroup("", [other])])) == (one, other)
    assert failing.known(ExceptionGroup("", [one, ValueError()])) == ()
    assert failing.known(ValueError()) == ()


CONFIG = BucketConfig(
    endpoint="http://127.0.0.1:1",
    region="us-east-1",
    bucket="b",
    prefix="",
    access_key="a",
    secret_key=Secret(PASSWORD),
    public=False,
)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (replace(CONFIG, endpoint="127.0.0.1:1"), "RECEIVER_S3_ENDPOINT, .* Invalid endpoint: 127.0.0.1:1"),
        (replace(CONFIG, bucket="no name/at all"), "is no name that a bucket can have; correct RECEIVER_S3_BUCKET"),
    ],
)
def test_a_bucket_that_cannot_be_is_told_in_a_line_with_what_to_do(
    config: BucketConfig, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Misconfigured) as caught:
        Bucket(config)
    failing.tell(caught.value)
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(f"{said}$", line)
    assert PASSWORD not in line


def answering(status: str) -> Behaviour:
    def behaviour(exchange: Exchange) -> bool:
        exchange.answer(status, b"")
        return True

    return behaviour


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        (lambda _: False, "does not answer at {}: it ended the connection"),
        (answering("404 Not Found"), "answers 404 at {}/readyz: another program"),
        (answering("503 Service Unavailable"), "answers 503 at {}/readyz: it runs, but"),
    ],
)
def test_a_process_that_is_not_ready_is_told_with_what_that_means(
    behaviour: Behaviour, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with RawHost(behaviour) as host:
        where = host.url.removeprefix("http://")
        monkeypatch.setenv("RECEIVER_PORT", where.rpartition(":")[2])
        with pytest.raises(typer.Exit):
            health()
    assert said.format(where) in capsys.readouterr().err


def test_where_nothing_listens_no_process_is_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RECEIVER_WORKER_PORT", "1")
    with pytest.raises(typer.Exit):
        health("worker", alive=True)
    assert "worker does not answer at 127.0.0.1:1: nothing listens there" in capsys.readouterr().err
