"""No secret is written where people look, although each was used."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, quote, quote_plus, urlsplit

import pytest

from tests.system import processes
from tests.system.deployment import Deployment
from tests.system.test_refusals import BAD, send


def callback_tokens(deployment: Deployment) -> set[str]:
    """Return the tokens of the callback URLs that the provider was given."""
    with closing(sqlite3.connect(deployment.sandbox.state / "sandbox.sqlite3")) as conn:
        urls = [row[0] for row in conn.execute("SELECT callback_url FROM task WHERE callback_url IS NOT NULL")]
    return {url.rpartition("/")[2] for url in urls}


def used_secrets(deployment: Deployment) -> Iterator[tuple[str, str]]:
    """Yield each kind of secret with one of its values, once it is shown that it was used."""
    service = deployment.service
    given = service.environment()
    ledger = service.ledger()
    yield "API key", service.key  # it has just opened the ledger
    assert deployment.sandbox.ledger()["charges"] == 6
    yield "account's key", deployment.known.account_key
    verified = "SELECT count(*) FROM inbox WHERE verified"
    processes.until(lambda: deployment.rows(verified)[0][0] > 6, what="signed callbacks are kept")
    yield "webhook secret", deployment.known.webhook
    yield "webhook key", deployment.known.webhook.removeprefix("whsec_")
    assert ledger["accepted"] == 6
    yield "callback secret", Path(given["RECEIVER_CALLBACK_SECRETS_FILE"]).read_text().strip()
    tokens = callback_tokens(deployment)
    assert len(tokens) == 6
    for token in tokens:
        yield "callback token", token.partition(".")[2]
    assert sum(file.suffix in {".mp3", ".wav"} for file in deployment.bucket.rglob("*")) == 12
    yield "S3 secret", given["RECEIVER_S3_SECRET_KEY"]
    assert (
        json.loads((service.directory / "store/key.json").read_text())["secret_key"] == given["RECEIVER_S3_SECRET_KEY"]
    )
    links = [str(row[0]) for row in deployment.rows("SELECT url FROM asset")]
    assert len(links) == 12
    for link in links:
        assert "ksSecret=" in link
        yield "signed query", urlsplit(link).query
        for secret in parse_qs(urlsplit(link).query)["ksSecret"]:
            yield "ksSecret", secret


@pytest.mark.parametrize(
    "settings",
    [{}, {"RECEIVER_LOG_FORMAT": "json", "RECEIVER_LOG_LEVEL": "debug"}],
    ids=["as released", "all there is"],
)
def test_no_log_holds_a_secret(deployment: Deployment, settings: dict[str, str]) -> None:
    service = deployment.serve(more=settings)
    service.submit(3)
    for bad in BAD.values():
        send(service, bad)
    for role in ("rclone", "postgres"):  # what fails says more
        victim = service.kill9(role)
        processes.until(partial(processes.ended, victim), what=f"{role} is dead")
    service.submit(3, first=3)
    service.await_end(6)
    known = dict.fromkeys(
        (kind, form)
        for kind, secret in used_secrets(deployment)
        for form in {secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1]}
    )
    service.stop()

    assert {kind for kind, _ in known} >= {"API key", "callback token", "ksSecret", "S3 secret", "webhook secret"}
    read = 0
    for file, text in deployment.written():
        shown = text.replace(f"API key (shown once): {service.key}", "")
        assert [kind for kind, form in known if form in shown] == [], file
        read += bool(text)
    assert read >= 4
