"""Migrations that fill in what later code stores by itself: both find the same."""

from __future__ import annotations

from datetime import timedelta
from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.db import connection
from django.forms.models import model_to_dict
from django.utils import timezone

from accounts.models import Account
from telephony.call_search import metadata_index
from telephony.engine.codes import CallProblem, EndedReason, ErrorCode, EventKind
from telephony.models import Call, CallDay, MetadataValue
from telephony.outcomes import Outcome
from telephony.services import call_accept, call_connect, call_end, call_end_lost, call_note
from telephony.tests.test_calls_api import call_of

pytestmark = pytest.mark.django_db


def migration(name: str) -> Any:
    return import_module(f"telephony.migrations.{name}")


@pytest.fixture
def ended(alice: Account, bob: Account) -> list[Call]:
    """Calls that ended in many ways."""
    Account.objects.filter(pk=bob.pk).update(time_zone="Asia/Kolkata")

    def end(number: int, reason: EndedReason, account: Account = alice, **more: Any) -> Call:
        call = call_of(account, number, created_at=timezone.now())
        call_end(call_id=call.id, status=Call.Status.COMPLETED, reason=reason, **more)
        return call

    talked = call_of(bob, 10)
    call_accept(talked, onCallStartMs=120)
    call_connect(talked, now=timezone.now())
    for latency in (640, 1_200, 90_000):
        call_note(talked, EventKind.AGENT_SPOKE, latencyMs=latency)
    call_note(talked, EventKind.TOOL_FAILED, tool="t", ms=5, message="No.")
    run = {"toolName": "t", "status": "failed", "result": "No.", "timestamp": "2026-01-01"}
    call_end(
        call_id=talked.id,
        status=Call.Status.COMPLETED,
        reason=EndedReason.CALLER_HANGUP,
        outcome=Outcome("gpt-realtime-1.5", tool_calls=[run]),
    )
    lost = call_of(alice, 11)
    call_connect(lost, now=timezone.now())
    call_end_lost(call_id=lost.id, ended_at=timezone.now())
    refused = call_of(alice, 12)
    call_note(refused, EventKind.REFUSED, why="too_many_calls")
    call_end(
        call_id=refused.id,
        status=Call.Status.REJECTED,
        reason=EndedReason.REJECTED,
        problem=CallProblem.TOO_MANY_CALLS,
    )
    errors = [(ErrorCode.CALL_START_TIMEOUT, "Slow.")]
    return [
        talked,
        lost,
        refused,
        end(1, EndedReason.REJECTED),
        end(2, EndedReason.REJECTED, errors=errors),
        end(3, EndedReason.BUSY),
        end(4, EndedReason.FAILED),
        end(5, EndedReason.TRANSFERRED, bob),
    ]


def test_error_codes_of_ended_calls(ended: list[Call]) -> None:
    known = dict(Call.objects.values_list("id", "error_code"))
    assert set(known.values()) == {
        *("", "tool_failed", "engine_lost", "too_many_calls"),
        *("call_start_timeout", "not_connected"),
    }
    Call.objects.update(error_code="")
    with connection.schema_editor() as editor:
        migration("0016_error_codes_of_ended_calls").fill(None, editor)
    assert dict(Call.objects.values_list("id", "error_code")) == known


def test_days_of_calls(ended: list[Call]) -> None:
    def rows() -> list[dict[str, Any]]:
        days = CallDay.objects.order_by("account", "day")
        return [model_to_dict(day, exclude=["id"]) for day in days]

    known = rows()
    assert sum(day["failed"] for day in known) == 4
    CallDay.objects.all().delete()
    for _ in range(2):  # it can be run again
        with connection.schema_editor() as editor:
            migration("0029_days_of_earlier_calls").fill(None, editor)
        assert rows() == known


def test_search_of_earlier_calls(alice: Account) -> None:
    call = call_of(
        alice, metadata={"a": ["x", 42, 1.5, True, None], "b": {"c": "x"}, "long": "x" * 201}
    )
    metadata_index(call)
    known = set(MetadataValue.objects.values_list("value", "call", "account", "created_at"))
    assert {value for value, *_ in known} == {"x", "42", "1.5"}
    MetadataValue.objects.all().delete()
    with connection.schema_editor() as editor:
        migration("0019_search_of_earlier_calls").fill(None, editor)
    assert set(MetadataValue.objects.values_list("value", "call", "account", "created_at")) == known


def test_a_call_in_progress_is_billed_from_when_its_model_was_ready(alice: Account) -> None:
    now = timezone.now()
    ready, unready, waiting, ended = (call_of(alice, number) for number in range(1, 5))
    for call in (ready, unready, ended):
        call_connect(call, now=now)
    for call in (ready, ended):
        call_note(call, EventKind.MODEL_READY, at=now + timedelta(seconds=1))
    Call.objects.filter(pk=ended.pk).update(ended_at=now)
    migration("0028_billed_from_of_calls_in_progress").bill_live_calls(apps, None)
    found = dict(Call.objects.values_list("pk", "billed_from"))
    assert found.pop(ready.pk) == now + timedelta(seconds=1)
    assert found == {unready.pk: None, waiting.pk: None, ended.pk: None}
