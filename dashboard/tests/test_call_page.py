"""What a call's page says first: what went wrong, what to do, and what the backend responded."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from django.test import Client

from accounts.models import Account
from dashboard.call_notices import notices_of
from dashboard.tests.pages import assert_well_made
from dashboard.tests.test_calls import NOW, PATH, call_of, delivery_of
from telephony.callbacks import attempts
from telephony.callbacks.attempts import Failure, Result
from telephony.engine.codes import MODEL_CODES, CallProblem, EndedReason, ErrorCode
from telephony.explanations import guide_section_url
from telephony.models import Call
from telephony.services import call_note

pytestmark = pytest.mark.django_db

FAILED = {"ended_reason": "rejected", "status": Call.Status.REJECTED}
EVERY_CODE = [*ErrorCode, *CallProblem, *MODEL_CODES, "model_brand_new"]


def page_of(web: Client, call: Call) -> str:
    response = web.get(f"{PATH}/{call.id}")
    assert response.status_code == 200
    text = response.content.decode()
    assert_well_made(text)
    return text


def notices_in(text: str) -> list[str]:
    """The texts of the notices on a page, without markup."""
    found = re.findall(r'<div class="notice [^"]*problem-notice".*?</div>', text, re.DOTALL)
    return [" ".join(unescape(re.sub("<[^>]+>", "", each)).split()) for each in found]


def tone_in(text: str) -> str:
    found = re.search(r'<div class="notice (\w+) problem-notice"', text)
    assert found
    return found[1]


class TestNotices:
    @pytest.mark.parametrize("code", EVERY_CODE)
    @pytest.mark.parametrize("reason", ["rejected", "caller_hangup"])
    def test_every_code_has_a_cause_and_a_cure(
        self, alice: Account, alice_web: Client, code: str, reason: str
    ) -> None:
        call = call_of(alice, ended_reason=reason, error_code=code)
        text = page_of(alice_web, call)
        [notice] = notices_of(call, [], [])
        assert notice.problem.what.endswith(".")
        assert notice.problem.remedy.endswith(".")
        assert tone_in(text) == ("bad" if reason == "rejected" else "note")
        assert f'href="{guide_section_url(code)}"' in text
        [said] = notices_in(text)
        assert said.endswith(f"More about {code}")
        assert "`" not in said
        assert "**" not in said

    @pytest.mark.parametrize("reason", [each for each in EndedReason if each.outcome == "failed"])
    def test_a_failed_call_without_a_code_is_explained_by_its_reason(
        self, alice: Account, alice_web: Client, reason: EndedReason
    ) -> None:
        text = page_of(alice_web, call_of(alice, ended_reason=reason))
        assert tone_in(text) == "bad"
        assert notices_in(text)[0].startswith(reason.meaning.replace("`", ""))

    def test_the_message_of_a_failed_call_start_is_shown(
        self, alice: Account, alice_web: Client
    ) -> None:
        call = call_of(alice, **FAILED, error_code="call_start_bad_answer")
        message = "The response of onCallStart cannot be used. voice: Use one of <alloy>, ash."
        call_note(call, "error", code="model_unreachable", message="Another one.")
        call_note(call, "error", code="call_start_bad_answer", message=message)
        [said] = notices_in(page_of(alice_web, call))
        assert said.startswith(f"{message} {ErrorCode.CALL_START_BAD_ANSWER.remedy}")

    def test_a_very_long_message_is_cut(self, alice: Account, alice_web: Client) -> None:
        call = call_of(alice, **FAILED, error_code="call_start_bad_answer")
        call_note(call, "error", code="call_start_bad_answer", message="No. " * 1_000)
        [said] = notices_in(page_of(alice_web, call))
        assert f"… {ErrorCode.CALL_START_BAD_ANSWER.remedy}" in said
        assert len(said) < 500

    def test_openais_words_come_after_ours(self, alice: Account, alice_web: Client) -> None:
        call = call_of(alice, ended_reason="model_error", error_code="model_model_not_found")
        call_note(call, "error", code="model_model_not_found", message="No such model.")
        [said] = notices_in(page_of(alice_web, call))
        assert said.startswith("OpenAI has no such model")
        assert "OpenAI says: “No such model.”" in said

    def test_our_own_message_about_a_wrong_key_is_not_put_in_openais_mouth(
        self, alice: Account, alice_web: Client
    ) -> None:
        call = call_of(alice, ended_reason="model_error", error_code="model_invalid_api_key")
        call_note(call, "error", code="model_invalid_api_key", message="Not accepted.")
        [said] = notices_in(page_of(alice_web, call))
        assert said.startswith("OpenAI refused the API key. Return a valid OpenAI API key")

    @pytest.mark.parametrize(
        ("code", "kind", "detail", "said"),
        [
            (
                "carrier_rejected",
                "carrier_rejected",
                {"code": 21210, "message": "Not yours."},
                "Twilio says: “Not yours.” (error 21210)",
            ),
            ("carrier_unavailable", "carrier_unavailable", {"reason": "no connection"}, "No conn"),
            (
                "tool_failed",
                "tool_failed",
                {"tool": "book", "message": "The tool book failed with HTTP status 500."},
                "The tool book failed with HTTP status 500.",
            ),
            ("tool_timeout", "tool_timeout", {"tool": "book", "ms": 1}, "The tool is book."),
        ],
    )
    def test_the_timeline_tells_more(
        self,
        alice: Account,
        alice_web: Client,
        code: str,
        kind: str,
        detail: dict[str, Any],
        said: str,
    ) -> None:
        call = call_of(alice, error_code=code)
        call_note(call, kind, **detail)
        assert said in notices_in(page_of(alice_web, call))[0]

    def test_a_callback_that_was_given_up(self, alice: Account, alice_web: Client) -> None:
        call = call_of(alice, error_code="callback_given_up")
        delivery_of(call, state="given-up", sealed_body=None, last_result="blocked_address")
        [said] = notices_in(page_of(alice_web, call))
        assert "The last attempt to send onError ended with blocked address." in said

    def test_it_is_told_besides_another_problem(self, alice: Account, alice_web: Client) -> None:
        call = call_of(alice, error_code="tool_failed")
        delivery_of(call, state="given-up", sealed_body=None)
        superseded = call_of(alice, error_code="tool_failed")
        delivery_of(superseded, state="given-up", sealed_body=None, is_superseded=True)
        assert len(notices_in(page_of(alice_web, call))) == 2
        assert len(notices_in(page_of(alice_web, superseded))) == 1

    def test_a_call_that_the_backend_rejected_is_not_a_failure(
        self, alice: Account, alice_web: Client
    ) -> None:
        call = call_of(alice, **FAILED)
        call_note(call, "declined", reason="busy", onCallStartMs=84)
        text = page_of(alice_web, call)
        assert tone_in(text) == "neutral"
        [said] = notices_in(text)
        assert said.startswith("Your backend rejected this call: onCallStart responded with reject")
        assert "busy signal" in said

    @pytest.mark.parametrize("reason", ["caller_hangup", "busy", "transferred", ""])
    def test_a_call_without_a_problem_has_none(
        self, alice: Account, alice_web: Client, reason: str
    ) -> None:
        ended_at = NOW if reason else None
        call = call_of(alice, ended_reason=reason, ended_at=ended_at)
        assert notices_in(page_of(alice_web, call)) == []

    def test_a_code_of_another_version(self, alice: Account, alice_web: Client) -> None:
        call = call_of(alice, **FAILED, error_code="brand_new")
        [said] = notices_in(page_of(alice_web, call))
        assert said == "The call failed with brand_new. More about brand_new"


class TestResponses:
    def test_a_failed_request_is_shown_with_the_response(
        self, alice: Account, alice_web: Client
    ) -> None:
        call = call_of(alice, **FAILED, error_code="call_start_bad_status")
        result = Result("500", at=NOW, duration_ms=1_840, answer="<h1>It is down</h1>")
        url = "https://your-backend.com/calls/start?key=abc"
        failures = [
            Failure("onCallStart", url, result),
            Failure("onToolCall", url, Result("blocked_address", at=NOW), "look_up_order"),
        ]
        attempts.keep_failed(call.id, call.account_id, failures)
        text = page_of(alice_web, call)
        for words in (
            "onCallStart <span",
            ">500<",
            "1.8 s",
            "https://your-backend.com/calls/start?…",
            "&lt;h1&gt;It is down&lt;/h1&gt;",
            "onToolCall look_up_order <span",
            ">blocked address<",
            "No response body.",
        ):
            assert words in text, words
        assert "key=abc" not in text

    def test_another_account_does_not_see_it(self, alice: Account, bob_web: Client) -> None:
        call = call_of(alice, **FAILED)
        attempts.keep_failed(call.id, alice.id, [Failure("onCallStart", "", Result("500"))])
        assert bob_web.get(f"{PATH}/{call.id}").status_code == 404

    def test_without_any_there_is_no_heading(self, alice: Account, alice_web: Client) -> None:
        assert 'id="responses"' not in page_of(alice_web, call_of(alice))

    def test_the_urls_of_a_call_are_shown_without_credentials(
        self, alice: Account, alice_web: Client
    ) -> None:
        url = "https://user:password@your-backend.com/calls/end?key=abc"
        text = page_of(alice_web, call_of(alice, on_call_end_url=url))
        assert "https://your-backend.com/calls/end?…" in text
        assert "password@" not in text
        assert "key=abc" not in text


class TestTimeline:
    def test_the_status_of_a_call_start_is_in_the_timeline(
        self, alice: Account, alice_web: Client
    ) -> None:
        call = call_of(alice)
        call_note(call, "accepted", onCallStartStatus=201, onCallStartMs=3_500)
        text = page_of(alice_web, call)
        assert text.index("onCallStart took 3.5 s (slow)") < text.index("with status 201")

    def test_a_greeting_from_the_cache_is_called_one(
        self, alice: Account, alice_web: Client
    ) -> None:
        call = call_of(alice)
        call_note(call, "greeted", ms=2, cached=True)
        text = page_of(alice_web, call)
        assert text.index("after 2 ms") < text.index("from the cache of greetings")

    def test_a_slow_response_is_marked(self, alice: Account, alice_web: Client) -> None:
        call = call_of(alice)
        for ms in (640, 2_400):
            call_note(call, "agent_spoke", latencyMs=ms)
        text = page_of(alice_web, call)
        assert "2.4 s after the caller spoke (slow)" in text
        assert "640 ms after the caller spoke<" in text
