"""The number of calls that an account may have, of any kind and however many begin at once."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from itertools import count
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from pytest_django import Settings

from accounts.models import Account
from telephony.admission import (
    NotAdmitted,
    account_lock,
    admission_require,
    has_room_for_a_ring,
)
from telephony.engine.plan import CallPlan
from telephony.models import Call, PhoneNumber
from telephony.tests.twilio_stand_in import ACCOUNT_SID, AUTH_TOKEN
from usage.models import DailyUsage
from usage.spending import spending_limit_set

NUMBER = "+15551234567"
URLS = {
    "on_call_start_url": "https://backend.example/start",
    "on_call_end_url": "https://backend.example/end",
}
PLAN = CallPlan(
    twilio_account_sid=ACCOUNT_SID,
    twilio_auth_token=AUTH_TOKEN,
    openai_api_key="sk-x",
    system_prompt="Be brief.",
)
_sids = count()


@pytest.fixture
def number(alice: Account) -> PhoneNumber:
    return PhoneNumber.objects.create(account=alice, phone_number=NUMBER, **URLS)


def call_of(account: Account, **fields: Any) -> Call:
    defaults = {
        "direction": "inbound",
        "status": "ringing",
        "called_number": NUMBER,
        "held_until": timezone.now() + timedelta(minutes=1),
    }
    sid = f"CA{next(_sids):032x}"
    return Call.objects.create(account=account, call_sid=sid, **defaults | fields)


def require(account: Account, **options: Any) -> None:
    with transaction.atomic():
        admission_require(account_lock(account.pk), **options)


@pytest.mark.django_db
class TestPlaces:
    def test_there_are_as_many_as_the_setting_says(
        self, alice: Account, bob: Account, settings: Settings
    ) -> None:
        settings.MAX_CONCURRENT_CALLS = 2
        now = timezone.now()
        call_of(alice, accepted_at=now, answered_at=now)
        require(alice)
        call = call_of(alice, accepted_at=now)
        with pytest.raises(NotAdmitted) as caught:
            require(alice)
        assert (caught.value.status_code, caught.value.code) == (429, "too_many_calls")
        assert caught.value.word == "busy"
        require(alice, besides=call)
        require(bob)

    @pytest.mark.parametrize(
        ("fields", "takes_one"),
        [
            ({"accepted_at": "now", "answered_at": "now", "held_until": "past"}, True),
            ({"accepted_at": "now"}, True),
            ({"accepted_at": "now", "held_until": "past"}, False),
            ({"direction": "outbound"}, True),
            ({"direction": "outbound", "held_until": "past"}, False),
            ({}, False),
            ({"accepted_at": "now", "answered_at": "now", "ended_at": "now"}, False),
            ({"answered_at": "now", "audio_ended_at": "now", "engine_id": "its engine"}, False),
            ({"answered_at": "now", "audio_ended_at": "now", "engine_id": ""}, True),  # it moves
        ],
    )
    def test_who_takes_one(
        self, alice: Account, settings: Settings, fields: dict[str, str], takes_one: bool
    ) -> None:
        settings.MAX_CONCURRENT_CALLS = 1
        now = timezone.now()
        moments = {"now": now, "past": now - timedelta(seconds=1)}
        call_of(alice, **{name: moments.get(value, value) for name, value in fields.items()})
        if takes_one:
            with pytest.raises(NotAdmitted):
                require(alice)
        else:
            require(alice)

    def test_a_ring_that_nobody_has_verified_counts_apart(
        self, number: PhoneNumber, settings: Settings
    ) -> None:
        settings.MAX_UNVERIFIED_RINGS = 2
        other = PhoneNumber(account=number.account, phone_number="+15550000001")
        call_of(number.account)
        assert has_room_for_a_ring(number)
        call_of(number.account)
        assert not has_room_for_a_ring(number)
        assert has_room_for_a_ring(other)
        Call.objects.update(held_until=timezone.now())
        assert has_room_for_a_ring(number)

    def test_a_bound_number_may_ring_as_often_as_there_are_places(
        self, number: PhoneNumber, settings: Settings
    ) -> None:
        settings.MAX_UNVERIFIED_RINGS, settings.MAX_CONCURRENT_CALLS = 1, 2
        number.twilio_account_sid = ACCOUNT_SID
        call_of(number.account)
        assert has_room_for_a_ring(number)
        call_of(number.account)
        assert not has_room_for_a_ring(number)


@pytest.mark.django_db
class TestStanding:
    @pytest.mark.parametrize(
        ("fields", "status", "code", "why"),
        [
            ({"status": "INACTIVE"}, 402, "payment_required", "account_inactive"),
            ({"status": "SUSPENDED"}, 403, "account_suspended", "account_suspended"),
            ({"suspended_by_operator": True}, 403, "account_suspended", "account_suspended"),
            ({"is_active": False}, 403, "account_disabled", "account_disabled"),
        ],
    )
    def test_an_account_that_is_not_active_gets_none(
        self, alice: Account, fields: dict[str, Any], status: int, code: str, why: str
    ) -> None:
        Account.objects.update(**fields)
        with pytest.raises(NotAdmitted) as caught:
            require(alice)
        assert (caught.value.status_code, caught.value.code) == (status, code)
        assert caught.value.why == why

    def test_one_that_has_spent_its_limit_gets_none(self, alice: Account) -> None:
        spending_limit_set(account=alice, amount=Decimal("0.50"))
        DailyUsage.objects.create(account=alice, day=timezone.now().date(), calls=1, minutes=10)
        with pytest.raises(NotAdmitted) as caught:
            require(alice)
        assert caught.value.code == "spending_limit_reached"
