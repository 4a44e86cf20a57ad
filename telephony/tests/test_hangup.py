"""Calls that outlast the subscription that pays for them."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from accounts.models import Account
from accounts.services import account_suspend
from telephony.models import Call
from telephony.tasks import hang_up_calls_of_nobody

pytestmark = pytest.mark.django_db


def call_of(account: Account, **fields: Any) -> Call:
    values = {"direction": "inbound", "status": "in-progress", "answered_at": timezone.now()}
    return Call.objects.create(account=account, **values | fields)


def is_to_end(call: Call) -> bool:
    hang_up_calls_of_nobody(timestamp=0)
    call.refresh_from_db()
    return call.hangup_requested_at is not None


def test_a_subscription_that_has_ended_ends_its_calls(alice: Account) -> None:
    """As at the end of a month for which the customer has cancelled it."""
    call, ended = call_of(alice), call_of(alice, ended_at=timezone.now())
    assert not is_to_end(call)
    Account.objects.filter(pk=alice.pk).update(status=Account.Status.INACTIVE)
    assert is_to_end(call)
    assert not is_to_end(ended)
    assert call.events.get().kind == "hangup_requested"


def test_so_does_an_account_that_was_deleted(alice: Account) -> None:
    """A call that was accepted at the same moment is found."""
    Account.objects.filter(pk=alice.pk).update(is_active=False, closed_at=timezone.now())
    assert is_to_end(call_of(alice))


def test_it_is_asked_once(alice: Account) -> None:
    Account.objects.filter(pk=alice.pk).update(status=Account.Status.INACTIVE)
    call = call_of(alice)
    assert is_to_end(call)
    asked_at = call.hangup_requested_at
    assert is_to_end(call)
    assert call.hangup_requested_at == asked_at


def test_calls_of_others_go_on(alice: Account, bob: Account) -> None:
    """An account that owes money, or is suspended, still pays for its minutes."""
    Account.objects.filter(pk=alice.pk).update(status=Account.Status.SUSPENDED)
    account_suspend(account=bob, reason="test")
    assert not is_to_end(call_of(alice))
    assert not is_to_end(call_of(bob))
