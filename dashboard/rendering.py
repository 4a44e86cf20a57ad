"""Rendering the dashboard's pages, with their navigation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.http import HttpResponse

from core.pages import page
from dashboard.access import PageRequest

# The navigation: a page's section and its label.
SECTIONS = (
    ("/dashboard", "Overview"),
    ("/dashboard/calls", "Calls"),
    ("/dashboard/test-call", "Test call"),
    ("/dashboard/numbers", "Numbers"),
    ("/dashboard/keys", "API keys"),
    ("/dashboard/billing", "Billing"),
    ("/dashboard/settings", "Settings"),
)

# The style of a badge that shows an account's status.
STATUS_TONES = {"ACTIVE": "good", "INACTIVE": "note", "SUSPENDED": "bad"}


def dashboard_page(
    request: PageRequest,
    href: str,
    template: str,
    context: Mapping[str, Any] | None = None,
    *,
    status: int = 200,
    connect_to: str = "",
) -> HttpResponse:
    """Return a page of the dashboard; ``href`` is its section in the navigation."""
    frame = {
        "section": "dashboard",
        "sections": SECTIONS,
        "current_section": href,
        "operator": request.operator,
        "asks_to_confirm": settings.SENDS_MAIL and not request.user.is_email_verified,
    }
    return page(
        request, template, frame | dict(context or {}), status=status, connect_to=connect_to
    )
