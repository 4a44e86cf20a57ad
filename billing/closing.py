"""What becomes of a customer of Stripe's whose account is deleted, or has another name."""

from __future__ import annotations

import stripe
import structlog

from accounts.models import Account
from billing.metering import meter_events_send, meter_events_write
from billing.models import StripeCustomer
from billing.status_checks import status_mark
from billing.stripe_api import asking, is_missing
from config.jobs import defer

log = structlog.get_logger(__name__)

END_TASK = "billing.tasks.end_subscriptions"
UPDATE_TASK = "billing.tasks.update_customer"

_ENDED = frozenset({"canceled", "incomplete_expired"})


def subscriptions_end_soon(*, account: Account) -> None:
    """Have a closed account's subscription cancelled once the caller's transaction has committed.

    The job is tried again while Stripe is down.
    """
    defer(END_TASK, only_one=f"{END_TASK} {account.id}", account_id=account.id)


def customer_update_soon(*, account: Account) -> None:
    """Have Stripe told the account's e-mail address and name, as they are then."""
    defer(UPDATE_TASK, only_one=f"{UPDATE_TASK} {account.id}", account_id=account.id)


def subscriptions_end(account_id: str) -> None:
    """Cancel every subscription of a closed account at once; nothing is left to be paid on.

    What was used and not charged yet is on the last invoice; what was paid ahead is kept. Killed in
    between or done twice it comes to the same. Raises 502 ``payments_unavailable``.
    """
    customer = _customer_of_closed(account_id)
    if customer is None:
        return
    meter_events_write()
    meter_events_send()
    with asking():
        if customer.checkout_id:
            _expire(customer.checkout_id)
        found = stripe.Subscription.list(customer=customer.customer_id, status="all", limit=100)
        for subscription in found.auto_paging_iter():
            if subscription.status not in _ENDED:
                _cancel(subscription.id)
    status_mark(account_id=account_id, cause="account deleted")
    log.info("subscriptions_ended", account_id=account_id)


def customer_update(account_id: str) -> None:
    """Tell Stripe the account's e-mail address and name; raise 502 ``payments_unavailable``.

    An account that is no customer yet becomes one under its present name; a deleted one keeps the
    name that is on its invoices.
    """
    customer = (
        StripeCustomer.objects.filter(account_id=account_id, deleted_at=None)
        .filter(account__closed_at=None)
        .select_related("account")
        .first()
    )
    if customer is None:
        return
    account = customer.account
    with asking():
        try:
            stripe.Customer.modify(
                customer.customer_id,
                email=account.email,
                name=account.company_name or account.email,
            )
        except stripe.InvalidRequestError as error:
            if not is_missing(error):
                raise
            status_mark(account_id=account_id, cause="missing at Stripe")


def _customer_of_closed(account_id: str) -> StripeCustomer | None:
    customers = StripeCustomer.objects.filter(account_id=account_id, deleted_at=None)
    return customers.exclude(account__closed_at=None).first()


def _cancel(subscription_id: str) -> None:
    try:
        stripe.Subscription.cancel(subscription_id, invoice_now=True)
    except stripe.InvalidRequestError as error:
        if not is_missing(error):  # it has ended meanwhile
            raise


def _expire(checkout_id: str) -> None:
    try:
        if stripe.checkout.Session.retrieve(checkout_id).status == "open":
            stripe.checkout.Session.expire(checkout_id)
    except stripe.InvalidRequestError:  # it was paid for, or has expired, meanwhile
        log.info("checkout_closed_already", checkout_id=checkout_id)
