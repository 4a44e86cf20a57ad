"""``manage.py payments``"""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from sandbox.payments import testing
from sandbox.tests.payments.conftest import Shop

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> str:
    output = StringIO()
    call_command("payments", *arguments, stdout=output)
    return output.getvalue()


def test_it_works(shop: Shop, customer: str) -> None:
    assert run("pay", str(shop.checkout(customer).url)) == "Paid: the subscription is active.\n"
    assert "next charge is declined" in run("decline", "alice@example.org")
    told = run("turn", customer)
    assert "-0001: $5.00, paid" in told
    assert "-0002: $5.00, open" in told
    assert testing.subscription_of(customer)["status"] == "past_due"
    assert "-0002: $5.00, paid" in run("turn", customer, "--days", "3")


def test_refused(shop: Shop, customer: str) -> None:
    with pytest.raises(CommandError, match="Your card was declined"):
        run("pay", shop.checkout(customer).id, "--card", testing.DECLINED_CARD)
    with pytest.raises(CommandError, match=r"No such checkout\.session"):
        run("pay", "cs_test_none")
    with pytest.raises(CommandError, match="no customer"):
        run("turn", "bob@example.org")
    with pytest.raises(CommandError, match="no subscription"):
        run("turn", customer)
