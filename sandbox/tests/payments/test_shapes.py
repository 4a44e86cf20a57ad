"""Responses have the shape that the SDK declares.

stripe-python's classes are generated from Stripe's description of its API: no field may be unknown
to them, none may be of another type, and required fields must be present.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from types import UnionType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

import pytest
import stripe
from stripe._list_object import ListObject
from stripe._stripe_object import StripeObject as SdkObject
from stripe._stripe_object import UntypedStripeObject

from sandbox.payments import testing
from sandbox.payments.business import metering
from sandbox.payments.models import StripeObject
from sandbox.payments.objects import find
from sandbox.tests.payments.conftest import Shop

pytestmark = pytest.mark.django_db

CLASSES: dict[str, Any] = {
    "billing.meter": stripe.billing.Meter,
    "billing_portal.configuration": stripe.billing_portal.Configuration,
    "billing_portal.session": stripe.billing_portal.Session,
    "checkout.session": stripe.checkout.Session,
    "customer": stripe.Customer,
    "event": stripe.Event,
    "invoice": stripe.Invoice,
    "invoice_payment": stripe.InvoicePayment,
    "payment_method": stripe.PaymentMethod,
    "price": stripe.Price,
    "product": stripe.Product,
    "refund": stripe.Refund,
    "subscription": stripe.Subscription,
    "webhook_endpoint": stripe.WebhookEndpoint,
}


def test_every_kind_of_object(shop: Shop, customer: str) -> None:
    """A life with everything in it, and every object and event that it leaves."""
    stripe.WebhookEndpoint.create(url="https://shop.example.org", enabled_events=["*"])
    portal = stripe.billing_portal.Configuration.create(
        features={"invoice_history": {"enabled": True}}
    )
    stripe.billing_portal.Session.create(customer=customer, configuration=portal.id)
    testing.pay(shop.checkout(customer).id)
    shop.use(customer, 3, "CA1")
    testing.turn_to_renewal(customer)
    testing.set_card(customer, testing.LATER_DECLINED_CARD)
    testing.turn_to_renewal(customer)
    testing.set_card(customer, testing.GOOD_CARD)
    testing.pay_invoice(testing.invoices_of(customer)[-1]["id"])
    [payment, *_] = stripe.InvoicePayment.list(status="paid")
    stripe.Refund.create(payment_intent=str(payment.payment.payment_intent))
    testing.cancel(customer, at_period_end=True)
    testing.turn_to_renewal(customer)

    everything = StripeObject.objects.order_by("serial")
    assert set(everything.values_list("kind", flat=True)) == CLASSES.keys()
    wrong = [
        problem
        for thing in everything
        for problem in problems(thing.body, CLASSES[thing.kind], thing.kind)
    ]
    assert "\n".join(sorted(set(wrong))) == ""


def test_what_is_answered_alone(shop: Shop, subscribed: str) -> None:
    preview = stripe.Invoice.create_preview(customer=subscribed)
    assert list(problems(preview.to_dict(), stripe.Invoice, "preview")) == []
    summary = metering.summary(find("billing.meter", shop.meter), subscribed, 0, 60)
    cls = stripe.billing.MeterEventSummary
    assert list(problems(summary, cls, "summary")) == []


def test_it_finds_what_is_wrong(customer: str) -> None:
    body = stripe.Customer.retrieve(customer).to_dict()
    wrong = {**body, "colour": "red", "created": "today", "invoice_settings": {"x": 1}}
    del wrong["livemode"]
    assert sorted(problems(wrong, stripe.Customer, "customer")) == [
        "customer.colour: unknown",
        "customer.created: is str",
        "customer.invoice_settings.x: unknown",
        "customer.livemode: missing",
    ]


def problems(body: dict[str, Any], cls: Any, path: str) -> Iterator[str]:
    hints = _hints(cls)
    for name in body.keys() - hints.keys():
        yield f"{path}.{name}: unknown"
    for name, hint in hints.items():
        if name in body:
            yield from _value_problems(body[name], hint, f"{path}.{name}")
        elif type(None) not in _members(hint):
            yield f"{path}.{name}: missing"


@cache
def _hints(cls: Any) -> dict[str, Any]:
    """Return the declared fields, with the types that they are declared with by name."""
    names = {**vars(stripe), **vars(sys.modules[cls.__module__])}
    for module in ("checkout", "billing", "billing_portal", "test_helpers"):
        names |= {k: v for k, v in vars(getattr(stripe, module)).items() if k not in names}
    hints = get_type_hints(cls, localns=_Lenient(names))
    return {
        name: hint
        for name, hint in hints.items()
        if not name.startswith("_") and get_origin(hint) is not ClassVar and name != "OBJECT_NAME"
    }


class _Lenient(dict[str, Any]):
    """Types that are only imported to check types, and that nothing here has, are anything."""

    def __missing__(self, name: str) -> Any:
        if hasattr(__builtins__, name) or name in ("str", "int", "bool", "float"):
            raise KeyError(name)
        return Any


def _members(hint: Any) -> list[Any]:
    if get_origin(hint) in (Union, UnionType):
        return [member for part in get_args(hint) for member in _members(part)]
    return [hint]


def _value_problems(value: Any, hint: Any, path: str) -> Iterator[str]:
    members = _members(hint)
    if Any in members or (value is None and type(None) in members):
        return
    if isinstance(value, dict):
        yield from _dict_problems(value, members, path)
    elif isinstance(value, list):
        elements = [get_args(member)[0] for member in members if get_origin(member) is list]
        if not elements:
            yield f"{path}: is list"
        for element in value:
            yield from _value_problems(element, elements[0], f"{path}[]")
    elif not _is_scalar(value, members):
        yield f"{path}: is {type(value).__name__}"


def _dict_problems(value: dict[str, Any], members: list[Any], path: str) -> Iterator[str]:
    if lists := [member for member in members if get_origin(member) is ListObject]:
        (element,) = get_args(lists[0])
        for each in value["data"]:
            yield from _value_problems(each, element, f"{path}.data[]")
    elif any(get_origin(member) is UntypedStripeObject for member in members):
        return
    elif classes := [each for each in members if isinstance(each, type) and _is_object(each)]:
        yield from problems(value, classes[0], path)
    else:
        yield f"{path}: is dict"


def _is_object(cls: type) -> bool:
    return issubclass(cls, SdkObject)


def _is_scalar(value: Any, members: list[Any]) -> bool:
    literals = [text for each in members if get_origin(each) is Literal for text in get_args(each)]
    if literals:
        return value in literals
    if isinstance(value, bool):
        return bool in members
    names = {getattr(member, "__name__", "") for member in members}
    # A decimal travels as a string.
    return type(value).__name__ in names or (isinstance(value, str) and "Decimal" in names)
