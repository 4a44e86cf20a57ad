"""Warnings of models that OpenAI turns off soon: in onCallEnd, by email, and on pages."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from accounts.models import Account
from core.sealing import unseal
from core.tests.described import assert_is
from dashboard.tests.conftest import logged_in
from dashboard.tests.mails import sent
from telephony import notices
from telephony.engine.codes import EndedReason
from telephony.engine.models import MODELS
from telephony.models import CallbackDelivery, ModelUse, PhoneNumber
from telephony.outcomes import Outcome
from telephony.retirements import LASTS, in_use, retirements_tell
from telephony.services import call_accept, call_end
from telephony.tests.test_call_incidents import NUMBER, OTHER_NUMBER, call_of

pytestmark = pytest.mark.django_db

MODEL = MODELS["gpt-realtime"]
assert MODEL.ends is not None
END = datetime(MODEL.ends.year, MODEL.ends.month, MODEL.ends.day, 12, tzinfo=UTC)


@pytest.fixture
def number(alice: Account) -> PhoneNumber:
    return PhoneNumber.objects.create(account=alice, phone_number=NUMBER)


def days_before(days: int) -> datetime:
    return END - timedelta(days=days)


def has_call(
    account: Account, *, at: datetime, model: str = MODEL.name, spoke: bool = True, **fields: Any
) -> dict[str, Any]:
    """Let a call with the model end; return onCallEnd."""
    call = call_of(account, created_at=at, on_call_end_url="https://example.com/end", **fields)
    call_accept(call)
    outcome = Outcome(model, billed_from=at if spoke else None)
    reason = EndedReason.CALLER_HANGUP
    call_end(call_id=call.id, status="completed", reason=reason, ended_at=at, outcome=outcome)
    stored = CallbackDelivery.objects.get(call=call)
    body = json.loads(unseal(stored.sealed_body or b"", purpose=CallbackDelivery.PURPOSE))
    assert_is(body, "CallEnd")
    return dict(body)


def subjects(now: datetime) -> list[str]:
    retirements_tell(now)
    return [message.subject for message in sent()]


RETIRES = f"OpenAI retires {MODEL.name} on {END.day} {END:%B %Y}"


def test_on_call_end_warns_from_90_days_before(alice: Account, number: PhoneNumber) -> None:
    assert "warnings" not in has_call(alice, at=days_before(91))
    snapshot = f"{MODEL.name}-2025-08-28"
    body = has_call(alice, at=days_before(90), model=snapshot)
    assert body["model"] == snapshot
    assert body["warnings"] == [
        {
            "code": "model_retires",
            "message": f"{RETIRES}. Use another model, such as {MODEL.instead}.",
            "model": MODEL.name,
            "retiresOn": str(MODEL.ends),
        }
    ]


def test_on_call_end_names_no_model_that_did_not_speak(alice: Account, number: PhoneNumber) -> None:
    assert {"model", "warnings"}.isdisjoint(has_call(alice, at=days_before(1), spoke=False))
    assert not ModelUse.objects.exists()


def test_the_owner_is_told_90_30_and_7_days_before(alice: Account, number: PhoneNumber) -> None:
    told = {}
    for days in (92, 91, 90, 89, 31, 30, 29, 8, 7, 6, 1, 0, -1):
        has_call(alice, at=days_before(days))
        if found := subjects(days_before(days)):
            told[days] = found
    assert told == {90: [RETIRES], 30: [RETIRES], 7: [RETIRES]}


def test_the_first_use_is_told_at_once_whatever_is_left(
    alice: Account, number: PhoneNumber
) -> None:
    has_call(alice, at=days_before(20))
    assert subjects(days_before(19)) == [RETIRES]
    assert subjects(days_before(18)) == []


def test_the_email_names_the_numbers(alice: Account, number: PhoneNumber) -> None:
    PhoneNumber.objects.create(account=alice, phone_number=OTHER_NUMBER)
    has_call(alice, at=days_before(60))
    outbound = {"direction": "outbound", "caller_phone": OTHER_NUMBER}
    has_call(alice, at=days_before(60), number="+19805551234", **outbound)
    retirements_tell(days_before(60))
    (message,) = sent()
    assert f"{NUMBER}, {OTHER_NUMBER} had calls with {MODEL.name}" in message.body
    assert f"such as {MODEL.instead}" in message.body
    assert message.to == [alice.email]


def test_it_is_told_whatever_else_is_turned_off(alice: Account, number: PhoneNumber) -> None:
    notices.emails_set(account=alice, calls=False, callbacks=False)
    has_call(alice, at=days_before(60))
    assert subjects(days_before(60)) == [RETIRES]


def test_who_has_moved_to_another_model_is_not_told(alice: Account, number: PhoneNumber) -> None:
    has_call(alice, at=days_before(45))
    has_call(alice, at=days_before(44), model=MODEL.instead)
    assert in_use(alice, now=days_before(39))
    assert in_use(alice, now=days_before(38)) == []
    assert subjects(days_before(30)) == []
    assert not ModelUse.objects.exists(), "what is outdated is deleted"


def test_a_number_that_is_removed_is_not_told_of(alice: Account, number: PhoneNumber) -> None:
    has_call(alice, at=days_before(60))
    number.delete()
    assert subjects(days_before(60)) == []


def test_only_its_own_account_is_told(alice: Account, bob: Account, number: PhoneNumber) -> None:
    """A number can pass from one account to another while calls are in progress."""
    has_call(bob, at=days_before(60))
    assert not ModelUse.objects.exists()
    has_call(alice, at=days_before(60))
    assert in_use(bob, now=days_before(60)) == []


def test_the_dashboard_warns(alice: Account, bob: Account, number: PhoneNumber) -> None:
    other = PhoneNumber.objects.create(account=alice, phone_number=OTHER_NUMBER)
    at = datetime.now(UTC)
    ModelUse.objects.create(account=alice, number=number, model=MODEL.name, used_at=at)
    web = logged_in(alice)
    days = f"in the last {LASTS.days} days"
    assert f"Calls of {NUMBER} used it {days}" in text_of(web, "/dashboard")
    assert f"of the last {LASTS.days} days" in text_of(web, "/docs/models")
    assert "Calls of this number used it" in text_of(web, f"/dashboard/numbers/{number.id}")
    assert "used it" not in text_of(web, f"/dashboard/numbers/{other.id}")
    assert "used it" not in text_of(logged_in(bob), "/dashboard")


def text_of(web: Client, path: str) -> str:
    return web.get(path).content.decode()
