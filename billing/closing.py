"""What becomes of a customer of Stripe's whose account is deleted, or has another name."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import stripe
import structlog
from django.db.models import Sum
from django.utils import timezone

from accounts.models import Account
from billing.customers import name_of
from billing.last_invoices import drafts_collect, later_months_refund
from billing.metering.comparison import has_counted_all
from billing.metering.events import meter_events_hurry, meter_events_send, meter_events_write
from billing.metering.periods import terms_of
from billing.metering.problems import problem_note
from billing.models import (
    MeterEvent,
    MeterEventQuerySet,
    MeterProblem,
    PlanPart,
    StripeCustomer,
)
from billing.plan import part_id
from billing.status_checks import asking_about, status_mark
from billing.stripe_api import asking, is_missing
from core.queue.jobs import defer
from usage.models import UsageRecord

log = structlog.get_logger(__name__)

# It waits for calls, of which nothing is known here.
END_TASK = "dashboard.tasks.end_account"
UPDATE_TASK = "billing.tasks.update_customer"

# So long after an account's last call its minutes may wait for Stripe to take them.
PATIENCE = timedelta(hours=24)
# A draft becomes final within three days of its own accord; one that is older was held back.
_DRAFT_FOR = timedelta(days=4)
_ENDED = frozenset({"canceled", "incomplete_expired"})


def subscriptions_end_soon(*, account: Account, at: datetime | None = None) -> None:
    """Have a closed account's subscription cancelled once the caller's transaction has committed.

    The job is tried again while Stripe is down, and looks again while there is something to wait
    for.
    """
    defer(END_TASK, at=at, only_one=f"{END_TASK} {account.id}", account_id=account.id)


def late_subscriptions_end_soon(*, account_id: str) -> None:
    """Have the subscription cancelled of an account that was closed before it began.

    A checkout page stays open when its account is deleted, and can still be paid on.
    """
    closed = Account.objects.filter(pk=account_id).exclude(closed_at=None)
    if account := closed.exclude(status=Account.Status.INACTIVE).first():
        subscriptions_end_soon(account=account)


def customer_update_soon(*, account: Account) -> None:
    """Have Stripe told the account's email address and name, as they are then."""
    defer(UPDATE_TASK, only_one=f"{UPDATE_TASK} {account.id}", account_id=account.id)


def subscriptions_end(account_id: str, *, given_up: int = 0) -> bool:
    """Cancel every subscription of a closed account; nothing is left to be paid on.

    Not before Stripe has counted all that the account has used, which is on the last invoice then:
    False while it has not, and nobody knows whether it ever will. What was paid ahead is kept, but
    for a month that began after the account was closed. Killed in between or done twice it comes
    to the same. Raises 502 ``payments_unavailable``.

    :param given_up: how many calls are on that nobody waits for any more.
    """
    customer = _customer_of_closed(account_id)
    if customer is None:
        return True
    meter_events_write()
    with asking_about(customer):
        if customer.checkout_id:
            _expire(customer.checkout_id)
        subscriptions = _subscriptions_of(customer)
    # Stripe answers: what was postponed while it did not need not wait any longer.
    meter_events_hurry(account_id=account_id)
    meter_events_send()
    if not _is_counted(customer, subscriptions):
        return False
    _report_what_is_lost(account_id, given_up)
    closed_at = _closed_at(customer.account)
    with asking():
        for subscription in subscriptions:
            if subscription.status not in _ENDED:
                _cancel(subscription.id)
        drafts_collect(customer.customer_id, since=closed_at - _DRAFT_FOR)
        later_months_refund(customer.customer_id, after=closed_at)
    status_mark(account_id=account_id, cause="account deleted")
    log.info("subscriptions_ended", account_id=account_id)
    return True


def customer_update(account_id: str) -> None:
    """Tell Stripe the account's email address and name; raise 502 ``payments_unavailable``.

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
                name=name_of(account),
            )
        except stripe.InvalidRequestError as error:
            if not is_missing(error):
                raise
            status_mark(account_id=account_id, cause="missing at Stripe")


def _customer_of_closed(account_id: str) -> StripeCustomer | None:
    customers = StripeCustomer.objects.filter(account_id=account_id, deleted_at=None)
    return customers.exclude(account__closed_at=None).select_related("account").first()


def _subscriptions_of(customer: StripeCustomer) -> list[stripe.Subscription]:
    found = stripe.Subscription.list(customer=customer.customer_id, status="all", limit=100)
    return list(found.auto_paging_iter())


def _is_counted(customer: StripeCustomer, subscriptions: Sequence[stripe.Subscription]) -> bool:
    """Whether Stripe has all minutes of the account, or will not take the rest of them."""
    if _unsent(customer.account_id).exists():
        return timezone.now() > _last_used_at(customer.account) + PATIENCE
    meter_id = part_id(PlanPart.Name.METER)
    terms = terms_of((each.to_dict() for each in subscriptions), meter_id)
    return all(has_counted_all(customer, term, meter_id) for term in terms)


def _unsent(account_id: str) -> MeterEventQuerySet:
    return MeterEvent.objects.unsent().filter(account_id=account_id)


def _last_used_at(account: Account) -> datetime:
    newest = UsageRecord.objects.of(account).newest_first().first()
    return max(_closed_at(account), newest.created_at) if newest else _closed_at(account)


def _closed_at(account: Account) -> datetime:
    return account.closed_at or timezone.now()


def _report_what_is_lost(account_id: str, live_calls: int) -> None:
    """Tell an operator about minutes that the last invoice will not have."""
    minutes = _unsent(account_id).aggregate(sum=Sum("minutes", default=0))["sum"]
    if not minutes and not live_calls:
        return
    log.error("account_ended_early", account_id=account_id, minutes=minutes, live_calls=live_calls)
    problem_note(
        kind=MeterProblem.Kind.AFTER_CANCELLATION,
        key=f"closed-{account_id}",
        account_id=account_id,
        detail={"minutes": minutes, "live_calls": live_calls},
    )


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
