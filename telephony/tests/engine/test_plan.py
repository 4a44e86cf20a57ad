"""The answer to onCallStart, read."""

import json

import pytest

from telephony.engine.plan import (
    CallPlan,
    PlanError,
    Refusal,
    Tool,
    Transfer,
    parse_plan,
    plan_as_dict,
    plan_from_dict,
)

CREDENTIALS = {"twilioAccountSid": "AC" + "0" * 32, "twilioAuthToken": "token"}
SIGNED_WITH = {"twilio_account_sid": "AC" + "0" * 32, "twilio_auth_token": "token"}
REQUIRED = {
    **CREDENTIALS,
    "openaiApiKey": "sk-1",
    "systemPrompt": "Be brief.",
}


def test_required_fields_alone_give_a_plan_with_every_default():
    assert parse_plan(REQUIRED) == CallPlan(
        twilio_account_sid="AC" + "0" * 32,
        twilio_auth_token="token",
        openai_api_key="sk-1",
        system_prompt="Be brief.",
        voice="marin",
        model="gpt-realtime-1.5",
        vad_eagerness="high",
        noise_reduction="near_field",
        inactivity_timeout_ms=60_000,
        max_duration_seconds=3_300,
    )


def test_tools_come_flat_or_nested_under_function():
    flat = {"type": "function", "name": "look_up", "description": "d", "parameters": {"a": 1}}
    nested = {"type": "function", "function": {"name": "book"}}
    plan = parse_plan(
        {**REQUIRED, "tools": [flat, nested], "onToolCallUrl": "https://example.com/tool"}
    )
    assert plan.tools == (
        Tool("look_up", "d", {"a": 1}),
        Tool("book", "", {"type": "object", "properties": {}}),
    )


def test_unknown_fields_are_ignored_and_null_counts_as_absent():
    assert parse_plan({**REQUIRED, "surprise": 1, "voice": None}) == parse_plan(REQUIRED)


def test_any_realtime_model_passes_through():
    assert parse_plan({**REQUIRED, "model": "gpt-realtime-9-mini"}).model == "gpt-realtime-9-mini"


def test_a_plan_survives_being_sealed():
    plan = parse_plan(
        {
            **REQUIRED,
            "tools": [{"name": "book"}],
            "onToolCallUrl": "https://example.com/tool",
            "builtinTools": ["send_dtmf", "end_call"],
            "metadata": {"a": [1]},
        }
    )
    assert plan_from_dict(json.loads(json.dumps(plan_as_dict(plan)))) == plan


def test_a_plan_does_not_print_its_credentials():
    plan = parse_plan({**REQUIRED, "twilioAuthToken": "canary-1", "openaiApiKey": "canary-2"})
    assert "canary" not in repr(plan)


def test_refusals():
    assert parse_plan({"reject": True}) == Refusal("rejected", "")
    assert parse_plan({"reject": True, "reason": "busy", "message": ""}) == Refusal("busy", "")


def test_a_spoken_refusal_brings_what_it_is_signed_with():
    answer = {"reject": True, "reason": "busy", "message": "Later.", **CREDENTIALS}
    assert parse_plan(answer) == Refusal("busy", "Later.", **SIGNED_WITH)


def test_a_transfer_brings_what_it_is_signed_with():
    answer = {"transfer": "+15559876543", **CREDENTIALS}
    assert parse_plan(answer) == Transfer("+15559876543", **SIGNED_WITH)


@pytest.mark.parametrize(
    "answer", [{"transfer": "+15559876543"}, {"reject": True, "message": "No."}]
)
def test_what_costs_money_names_whose_it_is(answer):
    with pytest.raises(PlanError) as caught:
        parse_plan(answer)
    assert list(caught.value.fields) == ["twilioAccountSid", "twilioAuthToken"]
    assert all("is paid by your Twilio account" in why for [why] in caught.value.fields.values())


@pytest.mark.parametrize(
    "answer", [{"transfer": "+15559876543"}, {"reject": True, "message": "No."}]
)
def test_no_decision_prints_its_token(answer):
    assert "canary" not in repr(parse_plan({**answer, **CREDENTIALS, "twilioAuthToken": "canary"}))


@pytest.mark.parametrize("field", REQUIRED)
def test_each_required_field_is_named_when_it_lacks(field):
    with pytest.raises(PlanError) as caught:
        parse_plan({**REQUIRED, field: None})
    assert list(caught.value.fields) == [field]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"twilioAccountSid": "AC1"}, "twilioAccountSid"),
        ({"twilioAuthToken": 1}, "twilioAuthToken"),
        ({"openaiApiKey": "sk 1\r\nX: y"}, "openaiApiKey"),
        ({"systemPrompt": ["x"]}, "systemPrompt"),
        ({"voice": "elvis"}, "voice"),
        ({"voice": {}}, "voice"),
        ({"model": "gpt-4"}, "model"),
        ({"vadEagerness": "eager"}, "vadEagerness"),
        ({"noiseReduction": "none"}, "noiseReduction"),
        ({"inactivityTimeoutMs": "60000"}, "inactivityTimeoutMs"),
        ({"inactivityTimeoutMs": True}, "inactivityTimeoutMs"),
        ({"maxDurationSeconds": 0}, "maxDurationSeconds"),
        ({"greetingUrl": "ftp://example.com/hi.mp3"}, "greetingUrl"),
        ({"greeting": 5}, "greeting"),
        ({"builtinTools": ["fly"]}, "builtinTools.0"),
        ({"builtinTools": "end_call"}, "builtinTools"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"name": "a b"}], "onToolCallUrl": "https://x.example"}, "tools.0.name"),
        ({"tools": ["x"], "onToolCallUrl": "https://x.example"}, "tools.0"),
        ({"tools": [{"name": "book"}]}, "onToolCallUrl"),
        (
            {"tools": [{"name": "a"}, {"name": "a"}], "onToolCallUrl": "https://x.example"},
            "tools",
        ),
        (
            {
                "tools": [{"name": "end_call"}],
                "builtinTools": ["end_call"],
                "onToolCallUrl": "https://x.example",
            },
            "tools",
        ),
    ],
)
def test_a_wrong_field_is_named(change, field):
    with pytest.raises(PlanError) as caught:
        parse_plan({**REQUIRED, **change})
    assert list(caught.value.fields) == [field]


@pytest.mark.parametrize("body", [None, [], "reject", 3])
def test_only_an_object_is_an_answer(body):
    with pytest.raises(PlanError) as caught:
        parse_plan(body)
    assert list(caught.value.fields) == ["body"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"reject": "yes"}, "reject"),
        ({"reject": True, "reason": "tired"}, "reason"),
        ({"reject": True, "message": 1}, "message"),
        ({**CREDENTIALS, "transfer": "5551234567"}, "transfer"),
        ({**CREDENTIALS, "transfer": True}, "transfer"),
    ],
)
def test_a_refusal_or_transfer_names_what_is_wrong(body, field):
    with pytest.raises(PlanError) as caught:
        parse_plan(body)
    assert list(caught.value.fields) == [field]
