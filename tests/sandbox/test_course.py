from decimal import Decimal

import pytest

from receiver.sandbox.config import SandboxConfig
from receiver.sandbox.course import dice, draw
from receiver.sandbox.records import Order
from receiver.sandbox.sound import record

ORDER = Order(prompt="rain", duration=Decimal("3.0"))


def test_the_same_seed_gives_the_same_course() -> None:
    courses = [[draw(ORDER, seed=7, run_seconds=2)(number) for number in range(1, 20)] for _ in range(2)]
    assert courses[0] == courses[1]
    assert courses[0] != [draw(ORDER, seed=8, run_seconds=2)(number) for number in range(1, 20)]


def test_run_times_spread_by_half_around_the_average() -> None:
    ends = [draw(ORDER, seed=1, run_seconds=2)(number).ends_after for number in range(1, 500)]
    assert 1000 <= min(ends) < 1100
    assert 2900 < max(ends) <= 3000
    assert abs(sum(ends) / len(ends) - 2000) < 100


def test_purposes_have_dice_of_their_own() -> None:
    assert dice(1, 1, "run").random() != dice(1, 1, "another").random()


def test_the_same_task_sounds_the_same() -> None:
    assert record(176300000000000016, Decimal("3.0")) == record(176300000000000016, Decimal("3.0"))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"api_key": ""}, "api_key"),
        ({"access_key": "a"}, "secret_key"),
        ({"concurrency": -1}, "concurrency"),
        ({"run_seconds": -1.0}, "run_seconds"),
        ({"link_seconds": -1}, "link_seconds"),
        ({"webhook_secret": "c2VjcmV0"}, "webhook_secret"),
        ({"webhook_secret": "whsec_"}, "webhook_secret"),
        ({"webhook_secret": "whsec_not base64"}, "webhook_secret"),
    ],
)
def test_a_senseless_setting_is_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, wrong: dict[str, object], named: str
) -> None:
    settings = {"state_dir": tmp_path_factory.getbasetemp(), "api_key": "key"} | wrong
    with pytest.raises(ValueError, match=named):
        SandboxConfig(**settings)  # type: ignore[arg-type]


def test_secrets_are_not_shown(tmp_path_factory: pytest.TempPathFactory) -> None:
    shown = repr(SandboxConfig(state_dir=tmp_path_factory.getbasetemp(), api_key="hidden", control_key="hidden"))
    assert "hidden" not in shown
