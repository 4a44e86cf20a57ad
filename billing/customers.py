"""An account as a customer of Stripe's."""

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
    """A customer, and all its subscriptions (ended ones too), as Stripe had them at one moment."""

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
    """Return the account's customer, made at Stripe if there is none (any more).

    Killed in the middle or run twice at once, it comes to the same one: the idempotency key is the
    account's, with the name and address that Stripe is told: it refuses a key for other ones.
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
    """Return the name that Stripe writes on receipts, which it mails to the account's address.

    Until the address is confirmed it may be a stranger's, to whom nothing goes that somebody has
    typed in.
    """
    return (account.company_name if account.is_email_verified else "") or account.email


@transaction.atomic
def _bind(
    account: Account, customer_id: str, *, instead_of: StripeCustomer | None
) -> StripeCustomer:
    """Write down which customer the account is, unless somebody was quicker."""
    StatusCheck.objects.get_or_create(account=account)
    StripeCustomer.objects.get_or_create(account=account, defaults={"customer_id": customer_id})
    if instead_of:
        StripeCustomer.objects.filter(account=account, customer_id=instead_of.customer_id).update(
            customer_id=customer_id, deleted_at=None, checkout_number=0, checkout_id=""
        )
    return StripeCustomer.objects.get(account=account)


def fetch(customer_id: str) -> Snapshot:
    """Ask Stripe; raise 502 ``payments_unavailable``.

    A customer that Stripe has deleted comes as deleted, without subscriptions. One that it does not
    know raises ``stripe.InvalidRequestError``: then we ask about the wrong Stripe account, which
    says nothing about who pays.
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
    """Bring dj-stripe's rows up to date, in the caller's transaction."""
    if snapshot.is_deleted:
        mirror.Customer.objects.filter(id=snapshot.customer.id).delete()
        return
    mirror.Customer.sync_from_stripe_data(snapshot.customer)
    for subscription in snapshot.subscriptions:
        mirror.Subscription.sync_from_stripe_data(subscription)


def has_payment_method(account: Account) -> bool:
    """Whether Stripe has something to charge the account's next invoice to, by our mirror."""
    customer = mirror.Customer.objects.filter(
        id__in=StripeCustomer.objects.filter(account=account).values("customer_id")
    ).first()
    if customer is None:
        return False
    if customer.default_payment_method_id:
        return True
    live = customer.subscriptions.filter(stripe_data__status__in=LIVE)
    return any(subscription.default_payment_method for subscription in live)
