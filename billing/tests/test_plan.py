from __future__ import annotations

from decimal import Decimal

import pytest

from billing import plan
from billing.models import PlanPart
from billing.stripe_api import PaymentsUnavailable


@pytest.mark.parametrize(
    ("dollars", "cents"),
    [("5", "500"), ("0.05", "5"), ("0.005", "0.5"), ("0.000001", "0.0001"), ("10", "1000")],
)
def test_cents_are_exact(dollars: str, cents: str) -> None:
    assert str(plan.to_cents(Decimal(dollars))) == cents
    assert plan.to_dollars(plan.to_cents(Decimal(dollars))) == Decimal(dollars)


def test_nothing_is_nothing() -> None:
    assert str(plan.to_cents(Decimal("0.00"))) == "0"


@pytest.mark.parametrize(
    ("price", "is_base"),
    [
        ({"product": "switchhook", "recurring": {"usage_type": "licensed"}}, True),
        ({"product": {"id": "switchhook"}, "recurring": {"usage_type": "licensed"}}, True),
        ({"product": "switchhook", "recurring": {"usage_type": "metered"}}, False),
        ({"product": "prod_other", "recurring": {"usage_type": "licensed"}}, False),
        ({"product": "switchhook", "recurring": None}, False),
    ],
)
def test_the_base_is_told_from_other_prices(price: dict[str, object], is_base: bool) -> None:
    assert plan.is_base_price(price) is is_base


@pytest.mark.django_db
class TestPriceIds:
    @pytest.fixture(autouse=True)
    def prices(self) -> None:
        for name, cents in (("base-price", "500"), ("minute-price", "5")):
            PlanPart.objects.create(name=name, stripe_id=f"price_{name}", cents=Decimal(cents))

    def test_it_works(self) -> None:
        assert plan.price_ids() == ("price_base-price", "price_minute-price")

    @pytest.mark.parametrize("name", ["MONTHLY_BASE", "PER_MINUTE_RATE"])
    def test_a_price_that_stripe_does_not_have_is_not_sold(self, settings, name: str) -> None:
        setattr(settings, name, Decimal("0.07"))
        with pytest.raises(PaymentsUnavailable):
            plan.price_ids()

    def test_there_is_none_before_the_set_up(self) -> None:
        PlanPart.objects.all().delete()
        with pytest.raises(PaymentsUnavailable):
            plan.price_ids()
        with pytest.raises(PaymentsUnavailable):
            plan.part_id(PlanPart.Name.PORTAL)
