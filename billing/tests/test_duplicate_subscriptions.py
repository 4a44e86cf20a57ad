"""Two subscriptions of one account: the second payment is given back, once."""

from __future__ import annotations

import pytest

from accounts.models import Account
from billing.models import StatusCheck, StripeCustomer
from billing.status_checks import status_check
from billing.stripe_api import PaymentsUnavailable
from billing.tests.subscribing import check, down, kill_at, subscribe
from billing.tests.watched import Killed, Request, Thing, WatchedStripe, nothing

pytestmark = pytest.mark.django_db


@pytest.fixture
def first(carol: Account, at_stripe: WatchedStripe) -> Thing:
    return subscribe(carol, at_stripe)


@pytest.fixture
def second(carol: Account, at_stripe: WatchedStripe, first: Thing) -> Thing:
    """Begun by another of our checkouts, as on a page that stayed open."""
    second = at_stripe.subscribe(
        first["customer"], at_stripe.all("price"), metadata={"checkout": "2"}
    )
    second["created"] = first["created"] + 1
    return second


def test_it_works(carol: Account, at_stripe: WatchedStripe, first: Thing, second: Thing) -> None:
    check(carol)
    assert (first["status"], second["status"]) == ("active", "canceled")
    [refund] = at_stripe.all("refund")
    [_, payment] = at_stripe.all("invoice_payment")
    assert payment["invoice"] == second["latest_invoice"]
    assert refund["payment_intent"] == payment["payment"]["payment_intent"]
    assert refund["reason"] == "duplicate"
    assert carol.status == "ACTIVE"
    check(carol)
    assert carol.status == "ACTIVE"
    assert len(at_stripe.all("refund")) == 1


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("request_number", [2, 3, 4])
def test_killed_at_any_request_it_comes_to_the_same(
    carol: Account,
    at_stripe: WatchedStripe,
    first: Thing,
    second: Thing,
    moment: str,
    request_number: int,
) -> None:
    """After the two requests that ask: payments, refund, cancellation."""
    setattr(at_stripe, moment, kill_at(request_number))
    with pytest.raises(Killed):
        check(carol)
    setattr(at_stripe, moment, nothing)
    check(carol)
    assert (first["status"], second["status"]) == ("active", "canceled")
    assert len(at_stripe.all("refund")) == 1


def test_even_days_later(
    carol: Account, at_stripe: WatchedStripe, first: Thing, second: Thing
) -> None:
    """When Stripe has forgotten the idempotency key, it still knows of the refund."""
    at_stripe.after = kill_at(3)
    with pytest.raises(Killed):
        check(carol)
    at_stripe.after = nothing
    at_stripe.a_day_passes()
    check(carol)
    assert second["status"] == "canceled"
    assert len(at_stripe.all("refund")) == 1


def test_a_stripe_that_fails_in_between_is_asked_again(
    carol: Account, at_stripe: WatchedStripe, first: Thing, second: Thing
) -> None:
    def fail(request: Request) -> None:
        if request.method == "delete":
            down(request)

    at_stripe.before = fail
    with pytest.raises(PaymentsUnavailable):
        check(carol)
    at_stripe.before = nothing
    for _ in range(2):  # the job that is retried, and the one that it leaves
        assert StatusCheck.objects.unsettled().exists()
        status_check(carol.id)
    assert second["status"] == "canceled"
    assert not StatusCheck.objects.unsettled().exists()


def test_what_an_operator_has_set_up_stays(
    carol: Account, at_stripe: WatchedStripe, first: Thing
) -> None:
    by_hand = at_stripe.subscribe(first["customer"], at_stripe.all("price"))
    by_hand["created"] = first["created"] + 1
    check(carol)
    assert (first["status"], by_hand["status"]) == ("active", "active")
    assert at_stripe.all("refund") == []


def test_one_account_is_not_judged_by_another(
    carol: Account, at_stripe: WatchedStripe, first: Thing, bob: Account
) -> None:
    Account.objects.filter(pk=bob.pk).update(status="INACTIVE")
    bob.refresh_from_db()
    bobs = subscribe(bob, at_stripe)
    check(carol)
    assert (first["status"], bobs["status"]) == ("active", "active")
    assert StripeCustomer.objects.count() == 2
