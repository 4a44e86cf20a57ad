"""Updates a Stripe customer when its account is deleted or renamed."""

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

# Named, not imported: it waits for calls, which billing does not know.
END_TASK = "dashboard.tasks.end_account"
UPDATE_TASK = "billing.tasks.update_customer"

# How long after an account's last call its minutes may wait for Stripe.
PATIENCE = timedelta(hours=24)
# A draft is finalized within three days by itself. An older one was held back on purpose.
_DRAFT_FOR = timedelta(days=4)
_ENDED = frozenset({"canceled", "incomplete_expired"})


def subscriptions_end_soon(*, account: Account, at: datetime | None = None) -> None:
    """Queue the cancellation of a closed account's subscription, in the caller's transaction.

    The job is retried while Stripe is down, and repeats itself while calls or minutes are pending.
    """
    defer(END_TASK, at=at, only_one=f"{END_TASK} {account.id}", account_id=account.id)


def late_subscriptions_end_soon(*, account_id: str) -> None:
    """Cancel a subscription that began after its account was closed.

    A checkout page stays open when its account is deleted, and can still be paid.
    """
    closed = Account.objects.filter(pk=account_id).exclude(closed_at=None)
    if account := closed.exclude(status=Account.Status.INACTIVE).first():
        subscriptions_end_soon(account=account)


def customer_update_soon(*, account: Account) -> None:
    """Queue an update of the email address and name in Stripe."""
    defer(UPDATE_TASK, only_one=f"{UPDATE_TASK} {account.id}", account_id=account.id)


def subscriptions_end(account_id: str, *, given_up: int = 0) -> bool:
    """Cancel every subscription of a closed account, and close its open checkout page.

    Returns False, and cancels nothing, until Stripe has counted all of the account's usage, so that
    the last invoice includes it. Payments in advance are kept, except for a month that began after
    the account was closed. Safe to repeat after a crash at any point. Raises 502
    ``payments_unavailable``.

    :param given_up: the number of calls in progress that are no longer waited for.
    """
    customer = _customer_of_closed(account_id)
    if customer is None:
        return True
    meter_events_write()
    with asking_about(customer):
        if customer.checkout_id:
            _expire(customer.checkout_id)
        subscriptions = _subscriptions_of(customer)
    # Stripe is up again, so events that were postponed can be sent now.
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
    """Update the email address and name in Stripe; raise 502 ``payments_unavailable``.

    Does nothing for an account that is not a customer yet, and for a deleted one, which keeps the
    name on its invoices.
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
    """Return True if Stripe has counted all minutes of the account, or never will."""
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
    """Report minutes to an operator that the last invoice will not include."""
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
        if not is_missing(error):  # it ended in the meantime
            raise


def _expire(checkout_id: str) -> None:
    try:
        if stripe.checkout.Session.retrieve(checkout_id).status == "open":
            stripe.checkout.Session.expire(checkout_id)
    except stripe.InvalidRequestError:  # it was paid or expired in the meantime
        log.info("checkout_closed_already", checkout_id=checkout_id)
