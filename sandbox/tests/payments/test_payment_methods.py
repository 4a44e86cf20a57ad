"""Cards: attached, declined, detached."""

from __future__ import annotations

import pytest
import stripe

pytestmark = pytest.mark.django_db


def test_it_works(customer: str) -> None:
    method = stripe.PaymentMethod.create(
        type="card", card={"number": "5555555555554444", "exp_month": 1, "exp_year": 2040}
    )
    assert method.customer is None
    attached = stripe.PaymentMethod.attach(method.id, customer=customer)
    assert attached.customer == customer
    assert (attached.card.brand, attached.card.last4) == ("mastercard", "4444")
    assert [each.id for each in stripe.PaymentMethod.list(customer=customer)] == [method.id]
    assert [each.id for each in stripe.Customer.list_payment_methods(customer)] == [method.id]
    stripe.PaymentMethod.detach(method.id)
    assert list(stripe.PaymentMethod.list(customer=customer)) == []


def test_of_one_customer_alone(customer: str) -> None:
    method = stripe.PaymentMethod.attach("pm_card_visa", customer=customer)
    bob = stripe.Customer.create()
    with pytest.raises(stripe.InvalidRequestError, match="already been attached"):
        stripe.PaymentMethod.attach(method.id, customer=bob.id)
    with pytest.raises(stripe.InvalidRequestError):
        stripe.Customer.retrieve_payment_method(bob.id, method.id)


def test_declined(customer: str) -> None:
    with pytest.raises(stripe.CardError) as refusal:
        stripe.PaymentMethod.attach("pm_card_chargeDeclined", customer=customer)
    error = refusal.value
    assert (error.http_status, error.code) == (402, "card_declined")
    assert error.user_message == "Your card was declined."
    assert error.json_body["error"]["decline_code"] == "generic_decline"
    assert list(stripe.PaymentMethod.list(customer=customer)) == []


def test_a_number_that_is_no_test_card() -> None:
    with pytest.raises(stripe.CardError, match="Your card number is incorrect") as refusal:
        stripe.PaymentMethod.create(type="card", card={"number": "4000000000000001"})
    assert refusal.value.code == "incorrect_number"
