"""No order or content of events hangs a call or causes a repeated action.

Each test runs 300 examples, those of moving calls a quarter; EVERY_POISON=1 makes it 100,000,
EXAMPLES=n makes it n.
"""

from __future__ import annotations

import copy
import os
from typing import Any

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from telephony.engine import events
from telephony.engine.costs import TokenUsage
from telephony.engine.events import FunctionCall, ModelConfigured, ModelReady
from telephony.engine.spoken import SpokenGreeting
from telephony.tests.engine.conversation import UNIX_AHEAD, errored
from telephony.tests.engine.invariants import CheckedConversation

USUAL = 100_000 if os.environ.get("EVERY_POISON") else 300

generated = settings(
    max_examples=int(os.environ.get("EXAMPLES", USUAL)),
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
moving = settings(generated, max_examples=int(os.environ.get("EXAMPLES", USUAL // 4)))

ids = st.sampled_from(["", "u1", "u2", "a1", "a2", "sh_1"])
response_ids = st.sampled_from(["", "r1", "r2", "of sh_response_1"])
call_ids = st.sampled_from(["c1", "c2", "c3"])
codes = st.sampled_from(
    [
        "server_error",
        "rate_limit_exceeded",
        "invalid_value",
        "session_expired",
    ]
)
calls = st.builds(
    FunctionCall,
    call_ids,
    st.sampled_from(["look_up", "book", "end_call", "transfer_call", "send_dtmf", "fly"]),
    st.sampled_from(["{}", "[", '{"to": "+15551234567"}', '{"digits": "12"}', None]),
)
event = st.one_of(
    st.builds(events.DigitPressed, st.sampled_from("1#")),
    st.builds(events.CallerTyped, st.sampled_from(["", "Hello."])),
    st.builds(events.StreamBroke),
    st.builds(events.MoveDue),
    st.builds(events.MarkPlayed, st.sampled_from(["1", "2", "3", "x"])),
    st.builds(events.ModelReady),
    st.builds(events.ModelConfigured, st.sampled_from([None, UNIX_AHEAD + 230])),
    st.builds(events.SessionUsed, st.sampled_from([0.5, 15.0])),
    st.builds(events.SpeechStarted, ids),
    st.builds(events.SpeechStopped, ids),
    st.builds(events.SpeechCommitted, ids),
    st.builds(
        events.ItemAdded,
        st.sampled_from(["u1", "a1", "sh_1"]),
        st.sampled_from([None, "u1", "a1"]),
        st.sampled_from(["user", "assistant", ""]),
    ),
    st.builds(events.CallerTranscribed, ids, st.sampled_from(["", "Yes."])),
    st.builds(events.AgentTranscribed, ids, st.sampled_from(["", "No."])),
    st.builds(events.Transcribing, ids, st.sampled_from(["user", "assistant"]), st.just("So")),
    st.builds(events.SessionFull),
    st.builds(events.AgentAudioStarted, ids),
    st.builds(events.AgentAudioEnded, ids),
    st.builds(events.ResponseStarted, response_ids, st.booleans(), st.booleans()),
    st.builds(
        events.ResponseDone,
        response_ids,
        st.sampled_from(["completed", "cancelled", "incomplete", "failed", "odd"]),
        st.lists(calls, max_size=3).map(tuple),
        st.sampled_from(["", "content_filter", "max_output_tokens"]),
        st.booleans(),
        st.sampled_from(["", "Written."]),
        st.integers(0, 1),
        st.just(TokenUsage(audio_out=1)),
        codes,
        st.just("Why."),
        st.lists(st.builds(events.AgentTranscribed, ids, st.just("Well.")), max_size=1).map(tuple),
        st.booleans(),
        st.booleans(),
    ),
    st.builds(
        errored,
        codes,
        st.just("Why."),
        st.sampled_from(["", "sh_response_1", "sh_configuration", "x"]),
        st.sampled_from(["", "session.voice"]),
    ),
    st.builds(events.ResponseCollided),
    st.builds(events.NotUnderstood, st.just("x")),
    st.just(events.ModelClosed(1006)),
    st.just(events.GreetingRecalled(SpokenGreeting(bytes(12_000), "Hello."))),
    st.builds(events.ToolReturned, call_ids, st.sampled_from(["ok", {"a": [1]}])),
    st.builds(events.ToolFailed, call_ids, st.just("No.")),
    st.builds(events.TimePassed),
)
# Events that end a call are rarer than others: otherwise most examples would be short.
ending = st.sampled_from(
    [
        events.CallerHungUp(),
        events.HangupRequested(),
        events.ModelClosed(1006),
        events.ModelUnreachable("No.", 503),
        events.StreamBroke(),
    ]
)
# A method of CheckedConversation, and its argument.
step = st.one_of(
    *[st.tuples(st.just("receive"), event)] * 6,
    st.tuples(st.just("wait"), st.sampled_from([0.1, 1.6, 6.0, 20.0, 70.0])),
    st.tuples(st.just("say"), st.sampled_from([20, 400, 2_000])),
    st.tuples(st.just("begin_asked"), st.just(0)),
    st.tuples(st.just("return_tool"), st.integers(0, 3)),
)
move = st.tuples(st.just("move"), st.sampled_from([0.0, 1.5, 20.0]))
plans = st.fixed_dictionaries(
    {},
    optional={
        "greeting": st.just("Hello."),
        "greeting_cache": st.just(True),
        "is_test": st.just(True),
        "fallback_models": st.just(("gpt-realtime-2", "gpt-realtime-2.1")),
        "inactivity_timeout_ms": st.just(3_000),
        "transfer_numbers": st.just(("+15551234567",)),
    },
)


@generated
@given(plans, st.booleans(), st.lists(step, max_size=20), st.none() | ending)
def test_a_call_ends_after_any_order_of_events(plan, is_ready, steps, end):
    call = CheckedConversation(**plan)
    if is_ready:
        call.receive(ModelReady())
        call.receive(ModelConfigured())
    note(f"{plan} {steps}")
    call.take(steps)
    if end is not None:
        call.receive(end)
    call.end()


@moving
@given(
    plans, st.lists(step, max_size=12), move, st.lists(step | move, max_size=12), st.none() | ending
)
def test_a_call_that_moves_ends_after_any_order_of_events(plan, before, moved, after, end):
    call = CheckedConversation(**plan)
    call.receive(ModelReady())
    call.receive(ModelConfigured())
    note(f"{plan} {before} {moved} {after}")
    call.take([*before, moved, *after])
    if end is not None:
        call.receive(end)
    call.end()


@generated
@given(plans, st.lists(step, max_size=20))
def test_every_queued_request_is_sent(plan, steps):
    call = CheckedConversation(**plan)
    call.receive(ModelReady())
    call.receive(ModelConfigured())
    note(f"{plan} {steps}")
    call.take(steps)
    call.cooperate()
    call.end()


# As OpenAI writes them. A test replaces any part of them with any JSON value.
_ITEM = {"id": "a1", "type": "message", "role": "assistant", "status": "completed"}
MESSAGES: list[dict[str, Any]] = [
    {"type": "session.created", "session": {}},
    {"type": "session.updated", "session": {}},
    {"type": "input_audio_buffer.speech_started", "audio_start_ms": 1, "item_id": "u1"},
    {"type": "input_audio_buffer.speech_stopped", "audio_end_ms": 2, "item_id": "u1"},
    {"type": "input_audio_buffer.committed", "item_id": "u1", "previous_item_id": None},
    {"type": "conversation.item.added", "previous_item_id": "u1", "item": _ITEM},
    {
        "type": "conversation.item.input_audio_transcription.completed",
        "item_id": "u1",
        "transcript": "Hello?",
        "usage": {"type": "duration", "seconds": 2},
    },
    {
        "type": "conversation.item.input_audio_transcription.completed",
        "item_id": "u1",
        "transcript": "Hello?",
        "usage": {"type": "tokens", "input_token_details": {"audio_tokens": 5}},
    },
    {"type": "conversation.item.input_audio_transcription.failed", "item_id": "u1", "error": {}},
    {"type": "response.output_audio_transcript.done", "item_id": "a1", "transcript": "Hi."},
    {"type": "response.output_audio.delta", "item_id": "a1", "delta": "AAAA"},
    {"type": "response.output_audio.done", "item_id": "a1"},
    {"type": "response.created", "response": {"id": "r1", "status": "in_progress"}},
    {
        "type": "response.done",
        "response": {
            "id": "r1",
            "status": "completed",
            "status_details": {"type": "x", "reason": "y", "error": {"type": "x", "code": "y"}},
            "output": [
                {**_ITEM, "content": [{"type": "output_audio", "transcript": "Hi."}]},
                {
                    "id": "f1",
                    "type": "function_call",
                    "status": "completed",
                    "call_id": "c1",
                    "name": "look_up",
                    "arguments": "{}",
                },
            ],
            "usage": {
                "input_token_details": {
                    "text_tokens": 9,
                    "audio_tokens": 3,
                    "cached_tokens_details": {"text_tokens": 6, "audio_tokens": 1},
                },
                "output_token_details": {"text_tokens": 3, "audio_tokens": 9},
            },
        },
    },
    {
        "type": "error",
        "error": {"type": "x", "code": "y", "message": "z", "param": None, "event_id": None},
    },
]


def paths(value: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path to every part of a JSON value, including the whole value."""
    entries = value.items() if isinstance(value, dict) else ()
    entries = enumerate(value) if isinstance(value, list) else entries
    return [prefix, *(path for key, part in entries for path in paths(part, (*prefix, key)))]


def replaced(message: Any, path: tuple[Any, ...], part: Any) -> Any:
    if not path:
        return part
    whole = copy.deepcopy(message)
    parent = whole
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = part
    return whole


PLACES = [(message, path) for message in MESSAGES for path in paths(message)]
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["completed", "message", "function_call", "r1", "u1", "c1", "book"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "id", "error", "content", "text", "status", "x"]), inner
        )
    ),
    max_leaves=6,
)
odd_messages = st.builds(
    lambda place, part: replaced(*place, part), st.sampled_from(PLACES), json_values
)


@generated
@given(st.lists(st.sampled_from(MESSAGES) | odd_messages, max_size=12))
def test_a_call_ends_after_any_value_in_any_field(messages):
    call = CheckedConversation()
    call.receive(ModelReady())
    call.receive(ModelConfigured())
    for message in messages:
        call.hear(message)
    call.end()
