"""OpenAI's realtime events, as they are read and written."""

import json
from dataclasses import replace

import pytest

from telephony.engine.audio import audio_size
from telephony.engine.codecs.realtime import reader, writer
from telephony.engine.commands import Configure
from telephony.engine.costs import TokenUsage
from telephony.engine.events import (
    AgentTranscribed,
    CallerTranscribed,
    FunctionCall,
    ItemAdded,
    ModelErrored,
    NotUnderstood,
    ResponseDone,
    ResponseStarted,
    SpeechStarted,
    SpeechStopped,
)
from telephony.tests.engine.conversation import PLAN

# As OpenAI writes it.
DELTA = (
    b'{"type":"response.output_audio.delta","event_id":"event_1","response_id":"resp_1",'
    b'"item_id":"item_008","output_index":0,"content_index":0,"delta":"/v7+fn5+"}'
)


def test_a_delta_of_audio():
    assert reader.delta(json.loads(DELTA)) == ("item_008", b"/v7+fn5+")
    assert reader.delta({"type": "response.done"}) is None
    assert reader.decode(json.loads(DELTA)) is None


@pytest.mark.parametrize("item_id", [None, "", 7, "x" * 1_000])
def test_a_delta_without_a_valid_item_id_is_still_audio(item_id):
    delta = {**json.loads(DELTA), "item_id": item_id}
    assert reader.delta(delta) == ("sh_resp_1", b"/v7+fn5+")
    assert reader.delta({**delta, "response_id": None}) is None


@pytest.mark.parametrize("change", [{"delta": "a b"}, {"delta": ""}, {"delta": 7}])
def test_a_delta_without_valid_audio_is_not_a_delta(change):
    delta = {**json.loads(DELTA), **change}
    assert reader.delta(delta) is None
    assert reader.decode(delta) == NotUnderstood("response.output_audio.delta")


def test_audio_is_appended_to_the_models_input():
    message = {"type": "input_audio_buffer.append", "audio": "/v7+fn5+"}
    assert json.loads(writer.append_audio(b"/v7+fn5+")) == message


@pytest.mark.parametrize(("text", "size"), [(b"", 0), (b"AA==", 1), (b"AAA=", 2), (b"AAAA", 3)])
def test_audio_size_is_that_of_the_decoded_bytes(text, size):
    assert audio_size(text) == size


class TestWhatTheModelSays:
    @pytest.mark.parametrize(
        ("message", "event"),
        [
            (
                {
                    "type": "input_audio_buffer.speech_started",
                    "audio_start_ms": 12,
                    "item_id": "u1",
                },
                SpeechStarted("u1"),
            ),
            (
                {"type": "input_audio_buffer.speech_stopped", "audio_end_ms": 99, "item_id": "u1"},
                SpeechStopped("u1"),
            ),
            (
                {
                    "type": "conversation.item.added",
                    "previous_item_id": "a0",
                    "item": {"id": "u1", "type": "message", "role": "user", "content": []},
                },
                ItemAdded("u1", "a0", "user"),
            ),
            (
                {
                    "type": "conversation.item.added",
                    "previous_item_id": None,
                    "item": {"id": "f1", "type": "function_call_output"},
                },
                ItemAdded("f1", None, ""),
            ),
            (
                {
                    "type": "conversation.item.input_audio_transcription.completed",
                    "item_id": "u1",
                    "transcript": "Hi",
                    "usage": {"type": "duration", "seconds": 2},
                },
                CallerTranscribed("u1", "Hi", 2.0),
            ),
            (
                {
                    "type": "conversation.item.input_audio_transcription.completed",
                    "item_id": "u1",
                    "transcript": "Hi",
                    "usage": {"type": "tokens", "input_token_details": {"audio_tokens": 15}},
                },
                CallerTranscribed("u1", "Hi", 1.5),
            ),
            (
                {"type": "conversation.item.input_audio_transcription.failed", "item_id": "u1"},
                CallerTranscribed("u1", "", 0.0),
            ),
            (
                {
                    "type": "response.output_audio_transcript.done",
                    "item_id": "a1",
                    "transcript": "Hello.",
                },
                AgentTranscribed("a1", "Hello."),
            ),
            ({"type": "response.created", "response": {"id": "r1"}}, ResponseStarted("r1")),
            (
                {"type": "error", "error": {"type": "server_error", "code": None, "message": "M"}},
                ModelErrored("server_error", "M"),
            ),
            (
                {
                    "type": "error",
                    "error": {"type": "insufficient_quota", "code": "credit_balance_exhausted"},
                },
                ModelErrored("insufficient_quota", ""),
            ),
            (
                {
                    "type": "error",
                    "error": {"code": "invalid_api_key", "message": "Incorrect key: sk-12***89."},
                },
                ModelErrored("invalid_api_key", "OpenAI does not accept the openaiApiKey."),
            ),
        ],
    )
    def test_events(self, message, event):
        assert reader.decode(message) == event

    @pytest.mark.parametrize("message", [{"type": "rate_limits.updated"}, {"type": "new one"}])
    def test_a_message_that_changes_nothing_is_no_event(self, message):
        assert reader.decode(message) is None

    def test_cached_tokens_are_counted_separately(self):
        response = {
            "id": "resp_1",
            "status": "completed",
            "output": [
                {
                    "id": "a1",
                    "type": "message",
                    "role": "assistant",
                    "content": [{"type": "output_audio", "transcript": "Yes."}],
                },
                {
                    "id": "f1",
                    "type": "function_call",
                    "status": "completed",
                    "call_id": "c1",
                    "name": "book",
                    "arguments": "{}",
                },
                {
                    "id": "f2",
                    "type": "function_call",
                    "status": "incomplete",
                    "call_id": "c2",
                    "name": "book",
                    "arguments": "{",
                },
            ],
            "usage": {
                "total_tokens": 253,
                "input_tokens": 132,
                "output_tokens": 121,
                "input_token_details": {
                    "text_tokens": 119,
                    "audio_tokens": 13,
                    "cached_tokens": 64,
                    "cached_tokens_details": {"text_tokens": 60, "audio_tokens": 4},
                },
                "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
            },
        }
        assert reader.decode({"type": "response.done", "response": response}) == ResponseDone(
            "resp_1",
            "completed",
            calls=(FunctionCall("c1", "book", "{}"),),
            spoke=True,
            said=(AgentTranscribed("a1", "Yes."),),
            unread=1,
            usage=TokenUsage(
                text_in=59, audio_in=9, text_cached=60, audio_cached=4, text_out=30, audio_out=91
            ),
        )

    def test_a_failed_response_has_a_code_and_a_message(self):
        response = {
            "id": "resp_1",
            "status": "failed",
            "status_details": {
                "type": "failed",
                "error": {"type": "insufficient_quota", "code": "insufficient_quota"},
            },
            "output": [],
            "usage": None,
        }
        done = reader.decode({"type": "response.done", "response": response})
        assert (done.status, done.error_code) == ("failed", "insufficient_quota")


class TestWhatTheModelIsTold:
    def test_transfer_call_with_a_list_of_numbers(self):
        plan = replace(PLAN, transfer_numbers=("+15551234567", "+15559876543"))
        [tool] = tools_of(plan, "transfer_call")
        to = tool["parameters"]["properties"]["to"]
        assert to == {"type": "string", "enum": ["+15551234567", "+15559876543"]}
        assert tool["parameters"]["required"] == ["to"]

    def test_transfer_call_without_a_list(self):
        [tool] = tools_of(PLAN, "transfer_call")
        assert "enum" not in tool["parameters"]["properties"]["to"]

    @pytest.mark.parametrize("name", ["end_call", "send_dtmf"])
    def test_the_list_of_numbers_does_not_change_other_tools(self, name):
        plan = replace(PLAN, transfer_numbers=("+15551234567",))
        assert tools_of(plan, name) == tools_of(PLAN, name)

    def test_the_model_detects_the_callers_turns(self):
        session = writer.encode(Configure(PLAN))[0]["session"]
        assert session["audio"]["input"] == {
            "format": {"type": "audio/pcmu"},
            "noise_reduction": {"type": "near_field"},
            "transcription": {"model": "gpt-transcribe"},
            "turn_detection": {
                "type": "semantic_vad",
                "eagerness": "high",
                "create_response": True,
                "interrupt_response": True,
            },
        }


def test_an_item_without_a_transcript_has_an_empty_text():
    event = {"type": "response.output_audio_transcript.done", "item_id": "a1", "transcript": ""}
    assert reader.decode(event) == AgentTranscribed("a1", "")


@pytest.mark.parametrize("change", [{"id": ""}, {"content": []}])
def test_a_message_without_an_id_or_text_has_no_transcript(change):
    item = {"type": "message", "id": "a1", "content": [{"type": "audio", "transcript": "Hi."}]}
    event = {"type": "response.done", "response": {"output": [item]}}
    assert reader.decode(event).said == (AgentTranscribed("a1", "Hi."),)
    event = {"type": "response.done", "response": {"output": [{**item, **change}]}}
    assert reader.decode(event).said == ()


def test_an_id_has_a_maximum_length():
    event = {"type": "input_audio_buffer.speech_started"}
    assert reader.decode({**event, "item_id": "u" * 256}) == SpeechStarted("u" * 256)
    assert reader.decode({**event, "item_id": "u" * 257}) == SpeechStarted("")


def tools_of(plan, name):
    session = writer.encode(Configure(plan))[0]["session"]
    return [tool for tool in session["tools"] if tool["name"] == name]


@pytest.mark.parametrize("message", [None, 7, ["a"], {"a": 1}])
def test_an_error_whose_message_is_not_text(message):
    event = reader.decode({"type": "error", "error": {"code": "x" * 100, "message": message}})
    assert event.message == ""
    assert len(event.code) == 64
