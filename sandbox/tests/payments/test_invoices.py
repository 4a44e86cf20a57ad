"""Invoices: right to the cent, numbered, paid, given up, shown before they are made."""

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
    assert invoice.invoice_pdf == f"{invoice.hosted_invoice_url}.pdf"
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
    charge = stripe.Charge.list(customer=customer, limit=1).data[0]
    assert charge.amount == total


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
        id = testing.subscription_of(subscribed)["id"]
        preview = stripe.Invoice.create_preview(subscription=id)
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
        """One that could not be charged."""
        testing.steer(subscribed, next_charge="generic_decline")
        testing.turn_to_renewal(subscribed)
        return str(testing.invoices_of(subscribed)[-1]["id"])

    def test_paid(self, invoice: str) -> None:
        assert stripe.Invoice.pay(invoice).status == "paid"
        with pytest.raises(stripe.InvalidRequestError, match="already paid"):
            stripe.Invoice.pay(invoice)

    def test_paid_with_another_card(self, invoice: str, subscribed: str) -> None:
        bad = stripe.PaymentMethod.attach("pm_card_chargeCustomerFail", customer=subscribed)
        with pytest.raises(stripe.CardError):
            stripe.Invoice.pay(invoice, payment_method=bad.id)
        good = stripe.PaymentMethod.attach("pm_card_mastercard", customer=subscribed)
        paid = stripe.Invoice.pay(invoice, payment_method=good.id, expand=["payments"])
        assert (paid.status, paid.attempt_count) == ("paid", 3)
        assert paid.payments.data[0].status == "paid"

    def test_voided(self, invoice: str) -> None:
        assert stripe.Invoice.void_invoice(invoice).status == "void"
        [payment] = stripe.InvoicePayment.list(invoice=invoice)
        assert payment.status == "canceled"
        intent = stripe.PaymentIntent.retrieve(payment.payment.payment_intent)
        assert intent.status == "canceled"
        with pytest.raises(stripe.InvalidRequestError, match="no longer be paid"):
            stripe.Invoice.pay(invoice)

    def test_uncollectible(self, invoice: str) -> None:
        assert stripe.Invoice.mark_uncollectible(invoice).status == "uncollectible"
        assert stripe.Invoice.pay(invoice).status == "paid"

    def test_finalized_by_hand(self, subscribed: str) -> None:
        end = testing.subscription_of(subscribed)["items"]["data"][0]["current_period_end"]
        testing.turn(subscribed, to=end)
        draft = testing.invoices_of(subscribed)[-1]["id"]
        assert stripe.Invoice.finalize_invoice(draft, auto_advance=False).status == "open"
        with pytest.raises(stripe.InvalidRequestError, match="non-draft"):
            stripe.Invoice.finalize_invoice(draft)


class TestPayments:
    def test_from_invoice_to_money(self, subscribed: str) -> None:
        [invoice] = stripe.Invoice.list(customer=subscribed)
        [payment] = stripe.InvoicePayment.list(invoice=invoice.id, status="paid")
        assert (payment.amount_paid, payment.payment.type) == (500, "payment_intent")
        intent = stripe.PaymentIntent.retrieve(
            payment.payment.payment_intent, expand=["latest_charge.balance_transaction"]
        )
        assert (intent.status, intent.amount_received) == ("succeeded", 500)
        transaction = intent.latest_charge.balance_transaction
        assert (transaction.amount, transaction.fee, transaction.net) == (500, 44, 456)
        assert stripe.Balance.retrieve().pending[0].amount == 456

    def test_refunded(self, subscribed: str) -> None:
        [intent] = stripe.PaymentIntent.list(customer=subscribed)
        part = stripe.Refund.create(payment_intent=intent.id, amount=200, reason="duplicate")
        assert (part.amount, part.status, part.reason) == (200, "succeeded", "duplicate")
        stripe.Refund.create(charge=intent.latest_charge)
        charge = stripe.Charge.retrieve(intent.latest_charge, expand=["refunds"])
        assert (charge.refunded, charge.amount_refunded) == (True, 500)
        assert [refund.amount for refund in charge.refunds.data] == [300, 200]

    def test_no_more_than_there_is(self, subscribed: str) -> None:
        [intent] = stripe.PaymentIntent.list(customer=subscribed)
        with pytest.raises(stripe.InvalidRequestError, match="greater than unrefunded"):
            stripe.Refund.create(payment_intent=intent.id, amount=501)
        stripe.Refund.create(payment_intent=intent.id)
        with pytest.raises(stripe.InvalidRequestError) as refusal:
            stripe.Refund.create(payment_intent=intent.id)
        assert refusal.value.code == "charge_already_refunded"
