"""Idempotency keys: a request takes effect once, however often it is sent."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
import stripe
from django.db import connection
from django.utils import timezone

from sandbox.payments import testing
from sandbox.payments.models import KeptAnswer, StripeObject
from sandbox.tests.payments.conftest import Shop


@pytest.mark.django_db
class TestReplay:
    def test_it_works(self) -> None:
        first = stripe.Customer.create(name="Alice", idempotency_key="k1")
        again = stripe.Customer.create(name="Alice", idempotency_key="k1")
        assert first.id == again.id
        assert len(testing.customers()) == 1
        assert first.last_response.headers.get("Idempotent-Replayed") is None
        assert again.last_response.headers["Idempotent-Replayed"] == "true"
        assert again.last_response.headers["Original-Request"] == first.last_response.request_id
        assert again.last_response.headers["Idempotency-Key"] == "k1"

    def test_other_parameters(self) -> None:
        stripe.Customer.create(name="Alice", idempotency_key="k1")
        with pytest.raises(stripe.IdempotencyError) as refusal:
            stripe.Customer.create(name="Bob", idempotency_key="k1")
        assert refusal.value.http_status == 400
        assert "same parameters they were first used with" in str(refusal.value)

    def test_another_address(self, customer: str) -> None:
        stripe.Customer.create(name="Alice", idempotency_key="k1")
        with pytest.raises(stripe.IdempotencyError):
            stripe.Customer.modify(customer, name="Alice", idempotency_key="k1")

    def test_a_refusal_before_anything_was_done_is_not_kept(self) -> None:
        month: Any = {"currency": "usd", "product": "p", "recurring": {"interval": "month"}}
        with pytest.raises(stripe.InvalidRequestError):
            stripe.Price.create(**month, unit_amount=1, idempotency_key="k1")
        stripe.Product.create(id="p", name="P")
        made = stripe.Price.create(**month, unit_amount=1, idempotency_key="k1")
        assert made.product == "p"

    def test_a_declined_charge_is_kept(self, shop: Shop, subscribed: str) -> None:
        testing.steer(subscribed, next_charge="generic_decline")
        testing.turn_to_renewal(subscribed)
        testing.steer(subscribed, next_charge="generic_decline")
        invoice = testing.invoices_of(subscribed)[-1]["id"]
        for _ in range(2):
            with pytest.raises(stripe.CardError):
                stripe.Invoice.pay(invoice, idempotency_key="k1")
        assert testing.invoices_of(subscribed)[-1]["attempt_count"] == 2
        assert stripe.Invoice.pay(invoice, idempotency_key="k2").status == "paid"

    def test_after_a_day_it_is_a_new_one(self) -> None:
        first = stripe.Customer.create(name="Alice", idempotency_key="k1")
        KeptAnswer.objects.update(answered_at=timezone.now() - timedelta(hours=24, seconds=1))
        assert stripe.Customer.create(name="Alice", idempotency_key="k1").id != first.id


@pytest.mark.django_db(transaction=True)
def test_at_the_same_time() -> None:
    """One is created. Concurrent requests are told to retry, and then get the same one."""
    together = Barrier(8)

    def create(_: int) -> str | stripe.APIError:
        together.wait(10)
        try:
            return str(stripe.Customer.create(name="Alice", idempotency_key="k1").id)
        except stripe.APIError as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(create, range(8)))
    [made] = StripeObject.objects.of("customer")
    assert {answer for answer in answers if isinstance(answer, str)} == {made.id}
    for refusal in (answer for answer in answers if not isinstance(answer, str)):
        assert refusal.http_status == 409
        assert refusal.json_body["error"]["code"] == "idempotency_key_in_use"
        assert refusal.headers["stripe-should-retry"] == "true"
    assert stripe.Customer.create(name="Alice", idempotency_key="k1").id == made.id


@pytest.mark.django_db(transaction=True)
def test_different_ones_at_the_same_time() -> None:
    """Everything has its place in one order: no invoice number and no event is lost."""

    def create(number: int) -> str:
        try:
            return str(stripe.Customer.create(name="Alice").id)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(create, range(24)))
    assert len(ids) == 24
    created = testing.events("customer.created")
    assert {event["data"]["object"]["id"] for event in created} == ids
