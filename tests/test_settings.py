from __future__ import annotations

import re
from pathlib import Path

import pytest

from receiver.settings import AccountSettings, Settings

EXAMPLE = Path(__file__).parent.parent / ".env.example"


def documented() -> set[str]:
    return set(re.findall(r"^# ([A-Z][A-Z0-9_]+)=", EXAMPLE.read_text(), re.MULTILINE))


def known() -> set[str]:
    own = {
        str(field.validation_alias or f"RECEIVER_{name.upper()}")
        for name, field in Settings.model_fields.items()
        if name != "accounts"
    }
    return own | {f"RECEIVER_ACCOUNTS__STUDIO__{name.upper()}" for name in AccountSettings.model_fields}


def test_the_example_names_every_setting_and_no_other() -> None:
    assert documented() == known()


@pytest.mark.parametrize("model", [Settings, AccountSettings])
def test_every_setting_says_what_it_is_for(model: type[Settings | AccountSettings]) -> None:
    assert [name for name, field in model.model_fields.items() if not field.description] == []


def test_one_key_makes_an_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLING_API_KEY", "a-key")
    account = Settings().contracts()["kling"]
    assert account.dialect == "kling"
    assert "a-key" not in repr(Settings())


def test_accounts_are_read_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECEIVER_ACCOUNTS__STUDIO__DIALECT", "kling")
    monkeypatch.setenv("RECEIVER_ACCOUNTS__STUDIO__API_KEY", "k")
    monkeypatch.setenv("RECEIVER_ACCOUNTS__STUDIO__ALLOW_CIDRS", '["10.0.0.0/8"]')
    assert Settings().contracts()["studio"].allow_cidrs == ("10.0.0.0/8",)


def test_callback_secrets_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECEIVER_CALLBACK_SECRETS", f"{'a' * 32}, {'b' * 32}")
    assert [secret.get_secret_value()[0] for secret in Settings().callback_secrets] == ["a", "b"]
