"""Code that the pages share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from sandbox.payments.business import cards
from sandbox.payments.business.cards import CARDS, Card
from sandbox.payments.models import StripeObject
from sandbox.payments.wire.errors import Refusal


class CardForm(forms.Form):
    """A card as entered by a person; only test cards are known."""

    number = forms.CharField(label="Card number", max_length=30)
    expiry = forms.RegexField(
        r"^\s*(0[1-9]|1[0-2])\s*/\s*\d\d\s*$",
        label="Expiry (MM / YY)",
        error_messages={"invalid": "Your card's expiration date is incomplete."},
    )
    cvc = forms.RegexField(
        r"^\d{3,4}$",
        label="CVC",
        error_messages={"invalid": "Your card's security code is incomplete."},
    )

    FILLED_IN = {"number": "4242 4242 4242 4242", "expiry": "12 / 34", "cvc": "123"}

    def __init__(self, data: Any = None) -> None:
        super().__init__(data, initial=self.FILLED_IN)
        for field in self.fields.values():
            field.widget.attrs |= {"autocomplete": "off", "inputmode": "numeric"}

    def clean_expiry(self) -> str:
        month, year = (int(part) for part in self.cleaned_data["expiry"].split("/"))
        today = datetime.now(UTC)
        if (2000 + year, month) < (today.year, today.month):
            raise forms.ValidationError("Your card's expiration date is in the past.")
        return f"{month:02} / {year:02}"

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if "number" in cleaned:
            try:
                self.card: Card = cards.card_numbered(cleaned["number"])
            except Refusal as refusal:
                self.add_error("number", str(refusal))
        return cleaned


def show(
    request: HttpRequest, page: str, context: dict[str, Any], *, status: int = 200
) -> HttpResponse:
    """Return one of the pages."""
    context |= {"test_cards": CARDS}
    return render(request, f"sandbox/payments/{page}.html", context, status=status)


def closed(
    request: HttpRequest, title: str, text: str, *, back: str | None = None, status: int
) -> HttpResponse:
    """Return a page for something that does not exist (any more) or cannot be done."""
    return show(request, "closed", {"title": title, "text": text, "back": back}, status=status)


def found(kind: str, id: str) -> StripeObject | None:
    return StripeObject.objects.of(kind).filter(id=id).first()


def product_name(body: dict[str, Any]) -> str:
    """Return the product name of a price, a subscription's item or an invoice line."""
    price = body.get("price") or body
    product = StripeObject.objects.filter(id=price["product"]).first()
    return product["name"] if product else price["product"]
