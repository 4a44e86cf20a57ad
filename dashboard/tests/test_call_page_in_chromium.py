"""A call's page, a test call and the callback check in a real browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from accounts.models import Account
from core.tests.long import only_in_all
from dashboard.tests.test_calls import LIVE, PATH, call_of, delivery_of
from dashboard.tests.test_forms_in_chromium import (  # noqa: F401 (fixtures)
    Visit,
    assert_accessible,
    context,
    visit,
)
from dashboard.tests.test_testcall import Backend, backend, number_of  # noqa: F401 (a fixture)
from devtools.browsing.chromium import EXECUTABLE, IS_MISSING, PHONE, is_too_wide
from telephony.callbacks import attempts
from telephony.callbacks.attempts import Failure, Result
from telephony.models import Call
from telephony.services import call_end, call_note

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(EXECUTABLE is None, reason=IS_MISSING),
    only_in_all("more visits with a browser"),
]


def assert_fit_for_everybody(page: Page) -> None:
    """It fits a small phone, and axe has no objections."""
    page.set_viewport_size({"width": 375, "height": PHONE[1]})
    assert not is_too_wide(page)
    assert_accessible(page)


def test_a_refresh_keeps_what_is_open_and_focused(alice: Account, visit: Visit) -> None:  # noqa: F811
    call = call_of(alice, **LIVE)
    page = visit(f"{PATH}/{call.id}")
    page.evaluate("window.isSamePage = true")
    page.get_by_text("Details: times, IDs and URLs").click()
    page.get_by_text("Hang up…", exact=True).click()
    page.get_by_role("button", name="Hang up now").focus()
    call_note(call, "caller_spoke", ms=1900)
    expect(page.get_by_text("The caller spoke")).to_be_visible()
    expect(page.get_by_role("button", name="Hang up now")).to_be_focused()
    expect(page.get_by_text(call.id)).to_be_visible()
    call_end(
        call_id=call.id,
        status=Call.Status.COMPLETED,
        reason="model_error",
        errors=[("model_invalid_api_key", "Incorrect API key provided.")],
    )
    expect(page.get_by_text("OpenAI refused the API key.")).to_be_visible()
    expect(page.get_by_role("button", name="Hang up now")).to_have_count(0)
    expect(page.get_by_text(call.id)).to_be_visible()
    assert page.evaluate("window.isSamePage")


def test_everything_that_can_go_wrong_is_fit_for_everybody(
    alice: Account,
    visit: Visit,  # noqa: F811
) -> None:
    call = call_of(alice, error_code="tool_failed")
    call_note(call, "accepted", onCallStartMs=4_100, onCallStartStatus=200)
    call_note(call, "tool_failed", tool="book", ms=9_000, message="It is down." * 30)
    delivery_of(call, state="given-up", sealed_body=None)
    answer = '{"error": "' + "down" * 120 + '"}'
    failure = Failure("onToolCall", f"https://{'a' * 150}.example/", Result("500", answer=answer))
    attempts.keep_failed(call.id, alice.id, [failure])
    page = visit(f"{PATH}/{call.id}")
    page.get_by_text("Details: times, IDs and URLs").click()
    assert_fit_for_everybody(page)


def test_a_test_call_and_a_check_show_what_the_backend_responded(
    alice: Account,
    visit: Visit,  # noqa: F811
    backend: Backend,  # noqa: F811
) -> None:
    backend.says({"error": "It is down.", "openaiApiKey": "sk-canary"}, status=500)
    number_of(alice, backend.url)
    page = visit("/dashboard/test-call")
    page.get_by_role("button", name="Call with text").click()
    live = page.get_by_role("region", name="Timeline")
    expect(live.get_by_text("onCallStart responded with status 500.").first).to_be_visible()
    expect(live.get_by_text('"error": "It is down."')).to_be_visible()
    page.get_by_role("button", name="Run check").click()
    expect(page.get_by_text("Respond with a status from 200 to 299.")).to_be_visible()
    expect(page.get_by_text('"error": "It is down."')).to_be_visible()
    expect(page.get_by_text("sk-canary")).to_have_count(0)
    assert_fit_for_everybody(page)
