"""The response times on a call's page: in words, as a chart and as a table."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from accounts.models import Account
from dashboard.call_latency import MOST_TURNS, response_times
from dashboard.tests.pages import assert_well_made
from dashboard.tests.test_calls import LIVE, NOW, PATH, call_of, ended_call_of
from telephony.models import Call
from telephony.services import call_note
from telephony.timelines import timeline_of

pytestmark = pytest.mark.django_db

NOT_MEASURED = "not measured"


def connected(account: Account, **fields: Any) -> Call:
    return call_of(account, **{"answered_at": NOW + timedelta(seconds=1)} | fields)


def note_turns(call: Call, *times: tuple[int, int | None]) -> None:
    for number, (received, heard) in enumerate(times):
        at = NOW + timedelta(seconds=10 * number)
        call_note(call, "agent_spoke", at=at, latencyMs=received)
        if heard is not None:
            call_note(call, "agent_heard", at=at + timedelta(seconds=1), latencyMs=heard)


def shown(web: Client, call: Call) -> str:
    """Return the part of the page about response times; "" if there is none."""
    response = web.get(f"{PATH}/{call.id}")
    assert response.status_code == 200
    text = response.content.decode()
    assert_well_made(text)
    assert " style=" not in text
    found = re.search(r'<section[^>]*"response-times">.*?</section>', text, re.DOTALL)
    return found[0] if found else ""


def words_in(html: str) -> str:
    return " ".join(re.sub("<[^>]+>", " ", html).split())


class TestWords:
    def test_they_are_summed_up(self, alice: Account, alice_web: Client) -> None:
        call = ended_call_of(alice)
        call_note(call, "greeted", at=NOW + timedelta(seconds=3), ms=3_100)
        Call.objects.filter(pk=call.pk).update(
            first_audio_ms=3_100, turn_p50_ms=640, turn_p95_ms=2_400
        )
        call.refresh_from_db()
        times = response_times(call, timeline_of(call))
        assert [(each.label, each.text, each.is_slow) for each in times["latencies"]] == [
            ("onCallStart", "84 ms", False),
            ("First audio", "3.1 s", True),
            ("Responses, p50", "640 ms", False),
            ("Responses, p95", "2.4 s", True),
            ("Tools", "1.5 s", False),
        ]
        assert "2.4 s, slow" in words_in(shown(alice_web, call))

    def test_several_of_a_kind_have_a_slowest(self, alice: Account) -> None:
        call = connected(alice)
        for ms in (500, 700, 3_200):
            call_note(call, "tool_returned", tool="look_up", ms=ms)
        [tools] = response_times(call, timeline_of(call))["latencies"]
        assert (tools.label, tools.text, tools.is_slow) == (
            "Tools",
            "700 ms (slowest 3.2 s)",
            True,
        )


class TestChart:
    def test_each_turn_is_a_bar_and_a_row(self, alice: Account, alice_web: Client) -> None:
        call = connected(alice, **LIVE)
        note_turns(call, (500, 600), (1_000, None), (800, 2_000))
        html = shown(alice_web, call)
        assert 'aria-label="Response times of 3 turns, from 500 ms to 1.0 s.' in html
        heights = re.findall(r'class="received"[^>]* height="([0-9.]+)"', html)
        assert heights == ["25.0", "50.0", "40.0"]
        assert re.findall(r'class="heard"[^>]* height="([0-9.]+)"', html) == [
            "30.0",
            "50.0",
            "100.0",
        ]
        rows = re.findall(r'<tr><th scope="row".*?</tr>', html, re.DOTALL)
        assert [words_in(row) for row in rows] == [
            "1 0.0 s 500 ms 600 ms",
            "2 10.0 s 1.0 s –",  # noqa: RUF001 (an en dash)
            "3 20.0 s 800 ms 2.0 s",
        ]
        assert "Turn 2: first audio after 1.0 s<" in html
        assert words_in(html).count("p50") == 2  # in words and in the legend

    def test_of_a_long_call_the_latest_are_shown(self, alice: Account, alice_web: Client) -> None:
        call = connected(alice)
        note_turns(call, *[(500, None)] * (MOST_TURNS + 1))
        html = shown(alice_web, call)
        assert html.count('class="received" x=') == MOST_TURNS
        assert f"latest {MOST_TURNS} responses" in words_in(html)
        assert "Turn 1:" not in html

    def test_what_the_call_keeps_counts_even_without_its_first_events(self, alice: Account) -> None:
        call = connected(alice, turn_p50_ms=900, turn_p95_ms=4_000)
        note_turns(call, (500, None))
        times = response_times(call, timeline_of(call))
        assert [each.text for each in times["latencies"]] == ["900 ms", "4.0 s"]
        assert times["turns_chart"].top == "4.0 s"

    def test_it_costs_no_query(
        self, alice: Account, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        call = connected(alice)
        note_turns(call, (500, 600))
        events = timeline_of(call)
        with django_assert_num_queries(0):
            response_times(call, events)


class TestWithoutAny:
    def test_a_call_in_progress(self, alice: Account, alice_web: Client) -> None:
        text = words_in(shown(alice_web, connected(alice, **LIVE)))
        assert "has not responded to the caller yet" in text

    def test_an_old_call(self, alice: Account, alice_web: Client) -> None:
        text = words_in(shown(alice_web, connected(alice)))
        assert NOT_MEASURED in text.lower()
        assert "p50" not in text

    def test_an_old_call_whose_timeline_is_left_is_measured_by_it(
        self, alice: Account, alice_web: Client
    ) -> None:
        call = connected(alice)
        note_turns(call, (500, None), (700, None))
        text = words_in(shown(alice_web, call))
        assert "Responses, p50 500 ms Responses, p95 700 ms" in text

    def test_a_call_that_was_never_connected(self, alice: Account, alice_web: Client) -> None:
        assert shown(alice_web, call_of(alice, answered_at=None)) == ""

    @pytest.mark.parametrize("odd", ["soon", None, [1], -5, True])
    def test_what_another_version_wrote(
        self, alice: Account, alice_web: Client, odd: object
    ) -> None:
        call = connected(alice)
        call_note(call, "agent_heard", latencyMs=700)  # of no turn
        call_note(call, "agent_spoke", latencyMs=odd, onCallStartMs=odd, ms=odd)
        assert NOT_MEASURED in words_in(shown(alice_web, call)).lower()

    def test_another_account_does_not_see_it(self, alice: Account, bob_web: Client) -> None:
        call = connected(alice, turn_p50_ms=900, turn_p95_ms=4_000)
        assert bob_web.get(f"{PATH}/{call.id}").status_code == 404
