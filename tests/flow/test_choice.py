"""Which account a task goes to when its submitter names none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from receiver.core.errors import InvalidInput
from receiver.core.model import Account, AccountId, TaskId
from receiver.flow.accept import Order, accept
from receiver.flow.services import Deal, Services
from tests.flow.rig import ACCOUNT, KEY, Rig, Stage

SHOP = AccountId("shop")
ORDER = Order(
    account=None, kind="text-to-audio", input={"prompt": "rain", "duration": 3.0}, labels={}, idempotency_key="once"
)


def with_two(services: Services, **defaults: AccountId) -> Services:
    deal = services.deals[ACCOUNT]
    other = Deal(replace(deal.account, id=SHOP), deal.profile)
    return replace(
        services,
        deals={**services.deals, SHOP: other},
        defaults={name.replace("_", "-"): account for name, account in defaults.items()},
    )


async def chosen(services: Services, kind: str = "text-to-audio") -> Account:
    return services.deal_for(None, kind).account


def test_the_only_account_that_offers_a_kind_takes_it(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        assert (await chosen(rig.services)).id == ACCOUNT
        accepted = await accept(rig.services, KEY, ORDER)
        assert (await rig.task(accepted.id)).account == ACCOUNT

    stage.play(story)


def test_among_several_the_default_of_the_kind_takes_it(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        services = with_two(rig.services, text_to_audio=SHOP)
        assert (await chosen(services)).id == SHOP
        assert services.deal_for(ACCOUNT, "text-to-audio").account.id == ACCOUNT

    stage.play(story)


@pytest.mark.parametrize(
    ("kind", "field", "said"),
    [("text-to-audio", "account", "shop, studio"), ("text-to-nothing", "kind", "text-to-audio")],
)
def test_what_is_meant_is_asked_for_by_name(stage: Stage, kind: str, field: str, said: str) -> None:
    async def story(rig: Rig) -> None:
        with pytest.raises(InvalidInput, match=said) as caught:
            with_two(rig.services).deal_for(None, kind)
        assert [each.field for each in caught.value.errors] == [field]

    stage.play(story)


def test_a_repeat_is_the_same_task_though_the_default_has_changed(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        first = await accept(with_two(rig.services, text_to_audio=ACCOUNT), KEY, ORDER)
        again = await accept(with_two(rig.services, text_to_audio=SHOP), KEY, ORDER)
        assert (again.id, again.made) == (first.id, None)
        assert (await rig.task(TaskId(first.id))).account == ACCOUNT

    stage.play(story)
