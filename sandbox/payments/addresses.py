"""Where the stand-in's pages are, for the addresses that Stripe's API gives out."""

from __future__ import annotations

from django.conf import settings


def page_url(path: str) -> str:
    """Return a page's address: checkout, portal and invoices are where Stripe would have them."""
    return f"{settings.PUBLIC_URL}/sandbox/payments/{path}"
