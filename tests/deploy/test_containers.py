from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from deploy import bucket
from receiver.settings import FILE, is_secret, variables
from tests.deploy.deployed_files import DEPLOY, ROOT, load
from tests.transfer.stores import start_rclone

COMPOSE: Final[dict[str, Any]] = load("compose.yaml")
SERVICES: Final[dict[str, dict[str, Any]]] = COMPOSE["services"]
OURS: Final = [name for name in SERVICES if name.startswith(("web-", "worker-", "migrate", "bucket"))]
UNITS: Final = sorted((DEPLOY / "systemd").iterdir())
NAMED: Final = re.compile(r"\b(?:RECEIVER|KLING|COMETAPI|DEERAPI|KKIAI)_[A-Z0-9_]+")


def is_setting(name: str) -> bool:
    known = variables("NAME")
    return name in known or (name.endswith(FILE) and is_secret(name.removesuffix(FILE)))


@pytest.mark.parametrize(
    "file",
    [path for path in sorted(DEPLOY.rglob("*")) if path.is_file() and "secrets/" not in str(path)]
    + [ROOT / "docs" / "operating.md"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_only_settings_that_exist_are_named(file: Path) -> None:
    clients = {"RECEIVER_API_KEY", "RECEIVER_URL"}  # of the command line
    named = set(NAMED.findall(file.read_text("utf-8")))
    assert [name for name in named - clients if not is_setting(name)] == []


def test_two_of_each_work_and_all_wait_for_the_migration_and_the_bucket() -> None:
    assert [name for name in OURS if name.startswith("web-")] == ["web-1", "web-2"]
    assert [name for name in OURS if name.startswith("worker-")] == ["worker-1", "worker-2"]
    for name in OURS[:4]:
        assert SERVICES[name]["command"] == [name.split("-")[0]]
        for first in ("migrate", "bucket"):
            assert SERVICES[name]["depends_on"][first] == {"condition": "service_completed_successfully"}
    assert SERVICES["migrate"]["command"] == ["migrate"]
    assert SERVICES["bucket"]["entrypoint"] == ["python", "/bucket.py"]
    assert SERVICES["bucket"]["volumes"] == ["./bucket.py:/bucket.py:ro"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_can_do_no_more_than_it_must(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
    assert service["restart"] == ("no" if name in {"migrate", "bucket"} else "unless-stopped")
    assert "healthcheck" in service or name.startswith("web-")  # the image's own
    if name in {"database", "store"}:
        assert service["networks"] == ["inside"]
        assert "ports" not in service


def test_the_bucket_is_made_once(tmp_path: Path) -> None:
    server = start_rclone(tmp_path / "store")
    try:
        key = tmp_path / "key"
        key.write_text(f"{server.secret_key}\n")
        given = SERVICES["bucket"]["environment"] | {
            "RECEIVER_S3_ENDPOINT": f"http://127.0.0.1:{server.port}",
            "RECEIVER_S3_ACCESS_KEY": server.access_key,
            "RECEIVER_S3_SECRET_KEY_FILE": str(key),
        }
        assert bucket.ensure(given)
        assert [each.name for each in server.directory.iterdir() if each.name == "receiver"] == ["receiver"]
        assert not bucket.ensure(given)
    finally:
        server.stop()


def test_the_database_keeps_what_it_commits() -> None:
    assert {"fsync=on", "synchronous_commit=on", "full_page_writes=on"} <= set(SERVICES["database"]["command"])
    assert COMPOSE["networks"]["inside"] == {"internal": True}


def test_a_secret_is_a_file_and_never_a_variable() -> None:
    for name in OURS:
        environment = SERVICES[name]["environment"]
        given = {variable: value for variable, value in environment.items() if value.startswith("/run/secrets/")}
        assert {value.rpartition("/")[2] for value in given.values()} == set(SERVICES[name]["secrets"])
        assert all(variable.endswith(FILE) for variable in given)
        assert not [variable for variable in environment if is_secret(variable)]
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", ())}
    assert used == set(COMPOSE["secrets"])


def test_the_script_makes_each_secret_once(tmp_path: Path) -> None:
    command = ["sh", str(DEPLOY / "secrets.sh"), str(tmp_path / "secrets")]
    subprocess.run(command, check=True, capture_output=True)
    made = {file.name: file.read_text() for file in (tmp_path / "secrets").iterdir()}
    assert {f"./secrets/{name}" for name in made} == {each["file"] for each in COMPOSE["secrets"].values()}
    assert made["database_password"] in made["database_url"]
    assert made["s3_secret_key"] in made["s3_identities"]
    assert len(made["callback_secrets"]) == 64
    assert made["database_password"] != made["callback_secrets"]
    assert oct((tmp_path / "secrets").stat().st_mode & 0o777) == "0o700"
    again = subprocess.run(command, check=True, capture_output=True, text=True)
    assert again.stdout == ""
    assert {file.name: file.read_text() for file in (tmp_path / "secrets").iterdir()} == made


@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit.suffix == ".service"], ids=lambda unit: unit.name)
def test_each_credential_of_a_unit_is_used_and_told_of(unit: Path) -> None:
    text, guide = unit.read_text(), (ROOT / "docs" / "operating.md").read_text("utf-8")
    loaded = re.findall(r"^LoadCredential=(\w+):/etc/receiver/credentials/(\w+)$", text, re.MULTILINE)
    used = re.findall(r"^Environment=(\w+)_FILE=%d/(\w+)$", text, re.MULTILINE)
    assert [name for name, _ in loaded] == [file for _, file in loaded] == [name for _, name in used]
    assert all(is_secret(variable) for variable, _ in used)
    assert all(f"`{name}`" in guide for name, _ in loaded)


def test_the_proxy_knows_each_web_and_keeps_what_is_inside_to_itself() -> None:
    text = (DEPLOY / "caddy" / "Caddyfile").read_text()
    assert "reverse_proxy web-1:8080 web-2:8080 {" in text
    assert re.search(r"@inside path /metrics /readyz /healthz\n\trespond @inside 404", text)
    assert {"DOMAIN"} == set(re.findall(r"\{\$(\w+)\}", text)) == set(SERVICES["proxy"]["environment"])
    sample = (DEPLOY / "compose.env.example").read_text()
    asked = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text()))
    assert asked == set(re.findall(r"^(\w+)=", sample, re.MULTILINE))
