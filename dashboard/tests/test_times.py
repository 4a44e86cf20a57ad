"""Times on the dashboard, in the account's time zone."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone

from accounts.models import Account
from telephony.models import Call

pytestmark = pytest.mark.django_db

AT = datetime(2026, 11, 1, 5, 30, 9, tzinfo=UTC)


@pytest.fixture
def call(alice: Account) -> Call:
    Account.objects.filter(pk=alice.pk).update(time_zone="America/New_York")
    return Call.objects.create(
        account=alice,
        call_sid="CA" + "1" * 32,
        direction=Call.Direction.INBOUND,
        status=Call.Status.COMPLETED,
        caller_phone="+19805551234",
        called_number="+15551234567",
        created_at=AT,
        ended_at=AT,
    )


def test_a_page_shows_them(call: Call, alice_web: Client) -> None:
    text = alice_web.get(f"/dashboard/calls/{call.id}").content.decode()
    assert 'title="1 Nov 2026, 05:30:09 UTC">1 Nov 2026, 01:30:09 EDT</time>' in text
    assert "1 Nov 2026, 01:30:09 EDT" in alice_web.get("/dashboard/calls").content.decode()


def test_a_zone_is_left_with_the_page(call: Call, alice_web: Client) -> None:
    for path in ("/dashboard/calls", "/dashboard/calls/unknown"):
        alice_web.get(path)
        assert timezone.get_current_timezone_name() == "UTC"


def test_an_operator_sees_the_customers(call: Call, operator: Account) -> None:
    web = Client()
    web.force_login(operator)
    web.post(f"/operators/impersonate/{call.account_id}")
    text = web.get(f"/dashboard/calls/{call.id}").content.decode()
    assert "1 Nov 2026, 01:30:09 EDT" in text


def test_a_zone_that_is_no_longer_known_is_utc(call: Call, alice_web: Client) -> None:
    Account.objects.update(time_zone="Mars/Olympus")
    text = alice_web.get(f"/dashboard/calls/{call.id}").content.decode()
    assert ">1 Nov 2026, 05:30:09 UTC</time>" in text


def test_billing_counts_in_utc(
    call: Call, alice_web: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    Account.objects.update(time_zone="Pacific/Apia")
    monkeypatch.setattr(timezone, "now", lambda: datetime(2026, 10, 31, 23, tzinfo=UTC))
    for path in ("/dashboard/billing", "/dashboard"):
        assert "October 2026</h2>" in alice_web.get(path).content.decode()


def test_no_template_writes_a_time_in_another_way() -> None:
    """Django's filter shows the active zone's time, but cannot name the zone as people do."""
    for file in Path(settings.BASE_DIR, "templates").rglob("*.html"):
        text = file.read_text()
        assert "<time" not in text, file
        assert "H:i" not in text, file
