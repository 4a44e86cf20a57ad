"""What is true of this installation, on a page: ``{% load installation %}``."""

from __future__ import annotations

from django import template
from django.conf import settings

from core.money import dollars, price
from core.version import VERSION

register = template.Library()


@register.simple_tag
def version() -> str:
    return VERSION


@register.simple_tag
def prices() -> dict[str, str]:
    """Return the prices as texts: ``base`` a month, ``rate`` a minute."""
    return {"base": dollars(settings.MONTHLY_BASE), "rate": price(settings.PER_MINUTE_RATE)}


@register.simple_tag
def operators_links() -> dict[str, str]:
    """Return the URLs of the operators' own pages: those of terms, privacy, support and status.

    An empty one is not set, and not shown.
    """
    return {
        "terms": settings.TERMS_URL,
        "privacy": settings.PRIVACY_URL,
        "support": settings.SUPPORT_URL or mail_link(settings.SUPPORT_EMAIL),
        "status": settings.STATUS_URL,
    }


def mail_link(address: str) -> str:
    return f"mailto:{address}" if address else ""
