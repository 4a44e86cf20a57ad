"""Checkout sessions: what is offered, and what becomes of it when somebody pays."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sandbox.payments.addresses import page_url
from sandbox.payments.business import cards, charging, clock, customers, subscribing
from sandbox.payments.business.cards import Card
from sandbox.payments.business.lines import cost
from sandbox.payments.business.subscribing import Order
from sandbox.payments.ids import new_id
from sandbox.payments.models import StripeObject
from sandbox.payments.objects import attempt, change, create, find
from sandbox.payments.wire.errors import Refusal

Prices = list[tuple[StripeObject, int | None]]

LIFE_S = clock.DAY


def open_session(
    *,
    customer_id: str | None,
    prices: Prices,
    subscription_data: dict[str, Any],
    expires_at: int | None,
    **fields: Any,
) -> StripeObject:
    """Make a page on which the prices can be subscribed to, for a day if nothing else is said."""
    id = new_id("checkout.session")
    now = clock.now(customer_id or "")
    expires_at = expires_at or now + LIFE_S
    total = _due_now(prices, is_trial=bool(_trial_end(subscription_data, now)))
    return create(
        "checkout.session",
        id=id,
        customer_id=customer_id or "",
        due_at=expires_at,
        hidden={
            "items": [_item(price, quantity) for price, quantity in prices],
            "subscription_data": subscription_data,
        },
        **_body(fields),
        amount_subtotal=total,
        amount_total=total,
        currency=prices[0][0]["currency"],
        customer=customer_id,
        expires_at=expires_at,
        url=page_url(f"checkout/{id}"),
    )


def complete(session: StripeObject, card: Card | None, *, email: str = "") -> StripeObject:
    """Subscribe as the session says, and pay with the card; return the subscription.

    Raises Refusal when the session is not open (any more) or the card is declined: then nothing has
    happened, and it can be tried again.
    """
    if session["status"] != "open":
        raise Refusal(f"This Checkout Session cannot be paid: its status is {session['status']}.")
    try:
        # Neither a subscription nor an invoice is left of a payment that failed.
        with attempt():
            return _subscribe(session, _customer_of(session, email), card)
    except Refusal:
        charging.forget_next_decline(session.customer_id)
        raise


def expire(session: StripeObject) -> None:
    """Close the page without payment."""
    if session["status"] != "open":
        raise Refusal(
            'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout '
            f"Session has a status of {session['status']}."
        )
    change(session, "checkout.session.expired", due_at=None, status="expired", url=None)


def asks_for_card(session: StripeObject) -> bool:
    """Whether nothing goes without a card: it has to be paid now, or is to be kept for later."""
    return bool(session["amount_total"] or session["payment_method_collection"] == "always")


def _customer_of(session: StripeObject, email: str) -> StripeObject:
    if session["customer"]:
        return find("customer", session["customer"])
    return customers.create(email=email or session["customer_email"])


def _subscribe(session: StripeObject, customer: StripeObject, card: Card | None) -> StripeObject:
    method = None
    if card:
        details = {"email": customer["email"], "name": customer["name"]}
        method = cards.create_method(card, customer_id=customer.id, billing_details=details)
        cards.attach(method, customer.id)
    data = session.hidden["subscription_data"]
    settings = {"payment_method_options": None, "payment_method_types": ["card"]}
    order = Order(
        customer_id=customer.id,
        prices=_prices(session),
        trial_end=_trial_end(data, clock.now(customer.id)),
        fields={
            "default_payment_method": method.id if method else None,
            "description": data.get("description"),
            "metadata": data.get("metadata") or {},
            "payment_settings": settings | {"save_default_payment_method": "off"},
            **({"trial_settings": data["trial_settings"]} if "trial_settings" in data else {}),
        },
    )
    subscription, decline = subscribing.begin(order)
    if decline:
        raise decline.refusal()
    _close(session, customer, subscription)
    return subscription


def _close(session: StripeObject, customer: StripeObject, subscription: StripeObject) -> None:
    session.customer_id = customer.id
    session.save(update_fields=["customer_id"])
    change(
        session,
        "checkout.session.completed",
        due_at=None,
        customer=customer.id,
        customer_details=customer_details(customer),
        invoice=subscription["latest_invoice"],
        payment_status="paid" if session["amount_total"] else "no_payment_required",
        status="complete",
        subscription=subscription.id,
        url=None,
    )


def customer_details(customer: StripeObject) -> dict[str, Any]:
    return {
        "address": customer["address"],
        "business_name": None,
        "email": customer["email"],
        "individual_name": None,
        "name": customer["name"],
        "phone": customer["phone"],
        "tax_exempt": customer["tax_exempt"],
        "tax_ids": [],
    }


def _prices(session: StripeObject) -> Prices:
    return [
        (find("price", item["price"]["id"]), item["quantity"]) for item in session.hidden["items"]
    ]


def _trial_end(subscription_data: dict[str, Any], now: int) -> int | None:
    if days := subscription_data.get("trial_period_days"):
        return now + int(days) * clock.DAY
    return subscription_data.get("trial_end")


def _due_now(prices: Prices, *, is_trial: bool) -> int:
    """Return what is paid at once: minutes are paid for when they have been used."""
    if is_trial:
        return 0
    return sum(cost(price.body, Decimal(quantity)) for price, quantity in prices if quantity)


def _item(price: StripeObject, quantity: int | None) -> dict[str, Any]:
    amount = cost(price.body, Decimal(quantity)) if quantity else 0
    return {
        "id": new_id("item"),
        "object": "item",
        "adjustable_quantity": None,
        "amount_discount": 0,
        "amount_subtotal": amount,
        "amount_tax": 0,
        "amount_total": amount,
        "currency": price["currency"],
        "description": StripeObject.objects.get(id=price["product"])["name"],
        "metadata": {},
        "price": price.body,
        "quantity": quantity,
    }


def _body(fields: dict[str, Any]) -> dict[str, Any]:
    blank: dict[str, Any] = {
        "adaptive_pricing": {"enabled": False},
        "after_expiration": None,
        "allow_promotion_codes": None,
        "automatic_tax": {
            "enabled": False,
            "liability": None,
            "provider": None,
            "status": None,
        },
        "billing_address_collection": None,
        "branding_settings": None,
        "cancel_url": None,
        "client_reference_id": None,
        "client_secret": None,
        "collected_information": None,
        "consent": None,
        "consent_collection": None,
        "currency_conversion": None,
        "custom_fields": [],
        "custom_text": {
            "after_submit": None,
            "shipping_address": None,
            "submit": None,
            "terms_of_service_acceptance": None,
        },
        "customer_account": None,
        "customer_creation": None,
        "customer_details": None,
        "customer_email": None,
        "discounts": [],
        "invoice": None,
        "invoice_creation": None,
        "locale": None,
        "metadata": {},
        "mode": "subscription",
        "origin_context": None,
        "payment_intent": None,
        "payment_link": None,
        "payment_method_collection": "always",
        "payment_method_configuration_details": None,
        "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
        "payment_method_types": ["card"],
        "payment_status": "unpaid",
        "permissions": None,
        "phone_number_collection": {"enabled": False},
        "recovered_from": None,
        "saved_payment_method_options": {
            "allow_redisplay_filters": ["always"],
            "payment_method_remove": "disabled",
            "payment_method_save": None,
        },
        "setup_intent": None,
        "shipping_address_collection": None,
        "shipping_cost": None,
        "shipping_options": [],
        "status": "open",
        "submit_type": None,
        "subscription": None,
        "success_url": None,
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted_page",
        "wallet_options": None,
    }
    return blank | fields
