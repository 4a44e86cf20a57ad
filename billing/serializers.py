"""Serializers of billing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rest_framework import serializers

from accounts.models import Account
from billing.plan import MINUTES_PRODUCT_ID, PRODUCT_ID, product_of_line, to_dollars
from core.api import NumberField, ObjectSerializer, UtcDateTimeField, as_number, iso


class PageAddressSerializer(ObjectSerializer):
    url = serializers.URLField(help_text="A Stripe page. Open it in a browser.")


class SubscriptionSerializer(ObjectSerializer):
    status = serializers.ChoiceField(Account.Status.values)
    monthlyBase = NumberField(help_text="In USD.")
    perMinuteRate = NumberField(help_text="In USD.")
    totalCalls = serializers.IntegerField()
    totalMinutes = serializers.IntegerField()
    hasPaymentMethod = serializers.BooleanField(
        help_text="True if Stripe has a payment method for the next invoice."
    )


# What an invoice line is for, by Stripe's product; anything else is "other".
LINE_KINDS = {PRODUCT_ID: "base_fee", MINUTES_PRODUCT_ID: "minutes"}
OTHER_LINE = "other"


class InvoiceLineSerializer(ObjectSerializer):
    kind = serializers.ChoiceField([*LINE_KINDS.values(), OTHER_LINE])
    description = serializers.CharField(help_text="Stripe's description of the line.")
    quantity = serializers.IntegerField(help_text="Months, or minutes.")
    amount = NumberField()
    periodStart = UtcDateTimeField(
        help_text="The start of the time that the line pays for. The base fee is for the coming "
        "month, minutes are of the past one."
    )
    periodEnd = UtcDateTimeField()


class InvoiceSerializer(ObjectSerializer):
    id = serializers.CharField()
    number = serializers.CharField(allow_null=True)
    periodStart = UtcDateTimeField(
        help_text="The start of the calls on this invoice. Your first invoice has no calls, and "
        "ends when it starts: see `lines` for the month that it pays for."
    )
    periodEnd = UtcDateTimeField()
    amount = NumberField(help_text="The total, in whole units of the currency.")
    currency = serializers.CharField(help_text="`usd`.")
    status = serializers.ChoiceField(["open", "paid", "uncollectible", "void"])
    hostedUrl = serializers.URLField(
        allow_null=True, help_text="Stripe's page of the invoice, available for some weeks."
    )
    createdAt = UtcDateTimeField()
    lines = InvoiceLineSerializer(many=True)


class InvoicesSerializer(ObjectSerializer):
    invoices = InvoiceSerializer(many=True)


class UpcomingInvoiceSerializer(ObjectSerializer):
    periodStart = UtcDateTimeField(help_text="The start of the calls on this invoice.")
    periodEnd = UtcDateTimeField(help_text="When the invoice is created.")
    amount = NumberField(help_text="The total so far, in whole units of the currency.")
    currency = serializers.CharField(help_text="`usd`.")
    lines = InvoiceLineSerializer(many=True)


def invoice_body(invoice: Mapping[str, Any]) -> dict[str, Any]:
    """Return a Stripe invoice (its JSON) in the shape of :class:`InvoiceSerializer`."""
    return {
        "id": invoice["id"],
        "number": invoice.get("number"),
        "periodStart": _time(invoice["period_start"]),
        "periodEnd": _time(invoice["period_end"]),
        "amount": as_number(to_dollars(invoice["total"])),
        "currency": invoice["currency"],
        "status": invoice["status"],
        "hostedUrl": invoice.get("hosted_invoice_url"),
        "createdAt": _time(invoice["created"]),
        "lines": _lines(invoice),
    }


def upcoming_invoice_body(preview: Mapping[str, Any]) -> dict[str, Any]:
    """Return a Stripe preview (its JSON) in the shape of :class:`UpcomingInvoiceSerializer`."""
    return {
        "periodStart": _time(preview["period_start"]),
        "periodEnd": _time(preview["period_end"]),
        "amount": as_number(to_dollars(preview["total"])),
        "currency": preview["currency"],
        "lines": _lines(preview),
    }


def _lines(invoice: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the lines of an invoice, in Stripe's order.

    Stripe embeds the first ten, which are all: a plan has two.
    """
    return [
        {
            "kind": LINE_KINDS.get(product_of_line(line), OTHER_LINE),
            "description": line["description"] or "",
            "quantity": line["quantity"] or 0,
            "amount": as_number(to_dollars(line["amount"])),
            "periodStart": _time(line["period"]["start"]),
            "periodEnd": _time(line["period"]["end"]),
        }
        for line in invoice["lines"]["data"]
    ]


def _time(seconds: int) -> str:
    return iso(datetime.fromtimestamp(seconds, UTC))
