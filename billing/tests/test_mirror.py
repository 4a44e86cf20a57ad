"""dj-stripe keeps our copy of what is at Stripe; what it works out of the copy is not used.

Some of its helpers read fields that Stripe's API has moved or dropped: the period of a subscription
is at its items, and an invoice has no ``paid``.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from djstripe import models as mirror

from accounts.models import Account
from billing.checkout import checkout_open
from billing.status_checks import status_check, status_mark
from billing.tests.setting_up import set_up_stripe
from sandbox.payments import testing

BILLING = Path(__file__).resolve().parents[1]

# They are told by their names, so a name that is theirs is nobody's else in these modules.
BROKEN: dict[type, tuple[str, ...]] = {
    mirror.Subscription: (
        "current_period_end",
        "current_period_start",
        "is_period_current",
        "is_status_temporarily_current",
        "is_valid",
    ),
    mirror.Customer: (
        "active_subscriptions",
        "has_any_active_subscription",
        "is_subscribed_to",
    ),
    mirror.Invoice: ("paid",),
}
NAMES = {name for names in BROKEN.values() for name in names}
MODULES = [path for path in BILLING.rglob("*.py") if "tests" not in path.parts]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(BILLING)))
def test_no_broken_helper_is_used(module: Path) -> None:
    tree = ast.parse(module.read_text())
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not used & NAMES


def test_they_are_still_there() -> None:
    for model, names in BROKEN.items():
        assert [name for name in names if not hasattr(model, name)] == []


@pytest.mark.django_db
def test_they_are_still_broken(carol: Account, no_jobs: None) -> None:
    """Of a subscription that is paid for, in the shapes of today."""
    set_up_stripe()
    testing.pay(checkout_open(account=carol))
    status_mark(account_id=carol.id, cause="test")
    status_check(carol.id)
    carol.refresh_from_db()
    assert carol.status == Account.Status.ACTIVE

    subscription = mirror.Subscription.objects.get()
    assert subscription.current_period_end is None
    with pytest.raises(TypeError):
        subscription.is_valid()
    customer = mirror.Customer.objects.get()
    assert customer.active_subscriptions == []
    with pytest.raises(TypeError):
        customer.has_any_active_subscription()
    [invoice] = testing.invoices_of(customer.id)
    assert invoice["status"] == "paid"
    with pytest.raises(KeyError):
        mirror.Invoice(stripe_data=invoice).paid  # noqa: B018
