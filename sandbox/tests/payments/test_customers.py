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
    newest, before = stripe.Event.list(type="customer.updated").data
    assert newest.data.previous_attributes.to_dict() == {"metadata": {"none": "b"}}
    assert before.data.previous_attributes["name"] == "Alice's Plumbing"
    assert stripe.Customer.retrieve(customer).metadata.to_dict() == {"plan": "a"}


def test_an_update_of_nothing_is_no_event(customer: str) -> None:
    stripe.Customer.modify(customer, name="Alice's Plumbing")
    assert testing.event_types() == ["customer.created"]


def test_list(customer: str) -> None:
    bob = stripe.Customer.create(email="bob@example.org")
    assert [found.id for found in stripe.Customer.list()] == [bob.id, customer]
    assert [found.id for found in stripe.Customer.list(email="bob@example.org")] == [bob.id]


def test_a_deleted_one_says_so(subscribed: str) -> None:
    assert stripe.Customer.delete(subscribed).deleted
    found = stripe.Customer.retrieve(subscribed)
    assert found.to_dict() == {"id": subscribed, "object": "customer", "deleted": True}
    assert list(stripe.Customer.list()) == []
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        stripe.Customer.modify(subscribed, name="Bob")
    assert (refusal.value.http_status, refusal.value.code) == (404, "resource_missing")


def test_its_subscription_ends_with_it(subscribed: str) -> None:
    stripe.Customer.delete(subscribed)
    assert testing.subscription_of(subscribed)["status"] == "canceled"
    types = testing.event_types()
    assert types.index("customer.subscription.deleted") < types.index("customer.deleted")


def test_default_payment_method(customer: str) -> None:
    method = stripe.PaymentMethod.attach("pm_card_visa", customer=customer)
    stripe.Customer.modify(customer, invoice_settings={"default_payment_method": method.id})
    found = stripe.Customer.retrieve(customer, expand=["invoice_settings.default_payment_method"])
    assert found.invoice_settings.default_payment_method.card.last4 == "4242"


def test_a_payment_method_of_somebody_else_is_refused(customer: str) -> None:
    bob = stripe.Customer.create()
    method = stripe.PaymentMethod.attach("pm_card_visa", customer=bob.id)
    with pytest.raises(stripe.InvalidRequestError, match="must be attached to the customer"):
        stripe.Customer.modify(customer, invoice_settings={"default_payment_method": method.id})


def test_an_email_that_is_none_is_refused() -> None:
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        stripe.Customer.create(email="alice")
    assert refusal.value.code == "email_invalid"
