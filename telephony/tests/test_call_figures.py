"""How fast the agent was, measured once and shown everywhere."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import Account
from core.sealing import unseal
from telephony.call_figures import Figures, figures_of, percentile
from telephony.models import Call, CallbackDelivery, CallEvent
from telephony.services import call_accept, call_connect, call_end, call_end_lost, call_resume
from telephony.tests.test_calls_api import NOT_MEASURED, call_of

pytestmark = pytest.mark.django_db

GREETED = ("greeted", {"ms": 840})
TURNS = [("agent_spoke", {"latencyMs": ms}) for ms in (900, 500, 2_400, 700)]
MEASURED = {"firstAudioMs": 840, "turnP50Ms": 700, "turnP95Ms": 2_400}


@pytest.fixture
def connected(alice: Account) -> Call:
    call = call_of(alice)
    call_accept(call)
    assert call_connect(call, now=timezone.now())
    return call


def end(call: Call, *events: tuple[str, Any]) -> None:
    at = timezone.now()
    timed: Any = [(at, kind, detail) for kind, detail in events]
    call_end(
        call_id=call.id,
        status=Call.Status.COMPLETED,
        reason="caller_hangup",
        ended_at=at + timedelta(seconds=60),
        events=timed,
    )


class TestApi:
    def test_it_works(self, connected: Call, alice_api: APIClient) -> None:
        end(connected, GREETED, *TURNS)
        assert alice_api.get(f"/api/calls/{connected.id}").json()["call"]["latency"] == MEASURED
        assert alice_api.get("/api/calls").json()["calls"][0]["latency"] == MEASURED

    def test_on_call_end_has_the_same(self, connected: Call) -> None:
        end(connected, GREETED, *TURNS)
        delivery = CallbackDelivery.objects.get()
        body = unseal(delivery.sealed_body or b"", purpose=CallbackDelivery.PURPOSE)
        assert json.loads(body)["latency"] == MEASURED

    def test_an_agent_that_did_not_speak_first_has_no_first_audio(
        self, connected: Call, alice_api: APIClient
    ) -> None:
        end(connected, *TURNS)
        shown = alice_api.get(f"/api/calls/{connected.id}").json()["call"]["latency"]
        assert shown == MEASURED | {"firstAudioMs": None}

    def test_a_call_in_progress_has_none_yet(self, connected: Call, alice_api: APIClient) -> None:
        assert alice_api.get(f"/api/calls/{connected.id}").json()["call"]["latency"] == NOT_MEASURED

    def test_a_call_that_goes_on_after_all_is_measured_when_it_ends(
        self, connected: Call, alice_api: APIClient
    ) -> None:
        event = {"kind": "agent_spoke", "detail": {"latencyMs": 500}}
        CallEvent.objects.create(account=connected.account, call=connected, **event)
        call_end_lost(call_id=connected.id, ended_at=timezone.now())
        connected.refresh_from_db()
        assert connected.turn_p50_ms == 500
        call_resume(call_id=connected.id)
        shown = alice_api.get(f"/api/calls/{connected.id}").json()["call"]["latency"]
        assert shown == NOT_MEASURED
        end(connected, ("agent_spoke", {"latencyMs": 900}))
        connected.refresh_from_db()
        assert (connected.turn_p50_ms, connected.turn_p95_ms) == (500, 900)

    def test_another_account_does_not_see_it(self, connected: Call, bob_api: APIClient) -> None:
        end(connected, *TURNS)
        assert bob_api.get(f"/api/calls/{connected.id}").status_code == 404
        assert bob_api.get("/api/calls").json()["calls"] == []


class TestFigures:
    def of(self, *events: tuple[str, Any]) -> Figures:
        return figures_of(CallEvent(kind=kind, detail=detail) for kind, detail in events)

    def test_turns(self) -> None:
        found = self.of(GREETED, *TURNS, ("agent_heard", {"latencyMs": 9}), ("interrupted", {}))
        assert found.turns == [900, 500, 2_400, 700]
        assert (found.turn(0.5), found.turn(0.95)) == (700, 2_400)
        assert (found.first_audio, found.counts["interrupted"]) == (840, 1)

    def test_the_backends_responses_and_the_model_are_in_order(self) -> None:
        asked = [("not_accepted", {"onCallStartMs": 10_000}), ("accepted", {})]
        ready = [("model_ready", {"model": model, "ms": 1}) for model in ("one", "another")]
        found = self.of(*asked, *ready)
        assert (found.on_call_start, found.model) == ([10_000], "another")

    @pytest.mark.parametrize(
        "odd", ["soon", None, True, -1, 10**12, float("nan"), float("inf"), [1], {}]
    )
    def test_what_another_version_wrote_does_no_harm(self, odd: Any) -> None:
        events = [("greeted", {"ms": odd}), ("agent_spoke", {"latencyMs": odd})]
        found = self.of(*events, ("agent_spoke", odd), ("model_ready", odd))
        assert (found.first_audio, found.turn(0.5), found.model) == (None, None, None)

    @pytest.mark.parametrize(
        ("values", "share", "found"),
        [
            ([], 0.5, None),
            ([7], 0.95, 7),
            ([1, 2], 0.5, 1),
            (range(1, 101), 0.5, 50),
            (range(1, 101), 0.95, 95),
            ([3, 1, 2], 1, 3),
        ],
    )
    def test_percentiles(self, values: Any, share: float, found: int | None) -> None:
        assert percentile(values, share) == found
