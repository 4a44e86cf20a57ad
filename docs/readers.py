"""Guides with the reader's own values in place of the placeholders."""

from __future__ import annotations

from django.utils.html import escape

from accounts.models import Account, ApiKey
from telephony.models import PhoneNumber

# The guides whose placeholders are replaced.
FILLED_IN = frozenset({"getting-started"})


def filled_in(html: str, reader: Account) -> str:
    """Return the HTML with the prefix of the reader's newest key, and their first number.

    Placeholders for values that the reader does not have stay. Makes two queries.
    """
    for placeholder, own in _own(reader).items():
        html = html.replace(placeholder, escape(own))
    return html


def _own(reader: Account) -> dict[str, str]:
    found = {}
    if key := ApiKey.objects.of(reader).active().newest_first().first():
        found["rtk_…"] = f"{key.prefix}…"
    if number := PhoneNumber.objects.of(reader).order_by("created_at", "id").first():
        found["+15551234567"] = number.phone_number
        found["https://your-backend.com/calls/start"] = number.on_call_start_url
        found["https://your-backend.com/calls/end"] = number.on_call_end_url
        if number.on_error_url:
            found["https://your-backend.com/calls/error"] = number.on_error_url
    return found
