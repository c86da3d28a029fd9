from __future__ import annotations

import re
from fnmatch import fnmatch
from importlib.metadata import requires
from typing import Final

import pytest

from deploy import pins
from tests.deploy.deployed_files import DEPLOY, ROOT

LINES: Final = (DEPLOY / "Dockerfile").read_text("utf-8").replace("\\\n", " ").splitlines()
IGNORED: Final = [
    line for line in (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines() if line and line[0] != "#"
]
PINNED: Final = (ROOT / "requirements" / "dev.txt").read_text("utf-8")


def copied() -> list[str]:
    found = [line.split()[1:-1] for line in LINES if line.startswith("COPY") and "--from" not in line]
    return [source for sources in found for source in sources]


def reaches_the_builder(source: str) -> bool:
    """Judge as the builder does: the last pattern that matches decides."""
    kept = True
    for pattern in IGNORED:
        bare = pattern.removeprefix("!")
        if any(fnmatch(part, bare) for part in (source, source.split("/", maxsplit=1)[0])):
            kept = pattern.startswith("!")
    return kept


def test_what_the_image_is_built_from_exists_and_reaches_the_builder() -> None:
    assert len(copied()) >= 6
    for source in copied():
        assert (ROOT / source).exists(), source
        assert reaches_the_builder(source), source


@pytest.mark.parametrize("secret", ["deploy/secrets/database_url", "deploy/.env", ".git", "receiver-data", ".env"])
def test_secrets_and_data_do_not_reach_the_builder(secret: str) -> None:
    assert not reaches_the_builder(secret)


def test_the_image_runs_one_program_as_nobody_special() -> None:
    last = {line.split()[0]: line.split(maxsplit=1)[1] for line in LINES if line and line[0].isupper()}
    assert last["USER"] == "10001:10001"
    assert "groupadd --gid 10001 receiver" in last["RUN"]
    assert "useradd --uid 10001 --gid 10001" in last["RUN"]
    assert last["ENTRYPOINT"] == '["receiver"]'
    assert 'CMD ["receiver", "health", "web"]' in last["HEALTHCHECK"]


def test_what_is_compiled_holds_whatever_times_the_builder_gives_to_files() -> None:
    (compiled,) = [part.split() for line in LINES for part in line.split("&&") if "compileall" in part]
    assert "-f" in compiled
    assert compiled[compiled.index("--invalidation-mode") + 1] == "unchecked-hash"


def test_everything_that_is_installed_is_pinned_by_its_hash() -> None:
    installs = [part for line in LINES for part in line.split("&&") if "pip install" in part or "pip wheel" in part]
    assert len(installs) == 4
    assert all("--require-hashes" in part or "--no-index" in part for part in installs)


def test_all_that_builds_the_wheel_is_among_the_pins() -> None:
    line = next(line for line in LINES if "tools.txt" in line)
    named = re.search(r"dev\.txt (hatchling [^>]+) >", line)
    assert named is not None
    needed = {
        re.split(r"[^A-Za-z0-9._-]", text)[0] for text in requires("hatchling") or () if "python_version <" not in text
    }
    assert {"hatchling", *needed} == set(named[1].split())
    assert (DEPLOY / "check.sh").read_text("utf-8").count(named[1]) == 1


def test_a_pin_comes_with_its_hashes_and_nothing_else() -> None:
    found = pins.pins(PINNED, ["hatchling", "pluggy"])
    assert [line.partition("==")[0] for line in found.splitlines() if not line.startswith(" ")] == [
        "hatchling",
        "pluggy",
    ]
    assert found.count("--hash=sha256:") >= 2
    assert found in PINNED or all(part in PINNED for part in found.splitlines())


def test_a_package_that_is_not_pinned_is_named() -> None:
    with pytest.raises(KeyError, match="nothing-of-the-kind"):
        pins.pins(PINNED, ["hatchling", "nothing-of-the-kind"])
