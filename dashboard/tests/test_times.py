"""Times on the dashboard, in the account's time zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone

from accounts.audit import Action
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
    assert "October 2026</h2>" in alice_web.get("/dashboard/billing").content.decode()


def test_no_template_writes_a_time_in_another_way() -> None:
    """Django's filter shows the active zone's time, but cannot name the zone as people do."""
    for file in Path(settings.BASE_DIR, "templates").rglob("*.html"):
        text = file.read_text()
        assert "<time" not in text, file
        assert "H:i" not in text, file


class TestFilters:
    """Clocks in New York went back on 1 November 2026, at 06:00 UTC."""

    @pytest.fixture
    def times(self, call: Call) -> list[datetime]:
        """The first and last moments of that day, and those around it."""
        begin, end = datetime(2026, 11, 1, 4, tzinfo=UTC), datetime(2026, 11, 2, 5, tzinfo=UTC)
        moment = timedelta(microseconds=1)
        Call.objects.all().delete()
        times = [begin - moment, begin, end - moment, end]
        for number, at in enumerate(times):
            Call.objects.create(
                account=call.account,
                call_sid=f"CA{number:032x}",
                direction=Call.Direction.INBOUND,
                status=Call.Status.COMPLETED,
                caller_phone=f"+1980555000{number}",
                called_number="+15551234567",
                created_at=at,
                ended_at=at,
            )
        return times

    @pytest.mark.parametrize("path", ["/dashboard/calls", "/dashboard/calls.csv"])
    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("since=2026-11-01&until=2026-11-01", [1, 2]),
            ("since=2026-11-01", [1, 2, 3]),
            ("until=2026-11-01", [0, 1, 2]),
            ("until=2026-10-31", [0]),
            ("since=2026-11-02", [3]),
        ],
    )
    def test_a_day_is_the_accounts(
        self, path: str, query: str, found: list[int], times: list[datetime], alice_web: Client
    ) -> None:
        response = alice_web.get(f"{path}?{query}")
        text = b"".join(response).decode()
        assert [number for number in range(4) if f"+1980555000{number}" in text] == found

    def test_the_zone_is_named(self, call: Call, alice_web: Client) -> None:
        text = alice_web.get("/dashboard/calls").content.decode()
        assert 'id="zone">Days and times are in America/New York.' in text
        assert text.count('aria-describedby="zone"') == 2

    def test_an_export_has_the_accounts_day_in_its_name_and_utc_inside(
        self, call: Call, alice_web: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Account.objects.update(time_zone="Pacific/Apia")
        monkeypatch.setattr(timezone, "now", lambda: datetime(2026, 11, 1, 23, tzinfo=UTC))
        response = alice_web.get("/dashboard/calls.csv")
        assert response["Content-Disposition"] == 'attachment; filename="calls-2026-11-02.csv"'
        assert "2026-11-01T05:30:09.000Z" in b"".join(response).decode()


class TestSettings:
    PATH = "/dashboard/settings/time-zone"

    def test_an_account_chooses_its_zone(
        self, alice: Account, bob: Account, alice_web: Client
    ) -> None:
        assert alice_web.post(self.PATH, {"time_zone": "Asia/Kolkata"}).status_code == 302
        text = alice_web.get("/dashboard/settings").content.decode()
        assert 'value="Asia/Kolkata"' in text
        assert " IST</time>" in text
        alice.refresh_from_db()
        bob.refresh_from_db()
        assert (alice.time_zone, bob.time_zone) == ("Asia/Kolkata", "UTC")
        event = alice.audit_events.get(action=Action.TIME_ZONE_CHANGED)
        assert event.detail == {"before": "UTC", "after": "Asia/Kolkata"}

    @pytest.mark.parametrize("zone", ["", "Mars/Olympus", "x" * 65])
    def test_an_unknown_zone_is_refused(self, zone: str, alice: Account, alice_web: Client) -> None:
        response = alice_web.post(self.PATH, {"time_zone": zone})
        assert response.status_code == 400
        assert 'aria-invalid="true"' in response.content.decode()
        alice.refresh_from_db()
        assert alice.time_zone == "UTC"

    def test_others_sign_in(self) -> None:
        assert Client().post(self.PATH)["Location"].startswith("/login?next=")


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({"time_zone": "Asia/Calcutta"}, "Asia/Calcutta"),
        ({"time_zone": "Mars/Olympus"}, "UTC"),
        ({"time_zone": ""}, "UTC"),
        ({}, "UTC"),
    ],
)
def test_whoever_signs_up_has_the_browsers_zone(sent: dict[str, str], kept: str) -> None:
    body = {"email": "you@company.example", "password": "a long walk in the rain", **sent}
    assert Client().post("/signup", body).status_code == 302
    assert Account.objects.get().time_zone == kept
