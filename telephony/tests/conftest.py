"""Fixtures that several tests of calls share."""

from __future__ import annotations

import pytest

from accounts.models import Account
from telephony.models import Call


@pytest.fixture
def call(alice: Account) -> Call:
    """A call that rings."""
    return Call.objects.create(
        account=alice,
        call_sid="CA" + "0" * 32,
        direction="inbound",
        status="ringing",
        caller_phone="+19805550000",
        called_number="+15551234567",
        on_call_end_url="https://backend.example/end",
        on_error_url="https://backend.example/error",
    )
