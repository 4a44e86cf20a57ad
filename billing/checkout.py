"""Subscribing: the customer pays in Stripe Checkout.

The page that Stripe redirects back to activates nothing. Stripe's events do
(``billing.status_checks``).
"""

from __future__ import annotations

import stripe
import structlog
from django.conf import settings
from django.urls import reverse
from django.utils import timezone

from accounts.models import Account
from accounts.permissions import require_active
from billing.customers import customer_of, fetch
from billing.models import StripeCustomer
from billing.plan import price_ids
from billing.standing import CHECKOUT, standing_of
from billing.status_checks import asking_about, status_mark
from core.errors import ApiError

log = structlog.get_logger(__name__)


def checkout_url_for(account: Account) -> str | None:
    """Return the page on which a new account pays; None if Stripe is down, to be opened later."""
    try:
        return checkout_open(account=account)
    except (ApiError, stripe.StripeError) as error:
        log.warning("checkout_missing", account_id=account.id, reason=type(error).__name__)
        return None


def checkout_open(*, account: Account) -> str:
    """Return the URL of the page on which the account subscribes.

    There is one such page at a time: it stays the same until it is paid or expires after a day.
    Raises 409 ``already_subscribed``, 403 ``account_suspended`` (by an operator), and 502
    ``payments_unavailable``.
    """
    if account.status != Account.Status.INACTIVE:
        raise _already_subscribed()
    if account.suspended_by_operator:
        require_active(account)
    customer = customer_of(account)
    if customer.checkout_number:
        customer = _require_unsubscribed(account, customer)
    return _open_page(customer) or _new_page(customer)


def _require_unsubscribed(account: Account, customer: StripeCustomer) -> StripeCustomer:
    """Return the account's customer, a new one if Stripe has deleted it; raise 409.

    This asks Stripe, because its event may still be on the way.
    """
    with asking_about(customer):
        snapshot = fetch(customer.customer_id)
    if standing_of(snapshot.subscription_data).status != Account.Status.INACTIVE:
        status_mark(account_id=account.id, cause="checkout")
        raise _already_subscribed()
    if snapshot.is_deleted:
        customer.deleted_at = timezone.now()
        customer.save(update_fields=["deleted_at"])
        return customer_of(account)
    return customer


def _open_page(customer: StripeCustomer) -> str | None:
    """Return the URL of the last page if it is still open."""
    if not customer.checkout_id:
        return None
    with asking_about(customer):
        session = stripe.checkout.Session.retrieve(customer.checkout_id)
    return session.url if session.status == "open" else None


def _new_page(customer: StripeCustomer) -> str:
    """Create a page. Concurrent requests, and retries after a crash, get the same one."""
    base, minute = price_ids()
    number = customer.checkout_number + 1
    with asking_about(customer):
        session = stripe.checkout.Session.create(
            mode="subscription",
            customer=customer.customer_id,
            client_reference_id=customer.account_id,
            line_items=[{"price": base, "quantity": 1}, {"price": minute}],
            subscription_data={"metadata": {CHECKOUT: str(number)}},
            success_url=settings.PUBLIC_URL + reverse("checkout-paid"),
            cancel_url=settings.PUBLIC_URL + reverse("checkout-left"),
            idempotency_key=f"checkout-{customer.customer_id}-{number}-{base}-{minute}",
        )
    StripeCustomer.objects.filter(
        customer_id=customer.customer_id, checkout_number=customer.checkout_number
    ).update(checkout_number=number, checkout_id=session.id, checkout_at=timezone.now())
    return str(session.url)


def _already_subscribed() -> ApiError:
    return ApiError(
        409,
        "already_subscribed",
        "This account already has a subscription. Manage it in the billing portal.",
    )
