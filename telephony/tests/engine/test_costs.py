"""Estimates of what OpenAI and Twilio charge for a call."""

from decimal import Decimal

import pytest

from telephony.engine.costs import TokenUsage, openai_cost, twilio_cost

MILLION = 1_000_000


@pytest.mark.parametrize(
    ("usage", "dollars"),
    [
        (TokenUsage(text_in=MILLION), "4"),
        (TokenUsage(audio_in=MILLION), "32"),
        (TokenUsage(text_cached=MILLION), "0.40"),
        (TokenUsage(audio_cached=MILLION), "0.40"),
        (TokenUsage(text_out=MILLION), "16"),
        (TokenUsage(audio_out=MILLION), "64"),
        (TokenUsage(transcribed_seconds=60), "0.0045"),
        (TokenUsage(audio_in=100, audio_out=200), "0.016"),
        (TokenUsage(), "0"),
    ],
)
def test_each_kind_of_token_has_its_price(usage, dollars):
    assert openai_cost("gpt-realtime-1.5", usage) == Decimal(dollars)


@pytest.mark.parametrize(
    ("model", "dollars"),
    [
        ("gpt-realtime-2", 24),
        ("gpt-realtime-2.1", 24),
        ("gpt-realtime-2.1-mini", Decimal("2.40")),
        ("gpt-realtime-2.1-mini-2026-10-01", Decimal("2.40")),
        ("gpt-realtime-2.1-2026-10-01", 24),
        ("gpt-realtime-99", 16),
        ("gpt-realtime", 16),
    ],
)
def test_each_model_has_its_price_and_an_unlisted_one_the_default(model, dollars):
    assert openai_cost(model, TokenUsage(text_out=MILLION)) == dollars


def test_a_live_model_costs_by_the_minute_and_what_it_delegates():
    minute = TokenUsage(session_seconds=60)
    text = TokenUsage(text_in=MILLION, text_cached=MILLION, text_out=MILLION)
    assert openai_cost("gpt-live-1.1", minute + text) == Decimal("0.66")
    assert openai_cost("gpt-live-9", minute) == Decimal("0.05")
    assert openai_cost("gpt-realtime-1.5", minute) == 0


def test_usage_adds_up():
    assert TokenUsage(text_in=1, audio_out=2) + TokenUsage(text_in=3, transcribed_seconds=0.5) == (
        TokenUsage(text_in=4, audio_out=2, transcribed_seconds=0.5)
    )


@pytest.mark.parametrize(
    ("direction", "number", "minutes", "dollars"),
    [
        ("inbound", "+15551234567", 1, "0.0129"),
        ("inbound", "+18005551234", 1, "0.0264"),
        ("outbound", "+15551234567", 2, "0.0368"),
        ("inbound", "+15551234567", 0, "0"),
    ],
)
def test_twilio_bills_started_minutes_and_the_stream(direction, number, minutes, dollars):
    assert twilio_cost(direction, number, minutes) == Decimal(dollars)
