"""Two subscriptions of one account: the second payment is given back, once."""

from __future__ import annotations

from typing import Any

import pytest

from accounts.models import Account
from billing.models import StatusCheck, StripeCustomer
from billing.status_checks import status_check
from billing.stripe_api import PaymentsUnavailable
from billing.tests.memory import Killed, MemoryStripe
from billing.tests.subscribing import check, down, kill_at, subscribe

pytestmark = pytest.mark.django_db


@pytest.fixture
def first(carol: Account, at_stripe: MemoryStripe) -> dict[str, Any]:
    return subscribe(carol, at_stripe)


@pytest.fixture
def second(carol: Account, at_stripe: MemoryStripe, first: dict[str, Any]) -> dict[str, Any]:
    """Begun by another of our checkouts, as on a page that stayed open."""
    return at_stripe.subscribe(
        first["customer"], at_stripe.all("price"), metadata={"checkout": "2"}
    )


def test_it_works(
    carol: Account, at_stripe: MemoryStripe, first: dict[str, Any], second: dict[str, Any]
) -> None:
    check(carol)
    assert (first["status"], second["status"]) == ("active", "canceled")
    [refund] = at_stripe.all("refund")
    assert refund["payment_intent"] == f"pi_{second['latest_invoice']}"
    assert refund["reason"] == "duplicate"
    assert carol.status == "ACTIVE"
    check(carol)
    assert carol.status == "ACTIVE"
    assert len(at_stripe.all("refund")) == 1


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("request_number", [2, 3, 4])
def test_killed_at_any_request_it_comes_to_the_same(
    carol: Account,
    at_stripe: MemoryStripe,
    first: dict[str, Any],
    second: dict[str, Any],
    moment: str,
    request_number: int,
) -> None:
    """After the two requests that ask: payments, refund, cancellation."""
    setattr(at_stripe, moment, kill_at(request_number))
    with pytest.raises(Killed):
        check(carol)
    setattr(at_stripe, moment, lambda method, path: None)
    check(carol)
    assert (first["status"], second["status"]) == ("active", "canceled")
    assert len(at_stripe.all("refund")) == 1


def test_even_days_later(
    carol: Account, at_stripe: MemoryStripe, first: dict[str, Any], second: dict[str, Any]
) -> None:
    """When Stripe has forgotten the idempotency key, it still knows of the refund."""
    at_stripe.after = kill_at(3)
    with pytest.raises(Killed):
        check(carol)
    at_stripe.after = lambda method, path: None
    at_stripe.forget_keys()
    check(carol)
    assert second["status"] == "canceled"
    assert len(at_stripe.all("refund")) == 1


def test_a_stripe_that_fails_in_between_is_asked_again(
    carol: Account, at_stripe: MemoryStripe, first: dict[str, Any], second: dict[str, Any]
) -> None:
    def fail(method: str, path: str) -> None:
        if method == "delete":
            down(method, path)

    at_stripe.before = fail
    with pytest.raises(PaymentsUnavailable):
        check(carol)
    at_stripe.before = lambda method, path: None
    for _ in range(2):  # the job that is retried, and the one that it leaves
        assert StatusCheck.objects.unsettled().exists()
        status_check(carol.id)
    assert second["status"] == "canceled"
    assert not StatusCheck.objects.unsettled().exists()


def test_what_an_operator_has_set_up_stays(
    carol: Account, at_stripe: MemoryStripe, first: dict[str, Any]
) -> None:
    by_hand = at_stripe.subscribe(first["customer"], at_stripe.all("price"))
    check(carol)
    assert (first["status"], by_hand["status"]) == ("active", "active")
    assert at_stripe.all("refund") == []


def test_one_account_is_not_judged_by_another(
    carol: Account, at_stripe: MemoryStripe, first: dict[str, Any], bob: Account
) -> None:
    Account.objects.filter(pk=bob.pk).update(status="INACTIVE")
    bob.refresh_from_db()
    bobs = subscribe(bob, at_stripe)
    check(carol)
    assert (first["status"], bobs["status"]) == ("active", "active")
    assert StripeCustomer.objects.count() == 2
