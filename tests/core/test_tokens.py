from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.core.errors import Misconfigured, TokenUnknown
from receiver.core.ids import EPOCH, SPREAD, parse_task_id, task_id
from receiver.core.model import AccountId, AssetId, Secret, TaskId
from receiver.core.tokens import TokenKeys, key_id, maker_of

OLD, NEW = Secret("o" * 32), Secret("n" * 32)
ACCOUNT, TASK = AccountId("kling"), TaskId(12)


def test_a_token_is_good_for_its_task_and_account_only() -> None:
    keys = TokenKeys((NEW,))
    token = keys.callback_token(ACCOUNT, TASK)
    keys.check_callback(token, "kling", "12")
    for account, task in (("kling", "13"), ("klin", "12"), ("kling\0", "12"), ("kling", "\x0012"), ("", "")):
        with pytest.raises(TokenUnknown):
            keys.check_callback(token, account, task)


def test_a_changed_secret_still_knows_the_tokens_of_the_one_before() -> None:
    token = TokenKeys((OLD,)).callback_token(ACCOUNT, TASK)
    TokenKeys((NEW, OLD)).check_callback(token, "kling", "12")
    with pytest.raises(TokenUnknown):
        TokenKeys((NEW,)).check_callback(token, "kling", "12")


def test_a_token_of_an_asset_is_none_of_a_callback_and_the_reverse() -> None:
    keys = TokenKeys((NEW,))
    asset, callback, console = (
        keys.asset_token(AssetId(12)),
        keys.callback_token(ACCOUNT, TASK),
        keys.console_token(ACCOUNT),
    )
    assert keys.is_asset_token(asset, "12")
    assert not keys.is_asset_token(asset, "13")
    for token in (callback, console, "", "x", "12"):
        assert not keys.is_asset_token(token, "12")
    for account, task in (("kling", "12"), ("kling", "test"), ("asset", "12"), ("", "12")):
        with pytest.raises(TokenUnknown):
            keys.check_callback(asset, account, task)
    keys.check_callback(console, "kling", "test")
    with pytest.raises(TokenUnknown):
        keys.check_callback(console, "kling", "12")


@given(st.text())
def test_no_text_is_a_token_by_chance(text: str) -> None:
    with pytest.raises(TokenUnknown):
        TokenKeys((NEW,)).check_callback(text, "kling", "12")


def test_a_short_secret_is_refused_and_never_shown() -> None:
    with pytest.raises(Misconfigured, match="32 characters") as caught:
        TokenKeys((Secret("hunter2"),))
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(Secret("hunter2"))


@given(st.text())
def test_only_plain_digits_spell_a_task_id(text: str) -> None:
    number = parse_task_id(text)
    assert number is None or (str(number) == text and 0 < number < 2**63)


@given(st.datetimes(EPOCH.replace(tzinfo=None)), st.integers(0, SPREAD - 1))
def test_an_id_is_its_millisecond_and_its_draw(at: datetime, draw: int) -> None:
    number = task_id(at.replace(tzinfo=EPOCH.tzinfo), draw)
    assert EPOCH + timedelta(milliseconds=number // SPREAD) <= at.replace(tzinfo=EPOCH.tzinfo)
    assert number % SPREAD == draw


def test_a_secret_that_others_sign_with_is_taken_up_when_its_token_comes() -> None:
    found: list[tuple[Secret, ...]] = []
    web = TokenKeys((OLD,), renew=lambda: found.pop() if found else None)
    token = TokenKeys((NEW, OLD)).callback_token(ACCOUNT, TASK)
    with pytest.raises(TokenUnknown):
        web.check_callback(token, "kling", "12")
    found.append((NEW, OLD))
    web.check_callback(token, "kling", "12")
    assert web.secrets == (NEW, OLD)


def test_the_newest_secret_signs_from_the_first_token_after_it_is_there() -> None:
    found = [(NEW, OLD)]
    worker = TokenKeys((OLD,), renew=lambda: found.pop() if found else None)
    token = worker.callback_token(ACCOUNT, TASK)
    assert maker_of(token) == key_id(NEW)
    assert key_id(NEW) in repr(worker)
    assert NEW.reveal() not in repr(worker)
