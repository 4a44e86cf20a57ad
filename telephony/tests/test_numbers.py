"""Validation of numbers in the services, whatever calls them."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ValidationError
from pytest_django import Settings

from accounts.models import Account
from telephony.models import PhoneNumber
from telephony.numbers import fields_check, phone_number_register, phone_number_update
from telephony.twilio_rest import TwilioCredentials

pytestmark = pytest.mark.django_db

NUMBER = {
    "phone_number": "+15551234567",
    "on_call_start_url": "https://your-backend.com/calls/start",
    "on_call_end_url": "https://your-backend.com/calls/end",
}
WRONG = [
    ("on_call_start_url", "", "https://"),
    ("on_call_start_url", "http://your-backend.com/start", "https://"),
    ("on_call_end_url", "https://10.0.0.1/end", "public host"),
    ("on_error_url", "https://you:secret@your-backend.com/", "username and password"),
    ("on_error_url", "https://your-backend.com/" + "x" * 2000, "at most 2000"),
]


@pytest.fixture(autouse=True)
def production(settings: Settings) -> None:
    settings.CALLBACK_ALLOW_PRIVATE = False


@pytest.mark.parametrize(
    ("field", "value", "message"), [*WRONG, ("phone_number", "+44 20 7946 0018", "US number")]
)
def test_a_registration_that_is_wrong(alice: Account, field: str, value: str, message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        phone_number_register(account=alice, **NUMBER | {field: value})
    assert message in refused.value.message_dict[field][0]
    assert not PhoneNumber.objects.exists()


def test_all_that_is_wrong_is_said_at_once(alice: Account) -> None:
    with pytest.raises(ValidationError) as refused:
        phone_number_register(
            account=alice,
            phone_number="5551234567",
            on_call_start_url="ftp://your-backend.com/",
            on_call_end_url=NUMBER["on_call_end_url"],
            proof=TwilioCredentials("AC123", "two words"),
        )
    assert set(refused.value.message_dict) == {
        "phone_number",
        "on_call_start_url",
        "twilio_account_sid",
        "twilio_auth_token",
    }


def test_an_account_sid_may_only_be_empty_in_a_change(alice: Account) -> None:
    """There, it leaves a number's Twilio account open."""
    with pytest.raises(ValidationError) as refused:
        fields_check(**TwilioCredentials("", "token").as_fields())
    assert set(refused.value.message_dict) == {"twilio_account_sid"}
    with pytest.raises(ValidationError):
        fields_check(twilio_account_sid="")


@pytest.mark.parametrize(
    ("field", "value", "message"), [*WRONG, ("twilio_account_sid", "AC123", "32 hex digits")]
)
def test_a_change_that_is_wrong(alice: Account, field: str, value: Any, message: str) -> None:
    number, _ = phone_number_register(account=alice, **NUMBER)
    before = PhoneNumber.objects.values().get()
    with pytest.raises(ValidationError) as refused:
        phone_number_update(account=alice, id=number.id, **{field: value})
    assert message in refused.value.message_dict[field][0]
    assert PhoneNumber.objects.values().get() == before


def test_what_may_be_left_out_may_be_taken_away(alice: Account) -> None:
    number, _ = phone_number_register(
        account=alice, **NUMBER, on_error_url="https://your-backend.com/calls/error"
    )
    phone_number_update(account=alice, id=number.id, on_error_url="", twilio_account_sid="")
    number.refresh_from_db()
    assert (number.on_error_url, number.twilio_account_sid) == ("", "")
