from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr

from receiver.cli.run import read_settings
from receiver.core.errors import Misconfigured
from receiver.settings import AccountSettings, Settings, SettingUnreadable, is_secret, variables

EXAMPLE = Path(__file__).parent.parent / ".env.example"


def documented() -> set[str]:
    return set(re.findall(r"^# ([A-Z][A-Z0-9_]+)=", EXAMPLE.read_text(), re.MULTILINE))


def test_the_example_names_every_setting_and_no_other() -> None:
    assert documented() == set(variables())


@pytest.mark.parametrize("model", [Settings, AccountSettings])
def test_every_setting_says_what_it_is_for(model: type[Settings | AccountSettings]) -> None:
    assert [name for name, field in model.model_fields.items() if not field.description] == []


@pytest.mark.parametrize(
    ("variable", "account"),
    [("KLING_API_KEY", "kling"), ("COMETAPI_KEY", "cometapi"), ("DEERAPI_KEY", "deerapi"), ("KKIAI_KEY", "kkiai")],
)
def test_one_key_makes_an_account(variable: str, account: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "a-key")
    found = Settings().accounts
    assert {name: each.dialect for name, each in found.items()} == {account: account}
    assert "a-key" not in repr(Settings())


def test_a_key_pair_makes_an_account_and_a_webhook_secret_alone_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLING_WEBHOOK_SECRET", "whsec_1, whsec_2")
    assert Settings().accounts == {}
    monkeypatch.setenv("KLING_ACCESS_KEY", "ak")
    monkeypatch.setenv("KLING_SECRET_KEY", "sk")
    kling = Settings().accounts["kling"]
    assert (kling.access_key, kling.secret_key) == ("ak", SecretStr("sk"))
    assert [secret.get_secret_value() for secret in kling.webhook_secrets] == ["whsec_1", "whsec_2"]


def test_an_account_of_one_key_can_be_set_up_further(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLING_API_KEY", "a-key")
    monkeypatch.setenv("RECEIVER_ACCOUNTS__KLING__CONCURRENCY", "9")
    monkeypatch.setenv("RECEIVER_ACCOUNTS__KLING__BASE_URL", "https://api-beijing.klingai.com")
    kling = Settings().accounts["kling"]
    assert (kling.dialect, kling.concurrency, kling.api_key) == ("kling", 9, SecretStr("a-key"))


def test_the_official_key_serves_the_other_profiles_of_kling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLING_API_KEY", "a-key")
    monkeypatch.setenv("RECEIVER_ACCOUNTS__S1__DIALECT", "kling-videos")
    monkeypatch.setenv("RECEIVER_ACCOUNTS__V26__DIALECT", "kling-text2video")
    monkeypatch.setenv("RECEIVER_ACCOUNTS__V26__API_KEY", "its-own")
    found = Settings().accounts
    assert {name: each.dialect for name, each in found.items()} == {
        "kling": "kling",
        "s1": "kling-videos",
        "v26": "kling-text2video",
    }
    assert (found["s1"].api_key, found["v26"].api_key) == (SecretStr("a-key"), SecretStr("its-own"))


@pytest.mark.parametrize(
    "other", [{"DIALECT": "cometapi"}, {"DIALECT": "kling", "BASE_URL": "https://reseller.example"}]
)
def test_a_key_goes_to_nobody_but_its_provider(other: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLING_API_KEY", "a-key")
    for name, value in other.items():
        monkeypatch.setenv(f"RECEIVER_ACCOUNTS__SHOP__{name}", value)
    assert Settings().accounts["shop"].api_key is None


def test_an_account_of_that_name_with_another_provider_gets_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLING_API_KEY", "a-key")
    monkeypatch.setenv("RECEIVER_ACCOUNTS__KLING__DIALECT", "cometapi")
    assert Settings().accounts["kling"].api_key is None


@pytest.mark.parametrize("text", ['["10.0.0.0/8", "fd00::/8"]', "10.0.0.0/8,fd00::/8", "10.0.0.0/8 , fd00::/8"])
def test_a_list_is_json_or_has_commas_between(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECEIVER_ACCOUNTS__STUDIO__DIALECT", "kling")
    monkeypatch.setenv("RECEIVER_ACCOUNTS__STUDIO__ALLOW_CIDRS", text)
    assert Settings().accounts["studio"].allow_cidrs == ("10.0.0.0/8", "fd00::/8")


def test_callback_secrets_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECEIVER_CALLBACK_SECRETS", f"{'a' * 32}, {'b' * 32}")
    assert [secret.get_secret_value()[0] for secret in Settings().callback_secrets] == ["a", "b"]


@pytest.mark.parametrize("variable", sorted(name for name in variables() if is_secret(name)))
def test_every_secret_may_lie_in_a_file(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text("s3cret-of-a-file\n")
    monkeypatch.setenv("RECEIVER_ACCOUNTS__STUDIO__DIALECT", "kling")
    for pair in {"KLING_WEBHOOK_SECRET": "KLING_API_KEY", "KLING_SECRET_KEY": "KLING_ACCESS_KEY"}.items():
        if variable == pair[0]:
            monkeypatch.setenv(pair[1], "given")
    monkeypatch.setenv(f"{variable}_FILE", str(tmp_path / "secret"))
    settings = Settings()
    assert "s3cret-of-a-file" in str(
        [getattr(each, "get_secret_value", lambda each=each: each)() for each in leaves(settings)]
    )
    assert "s3cret-of-a-file" not in repr(settings) or variable == "KLING_ACCESS_KEY"


def leaves(value: object) -> list[object]:
    if isinstance(value, BaseModel):
        value = dict(value)
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [leaf for each in value for leaf in leaves(each)]
    return [value]


def test_a_setting_and_its_file_are_not_both_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text("postgresql://a/b")
    monkeypatch.setenv("RECEIVER_DATABASE_URL", "postgresql://c/d")
    monkeypatch.setenv("RECEIVER_DATABASE_URL_FILE", str(tmp_path / "secret"))
    with pytest.raises(SettingUnreadable, match="RECEIVER_DATABASE_URL and RECEIVER_DATABASE_URL_FILE are both set"):
        Settings()


def test_a_file_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMETAPI_KEY_FILE", str(tmp_path / "nothing"))
    with pytest.raises(SettingUnreadable, match=r"COMETAPI_KEY_FILE: \S+nothing: No such file"):
        Settings()


def test_a_wrong_value_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECEIVER_PORT", "hunter2")
    monkeypatch.setenv("RECEIVER_ACCOUNTS__STUDIO__DIALECT", "kling")
    monkeypatch.setenv("RECEIVER_ACCOUNTS__STUDIO__API_KYE", "hunter2")
    with pytest.raises(Misconfigured) as caught:
        read_settings()
    assert "RECEIVER_PORT: " in str(caught.value)
    assert "RECEIVER_ACCOUNTS__STUDIO__API_KYE: " in str(caught.value)
    assert "hunter2" not in str(caught.value)
