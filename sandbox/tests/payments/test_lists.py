"""Lists a page at a time, and fields that are expanded."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from sandbox.payments import testing
from sandbox.tests.payments.conftest import Shop

pytestmark = pytest.mark.django_db


@pytest.fixture
def five(db: None) -> list[str]:
    """Five customers, newest first."""
    return [stripe.Customer.create(name=str(number)).id for number in range(5)][::-1]


def test_it_works(five: list[str]) -> None:
    page = stripe.Customer.list(limit=2)
    assert [each.id for each in page] == five[:2]
    assert (page.has_more, page.url) == (True, "/v1/customers")
    after = stripe.Customer.list(limit=3, starting_after=five[1])
    assert [each.id for each in after] == five[2:]
    assert after.has_more is False


def test_backwards(five: list[str]) -> None:
    page = stripe.Customer.list(limit=2, ending_before=five[3])
    assert [each.id for each in page] == five[1:3]
    assert page.has_more is True
    assert [each.id for each in stripe.Customer.list(ending_before=five[1])] == five[:1]


def test_the_sdk_walks_through_all(five: list[str]) -> None:
    assert [each.id for each in stripe.Customer.list(limit=2).auto_paging_iter()] == five


def test_of_a_time(five: list[str]) -> None:
    made = stripe.Customer.retrieve(five[0]).created
    assert len(stripe.Customer.list(created={"lte": made}).data) == 5
    assert len(stripe.Customer.list(created={"gt": made}).data) == 0


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"limit": 0}, "parameter_invalid_integer"),
        ({"limit": 101}, "parameter_invalid_integer"),
        ({"starting_after": "cus_no"}, "resource_missing"),
        ({"starting_after": "a", "ending_before": "b"}, "parameters_exclusive"),
    ],
)
def test_refused(five: list[str], params: dict[str, Any], code: str) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        stripe.Customer.list(**params)
    assert refusal.value.code == code


def test_of_what_is_in_another_object(shop: Shop, subscribed: str) -> None:
    testing.turn_to_renewal(subscribed)
    invoice = testing.invoices_of(subscribed)[-1]
    lines = [line["id"] for line in invoice["lines"]["data"]]
    page = stripe.Invoice.list_lines(invoice["id"], limit=1)
    assert [line.id for line in page.auto_paging_iter()] == lines
    before = stripe.Invoice.list_lines(invoice["id"], ending_before=lines[1])
    assert [line.id for line in before] == lines[:1]


def test_expanded(shop: Shop, subscribed: str) -> None:
    id = testing.subscription_of(subscribed)["id"]
    found = stripe.Subscription.retrieve(
        id, expand=["customer", "latest_invoice.payments", "items.data.price.product"]
    )
    assert found.customer.email == "alice@example.org"
    assert found.latest_invoice.payments.data[0].status == "paid"
    assert found["items"].data[0].price.product.name == "Switchhook"


def test_expanded_in_a_list(subscribed: str) -> None:
    [found] = stripe.Subscription.list(customer=subscribed, expand=["data.customer"])
    assert found.customer.id == subscribed


def test_what_is_null_stays_null(customer: str) -> None:
    expand = ["invoice_settings.default_payment_method"]
    found = stripe.Customer.retrieve(customer, expand=expand)
    assert found.invoice_settings.default_payment_method is None


@pytest.mark.parametrize("path", ["colour", "name", "email.colour", "a.b.c.d.e"])
def test_what_cannot_be_expanded(customer: str, path: str) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="expand"):
        stripe.Customer.retrieve(customer, expand=[path])
