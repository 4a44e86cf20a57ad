"""Calls in progress, in words, and hanging up from the list of them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import Account
from dashboard.live_calls import state_of
from telephony.call_sids import new_test_sid
from telephony.models import Call

pytestmark = pytest.mark.django_db

PATH, LIVE = "/dashboard", "/dashboard/live"
HTMX = {"HX-Request": "true"}
NOW = datetime.fromisoformat("2026-11-03T19:05:11Z")
HELD = {"answered_at": NOW, "engine_id": "1"}


def call_of(account: Account, **fields: Any) -> Call:
    known = {
        "direction": Call.Direction.INBOUND,
        "status": Call.Status.RINGING,
        "caller_phone": "+19805551234",
        "called_number": "+15551234567",
    }
    return Call.objects.create(account=account, **known | fields)


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"direction": "outbound", "status": "queued"}, "Queued"),
        ({"direction": "outbound", "status": "queued", "accepted_at": NOW}, "Queued"),
        ({"direction": "outbound", "status": "ringing", "accepted_at": NOW}, "Ringing"),
        ({"direction": "inbound", "status": "ringing"}, "Waiting for your backend"),
        ({"direction": "inbound", "status": "ringing", "accepted_at": NOW}, "Connecting"),
        ({"direction": "inbound", **HELD}, "Talking"),
        ({"direction": "outbound", **HELD}, "Talking"),
        ({**HELD, "engine_id": ""}, "Reconnecting"),
        ({**HELD, "engine_id": "", "audio_ended_at": NOW}, "Reconnecting"),
        ({**HELD, "audio_ended_at": NOW}, "Ending"),
        ({**HELD, "hangup_requested_at": NOW}, "Ending"),
        ({**HELD, "engine_id": "", "hangup_requested_at": NOW}, "Ending"),
    ],
)
def test_its_state(fields: dict[str, Any], state: str) -> None:
    assert state_of(Call(**fields))[0] == state


def test_it_is_a_sentence(
    alice: Account, alice_web: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    Account.objects.update(time_zone="America/New_York")
    call_of(alice, **HELD, created_at=NOW - timedelta(seconds=9))
    monkeypatch.setattr(timezone, "now", lambda: NOW + timedelta(minutes=3, seconds=7.9))
    text = alice_web.get(LIVE, headers=HTMX).content.decode()
    assert "Inbound call from <b>+19805551234</b> to <b>+15551234567</b>" in text
    assert '>Talking</span> for <span class="lasted" data-seconds="187">3 min 07 s</span>' in text
    assert "since <time" in text
    assert ">3 Nov 2026, 14:05:11 EST</time>" in text


class TestHangUp:
    def test_it_comes_back_to_the_list(self, alice: Account, alice_web: Client) -> None:
        call = call_of(alice)
        assert "Hang up now" in alice_web.get(PATH).content.decode()
        response = alice_web.post(f"/dashboard/calls/{call.id}/hangup", {"back": "overview"})
        assert response["Location"] == PATH
        call.refresh_from_db()
        assert call.hangup_requested_at
        text = alice_web.get(PATH).content.decode()
        assert "Hanging up." in text
        assert ">Ending</span>" in text
        assert "Hang up now" not in text

    def test_who_may_not_is_not_asked(self, dave: Account, dave_web: Client) -> None:
        call_of(dave)
        text = dave_web.get(PATH).content.decode()
        assert "+19805551234" in text
        assert "Hang up now" not in text

    def test_another_account_cannot(self, alice: Account, bob_web: Client) -> None:
        call = call_of(alice)
        path = f"/dashboard/calls/{call.id}/hangup"
        assert bob_web.post(path, {"back": "overview"}).status_code == 404
        call.refresh_from_db()
        assert call.hangup_requested_at is None


@pytest.mark.parametrize("path", [PATH, "/dashboard/calls", "/dashboard/calls/{}"])
def test_a_test_call_is_marked(path: str, alice: Account, alice_web: Client) -> None:
    call = call_of(alice, call_sid="CA" + "1" * 32)
    badge = 'title="A test call from the dashboard">Test</span>'
    assert badge not in alice_web.get(path.format(call.id)).content.decode()
    call.call_sid = new_test_sid()
    call.save()
    assert alice_web.get(path.format(call.id)).content.decode().count(badge) == 1
