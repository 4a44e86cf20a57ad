"""Serializers of billing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rest_framework import serializers

from accounts.models import Account
from billing.plan import to_dollars
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


class InvoiceSerializer(ObjectSerializer):
    id = serializers.CharField()
    number = serializers.CharField(allow_null=True)
    periodStart = UtcDateTimeField(help_text="The start of the calls on this invoice.")
    periodEnd = UtcDateTimeField()
    amount = NumberField(help_text="The total, in whole units of the currency.")
    currency = serializers.CharField(help_text="`usd`.")
    status = serializers.ChoiceField(["open", "paid", "uncollectible", "void"])
    hostedUrl = serializers.URLField(
        allow_null=True, help_text="Stripe's page of the invoice, available for some weeks."
    )
    createdAt = UtcDateTimeField()


class InvoicesSerializer(ObjectSerializer):
    invoices = InvoiceSerializer(many=True)


class UpcomingInvoiceLineSerializer(ObjectSerializer):
    description = serializers.CharField(help_text="Stripe's description of the line.")
    quantity = serializers.IntegerField(help_text="Months, or minutes.")
    amount = NumberField()


class UpcomingInvoiceSerializer(ObjectSerializer):
    periodStart = UtcDateTimeField(help_text="The start of the calls on this invoice.")
    periodEnd = UtcDateTimeField(help_text="When the invoice is created.")
    amount = NumberField(help_text="The total so far, in whole units of the currency.")
    currency = serializers.CharField(help_text="`usd`.")
    lines = UpcomingInvoiceLineSerializer(many=True)


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
    }


def upcoming_invoice_body(preview: Mapping[str, Any]) -> dict[str, Any]:
    """Return a Stripe preview (its JSON) in the shape of :class:`UpcomingInvoiceSerializer`."""
    return {
        "periodStart": _time(preview["period_start"]),
        "periodEnd": _time(preview["period_end"]),
        "amount": as_number(to_dollars(preview["total"])),
        "currency": preview["currency"],
        "lines": [
            {
                "description": line["description"] or "",
                "quantity": line["quantity"] or 0,
                "amount": as_number(to_dollars(line["amount"])),
            }
            for line in preview["lines"]["data"]
        ],
    }


def _time(seconds: int) -> str:
    return iso(datetime.fromtimestamp(seconds, UTC))
