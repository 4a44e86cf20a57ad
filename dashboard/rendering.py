"""How the dashboard's pages are rendered: in one frame, each in its room."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.http import HttpResponse

from core.pages import page
from dashboard.access import PageRequest

# The rooms of the dashboard, as its navigation shows them.
ROOMS = (
    ("/dashboard", "Overview"),
    ("/dashboard/calls", "Calls"),
    ("/dashboard/test-call", "Test call"),
    ("/dashboard/numbers", "Numbers"),
    ("/dashboard/keys", "API keys"),
    ("/dashboard/billing", "Billing"),
    ("/dashboard/settings", "Settings"),
)

# How a badge looks that shows an account's status.
STATUS_TONES = {"ACTIVE": "good", "INACTIVE": "note", "SUSPENDED": "bad"}


def room(
    request: PageRequest,
    href: str,
    template: str,
    context: Mapping[str, Any] | None = None,
    *,
    status: int = 200,
    connect_to: str = "",
) -> HttpResponse:
    """Return a page of the dashboard; ``href`` is the room that it is in."""
    frame = {
        "section": "dashboard",
        "rooms": ROOMS,
        "room": href,
        "operator": request.operator,
        "asks_to_confirm": settings.SENDS_MAIL and not request.user.is_email_verified,
    }
    return page(
        request, template, frame | dict(context or {}), status=status, connect_to=connect_to
    )
