"""A plan, sealed by the webhook and opened by the media socket."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.db import connections, transaction
from django.utils import timezone

from core.tests.waiting import until_it_waits
from telephony.engine.snapshot import Snapshot
from telephony.engine.transcript import Line
from telephony.models import Call, SealedConversation, SealedPlan
from telephony.services import call_connect
from telephony.tests.engine.conversation import PLAN
from telephony.voice import handover
from telephony.voice.handover import (
    Conversation,
    InvalidTicket,
    conversation_key,
    forget_expired_plans,
    open_conversation,
    seal_plan,
    sealed_conversation,
    take_plan,
)

CALL_SID = "CA" + "0" * 32


@pytest.fixture
def call(alice):
    return Call.objects.create(
        account=alice, call_sid=CALL_SID, direction="inbound", status="ringing"
    )


def test_it_works(call):
    now = timezone.now()
    ticket = seal_plan(call, PLAN, now)
    taken, handed = take_plan(ticket, CALL_SID, now)
    assert (taken, handed.plan) == (call, PLAN)


def test_a_ticket_fits_into_a_parameter_of_twilios(call):
    assert len(seal_plan(call, PLAN, timezone.now())) < 100


def test_it_opens_once(call):
    now = timezone.now()
    ticket = seal_plan(call, PLAN, now)
    take_plan(ticket, CALL_SID, now)
    with pytest.raises(InvalidTicket):
        take_plan(ticket, CALL_SID, now)
    assert not SealedPlan.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_of_two_at_the_same_time_one_opens_it(call):
    now = timezone.now()
    ticket = seal_plan(call, PLAN, now)

    def take(_):
        try:
            return take_plan(ticket, CALL_SID, now)
        except InvalidTicket:
            return None
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(take, range(8)))
    assert [(call, handed.plan) for call, handed in filter(None, taken)] == [(call, PLAN)]


@pytest.mark.django_db(transaction=True)
def test_it_does_not_keep_the_next_ticket_from_being_made(call):
    """A stream opens at the moment at which Twilio asks for another one: no deadlock."""
    now = timezone.now()
    ticket = seal_plan(call, PLAN, now)

    def connect():
        try:
            with transaction.atomic():
                taken, _ = take_plan(ticket, CALL_SID, now)
                return call_connect(taken, now=now)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as thread:
        with transaction.atomic():
            Call.objects.select_for_update().get(pk=call.pk)
            connecting = thread.submit(connect)
            until_it_waits(connecting)
            later = seal_plan(call, PLAN, now)
        with pytest.raises(InvalidTicket):
            connecting.result()
    assert take_plan(later, CALL_SID, now)


def test_it_opens_for_its_own_call_alone(call):
    now = timezone.now()
    ticket = seal_plan(call, PLAN, now)
    with pytest.raises(InvalidTicket):
        take_plan(ticket, "CA" + "1" * 32, now)


def test_it_opens_for_a_minute(call):
    now = timezone.now()
    ticket = seal_plan(call, PLAN, now)
    with pytest.raises(InvalidTicket):
        take_plan(ticket, CALL_SID, now + timedelta(seconds=60))
    assert take_plan(ticket, CALL_SID, now + timedelta(seconds=59))


def test_with_a_greeting_it_waits_until_that_is_played(call):
    now = timezone.now()
    plan = replace(PLAN, greeting_url="https://example.com/hello.mp3")
    ticket = seal_plan(call, plan, now)
    assert take_plan(ticket, CALL_SID, now + timedelta(minutes=2, seconds=59))


def test_an_unused_plan_is_deleted(call):
    now = timezone.now()
    seal_plan(call, PLAN, now)
    assert forget_expired_plans(now + timedelta(seconds=59)) == 0
    assert forget_expired_plans(now + timedelta(seconds=60)) == 1


def test_a_retried_webhook_invalidates_the_earlier_ticket(call):
    now = timezone.now()
    earlier = seal_plan(call, PLAN, now)
    later = seal_plan(call, PLAN, now)
    with pytest.raises(InvalidTicket):
        take_plan(earlier, CALL_SID, now)
    assert take_plan(later, CALL_SID, now)


def test_a_plan_that_code_of_another_version_cannot_read_is_no_ticket(call):
    now = timezone.now()
    ticket = seal_plan(call, PLAN, now)
    key = base64.urlsafe_b64decode(ticket.partition(".")[2])
    theirs = AESGCM(key).encrypt(handover._NONCE, b'{"tools": []}', handover._bound_to(call))
    SealedPlan.objects.update(ciphertext=theirs)
    with pytest.raises(InvalidTicket, match="unreadable"):
        take_plan(ticket, CALL_SID, now)


def test_the_table_does_not_tell_what_is_in_the_plan(call):
    seal_plan(call, replace(PLAN, twilio_auth_token="canary"), timezone.now())
    (sealed,) = SealedPlan.objects.all()
    assert b"canary" not in bytes(sealed.ciphertext)


def test_a_conversation_keeps_what_people_say(call):
    """Whatever the script, and as text: escapes would triple the size."""
    line = Line("user", -1.0, "Größe 💬 हिन्दी " * 1_000)
    said = Conversation(replace(Snapshot.at_start(PLAN), lines=(line,)), timezone.now())
    key = conversation_key(seal_plan(call, PLAN, timezone.now()))
    sealed = sealed_conversation(call, key, said)
    SealedConversation.objects.create(call=call, ciphertext=sealed)
    assert open_conversation(call, key) == said
    assert len(sealed) < 2 * len(line.text.encode())
