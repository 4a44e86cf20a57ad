"""Rendering the dashboard's pages, with their navigation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.http import HttpResponse

from core.pages import page
from dashboard.access import PageRequest

# The navigation: the name of each section's URL, and its label.
SECTIONS = (
    ("overview", "Overview"),
    ("calls", "Calls"),
    ("callbacks", "Callbacks"),
    ("test-call", "Test call"),
    ("numbers", "Numbers"),
    ("keys", "API keys"),
    ("dashboard-billing", "Billing"),
    ("settings", "Settings"),
)

# The style of a badge that shows an account's status.
STATUS_TONES = {"ACTIVE": "good", "INACTIVE": "note", "SUSPENDED": "bad"}


def dashboard_page(
    request: PageRequest,
    section: str,
    template: str,
    context: Mapping[str, Any] | None = None,
    *,
    status: int = 200,
    connect_to: str = "",
) -> HttpResponse:
    """Return a page of the dashboard; ``section`` is the name of its section's URL."""
    frame = {
        "section": "dashboard",
        "sections": SECTIONS,
        "current_section": section,
        "operator": request.operator,
        "asks_to_confirm": settings.SENDS_MAIL and not request.user.is_email_verified,
    }
    return page(
        request, template, frame | dict(context or {}), status=status, connect_to=connect_to
    )
