"""The callbacks in the OpenAPI document, compared with real requests and responses."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, get_args

import pytest

from core.schema import document
from core.tests.described import assert_is, validator
from telephony.callbacks import payloads, signing
from telephony.callbacks.answers import parse_plan
from telephony.callbacks.payloads import CallFacts
from telephony.callbacks.problems import PlanError
from telephony.engine.codes import EndedReason, ErrorCode, model_error_code
from telephony.engine.plan import CallPlan, Refusal, Transfer
from telephony.engine.tool_runs import Status, ToolRun
from telephony.models import Call
from telephony.services import tool_call_line, transcript_line
from telephony.trace_ids import new_span, traceparent

NOW = datetime(2026, 4, 1, 9, 30, tzinfo=UTC)
CREDENTIALS = {"twilioAccountSid": "AC" + "0" * 32, "twilioAuthToken": "token"}
PLAN = {
    **CREDENTIALS,
    "openaiApiKey": "sk-1",
    "systemPrompt": "Be brief.",
}
TOOL = {"name": "look_up"}
WITH_TOOL = {"tools": [TOOL], "onToolCallUrl": "https://example.com/tool"}


class TestSent:
    def test_call_start(self, facts: CallFacts) -> None:
        assert_is(payloads.call_start(replace(facts, answered_by="human"), NOW), "CallStart")

    def test_call_start_without_optional_fields(self, facts: CallFacts) -> None:
        assert_is(payloads.call_start(replace(facts, metadata=None), NOW), "CallStart")

    def test_tool_call(self, facts: CallFacts) -> None:
        assert_is(payloads.tool_call(facts, "look_up", {"number": 7}, NOW), "ToolCall")

    @pytest.mark.parametrize("reason", EndedReason)
    def test_call_end(self, facts: CallFacts, reason: EndedReason) -> None:
        body = payloads.call_end(
            facts,
            duration_seconds=47,
            ended_reason=reason,
            transcript=[
                transcript_line("assistant", "Hello.", NOW, interrupted=True),
                transcript_line("user", "Hello.", NOW, interrupted=False),
            ],
            tool_calls=[
                tool_call_line(ToolRun("look_up", 0.0, status, ms, "Found."), NOW)
                for status, ms in zip(get_args(Status), (1, 2, 3, None), strict=True)
            ],
            cost_breakdown=dict.fromkeys(
                ("platformCost", "twilioCost", "openaiCost", "totalCost"), 0
            ),
            latency=Call(turn_p50_ms=640).latency,
            now=NOW,
        )
        assert_is(body, "CallEnd")

    @pytest.mark.parametrize("code", [*ErrorCode, model_error_code("insufficient_quota")])
    def test_error(self, facts: CallFacts, code: str) -> None:
        assert_is(payloads.error(facts, code=code, message="Why.", now=NOW), "CallError")

    @pytest.mark.parametrize("secrets", [["whsec_" + "A" * 32], ["whsec_" + "A" * 32] * 2])
    def test_the_headers(self, secrets: list[str]) -> None:
        headers = signing.headers(b"{}", secrets=secrets, message_id="msg_1", now=NOW)
        headers["traceparent"] = traceparent("c1", new_span())
        described = document()["components"]["parameters"]
        assert set(headers) == {parameter["name"] for parameter in described.values()}
        for name, value in headers.items():
            schema = validator(["components", "parameters", name, "schema"], strict=True)
            assert schema.is_valid(value), name


ACCEPTED: list[tuple[dict[str, Any], type]] = [
    (PLAN, CallPlan),
    (PLAN | WITH_TOOL, CallPlan),
    (PLAN | WITH_TOOL | {"tools": [{"type": "function", "function": TOOL}]}, CallPlan),
    (PLAN | WITH_TOOL | {"tools": [TOOL | {"description": "", "parameters": {}}]}, CallPlan),
    (PLAN | WITH_TOOL | {"tools": [{"name": f"a{number}"} for number in range(128)]}, CallPlan),
    (PLAN | {"transferNumbers": ["+15551234567"] * 100}, CallPlan),
    (PLAN | {"systemPrompt": "\t\r\n 😀" * 13_107}, CallPlan),
    (PLAN | {"tools": [], "builtinTools": ["end_call", "send_dtmf"]}, CallPlan),
    (PLAN | {"voice": "cedar", "model": "gpt-realtime-2.1-mini"}, CallPlan),
    (PLAN | {"model": ["gpt-realtime-2.1", "gpt-realtime-1.5"]}, CallPlan),
    (PLAN | {"model": "gpt-realtime-2", "reasoningEffort": "xhigh"}, CallPlan),
    (PLAN | {"maxOutputTokens": 4_096}, CallPlan),
    (PLAN | {"model": "gpt-live-1.1"}, CallPlan),
    (PLAN | {"greetingCache": True}, CallPlan),
    (PLAN | {"greetingCache": False, "model": "gpt-live-1"}, CallPlan),
    (PLAN | {"vadEagerness": "auto", "noiseReduction": "far_field"}, CallPlan),
    (PLAN | {"inactivityTimeoutMs": 1_000, "maxDurationSeconds": 1}, CallPlan),
    (PLAN | {"inactivityTimeoutMs": 3_600_000, "maxDurationSeconds": 14_100}, CallPlan),
    (PLAN | {"greeting": "Hello", "greetingUrl": "https://example.com/a.mp3"}, CallPlan),
    (PLAN | {"metadata": [None, {"a": 1}], "unknown": True}, CallPlan),
    ({"reject": True}, Refusal),
    ({"reject": True, "reason": "busy", "message": ""}, Refusal),
    (CREDENTIALS | {"reject": True, "reason": "busy", "message": "Later."}, Refusal),
    (CREDENTIALS | {"transfer": "+15559876543"}, Transfer),
]
REFUSED: list[dict[str, Any]] = [
    {},
    *({name: value for name, value in PLAN.items() if name != missing} for missing in PLAN),
    PLAN | {"twilioAccountSid": "AC1"},
    PLAN | {"twilioAuthToken": ""},
    PLAN | {"openaiApiKey": "two words"},
    PLAN | {"systemPrompt": 7},
    PLAN | {"tools": [TOOL]},
    PLAN | WITH_TOOL | {"tools": {}},
    PLAN | WITH_TOOL | {"tools": ["look_up"]},
    PLAN | WITH_TOOL | {"tools": [{"name": "look up"}]},
    PLAN | WITH_TOOL | {"tools": [TOOL | {"description": 7}]},
    PLAN | WITH_TOOL | {"tools": [TOOL | {"parameters": [1]}]},
    PLAN | WITH_TOOL | {"onToolCallUrl": 7},
    PLAN | {"builtinTools": ["hang_up"]},
    PLAN | {"builtinTools": ["end_call"] * 4},
    PLAN | WITH_TOOL | {"tools": [{"name": f"a{number}"} for number in range(129)]},
    PLAN | WITH_TOOL | {"tools": [TOOL | {"description": "a" * 4_097}]},
    PLAN | WITH_TOOL | {"tools": [TOOL | {"description": "a\0"}]},
    PLAN | {"transferNumbers": []},
    PLAN | {"transferNumbers": ["5551234567"]},
    PLAN | {"transferNumbers": ["+15551234567"] * 101},
    PLAN | {"systemPrompt": "a" * 65_537},
    PLAN | {"systemPrompt": "a\x0b"},
    PLAN | {"twilioAuthToken": "a" * 129},
    PLAN | {"openaiApiKey": "a" * 513},
    PLAN | {"model": "gpt-realtime" + "a" * 89},
    PLAN | {"greeting": "a" * 4_001},
    PLAN | {"greeting": "a\uffff"},
    CREDENTIALS | {"reject": True, "message": "a" * 4_001},
    CREDENTIALS | {"reject": True, "message": "a\0"},
    PLAN | {"voice": "nobody"},
    PLAN | {"model": "gpt-4"},
    PLAN | {"model": []},
    PLAN | {"model": "gpt-realtime-2", "reasoningEffort": "none"},
    PLAN | {"maxOutputTokens": 0},
    PLAN | {"model": ["gpt-realtime"] * 6},
    PLAN | {"model": ["gpt-realtime", 7]},
    PLAN | {"vadEagerness": "medium-high"},
    PLAN | {"noiseReduction": "none"},
    PLAN | {"greetingCache": "true"},
    PLAN | {"inactivityTimeoutMs": 999},
    PLAN | {"inactivityTimeoutMs": 3_600_001},
    PLAN | {"inactivityTimeoutMs": "60000"},
    PLAN | {"maxDurationSeconds": 0},
    PLAN | {"maxDurationSeconds": 14_101},
    PLAN | {"maxDurationSeconds": 1.5},
    PLAN | {"greeting": ["Hello"]},
    PLAN | {"greetingUrl": "https://example.com/" + "a" * 2000},
    {"reject": True, "reason": "tired"},
    {"reject": True, "message": 7},
    {"reject": True, "message": "Later."},
    {"reject": True, "message": "Later.", "twilioAccountSid": "AC" + "0" * 32},
    {"transfer": "+15559876543"},
    {"transfer": "+15559876543", "twilioAuthToken": "token"},
    CREDENTIALS | {"transfer": "5559876543"},
    CREDENTIALS | {"transfer": True},
]


def _brief(value: object) -> str:
    return str(value)[-60:]


class TestAnswered:
    """The document and the parser agree on valid answers to onCallStart."""

    @pytest.mark.parametrize(("answer", "kind"), ACCEPTED, ids=_brief)
    def test_accepted_answers_match_the_schema(self, answer: dict[str, Any], kind: type) -> None:
        assert isinstance(parse_plan(answer), kind)
        assert _of_call_start().is_valid(answer)

    @pytest.mark.parametrize("answer", REFUSED, ids=_brief)
    def test_refused_answers_do_not_match_the_schema(self, answer: dict[str, Any]) -> None:
        with pytest.raises(PlanError):
            parse_plan(answer)
        assert not _of_call_start().is_valid(answer)

    def test_defaults_are_the_engines(self) -> None:
        plan = parse_plan(PLAN)
        fields = document()["components"]["schemas"]["CallConfiguration"]["properties"]
        defaults = {name: field["default"] for name, field in fields.items() if "default" in field}
        assert defaults == {name: getattr(plan, _snake_case(name)) for name in defaults}
        assert len(defaults) == 6


def _of_call_start() -> Any:
    responses = ["webhooks", "onCallStart", "post", "responses"]
    return validator([*responses, "200", "content", "application/json", "schema"], strict=False)


def _snake_case(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def test_the_examples_are_valid() -> None:
    examples = document()["webhooks"]["onCallStart"]["post"]["responses"]["200"]["content"]
    for example in examples["application/json"]["examples"].values():
        parse_plan(json.loads(json.dumps(example["value"])))
