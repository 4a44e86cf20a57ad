"""Usage in the admin: to look at."""

from __future__ import annotations

from datetime import date

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Account
from usage.models import DailyUsage, TotalUsage, UsageRecord

pytestmark = pytest.mark.django_db


@pytest.fixture
def olga(client: Client, operator: Account) -> Client:
    """A browser in which the operator has logged in."""
    client.force_login(operator)
    return client


@pytest.fixture
def usage(alice: Account) -> list[UsageRecord | DailyUsage | TotalUsage]:
    return [
        UsageRecord.objects.create(
            account=alice,
            call_sid=f"CA{1:032x}",
            direction="inbound",
            caller_phone="+19805551234",
            called_number="+15551234567",
            duration_seconds=61,
            minutes=2,
            platform_cost="0.1",
            twilio_cost="0.0258",
            openai_cost="0.031416",
        ),
        DailyUsage.objects.create(account=alice, day=date(2026, 4, 5), calls=1, minutes=2),
        TotalUsage.objects.create(account=alice, calls=1, minutes=2),
    ]


def test_it_can_be_looked_at(
    olga: Client, usage: list[UsageRecord | DailyUsage | TotalUsage]
) -> None:
    for thing in usage:
        name = f"admin:usage_{thing._meta.model_name}"
        listed = olga.get(reverse(f"{name}_changelist"))
        shown = olga.get(reverse(f"{name}_change", args=[thing.pk]))
        assert (listed.status_code, shown.status_code) == (200, 200)
        assert "alice@example.org" in listed.content.decode()
        assert "alice@example.org" in shown.content.decode()


def test_a_call_is_found_by_its_sid(
    olga: Client, usage: list[UsageRecord | DailyUsage | TotalUsage]
) -> None:
    path = reverse("admin:usage_usagerecord_changelist")
    sid = f"CA{1:032x}"
    assert f">{sid}<" in olga.get(path, {"q": sid}).content.decode()
    assert f">{sid}<" not in olga.get(path, {"q": f"CA{2:032x}"}).content.decode()


def test_the_cost_of_a_call_is_shown_in_cents(
    olga: Client, usage: list[UsageRecord | DailyUsage | TotalUsage]
) -> None:
    shown = olga.get(reverse("admin:usage_usagerecord_changelist")).content.decode()
    assert "$0.16" in shown
    assert "0.157216" not in shown


def test_nothing_can_be_changed(
    olga: Client, usage: list[UsageRecord | DailyUsage | TotalUsage]
) -> None:
    for thing in usage:
        name = f"admin:usage_{thing._meta.model_name}"
        paths = [
            reverse(f"{name}_add"),
            reverse(f"{name}_change", args=[thing.pk]),
            reverse(f"{name}_delete", args=[thing.pk]),
        ]
        assert [olga.post(path, {"post": "yes"}).status_code for path in paths] == [403] * 3
        thing.refresh_from_db()
        assert thing.minutes == 2
