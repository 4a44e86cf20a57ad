"""Stripe's customer follows the account's name and address."""

from __future__ import annotations

import pytest
from django.utils import timezone

from accounts.models import Account
from billing.closing import customer_update
from billing.customers import customer_of
from billing.stripe_api import PaymentsUnavailable
from billing.tests.subscribing import down
from billing.tests.watched import WatchedStripe

pytestmark = pytest.mark.django_db


def test_it_works(alice: Account, at_stripe: WatchedStripe) -> None:
    customer = customer_of(alice)
    Account.objects.update(email="alice@plumbing.example", company_name="Alice & Co")
    customer_update(alice.id)
    [at] = at_stripe.all("customer")
    assert (at["id"], at["email"], at["name"]) == (
        customer.customer_id,
        "alice@plumbing.example",
        "Alice & Co",
    )


def test_without_a_company_it_is_the_address(alice: Account, at_stripe: WatchedStripe) -> None:
    customer_of(alice)
    Account.objects.update(company_name="")
    customer_update(alice.id)
    assert at_stripe.all("customer")[0]["name"] == "alice@example.org"


def test_until_the_address_is_confirmed_it_is_the_address(
    alice: Account, at_stripe: WatchedStripe
) -> None:
    Account.objects.update(email_verified_at=None)
    customer_of(Account.objects.get())
    assert at_stripe.all("customer")[0]["name"] == "alice@example.org"
    customer_update(alice.id)
    assert at_stripe.all("customer")[0]["name"] == "alice@example.org"
    Account.objects.update(email_verified_at=timezone.now())
    customer_update(alice.id)
    assert at_stripe.all("customer")[0]["name"] == "Alice's Plumbing"


def test_an_account_that_is_no_customer_is_none_still(
    alice: Account, at_stripe: WatchedStripe
) -> None:
    customer_update(alice.id)
    assert at_stripe.requests == []


def test_a_stripe_that_is_down_is_asked_again(alice: Account, at_stripe: WatchedStripe) -> None:
    customer_of(alice)
    at_stripe.before = down
    with pytest.raises(PaymentsUnavailable):
        customer_update(alice.id)


def test_another_address_before_the_customer_was_written_down(
    alice: Account, at_stripe: WatchedStripe
) -> None:
    """Stripe refuses a key that comes with other parameters."""
    customer_of(alice).delete()
    alice.email = "alice@plumbing.example"
    assert customer_of(alice).customer_id
