"""Account status as a function of Stripe's subscriptions: no database, no Stripe."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.standing import Standing, doubles_of, standing_of

STATUSES = {
    "active": "ACTIVE",
    "trialing": "ACTIVE",
    "past_due": "SUSPENDED",
    "unpaid": "SUSPENDED",
    "paused": "SUSPENDED",
    "canceled": "INACTIVE",
    "incomplete": "INACTIVE",
    "incomplete_expired": "INACTIVE",
    "something_new": "INACTIVE",
}


def price(usage_type: str = "licensed", product: str = "switchhook") -> dict[str, Any]:
    return {"product": product, "recurring": {"usage_type": usage_type}}


def subscription(status: str = "active", number: int = 1, **fields: Any) -> dict[str, Any]:
    prices = fields.pop("prices", [price(), price("metered")])
    return {
        "id": f"sub_{number}",
        "created": 1_700_000_000 + number,
        "status": status,
        "items": {"data": [{"price": price} for price in prices]},
        "metadata": {"checkout": "1"},
    } | fields


@pytest.mark.parametrize(("status", "expected"), STATUSES.items())
def test_it_works(status: str, expected: str) -> None:
    assert standing_of([subscription(status)]) == Standing(expected, "sub_1", status)


def test_nothing_is_inactive() -> None:
    assert standing_of([]) == Standing("INACTIVE", "", "")


@pytest.mark.parametrize(
    "prices", [[price("metered")], [price(product="prod_support_contract")], []]
)
def test_only_subscriptions_to_the_base_count(prices: list[dict[str, Any]]) -> None:
    assert standing_of([subscription("active", prices=prices)]) == Standing()
    assert doubles_of([subscription("active"), subscription("active", 2, prices=prices)]) == []


def test_the_best_wins_in_every_order() -> None:
    all_of_them = [subscription(s, n) for n, s in enumerate(["canceled", "past_due", "trialing"])]
    for order in permutations(all_of_them):
        assert standing_of(order) == Standing("ACTIVE", "sub_2", "trialing")


@given(st.lists(st.sampled_from(sorted(STATUSES)), max_size=5), st.randoms())
def test_the_order_never_matters(statuses: list[str], random: Any) -> None:
    ordered = [subscription(status, number) for number, status in enumerate(statuses)]
    shuffled = random.sample(ordered, len(ordered))
    assert standing_of(shuffled) == standing_of(ordered)
    assert doubles_of(shuffled) == doubles_of(ordered)
    best = min(
        (STATUSES[status] for status in statuses),
        key=["ACTIVE", "SUSPENDED", "INACTIVE"].index,
        default="INACTIVE",
    )
    assert standing_of(ordered).status == best


class TestDoubles:
    def test_the_newer_ones_are(self) -> None:
        first, second, third = (subscription("active", number) for number in (1, 2, 3))
        assert doubles_of([third, first, second]) == [second, third]

    @pytest.mark.parametrize("status", ["canceled", "past_due", "unpaid", "incomplete"])
    def test_one_that_is_not_paid_for_is_none(self, status: str) -> None:
        assert doubles_of([subscription(), subscription(status, 2)]) == []
        assert doubles_of([subscription(status), subscription("active", 2)]) == []

    def test_what_an_operator_has_set_up_is_none(self) -> None:
        by_hand = subscription("active", 2, metadata={})
        assert doubles_of([subscription(), by_hand]) == []
        assert doubles_of([subscription("active", 3), by_hand]) == [subscription("active", 3)]

    def test_of_the_same_second_that_of_the_checkout_is(self) -> None:
        by_hand = subscription("active", 2, metadata={})
        bought = subscription("active", 1, created=by_hand["created"])
        assert doubles_of([bought, by_hand]) == [bought]
