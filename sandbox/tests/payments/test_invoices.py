"""Invoices: right to the cent, numbered, paid, given up, and previewed."""

from __future__ import annotations

from decimal import Decimal

import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st

from sandbox.payments import testing
from sandbox.payments.business.lines import cost, money
from sandbox.tests.payments.conftest import Shop, open_shop

pytestmark = pytest.mark.django_db


def test_it_works(subscribed: str) -> None:
    [invoice] = stripe.Invoice.list(customer=subscribed)
    assert invoice.number.endswith("-0001")
    assert (invoice.status, invoice.billing_reason) == ("paid", "subscription_create")
    assert (invoice.amount_due, invoice.amount_paid, invoice.amount_remaining) == (500, 500, 0)
    [line] = invoice.lines.data
    assert line.description == "1 \N{MULTIPLICATION SIGN} Switchhook (at $5.00 / month)"
    assert invoice.hosted_invoice_url.endswith(f"/sandbox/payments/invoices/{invoice.id}")
    assert invoice.invoice_pdf == invoice.hosted_invoice_url
    subscription = invoice.parent.subscription_details.subscription
    assert subscription == testing.subscription_of(subscribed)["id"]


@pytest.mark.parametrize(
    ("cents", "minutes", "total"),
    [
        ("5", [1, 2, 4, 40], 500 + 235),
        ("0.5", [3], 500 + 2),  # one and a half is two
        ("0.5", [1, 1, 1], 500 + 2),  # and is rounded once, not three times
        ("1.25", [1], 500 + 1),
        ("0.333333", [100], 500 + 33),
        ("5", [], 500),
    ],
)
def test_a_month_with_usage_to_the_cent(
    customer: str, cents: str, minutes: list[int], total: int
) -> None:
    shop = open_shop(cents)
    testing.pay(shop.checkout(customer).id)
    for number, each in enumerate(minutes):
        shop.use(customer, each, f"CA{number}")
    testing.turn_to_renewal(customer)
    invoice = testing.invoices_of(customer)[-1]
    base, used = invoice["lines"]["data"]
    assert (base["amount"], used["quantity"]) == (500, sum(minutes))
    assert (invoice["total"], invoice["amount_paid"]) == (total, total)
    assert used["period"]["end"] == base["period"]["start"]
    payment = stripe.InvoicePayment.list(invoice=invoice["id"]).data[0]
    assert payment.amount_paid == total


@given(
    st.decimals(min_value=0, max_value=1000, places=6), st.integers(min_value=0, max_value=10**6)
)
def test_no_cost_is_off_by_more_than_half_a_cent(each: Decimal, quantity: int) -> None:
    charged = cost({"unit_amount_decimal": str(each)}, Decimal(quantity))
    assert -Decimal("0.5") < charged - each * quantity <= Decimal("0.5")


@pytest.mark.parametrize(
    ("cents", "text"),
    [
        ("500", "$5.00"),
        ("5", "$0.05"),
        ("1.25", "$0.0125"),
        ("0", "$0.00"),
        ("123456", "$1,234.56"),
    ],
)
def test_money_in_words(cents: str, text: str) -> None:
    assert money(cents) == text


class TestPreview:
    def test_it_works(self, shop: Shop, subscribed: str) -> None:
        shop.use(subscribed, 7, "CA1")
        preview = stripe.Invoice.create_preview(customer=subscribed)
        assert (preview.status, preview.number, preview.total) == ("draft", None, 535)
        assert [line.quantity for line in preview.lines.data] == [1, 7]
        assert len(stripe.Invoice.list(customer=subscribed).data) == 1

    def test_it_is_what_comes(self, shop: Shop, subscribed: str) -> None:
        shop.use(subscribed, 7, "CA1")
        preview = stripe.Invoice.create_preview(customer=subscribed)
        testing.turn_to_renewal(subscribed)
        invoice = testing.invoices_of(subscribed)[-1]
        assert preview.total == invoice["total"]
        assert preview.period_end == invoice["period_end"]

    def test_of_one_that_ends_it_is_usage_alone(self, shop: Shop, subscribed: str) -> None:
        testing.cancel(subscribed, at_period_end=True)
        shop.use(subscribed, 7, "CA1")
        assert stripe.Invoice.create_preview(customer=subscribed).total == 35

    def test_of_nobody(self, customer: str) -> None:
        with pytest.raises(stripe.InvalidRequestError) as refusal:
            stripe.Invoice.create_preview(customer=customer)
        assert (refusal.value.http_status, refusal.value.code) == (404, "invoice_upcoming_none")


class TestOpen:
    @pytest.fixture
    def invoice(self, subscribed: str) -> str:
        """An invoice that could not be charged."""
        testing.steer(subscribed, next_charge="generic_decline")
        testing.turn_to_renewal(subscribed)
        return str(testing.invoices_of(subscribed)[-1]["id"])

    def test_paid(self, invoice: str) -> None:
        assert stripe.Invoice.pay(invoice).status == "paid"
        with pytest.raises(stripe.InvalidRequestError, match="already paid"):
            stripe.Invoice.pay(invoice)

    def test_finalized_by_hand(self, subscribed: str) -> None:
        end = testing.subscription_of(subscribed)["items"]["data"][0]["current_period_end"]
        testing.turn(subscribed, to=end)
        draft = testing.invoices_of(subscribed)[-1]["id"]
        assert stripe.Invoice.finalize_invoice(draft, auto_advance=False).status == "open"
        with pytest.raises(stripe.InvalidRequestError, match="non-draft"):
            stripe.Invoice.finalize_invoice(draft)

    def test_noted_on(self, invoice: str) -> None:
        stripe.Invoice.modify(invoice, metadata={"a": "b"})
        assert stripe.Invoice.modify(invoice, metadata={"c": "d"}).metadata.to_dict() == {
            "a": "b",
            "c": "d",
        }


class TestRefunds:
    @pytest.fixture
    def intent(self, subscribed: str) -> str:
        [invoice] = stripe.Invoice.list(customer=subscribed, status="paid")
        [payment] = stripe.InvoicePayment.list(invoice=invoice.id, status="paid")
        assert (payment.amount_paid, payment.payment.type) == (500, "payment_intent")
        return str(payment.payment.payment_intent)

    def test_in_parts(self, subscribed: str, intent: str) -> None:
        part = stripe.Refund.create(payment_intent=intent, amount=200, reason="duplicate")
        assert (part.amount, part.status, part.reason) == (200, "succeeded", "duplicate")
        assert stripe.Refund.create(payment_intent=intent).amount == 300
        assert [refund["amount"] for refund in testing.refunds_of(subscribed)] == [200, 300]

    def test_no_more_than_there_is(self, intent: str) -> None:
        with pytest.raises(stripe.InvalidRequestError, match="greater than unrefunded"):
            stripe.Refund.create(payment_intent=intent, amount=501)
        stripe.Refund.create(payment_intent=intent)
        with pytest.raises(stripe.InvalidRequestError) as refusal:
            stripe.Refund.create(payment_intent=intent)
        assert refusal.value.code == "charge_already_refunded"

    def test_of_what_was_not_paid(self, db: None) -> None:
        with pytest.raises(stripe.InvalidRequestError, match="No such payment_intent"):
            stripe.Refund.create(payment_intent="pi_none")
