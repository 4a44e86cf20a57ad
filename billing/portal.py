"""Stripe's billing portal, an account's invoices, and its next invoice."""

from __future__ import annotations

from typing import Any

import stripe
from django.conf import settings
from django.urls import reverse

from accounts.models import Account
from billing.customers import customer_of
from billing.models import PlanPart, StripeCustomer
from billing.plan import part_id
from billing.status_checks import asking_about
from core.errors import ApiError

# More than eight years of invoices: the most that Stripe returns at once.
_INVOICES_AT_MOST = 100

NO_UPCOMING_INVOICE = "This account has no subscription, so it has no upcoming invoice."

# https://docs.stripe.com/error-codes: the customer has no subscription, or one that ends.
_NO_UPCOMING_INVOICE = "invoice_upcoming_none"


def portal_url_for(account: Account) -> str:
    """Return the URL of the account's billing portal, valid for a few minutes; raise 502."""
    customer = customer_of(account)
    configuration = part_id(PlanPart.Name.PORTAL)
    with asking_about(customer):
        session = stripe.billing_portal.Session.create(
            customer=customer.customer_id,
            configuration=configuration,
            return_url=settings.PUBLIC_URL + reverse("portal-left"),
        )
    return session.url


def invoices_of(account: Account) -> list[dict[str, Any]]:
    """Return the account's invoices as Stripe's JSON, newest first, without drafts; raise 502.

    Fetched from Stripe each time, because the URLs of invoices expire.
    """
    customer = StripeCustomer.objects.filter(account=account, deleted_at=None).first()
    if customer is None:
        return []
    with asking_about(customer):
        invoices = stripe.Invoice.list(customer=customer.customer_id, limit=_INVOICES_AT_MOST)
    return [invoice.to_dict() for invoice in invoices.data if invoice.status != "draft"]


def upcoming_invoice_of(account: Account) -> dict[str, Any]:
    """Return the account's next invoice so far, as Stripe's JSON; raise 404 or 502."""
    customer = StripeCustomer.objects.filter(account=account, deleted_at=None).first()
    if customer is None:
        raise _no_upcoming_invoice()
    with asking_about(customer):
        try:
            return stripe.Invoice.create_preview(customer=customer.customer_id).to_dict()
        except stripe.InvalidRequestError as error:
            if error.code != _NO_UPCOMING_INVOICE:
                raise
            raise _no_upcoming_invoice() from None


def _no_upcoming_invoice() -> ApiError:
    return ApiError(404, "no_upcoming_invoice", NO_UPCOMING_INVOICE)
