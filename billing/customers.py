"""An account's Stripe customer."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import stripe
from django.db import transaction
from djstripe import models as mirror

from accounts.models import Account
from billing.models import StatusCheck, StripeCustomer
from billing.standing import LIVE
from billing.stripe_api import asking


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A customer and all its subscriptions, ended ones too, as Stripe returned them."""

    customer: stripe.Customer
    subscriptions: list[stripe.Subscription]

    @property
    def is_deleted(self) -> bool:
        return bool(getattr(self.customer, "deleted", False))

    @property
    def subscription_data(self) -> list[dict[str, Any]]:
        """The subscriptions as JSON."""
        return [subscription.to_dict() for subscription in self.subscriptions]


def customer_of(account: Account) -> StripeCustomer:
    """Return the account's customer; create one in Stripe if there is none, or it was deleted.

    Crashes and concurrent runs get the same customer: the idempotency key has the account, and a
    hash of the name and email address, because Stripe rejects a key with other values.
    Raises 502 ``payments_unavailable``.
    """
    known = StripeCustomer.objects.filter(account=account).first()
    if known and known.deleted_at is None:
        return known
    name = name_of(account)
    told = hashlib.sha256(f"{account.email} {name}".encode()).hexdigest()[:16]
    key = f"customer-{account.id}-{told}" + (f"-after-{known.customer_id}" if known else "")
    with asking():
        made = stripe.Customer.create(
            email=account.email,
            name=name,
            metadata={"account_id": account.id},
            idempotency_key=key,
        )
    return _bind(account, made.id, instead_of=known)


def name_of(account: Account) -> str:
    """Return the name for Stripe's receipts, which go to the account's email address.

    An unconfirmed address may belong to a stranger, who must not be sent what somebody typed in.
    """
    return (account.company_name if account.is_email_verified else "") or account.email


@transaction.atomic
def _bind(
    account: Account, customer_id: str, *, instead_of: StripeCustomer | None
) -> StripeCustomer:
    """Save the account's customer, unless a concurrent request did."""
    StatusCheck.objects.get_or_create(account=account)
    StripeCustomer.objects.get_or_create(account=account, defaults={"customer_id": customer_id})
    if instead_of:
        StripeCustomer.objects.filter(account=account, customer_id=instead_of.customer_id).update(
            customer_id=customer_id, deleted_at=None, checkout_number=0, checkout_id=""
        )
    return StripeCustomer.objects.get(account=account)


def fetch(customer_id: str) -> Snapshot:
    """Fetch a customer from Stripe; raise 502 ``payments_unavailable``.

    A deleted customer is returned as deleted, without subscriptions. An unknown one raises
    ``stripe.InvalidRequestError``: the key belongs to another Stripe account, which says nothing
    about who pays.
    """
    with asking():
        customer = stripe.Customer.retrieve(
            customer_id, expand=["invoice_settings.default_payment_method"]
        )
        if getattr(customer, "deleted", False):
            return Snapshot(customer, [])
        subscriptions = stripe.Subscription.list(customer=customer_id, status="all", limit=100)
        return Snapshot(customer, list(subscriptions.auto_paging_iter()))


def mirror_snapshot(snapshot: Snapshot) -> None:
    """Update dj-stripe's rows, in the caller's transaction."""
    if snapshot.is_deleted:
        mirror.Customer.objects.filter(id=snapshot.customer.id).delete()
        return
    mirror.Customer.sync_from_stripe_data(snapshot.customer)
    for subscription in snapshot.subscriptions:
        mirror.Subscription.sync_from_stripe_data(subscription)


def has_payment_method(account: Account) -> bool:
    """Return True if the mirrored data has a payment method for the next invoice."""
    customer = mirror.Customer.objects.filter(
        id__in=StripeCustomer.objects.filter(account=account).values("customer_id")
    ).first()
    if customer is None:
        return False
    if customer.default_payment_method_id:
        return True
    live = customer.subscriptions.filter(stripe_data__status__in=LIVE)
    return any(subscription.default_payment_method for subscription in live)
