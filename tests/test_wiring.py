"""What is read before anything is opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from receiver import wiring
from receiver.core.errors import Misconfigured
from receiver.core.model import AccountId, ApiKey, Secret
from receiver.settings import AccountSettings, Settings

OLD, NEW = Secret("o" * 32), Secret("n" * 32)
HOUSE = """
extends = "kling"
name = "house"
base_url = "https://api.house.example"
"""


def settings(accounts: dict[str, AccountSettings] | None = None, **others: object) -> Settings:
    return Settings.model_validate({"accounts": accounts or {}, **others})


def account(dialect: str, **others: object) -> AccountSettings:
    given = {} if "access_key" in others else {"api_key": "k"}
    return AccountSettings.model_validate({"dialect": dialect, **given, **others})


def test_a_seller_of_ones_own_is_one_file(tmp_path: Path) -> None:
    (tmp_path / "house.toml").write_text(HOUSE)
    (tmp_path / "notes.txt").write_text("no profile")
    deals = wiring.read_deals(settings({"mine": account("house")}, profiles_dir=tmp_path))
    assert deals[AccountId("mine")].account.base_url == "https://api.house.example"


def test_a_profile_of_ones_own_comes_before_the_packaged_one(tmp_path: Path) -> None:
    (tmp_path / "cometapi.toml").write_text(HOUSE.replace('"house"', '"cometapi"'))
    assert wiring.read_profiles(tmp_path)["cometapi"].base_url == "https://api.house.example"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("house.toml", HOUSE + "concurrency = 'many'\n", r"house\.toml, line 5: concurrency: "),
        ("house.toml", HOUSE + "colour = 'red'\n", r"house\.toml, line 5: colour: "),
        ("house.toml", HOUSE + "=\n", r"house\.toml, line 5: Invalid"),
        ("villa.toml", HOUSE, r"villa\.toml, line 3: name: must be the name of the file"),
    ],
)
def test_a_bad_profile_is_named_with_line_and_key(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(Misconfigured, match=said):
        wiring.read_profiles(tmp_path)


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="nothing: profiles cannot be read"):
        wiring.read_profiles(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (account("nobody"), "account a: unknown dialect 'nobody'"),
        (account("new-api"), "account a: set base_url"),
        (account("cometapi", access_key="ak", secret_key="sk"), "account a: cometapi takes no key_pair, only api_key"),
        (AccountSettings(dialect="kling"), "account a: set api_key"),
        (AccountSettings(dialect="kling", access_key="ak"), "account a: set api_key"),
        (account("kling", webhook_secrets="abc"), "account a: webhook_secrets"),
        (account("kling", signature_mode="required"), "account a: signature_mode required needs"),
        (account("kling", base_url="beijng"), r"account a: base_url must be .* or one of beijing, singapore$"),
        (account("cometapi", base_url="api.cometapi.com"), r"account a: base_url must be http\(s\)://host\S+$"),
        (account("new-api", base_url="https://a.example/?x=1"), "account a: base_url must be"),
        (account("kling", asset_hosts="https://a.example"), "account a: asset_hosts: 'https://a.example' is no domain"),
        (account("cometapi", api_key=" "), "account a: api_key: a key is one word"),
        (account("cometapi", api_key="Bearer k"), "account a: api_key: a key is one word"),
        (account("kling", access_key="a", secret_key="\u20ac"), "account a: secret_key: a key is one word"),
    ],
)
def test_a_wrong_account_is_named_with_what_is_wrong(wrong: AccountSettings, said: str) -> None:
    with pytest.raises(Misconfigured, match=said):
        wiring.read_deals(settings({"a": wrong}))


@pytest.mark.parametrize(("pasted", "key"), [("k-1", "k-1"), (" k-1\n", "k-1")])
def test_white_space_around_a_key_is_no_part_of_it(pasted: str, key: str) -> None:
    deals = wiring.read_deals(settings({"a": account("cometapi", api_key=pasted)}))
    assert deals[AccountId("a")].account.credentials == ApiKey(key=Secret(key))


@pytest.mark.parametrize(
    ("defaults", "said"),
    [
        ({"text-to-audio": "b"}, "text-to-audio: there is no account 'b'"),
        ({"text-to-magic": "a"}, "account a offers no text-to-magic"),
    ],
)
def test_a_default_that_cannot_be_is_named(defaults: dict[str, str], said: str) -> None:
    chosen = settings({"a": account("kling")}, default_accounts=defaults)
    with pytest.raises(Misconfigured, match=said):
        wiring.read_defaults(chosen, wiring.read_deals(chosen))


def write(file: Path, *secrets: Secret) -> None:
    """Replace the file as `receiver secrets` does, never in place."""
    made = file.with_suffix(".new")
    made.write_text("".join(f"{secret.reveal()}\n" for secret in secrets))
    made.replace(file)


def test_a_changed_file_of_secrets_is_taken_up(tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    write(file, OLD)
    tokens = wiring.read_tokens(settings(callback_secrets=(SecretStr(OLD.reveal()),), callback_secrets_file=file))
    token = tokens.console_token(AccountId("a"))
    write(file, NEW, OLD)
    assert tokens.console_token(AccountId("a")) != token
    tokens.check_callback(token, "a", "test")
    assert tokens.secrets == (NEW, OLD)


@pytest.mark.parametrize("text", ["", "too short", None])
def test_a_broken_file_of_secrets_changes_nothing_and_is_told_once(text: str | None, tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    write(file, OLD)
    renew = wiring.SecretFile(file)
    assert renew() == (OLD,)
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
        os.utime(file, ns=(1, 1))
    with capture_logs() as logs:
        assert renew() is None
    assert [line["event"] for line in logs] == ["callback_secrets.unreadable"]
    write(file, NEW)
    assert renew() == (NEW,)
    assert renew() is None


def test_the_accounts_of_the_documents_are_accounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[1] / "docs" / "profiles.md").read_text("utf-8")
    (tmp_path / "example-audio.toml").write_text(page.partition("```toml\n")[2].partition("```")[0], "utf-8")
    for name in ("day", "night", "kling", "shop"):
        (tmp_path / name).write_text(f"key-of-{name}\n")
    for block in page.split("```text\n")[1:]:
        for line in block.partition("```")[0].splitlines():
            variable, _, value = line.partition("=")
            given = value.replace("/run/secrets", str(tmp_path)).replace("/etc/receiver/profiles", str(tmp_path))
            monkeypatch.setenv(variable, given)

    read = Settings()
    deals = wiring.read_deals(read)

    keys = {name: deal.account.credentials for name, deal in deals.items() if name != "kling"}
    assert keys == {
        name: ApiKey(key=Secret(f"key-of-{'kling' if name == 'film' else name}"))
        for name in ("day", "night", "film", "shop")
    }
    assert wiring.read_defaults(read, deals) == {"text-to-audio": "day", "video-to-audio": "night"}
    assert deals[AccountId("shop")].profile.name == "example-audio"
