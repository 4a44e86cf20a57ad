"""The URLs of the stand-in's pages, as Stripe's API returns them."""

from __future__ import annotations

from django.conf import settings


def page_url(path: str) -> str:
    """Return a page's URL. Checkout, portal and invoices replace Stripe's own pages."""
    return f"{settings.PUBLIC_URL}/sandbox/payments/{path}"
