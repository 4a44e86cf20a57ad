"""The operators' start page."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Account
from billing.models import MeterProblem
from core.ids import first_id_of
from operations.start_page import needing_attention, todays_figures
from telephony.models import Call, CallbackDelivery
from usage.models import UsageRecord

pytestmark = pytest.mark.django_db

INDEX = reverse("admin:index")


@pytest.fixture
def olga(operator: Account) -> Client:
    client = Client()
    client.force_login(operator)
    return client


def call_of(account: Account, **fields: Any) -> Call:
    return Call.objects.create(
        account=account,
        direction="inbound",
        status="in-progress",
        caller_phone="+15550001111",
        called_number="+15550002222",
        on_call_start_url="https://example.org/start",
        on_call_end_url="https://example.org/end",
        **fields,
    )


def used(account: Account, call_sid: str, *, minutes: int, **fields: Any) -> None:
    UsageRecord.objects.create(
        account=account,
        call_sid=call_sid,
        direction="inbound",
        duration_seconds=minutes * 60,
        minutes=minutes,
        platform_cost=0,
        twilio_cost=0,
        openai_cost=0,
        **fields,
    )


class TestFigures:
    def test_they_are_of_today(self, alice: Account, bob: Account) -> None:
        for number, account in enumerate([alice, bob, bob]):
            used(account, f"CA{number}", minutes=number + 1)
        yesterday = timezone.now() - timedelta(days=1)
        used(bob, "CA3", minutes=90, id=first_id_of(yesterday), created_at=yesterday)
        call_of(alice)
        call_of(alice, ended_at=timezone.now())
        counts = {figure.label: figure.count for figure in todays_figures()}
        assert counts == {
            "calls in progress": 1,
            "calls ended today": 3,
            "minutes today": 6,
            "new accounts today": 2,
        }

    def test_nothing_needs_attention(self, alice: Account) -> None:
        assert needing_attention() == []

    def test_what_needs_attention(self, alice: Account) -> None:
        MeterProblem.objects.create(kind="refused", key="refused-CA1", account=alice, detail={})
        for attempts in (1, 5):
            CallbackDelivery.objects.create(
                account=alice,
                call=call_of(alice),
                kind="onCallEnd",
                url="https://example.org/end",
                attempts=attempts,
            )
        found = {figure.label: figure.text for figure in needing_attention()}
        assert found == {"meter problems": "1", "callbacks that keep failing": "1"}

    def test_the_page_links_to_the_lists(self, olga: Client, alice: Account) -> None:
        MeterProblem.objects.create(kind="refused", key="refused-CA1", account=alice, detail={})
        page = olga.get(INDEX).content.decode()
        assert "/admin/billing/meterproblem/?open=yes" in page
        for figure in [*todays_figures(), *needing_attention()]:
            assert olga.get(figure.url).status_code == 200
