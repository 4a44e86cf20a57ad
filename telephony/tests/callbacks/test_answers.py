"""Answers to onCallStart, as they are read."""

import dataclasses

import pytest

from telephony.callbacks.answers import parse_plan
from telephony.callbacks.configuration import CONFIGURATION
from telephony.callbacks.problems import PlanError
from telephony.engine.models import DEFAULT_MODEL
from telephony.engine.plan import CallPlan, Refusal, Tool, Transfer, plan_as_dict, plan_from_dict

CREDENTIALS = {"twilioAccountSid": "AC" + "0" * 32, "twilioAuthToken": "token"}
SIGNED_WITH = {"twilio_account_sid": "AC" + "0" * 32, "twilio_auth_token": "token"}
REQUIRED = {
    **CREDENTIALS,
    "openaiApiKey": "sk-1",
    "systemPrompt": "Be brief.",
}


def test_required_fields_alone_give_a_plan_with_all_defaults():
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


def test_tools_may_be_flat_or_nested_under_function():
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


def test_an_empty_text_counts_as_absent():
    assert parse_plan({**REQUIRED, "voice": "", "maxDurationSeconds": ""}) == parse_plan(REQUIRED)
    error = wrong({**REQUIRED, "openaiApiKey": ""})
    assert error.fields == {"openaiApiKey": ["This field is required."]}


def test_an_empty_text_is_valid_metadata():
    assert parse_plan({**REQUIRED, "metadata": ""}).metadata == ""


def test_a_backend_cannot_turn_a_call_into_a_test_call():
    plan = parse_plan({**REQUIRED, "isTest": True, "is_test": True})
    assert plan == parse_plan(REQUIRED)
    assert not plan.is_test


def test_any_realtime_model_is_accepted():
    assert parse_plan({**REQUIRED, "model": "gpt-realtime-9-mini"}).model == "gpt-realtime-9-mini"


def test_models_in_order_of_preference():
    plan = parse_plan({**REQUIRED, "model": ["gpt-realtime-2", "gpt-realtime", "gpt-realtime-2"]})
    assert (plan.model, plan.fallback_models) == ("gpt-realtime-2", ("gpt-realtime",))
    assert plan_from_dict(plan_as_dict(plan)) == plan
    assert parse_plan({**REQUIRED, "model": "gpt-realtime-2"}).models == ("gpt-realtime-2",)
    assert parse_plan(REQUIRED).models == (DEFAULT_MODEL,)


@pytest.mark.parametrize(
    "model", ["gpt-realtime-2", "gpt-realtime-2.1-2026-10-01", "gpt-realtime-9"]
)
def test_a_model_that_reasons_or_may_do_so_takes_an_effort(model):
    plan = parse_plan({**REQUIRED, "model": model, "reasoningEffort": "low"})
    assert plan.reasoning_effort == "low"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("noiseReduction", "far_field"),
        ("vadEagerness", "low"),
        ("maxOutputTokens", 100),
        ("reasoningEffort", "low"),
        ("greetingCache", True),
    ],
)
def test_a_live_model_has_no_field_of_the_other_protocol(field, value):
    assert parse_plan({**REQUIRED, "model": "gpt-live-1"}).model == "gpt-live-1"
    error = wrong({**REQUIRED, "model": ["gpt-realtime-2", "gpt-live-1"], field: value})
    assert error.fields == {
        field: ["gpt-live-1 does not have this. Leave it out, or use another model."]
    }


@pytest.mark.parametrize("model", [None, "gpt-realtime-1.5", ["gpt-realtime-2", "gpt-realtime"]])
def test_a_field_that_a_model_does_not_have_is_refused(model):
    error = wrong({**REQUIRED, "model": model, "reasoningEffort": "low", "maxOutputTokens": 100})
    (problem,) = error.fields["reasoningEffort"]
    assert list(error.fields) == ["reasoningEffort"]
    lacking = (model or DEFAULT_MODEL) if not isinstance(model, list) else model[-1]
    assert problem == f"{lacking} does not have this. Leave it out, or use another model."


@pytest.mark.parametrize("model", ["gpt-4", 7, [], [None], [[]], ["gpt-4", {}], {}])
def test_an_invalid_model_is_refused_whatever_else_depends_on_it(model):
    error = wrong(
        {**REQUIRED, "model": model, "reasoningEffort": "low", "noiseReduction": "far_field"}
    )
    assert any(name.partition(".")[0] == "model" for name in error.fields)


def test_a_plan_does_not_print_its_credentials():
    secret = dict.fromkeys(("twilioAuthToken", "openaiApiKey", "systemPrompt"), "canary")
    assert "canary" not in repr(parse_plan({**REQUIRED, **secret}))


def test_each_field_of_a_plan_is_one_of_the_answer():
    attributes = [field.attribute for field in CONFIGURATION.fields]
    assert {*attributes, "fallback_models", "is_test"} == {
        each.name for each in dataclasses.fields(CallPlan)
    }
    assert len(set(attributes)) == len(attributes)


def test_every_example_can_be_used():
    examples = {each.name: each.example for each in CONFIGURATION.fields if each.example}
    plan = parse_plan(examples)
    assert examples.keys() >= REQUIRED.keys() | {"tools", "greetingUrl", "transferNumbers"}
    assert plan.greeting == examples["greeting"]
    assert plan.transfer_numbers == tuple(examples["transferNumbers"])


def test_a_rejection_has_a_reason():
    assert parse_plan({"reject": True}) == Refusal("rejected", "")
    assert parse_plan({"reject": True, "reason": "busy", "message": ""}) == Refusal("busy", "")


def test_a_spoken_rejection_has_credentials():
    answer = {"reject": True, "reason": "busy", "message": "Later.", **CREDENTIALS}
    assert parse_plan(answer) == Refusal("busy", "Later.", **SIGNED_WITH)


def test_a_transfer_has_credentials():
    answer = {"transfer": "+15559876543", **CREDENTIALS}
    assert parse_plan(answer) == Transfer("+15559876543", **SIGNED_WITH)


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ({"transfer": "+15559876543"}, "A transfer"),
        ({"reject": True, "message": "No."}, "A spoken message"),
    ],
)
def test_an_error_says_who_pays_for_the_call(answer, what):
    with pytest.raises(PlanError) as caught:
        parse_plan(answer)
    why = f"{what} is charged to your Twilio account."
    assert caught.value.fields == {
        "twilioAccountSid": [f"{why} Name the account that the call comes from."],
        "twilioAuthToken": [f"{why} Add the auth token that its requests are signed with."],
    }
    assert caught.value.more == 0


def test_a_transfer_without_a_number_is_refused():
    assert wrong({"transfer": "", **CREDENTIALS}).fields == {
        "transfer": ["This field is required."]
    }


@pytest.mark.parametrize(
    "answer", [{"transfer": "+15559876543"}, {"reject": True, "message": "No."}]
)
def test_no_decision_prints_its_token(answer):
    assert "canary" not in repr(parse_plan({**answer, **CREDENTIALS, "twilioAuthToken": "canary"}))


@pytest.mark.parametrize("field", REQUIRED)
def test_a_missing_required_field_is_named(field):
    with pytest.raises(PlanError) as caught:
        parse_plan({**REQUIRED, field: None})
    assert caught.value.fields == {field: ["This field is required."]}
    assert caught.value.more == 0
    assert str(caught.value) == f"{field}: This field is required."


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"twilioAccountSid": "AC1"}, "twilioAccountSid"),
        ({"twilioAuthToken": 1}, "twilioAuthToken"),
        ({"openaiApiKey": "sk 1\r\nX: y"}, "openaiApiKey"),
        ({"openaiApiKey": 1}, "openaiApiKey"),
        ({"systemPrompt": ["x"]}, "systemPrompt"),
        ({"voice": "elvis"}, "voice"),
        ({"voice": {}}, "voice"),
        ({"model": "gpt-4"}, "model"),
        ({"vadEagerness": "eager"}, "vadEagerness"),
        ({"noiseReduction": "none"}, "noiseReduction"),
        ({"greetingCache": "yes"}, "greetingCache"),
        ({"greetingCache": 1}, "greetingCache"),
        ({"inactivityTimeoutMs": "60000"}, "inactivityTimeoutMs"),
        ({"inactivityTimeoutMs": True}, "inactivityTimeoutMs"),
        ({"inactivityTimeoutMs": 999}, "inactivityTimeoutMs"),
        ({"inactivityTimeoutMs": 3_600_001}, "inactivityTimeoutMs"),
        ({"maxDurationSeconds": 0}, "maxDurationSeconds"),
        ({"maxDurationSeconds": True}, "maxDurationSeconds"),
        ({"maxDurationSeconds": 1.5}, "maxDurationSeconds"),
        ({"maxDurationSeconds": 14_101}, "maxDurationSeconds"),
        ({"greetingUrl": "ftp://example.com/hi.mp3"}, "greetingUrl"),
        ({"greetingUrl": "https:///hi.mp3"}, "greetingUrl"),
        ({"greetingUrl": "https://[hi.mp3"}, "greetingUrl"),
        ({"greetingUrl": "https://example.com/" + "a" * 1_981}, "greetingUrl"),
        ({"greetingUrl": 5}, "greetingUrl"),
        ({"greeting": 5}, "greeting"),
        ({"builtinTools": ["fly"]}, "builtinTools.0"),
        ({"builtinTools": "end_call"}, "builtinTools"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"name": "a b"}], "onToolCallUrl": "https://x.example"}, "tools.0.name"),
        ({"tools": [{"name": 5}], "onToolCallUrl": "https://x.example"}, "tools.0.name"),
        ({"tools": [{"name": "a", "parameters": 5}]}, "tools.0.parameters"),
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
def test_an_invalid_field_is_named(change, field):
    with pytest.raises(PlanError) as caught:
        parse_plan({**REQUIRED, **change})
    assert list(caught.value.fields) == [field]


@pytest.mark.parametrize("body", [None, [], "reject", 3])
def test_an_answer_must_be_an_object(body):
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
def test_an_invalid_field_of_a_rejection_or_transfer_is_named(body, field):
    with pytest.raises(PlanError) as caught:
        parse_plan(body)
    assert list(caught.value.fields) == [field]


def wrong(body):
    with pytest.raises(PlanError) as caught:
        parse_plan(body)
    return caught.value


class TestLimits:
    """A value over a limit is refused by its size, with a short error."""

    def test_the_largest_answer_is_accepted(self):
        tools = [{"name": f"tool_{number}"} for number in range(127)]
        tools.append({"name": "tool_127", "description": "d" * 4_096})
        plan = parse_plan(
            {
                **REQUIRED,
                "systemPrompt": "a" * 65_536,
                "greeting": "b" * 4_000,
                "tools": tools,
                "onToolCallUrl": "https://example.com/tool",
                "builtinTools": ["end_call", "transfer_call", "send_dtmf"],
                "transferNumbers": [f"+1555{number:07}" for number in range(100)],
                "metadata": _nested(32),
            }
        )
        assert len(plan.tools) == 128
        assert len(plan.transfer_numbers) == 100

    @pytest.mark.parametrize(
        ("change", "field", "why"),
        [
            ({"tools": [0] * 129}, "tools", "Use at most 128 entries: there are 129."),
            ({"tools": [0] * 69_000}, "tools", "Use at most 128 entries: there are 69,000."),
            ({"builtinTools": ["end_call"] * 4}, "builtinTools", "Use at most 3 entries"),
            ({"transferNumbers": ["+15551234567"] * 101}, "transferNumbers", "Use at most 100"),
            ({"transferNumbers": []}, "transferNumbers", "Name a number"),
            ({"transferNumbers": "+15551234567"}, "transferNumbers", "Use a list."),
            ({"transferNumbers": ["555"]}, "transferNumbers.0", "Use E.164"),
            ({"transferNumbers": [["+15551234567"]]}, "transferNumbers.0", "Use E.164"),
            ({"systemPrompt": "a" * 65_537}, "systemPrompt", "Use at most 65,536 characters."),
            ({"greeting": "a" * 4_001}, "greeting", "Use at most 4,000 characters."),
            ({"twilioAuthToken": "a" * 129}, "twilioAuthToken", "Use at most 128 characters."),
            ({"openaiApiKey": "a" * 513}, "openaiApiKey", "Use at most 512 characters."),
            ({"model": "gpt-realtime" + "a" * 89}, "model", "Use the name"),
            ({"model": 7}, "model", "Use the name"),
            ({"maxOutputTokens": 4_097}, "maxOutputTokens", "Use a whole number from 1 to 4096"),
            ({"model": []}, "model", "Name a model."),
            ({"model": ["gpt-realtime"] * 6}, "model", "Use at most 5 entries"),
            ({"model": ["gpt-realtime", "gpt-4"]}, "model.1", "Use the name"),
            ({"model": [["gpt-realtime"]]}, "model.0", "Use the name"),
            (
                {"tools": [{"name": "a", "description": "a" * 4_097}]},
                "tools.0.description",
                "Use at most 4,096 characters.",
            ),
        ],
    )
    def test_a_field_over_its_limit_is_refused(self, change, field, why):
        error = wrong({**REQUIRED, "onToolCallUrl": "https://example.com/tool", **change})
        assert list(error.fields) == [field]
        assert error.fields[field][0].startswith(why)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("inactivityTimeoutMs", 1_000),
            ("inactivityTimeoutMs", 3_600_000),
            ("maxDurationSeconds", 1),
            ("maxDurationSeconds", 14_100),
            ("greetingUrl", "https://example.com/" + "a" * 1_980),
        ],
    )
    def test_a_field_at_its_limit_is_accepted(self, field, value):
        plan = plan_as_dict(parse_plan({**REQUIRED, field: value}))
        assert value in plan.values()

    def test_the_most_fields_are_accepted(self):
        odd = {f"x{number}": 0 for number in range(256 - len(REQUIRED))}
        assert parse_plan({**REQUIRED, **odd}) == parse_plan(REQUIRED)

    def test_a_message_over_its_limit_is_refused(self):
        error = wrong({"reject": True, "message": "a" * 4_001, **CREDENTIALS})
        assert list(error.fields) == ["message"]

    def test_too_many_fields_are_refused(self):
        error = wrong({**REQUIRED, **{f"x{number}": 0 for number in range(256)}})
        assert error.fields == {"body": ["Use at most 256 fields: there are 260."]}

    @pytest.mark.parametrize(
        ("name", "depth", "field"),
        [
            ("metadata", 33, "metadata"),
            ("metadata", 100_000, "metadata"),
            ("tools", 800, "tools"),
        ],
    )
    def test_deep_nesting_is_refused(self, name, depth, field):
        nested = _nested(depth)  # not a parameter: pytest cannot print it
        given = [{"name": "a", "parameters": {"a": nested}}] if name == "tools" else nested
        error = wrong({**REQUIRED, name: given})
        assert error.fields == {field: ["Nest lists and objects at most 32 deep."]}

    def test_deep_nesting_in_an_unknown_field_is_ignored(self):
        assert parse_plan({**REQUIRED, "unknown": _nested(100_000)}) == parse_plan(REQUIRED)
        assert list(wrong({**REQUIRED, "voice": _nested(1_000)}).fields) == ["voice"]

    def test_only_the_first_mistakes_are_named(self):
        error = wrong({**REQUIRED, "tools": [{"name": "a b" * 100}] * 128})
        assert len(error.fields) == 20
        assert error.more == 108
        assert str(error).endswith("and 108 more.")
        assert len(str(error)) <= 4_000

    def test_tools_with_the_same_name_are_refused(self):
        tools = [{"name": "a" * 64}] * 128
        error = wrong({**REQUIRED, "tools": tools, "onToolCallUrl": "https://example.com/tool"})
        assert len(str(error)) <= 4_000
        assert error.fields["tools"][0] == f"{'a' * 64} is defined more than once."


def _nested(levels):
    value = "bottom"
    for _ in range(levels):
        value = [value]
    return value


class TestControlCharacters:
    """TwiML is XML and PostgreSQL cannot store NUL, so control characters are refused."""

    @pytest.mark.parametrize("character", ["\0", "\x0b", "\x1b", "\ufffe", "\uffff"])
    @pytest.mark.parametrize("field", ["systemPrompt", "greeting", "twilioAuthToken"])
    def test_in_a_plan(self, field, character):
        error = wrong({**REQUIRED, field: f"a{character}b"})
        assert list(error.fields) == [field]
        assert "control characters" in error.fields[field][0]

    @pytest.mark.parametrize("character", ["\0", "\x0b", "\x1b", "\ufffe", "\uffff"])
    def test_in_a_message(self, character):
        error = wrong({**CREDENTIALS, "reject": True, "message": f"a{character}b"})
        assert list(error.fields) == ["message"]

    def test_in_the_description_of_a_tool(self):
        tools = [{"name": "a", "description": "a\0"}]
        error = wrong({**REQUIRED, "tools": tools})
        assert list(error.fields) == ["tools.0.description"]

    def test_line_breaks_and_tabs_are_accepted(self):
        text = "One.\r\n\tTwo.\nÜ 😀"
        assert parse_plan({**REQUIRED, "systemPrompt": text, "greeting": text}).greeting == text


def test_transfer_numbers_are_read():
    numbers = ["+15551234567", "+15559876543", "+15551234567"]
    plan = parse_plan({**REQUIRED, "transferNumbers": numbers})
    assert plan.transfer_numbers == ("+15551234567", "+15559876543")
    assert parse_plan({**REQUIRED, "transferNumbers": None}).transfer_numbers == ()
