from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Sequence
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks import Webhook

from telephony.callbacks import on_call_start
from telephony.callbacks.on_call_start import CallStartFailed
from telephony.callbacks.payloads import CallFacts
from telephony.engine.plan import CallPlan, Refusal, Transfer
from telephony.tests.callbacks.conftest import OLD_SECRET, SECRET, Backend, Names

CREDENTIALS = {"twilioAccountSid": "AC" + "0" * 32, "twilioAuthToken": "canary-token"}
PLAN = {
    **CREDENTIALS,
    "openaiApiKey": "canary-key",
    "systemPrompt": "You answer the phone.",
    "unknown": "ignored",
}
TOOL = {"name": "find_order", "parameters": {"type": "object", "properties": {}}}


async def ask(
    url: str, facts: CallFacts, secrets: Sequence[str] = (SECRET,)
) -> CallPlan | Refusal | Transfer:
    asked = await on_call_start.ask(url, facts, secrets=secrets, message_id="msg_1")
    return asked.decision


async def failure(url: str, facts: CallFacts) -> CallStartFailed:
    with pytest.raises(CallStartFailed) as raised:
        await ask(url, facts)
    return raised.value


async def test_a_configuration_becomes_a_plan(backend: Backend, facts: CallFacts) -> None:
    backend.answers(200, PLAN)
    plan = await ask(f"{backend.url}/calls/start", facts, [SECRET, OLD_SECRET])
    assert isinstance(plan, CallPlan)
    assert plan.twilio_auth_token == "canary-token"
    (received,) = backend.received
    assert received.path == "/calls/start"
    assert received.headers["webhook-id"] == "msg_1"
    for secret in (SECRET, OLD_SECRET):
        body = Webhook(secret).verify(received.body, dict(received.headers))
    assert body["callSid"] == facts.call_sid
    assert body["metadata"] == facts.metadata


async def test_a_rejection(backend: Backend, facts: CallFacts) -> None:
    backend.answers(200, {"reject": True, "reason": "busy"})
    assert await ask(backend.url, facts) == Refusal("busy")


async def test_a_spoken_rejection(backend: Backend, facts: CallFacts) -> None:
    backend.answers(200, {"reject": True, "reason": "busy", "message": "Call again."} | CREDENTIALS)
    assert await ask(backend.url, facts) == Refusal(
        "busy", "Call again.", CREDENTIALS["twilioAccountSid"], "canary-token"
    )


@pytest.mark.parametrize("number", ["+15557654321", "+14165550123"])
async def test_a_transfer(backend: Backend, facts: CallFacts, number: str) -> None:
    backend.answers(200, {"transfer": number} | CREDENTIALS)
    assert await ask(backend.url, facts) == Transfer(
        number, CREDENTIALS["twilioAccountSid"], "canary-token"
    )


@pytest.mark.parametrize("number", ["+4915112345678", "+8823460000000", "+9990000000"])
async def test_a_transfer_to_a_country_that_is_not_allowed_is_refused(
    backend: Backend, facts: CallFacts, number: str
) -> None:
    backend.answers(200, {"transfer": number} | CREDENTIALS)
    failed = await failure(backend.url, facts)
    assert failed.code == "call_start_bad_answer"
    assert "transfer: Use a number in one of these countries: US, CA." in failed.message


async def test_a_transfer_to_the_called_number_is_refused(
    backend: Backend, facts: CallFacts
) -> None:
    backend.answers(200, {"transfer": facts.called_number} | CREDENTIALS)
    failed = await failure(backend.url, facts)
    assert failed.code == "call_start_bad_answer"
    assert "transfer: Use a number other than" in failed.message


@pytest.mark.parametrize("number", ["+19002345678", "+15002345678", "+12129762345"])
async def test_a_transfer_to_a_premium_number_is_refused(
    backend: Backend, facts: CallFacts, number: str
) -> None:
    backend.answers(200, {"transfer": number} | CREDENTIALS)
    failed = await failure(backend.url, facts)
    assert failed.code == "call_start_bad_answer"
    assert "transfer: Use a landline, mobile or toll-free number." in failed.message
    assert number not in failed.message


async def test_a_slow_backend_is_asked_once_and_times_out(
    backend: Backend, facts: CallFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    assert on_call_start.TIMEOUT_SECONDS == 10
    monkeypatch.setattr(on_call_start, "TIMEOUT_SECONDS", 1)
    backend.answer = answer
    failed = await failure(backend.url, facts)
    assert failed.code == "call_start_timeout"
    assert failed.message == "onCallStart failed: no response within 1 seconds."
    assert len(backend.received) == 1


async def test_an_unreachable_backend_fails(facts: CallFacts) -> None:
    failed = await failure("http://127.0.0.1:1/", facts)
    assert failed.code == "call_start_unreachable"


async def test_a_private_address_fails(facts: CallFacts, names: Names, settings: Any) -> None:
    settings.CALLBACK_ALLOW_PRIVATE = False
    names.addresses["inside.test"] = ["127.0.0.1"]
    failed = await failure("https://inside.test/", facts)
    assert failed.code == "call_start_unreachable"
    assert failed.message == "onCallStart failed: the host has no public address."


@pytest.mark.parametrize("status", [302, 400, 404, 500, 503])
async def test_a_status_other_than_2xx_fails(
    backend: Backend, facts: CallFacts, status: int
) -> None:
    backend.answers(status, PLAN, Location="/elsewhere")
    failed = await failure(backend.url, facts)
    assert failed.code == "call_start_bad_status"
    assert failed.message == f"onCallStart responded with status {status}."
    assert len(backend.received) == 1


async def test_a_failure_has_the_response_without_the_credentials(
    backend: Backend, facts: CallFacts
) -> None:
    backend.answers(500, PLAN | {"error": f"It is down, {SECRET}."})
    result = (await failure(backend.url, facts)).result
    assert (result.text, result.status) == ("500", 500)
    assert 0 <= result.duration_ms < 5_000
    assert "It is down, ••••••••." in result.answer
    assert "You answer the phone." in result.answer
    for canary in ("canary-token", "canary-key", SECRET):
        assert canary not in result.answer


async def test_a_failure_without_a_response_says_so(facts: CallFacts) -> None:
    result = (await failure("http://127.0.0.1:1/", facts)).result
    assert (result.text, result.status, result.answer) == ("unreachable", None, "")


async def test_the_status_and_the_duration_of_a_usable_response(
    backend: Backend, facts: CallFacts
) -> None:
    backend.answers(201, PLAN)
    asked = await on_call_start.ask(backend.url, facts, secrets=(SECRET,), message_id="msg_1")
    assert asked.status == 201
    assert 0 <= asked.duration_ms < 5_000


@pytest.mark.parametrize(
    "body",
    [b"", b"OK", b"\xff\xfe", b'{"a":', b"NaN", b"[" * 100_000, b" " * (2**20 + 1)],
    ids=["empty", "text", "not UTF-8", "cut off", "NaN", "deep", "long"],
)
async def test_a_response_that_is_not_json_fails(
    backend: Backend, facts: CallFacts, body: bytes
) -> None:
    backend.answers_bytes(body)
    assert (await failure(backend.url, facts)).code == "call_start_bad_answer"


@pytest.mark.parametrize("body", [None, [], "reject", 7])
async def test_a_response_that_is_not_an_object_fails(
    backend: Backend, facts: CallFacts, body: Any
) -> None:
    backend.answers(200, body)
    failed = await failure(backend.url, facts)
    assert failed.code == "call_start_bad_answer"
    assert "body:" in failed.message


async def test_an_error_names_invalid_fields_but_not_their_values(
    backend: Backend, facts: CallFacts
) -> None:
    backend.answers(200, PLAN | {"twilioAccountSid": "canary-sid", "voice": 7, "systemPrompt": ""})
    failed = await failure(backend.url, facts)
    assert failed.code == "call_start_bad_answer"
    for field in ("twilioAccountSid", "voice", "systemPrompt"):
        assert f"{field}: " in failed.message
    assert "canary" not in failed.message


@pytest.mark.parametrize(
    "url", ["http://example.com/", "https://canary:canary@example.com/", "https://127.0.0.1/canary"]
)
@pytest.mark.parametrize("field", ["onToolCallUrl", "greetingUrl"])
async def test_a_private_url_in_the_plan_is_refused(
    backend: Backend, facts: CallFacts, settings: Any, field: str, url: str
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        settings.CALLBACK_ALLOW_PRIVATE = False  # the test's own backend is private
        return web.json_response(PLAN | {"tools": [TOOL], "onToolCallUrl": good} | {field: url})

    good = "https://example.com/tools"
    backend.answer = answer
    failed = await failure(backend.url, facts)
    assert failed.message == (
        f"The response of onCallStart cannot be used. {field}: Use a public https:// URL."
    )


async def test_invalid_metadata_is_refused(backend: Backend, facts: CallFacts) -> None:
    backend.answers_bytes(json.dumps(PLAN | {"metadata": {"a": "\x00"}}).encode())
    failed = await failure(backend.url, facts)
    assert "metadata: Leave NUL characters out." in failed.message


# Responses over a limit


def _nested(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"metadata": "a" * (16 * 1024)}, "metadata: Use at most 16 KB of JSON."),
        ({"metadata": _nested(33)}, "metadata: Nest lists and objects at most 32 deep."),
        ({"metadata": "\0"}, "metadata: Leave NUL characters out."),
        (
            {"tools": [TOOL | {"parameters": {"a": "b" * 65_536}}]},
            "tools: Use at most 64 KB of JSON.",
        ),
        (
            {"transferNumbers": ["+15551234567", "+4915112345678"]},
            "transferNumbers.1: Use a number in one of these countries: US, CA. This one is in DE.",
        ),
    ],
    ids=lambda value: str(value)[:16],
)
async def test_values_that_this_server_does_not_allow_are_refused(
    backend: Backend, facts: CallFacts, change: dict[str, Any], why: str
) -> None:
    backend.answers(200, PLAN | {"onToolCallUrl": f"{backend.url}/tools"} | change)
    failed = await failure(backend.url, facts)
    assert failed.message == f"The response of onCallStart cannot be used. {why}"


async def test_many_numbers_that_are_not_allowed_are_counted(
    backend: Backend, facts: CallFacts
) -> None:
    backend.answers(200, PLAN | {"transferNumbers": _german(100)})
    failed = await failure(backend.url, facts)
    assert failed.message.endswith("and 80 more.")
    assert len(failed.message) <= 4_096


def _german(count: int) -> list[str]:
    return [f"+49151123456{number:02}" for number in range(count)]


async def test_a_failure_holds_no_reference_to_the_response(
    backend: Backend, facts: CallFacts
) -> None:
    """The response would live as long as the failure, and be freed on the event loop."""
    backend.answers(200, PLAN | {"tools": [0] * 50_000})
    failed = await failure(backend.url, facts)
    assert failed.__context__ is None
    assert failed.__cause__ is None
    frames = {frame.name for frame in traceback.extract_tb(failed.__traceback__)}
    assert "_decision" not in frames
