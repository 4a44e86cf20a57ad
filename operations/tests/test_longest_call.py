"""The longest call fits into everything that has to outlast it."""

from __future__ import annotations

from datetime import timedelta

from accounts.models import WebhookSecret
from operations.closing import CALLS_END_WITHIN
from telephony import links
from telephony.engine.plan import LONGEST_CALL_S
from telephony.models import UNCONNECTED_LASTS
from telephony.voice.handover import VALID_FOR_WITH_GREETING

LONGEST = timedelta(seconds=LONGEST_CALL_S)


def test_twilio_does_not_end_it_first() -> None:
    assert timedelta(hours=4) > VALID_FOR_WITH_GREETING + LONGEST


def test_its_links_are_valid_to_its_end() -> None:
    assert UNCONNECTED_LASTS + VALID_FOR_WITH_GREETING + LONGEST < links.VALID_FOR


def test_its_callbacks_are_signed_with_a_valid_secret() -> None:
    assert LONGEST < WebhookSecret.OVERLAP


def test_the_subscription_of_a_deleted_account_waits_for_it() -> None:
    assert UNCONNECTED_LASTS + VALID_FOR_WITH_GREETING + LONGEST < CALLS_END_WITHIN
