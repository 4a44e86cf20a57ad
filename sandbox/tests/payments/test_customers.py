"""Customers, as Stripe's SDK asks for them."""

from __future__ import annotations

import pytest
import stripe

from sandbox.payments import testing

pytestmark = pytest.mark.django_db


def test_it_works() -> None:
    made = stripe.Customer.create(
        email="alice@example.org", name="Alice", metadata={"account_id": "a1"}
    )
    found = stripe.Customer.retrieve(made.id)
    assert made.id.startswith("cus_")
    assert (found.email, found.name, found.metadata["account_id"]) == (
        "alice@example.org",
        "Alice",
        "a1",
    )
    assert found.livemode is False
    assert found.invoice_settings.default_payment_method is None
    assert testing.event_types() == ["customer.created"]


def test_update_tells_what_it_was(customer: str) -> None:
    stripe.Customer.modify(customer, name="Alice & Co", metadata={"plan": "a", "none": "b"})
    stripe.Customer.modify(customer, metadata={"none": ""})
    before, newest = (event["data"] for event in testing.events("customer.updated"))
    assert newest["previous_attributes"] == {"metadata": {"none": "b"}}
    assert before["previous_attributes"]["name"] == "Alice's Plumbing"
    assert stripe.Customer.retrieve(customer).metadata.to_dict() == {"plan": "a"}


def test_an_update_of_nothing_is_no_event(customer: str) -> None:
    stripe.Customer.modify(customer, name="Alice's Plumbing")
    assert testing.event_types() == ["customer.created"]


def test_a_deleted_one_says_so(subscribed: str) -> None:
    testing.delete_customer(subscribed)
    found = stripe.Customer.retrieve(subscribed, expand=["invoice_settings.default_payment_method"])
    assert found.to_dict() == {"id": subscribed, "object": "customer", "deleted": True}
    assert testing.customers() == []
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        stripe.Customer.modify(subscribed, name="Bob")
    assert (refusal.value.http_status, refusal.value.code) == (404, "resource_missing")


def test_its_subscription_ends_with_it(subscribed: str) -> None:
    testing.delete_customer(subscribed)
    assert testing.subscription_of(subscribed)["status"] == "canceled"
    types = testing.event_types()
    assert types.index("customer.subscription.deleted") < types.index("customer.deleted")


def test_an_email_that_is_none_is_refused() -> None:
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        stripe.Customer.create(email="alice")
    assert refusal.value.code == "email_invalid"


def test_what_invoices_are_paid_with(subscribed: str) -> None:
    expand = ["invoice_settings.default_payment_method"]
    found = stripe.Customer.retrieve(subscribed, expand=expand)
    assert found.invoice_settings.default_payment_method is None
    testing.set_card(subscribed, testing.GOOD_CARD)
    found = stripe.Customer.retrieve(subscribed, expand=expand)
    assert found.invoice_settings.default_payment_method.card.last4 == "4242"


@pytest.mark.parametrize("path", ["colour", "name", "email.colour"])
def test_what_cannot_be_expanded(customer: str, path: str) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="expand"):
        stripe.Customer.retrieve(customer, expand=[path])
