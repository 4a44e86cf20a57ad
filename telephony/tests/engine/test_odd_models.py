"""Models that send invalid or unexpected events, or omit expected ones."""

from __future__ import annotations

import json

import pytest

from telephony.engine.actions import (
    ClearAudio,
    CloseCaller,
    ConnectModel,
    Finish,
    ReportError,
    RunTool,
    SendMark,
)
from telephony.engine.after_stream import APOLOGY, Dial, Say
from telephony.engine.costs import TokenUsage, openai_cost
from telephony.engine.events import (
    AgentAudioEnded,
    AgentAudioStarted,
    CallerHungUp,
    CallerTranscribed,
    DigitPressed,
    FunctionCall,
    ItemAdded,
    MarkPlayed,
    ModelClosed,
    ModelConfigured,
    ModelReady,
    ResponseDone,
    ResponseStarted,
    SpeechStarted,
    ToolReturned,
)
from telephony.engine.leaving import GOODBYE_S
from telephony.tests.engine.conversation import Conversation, Sent, errored, types


def call_item(call_id="c1", name="look_up", arguments="{}", **fields):
    item = {"type": "function_call", "status": "completed", "call_id": call_id, "name": name}
    return {**item, "arguments": arguments, **fields}


def message(*parts):
    return {"type": "message", "role": "assistant", "content": list(parts)}


def text(words):
    return message({"type": "output_text", "text": words})


def speech(words):
    return message({"type": "output_audio", "transcript": words})


def errors(code, **fields):
    return {"type": "error", "error": {"type": "server_error", "code": code, **fields}}


def greeted():
    call = Conversation(ready=False, greeting="Hello!")
    call.receive(ModelReady())
    call.receive(ModelConfigured())
    return call


class TestArguments:
    """Invalid arguments never end the call: the model gets an error."""

    @pytest.mark.parametrize(
        "arguments",
        ['{"n":NaN}', '{"n":1e999}', '{"n":' + "[" * 1_500 + "]" * 1_500 + "}", "{", "[]", "null"],
    )
    def test_json_that_cannot_be_passed_on_is_refused(self, arguments):
        call = Conversation()
        call.answer(call_item(arguments=arguments))
        assert call.ever(RunTool) == []
        (output,) = call.outputs()
        assert json.loads(output)["error"].startswith("The arguments are n")
        assert call.told() == ["conversation.item.create", "response.create"]

    @pytest.mark.parametrize("arguments", [{"n": 1}, 7, ["n"], True])
    def test_arguments_other_than_text_are_refused(self, arguments):
        call = Conversation()
        call.answer(call_item(arguments=arguments))
        assert call.ever(RunTool) == []
        assert call.outputs() == ['{"error": "The arguments are not JSON text."}']

    @pytest.mark.parametrize("arguments", ["", None])
    def test_absent_arguments_are_an_empty_object(self, arguments):
        call = Conversation()
        call.answer(call_item(arguments=arguments))
        assert call.ever(RunTool) == [RunTool("c1", "look_up", {})]

    @pytest.mark.parametrize("name", [None, 7, ""])
    def test_a_call_without_a_name_is_refused(self, name):
        call = Conversation()
        call.answer(call_item(name=name))
        assert call.outputs() == ['{"error": "Name a tool."}']


class TestTexts:
    @pytest.mark.parametrize("transcript", [None, 7, {}, []])
    def test_the_end_does_not_wait_for_an_invalid_transcript(self, transcript):
        call = Conversation()
        call.listen("u1")
        kind = "conversation.item.input_audio_transcription.completed"
        call.hear({"type": kind, "item_id": "u1", "transcript": transcript})
        call.receive(CallerHungUp())
        assert call.took(Finish)[0].transcript == ()

    def test_a_transcript_without_a_valid_item_id_is_stored(self):
        call = Conversation()
        kind = "conversation.item.input_audio_transcription.completed"
        call.hear({"type": kind, "item_id": 7, "transcript": "Hello?"})
        call.hear({"type": kind, "item_id": None, "transcript": "Anybody?"})
        kind = "response.output_audio_transcript.done"
        call.hear({"type": kind, "item_id": 7, "transcript": "Yes?"})
        call.hear({"type": kind, "transcript": "I am here."})
        assert [line.text for line in call.session.lines()] == [
            "Hello?",
            "Anybody?",
            "Yes?",
            "I am here.",
        ]

    def test_a_transcript_without_id_and_text_is_not_understood(self):
        call = Conversation()
        call.hear({"type": "response.output_audio_transcript.done"})
        assert call.notes("not_understood")
        assert call.session.lines() == ()

    def test_a_transcript_without_valid_usage_is_stored(self):
        call = Conversation()
        kind = "conversation.item.input_audio_transcription.completed"
        usage = {"type": "duration"}
        call.hear({"type": kind, "item_id": "u1", "transcript": "Hello?", "usage": usage})
        assert [line.text for line in call.session.lines()] == ["Hello?"]
        assert call.session.usage == TokenUsage()

    @pytest.mark.parametrize("item_id", [7, None, {}, ["u1"], "u" * 10_000])
    def test_speech_without_a_valid_id_is_speech(self, item_id):
        call = Conversation()
        call.respond()
        call.say(2_000)
        call.hear({"type": "input_audio_buffer.speech_started", "item_id": item_id})
        assert call.notes("interrupted")
        call.hear({"type": "input_audio_buffer.speech_stopped", "item_id": item_id})
        assert call.notes("caller_spoke")


class TestTokens:
    @pytest.mark.parametrize(
        ("tokens", "charged"),
        [
            (12, 12),
            (12.0, 12),
            (10_000_000, 10_000_000),
            *((odd, 0) for odd in ("12", None, True, -1, 10_000_001, 10**30, [12], {"n": 12})),
        ],
    )
    def test_counts_of_any_type_can_be_charged_for(self, tokens, charged):
        call = Conversation()
        details = {"text_tokens": tokens, "audio_tokens": tokens}
        usage = {"input_token_details": details, "output_token_details": details}
        call.answer(speech("Hello."), usage=usage)
        call.receive(CallerHungUp())
        (finish,) = call.took(Finish)
        assert isinstance(finish.usage.text_in, int)
        assert (finish.usage.text_in, finish.usage.audio_out) == (charged, charged)
        assert openai_cost("gpt-realtime", finish.usage) >= 0

    def test_more_cached_tokens_than_input_tokens_do_not_lower_the_cost(self):
        call = Conversation()
        cached = {"text_tokens": 9, "audio_tokens": 9}
        given = {"text_tokens": 5, "audio_tokens": 5, "cached_tokens_details": cached}
        call.answer(speech("Hello."), usage={"input_token_details": given})
        assert call.session.usage == TokenUsage(text_cached=9, audio_cached=9)

    def test_half_a_second_is_charged(self):
        call = Conversation()
        kind = "conversation.item.input_audio_transcription.completed"
        usage = {"type": "duration", "seconds": 0.5}
        call.hear({"type": kind, "item_id": "u1", "transcript": "Hm.", "usage": usage})
        assert call.session.usage == TokenUsage(transcribed_seconds=0.5)


class TestWhatIsReadOfADoneResponse:
    """The valid parts of a response are read, whatever else it contains."""

    def test_valid_tools_run_beside_an_item_without_a_type(self):
        call = Conversation()
        call.answer({"id": "x"}, call_item(), 7)
        assert call.took(RunTool) == [RunTool("c1", "look_up", {})]
        assert call.notes("not_understood") == [
            ("not_understood", {"what": "2 items of a response"})
        ]

    @pytest.mark.parametrize("details", ["cancelled?", 7, ["x"], {"error": "x"}, {"reason": 7}])
    def test_valid_tools_run_beside_status_details_of_another_kind(self, details):
        call = Conversation()
        call.answer(call_item(), status_details=details)
        assert call.took(RunTool) == [RunTool("c1", "look_up", {})]

    @pytest.mark.parametrize("usage", ["free", 7, [], {"input_token_details": 3}])
    def test_valid_tools_run_beside_a_usage_of_another_kind(self, usage):
        call = Conversation()
        call.answer(call_item(), usage=usage)
        assert call.took(RunTool) == [RunTool("c1", "look_up", {})]

    def test_a_call_without_a_status_has_that_of_its_response(self):
        call = Conversation()
        call.answer(call_item(status=None))
        assert len(call.took(RunTool)) == 1
        call.answer(call_item("c2", status=None), status="incomplete")
        assert call.took(RunTool) == []

    def test_a_call_without_an_id_cannot_be_answered(self):
        call = Conversation()
        call.answer(call_item(call_id=None), call_item("c2"))
        assert call.took(RunTool) == [RunTool("c2", "look_up", {})]
        assert call.notes("not_understood") == [
            ("not_understood", {"what": "1 items of a response"})
        ]

    @pytest.mark.parametrize("response", [None, 7, [], {}, {"output": {}}])
    def test_a_response_ends_whatever_it_contains(self, response):
        call = Conversation()
        call.respond()
        call.receive(DigitPressed("1"))
        call.receive(DigitPressed("#"))
        call.hear({"type": "response.done", "response": response})
        assert call.told() == ["response.create"]

    def test_a_completed_call_of_an_incomplete_response_runs(self):
        call = Conversation()
        details = {"type": "incomplete", "reason": "max_output_tokens"}
        unfinished = call_item("c2", status="incomplete")
        call.answer(call_item(), unfinished, status="incomplete", status_details=details)
        assert call.took(RunTool) == [RunTool("c1", "look_up", {})]


class TestBeforeTheModelIsReady:
    """Nothing is lost before the model is ready, and nothing unsent counts as sent."""

    def test_keys_pressed_while_the_model_connects_follow_the_greeting(self):
        call = Conversation(ready=False, greeting="Hello!")
        call.receive(DigitPressed("1"))
        call.receive(DigitPressed("#"))
        call.wait(3)
        assert call.ever(Sent) == []
        call.receive(ModelReady())
        assert call.told() == ["session.update", "response.create"]
        assert "Hello!" in call.asked()[0]["response"]["instructions"]
        call.receive(ModelConfigured())
        assert call.told() == ["conversation.item.create"]
        assert "1#" in json.dumps(call.took(Sent)[0].event)
        call.respond()
        call.say(400, text="Hello!", ended=True)
        call.done(spoke=True)
        assert call.told() == ["response.create"]

    def test_a_tool_call_before_the_model_is_ready_is_answered_once_it_is(self):
        call = Conversation(ready=False)
        call.answer(call_item(name="fly"))
        call.receive(ModelReady())
        assert call.told() == ["session.update", "response.create"]

    def test_a_model_that_is_ready_twice_is_configured_once(self):
        call = Conversation(greeting="Hello!")
        call.receive(ModelReady())
        assert call.told() == []
        assert call.notes("repeated") == [("repeated", {"what": "the start of the session"})]

    def test_session_created_changes_nothing(self):
        call = Conversation(ready=False, greeting="Hello!")
        assert call.hear({"type": "session.created", "session": {}}) == []
        call.receive(ModelReady())
        assert call.hear({"type": "session.created", "session": {}}) == []

    def test_session_updated_before_the_model_is_configured_is_ignored(self):
        call = Conversation(ready=False)
        call.receive(ModelConfigured())
        call.receive(DigitPressed("#"))
        assert call.ever(Sent) == []
        call.receive(ModelReady())
        call.receive(ModelConfigured())
        assert call.told() == ["conversation.item.create", "response.create"]

    def test_at_most_fifty_sequences_of_keys_wait_for_the_model(self):
        call = Conversation(ready=False)
        for _ in range(51):
            call.receive(DigitPressed("#"))
        call.receive(ModelReady())
        call.receive(ModelConfigured())
        assert call.told().count("conversation.item.create") == 50

    def test_the_end_while_the_model_connects_sends_it_nothing(self):
        call = Conversation(ready=False)
        call.receive(DigitPressed("1"))
        call.receive(CallerHungUp())
        assert call.ever(Sent) == []
        assert len(call.ever(Finish)) == 1


class TestErrorsWhileStarting:
    def starting(self, **plan):
        call = Conversation(ready=False, **plan)
        call.receive(ModelReady())
        return call

    def test_a_refused_configuration_ends_the_call(self):
        call = self.starting()
        event_id = call.took(Sent)[0].event["event_id"]
        call.hear(errors("invalid_value", message="Invalid voice.", event_id=event_id))
        assert call.ever(ReportError) == [
            ReportError("model_rejected_configuration", "Invalid voice.")
        ]

    def test_a_refused_field_of_the_configuration_ends_the_call(self):
        call = self.starting(greeting="Hello!")
        call.hear(errors("invalid_value", message="No.", param="session.audio.output.voice"))
        assert call.ever(ReportError)[0].code == "model_rejected_configuration"

    def test_a_greeting_without_its_refused_configuration_is_not_heard(self):
        call = self.starting(greeting="Hello!")
        call.hear(errors("invalid_value", param="session.audio.output.voice"))
        call.respond()
        assert call.say(100, text="Hello!") == [None] * 5
        assert call.session.billed_from is None

    @pytest.mark.parametrize(
        "fields",
        [
            {"event_id": "sh_response_1"},
            {"event_id": "another"},
            {"param": "audio"},
            {},
        ],
    )
    def test_an_error_about_something_else_is_noted(self, fields):
        call = self.starting(greeting="Hello!")
        call.hear(errors("invalid_value", **fields))
        call.receive(ModelConfigured())
        assert call.ever(ReportError) == []
        assert call.notes("model_error")

    @pytest.mark.parametrize("code", ["server_error", "rate_limit_exceeded", "slow_down"])
    def test_a_temporary_error_is_retried(self, code):
        call = self.starting()
        call.hear(errors(code))
        assert types(call.wait(1)) == ["session.update"]
        call.receive(ModelConfigured())
        assert call.ever(ReportError) == []

    def test_a_temporary_error_about_the_configuration_is_retried(self):
        call = self.starting()
        event_id = call.took(Sent)[0].event["event_id"]
        call.hear(errors("server_error", event_id=event_id))
        assert types(call.wait(1)) == ["session.update"]
        call.receive(ModelConfigured())
        assert call.ever(ReportError) == []

    def test_the_second_retry_waits_a_second_longer(self):
        call = self.starting()
        call.hear(errors("server_error"))
        call.wait(1)
        call.hear(errors("server_error"))
        assert call.wait(1.9) == []
        assert types(call.wait(0.1)) == ["session.update"]

    def test_a_configuration_that_is_accepted_meanwhile_is_not_sent_again(self):
        call = self.starting()
        call.hear(errors("server_error"))
        call.receive(ModelConfigured())
        assert types(call.wait(5)) == []

    def test_a_greeting_is_not_spoken_without_the_configuration(self):
        call = self.starting(greeting="Hello!")
        event_id = call.took(Sent)[0].event["event_id"]
        call.respond()
        call.say(100)
        call.hear(errors("server_error", message="Sorry.", event_id=event_id))
        assert call.took(ClearAudio)
        [another] = call.took(ConnectModel)
        assert another.after_s == 1.0
        call.wait(1)
        call.receive(ModelReady())
        assert call.told() == ["session.update", "response.create"]
        call.receive(ModelConfigured())
        assert call.ever(ReportError) == []

    def test_another_session_is_tried_twice_within_the_time_of_the_first(self):
        call = self.starting(greeting="Hello!")
        for _ in range(3):
            event = errors("slow_down", message="Sorry.", event_id="sh_configuration")
            call.hear(event)
            call.wait(2)
            call.receive(ModelReady())
        assert [another.after_s for another in call.ever(ConnectModel)] == [1.0, 2.0]
        assert call.ever(ReportError) == [ReportError("model_rejected_configuration", "Sorry.")]

    def test_retries_while_starting_have_a_limit(self):
        call = self.starting()
        for _ in range(2):
            call.hear(errors("server_error", message="Sorry."))
            assert call.ever(ReportError) == []
            call.wait(2)
        call.hear(errors("server_error", message="Sorry."))
        assert call.ever(ReportError) == [ReportError("model_rejected_configuration", "Sorry.")]

    @pytest.mark.parametrize(
        "error", ["The moon is full.", {"code": "odd", "message": "The moon is full."}]
    )
    def test_an_error_that_names_nothing_may_be_about_anything(self, error):
        call = self.starting()
        call.hear({"type": "error", "error": error})
        assert types(call.wait(1)) == ["session.update"]
        call.receive(ModelConfigured())
        call.respond()
        assert call.ever(ReportError) == []

    def test_an_error_after_each_configuration_ends_the_call(self):
        call = self.starting()
        for _ in range(3):
            call.hear({"type": "error", "error": "The moon is full."})
            call.wait(2)
        assert call.ever(ReportError) == [
            ReportError("model_rejected_configuration", "The moon is full.")
        ]

    def test_the_last_error_of_a_model_that_is_not_ready_in_time_is_quoted(self):
        call = self.starting(greeting="Hello!")
        call.hear(errors("odd", message="The moon is full.", param="audio"))
        call.wait(10)
        assert call.ever(ReportError) == [
            ReportError(
                "model_unreachable",
                "The model was not ready in time. Its last error: The moon is full.",
            )
        ]


class TestRefusedResponses:
    """A refused request is retried unchanged."""

    def asking(self):
        call = Conversation()
        call.call_tool()
        call.receive(ToolReturned("c1", "ok"))
        return call

    @pytest.mark.parametrize("code", ["server_error", "rate_limit_exceeded", "invalid_value"])
    def test_an_error_that_names_the_request_refuses_it(self, code):
        call = self.asking()
        (asked,) = call.asked()
        call.hear(errors(code, event_id=asked["event_id"]))
        assert types(call.wait(1)) == ["response.create"]

    @pytest.mark.parametrize("code", ["server_error", "rate_limit_exceeded"])
    def test_a_temporary_error_that_names_nothing_refuses_the_request(self, code):
        call = self.asking()
        call.hear(errors(code))
        assert types(call.wait(1)) == ["response.create"]

    def test_an_error_about_something_else_does_not_refuse_the_request(self):
        call = self.asking()
        call.hear(errors("server_error", event_id="another"))
        assert types(call.wait(1)) == []

    def test_retries_wait_one_second_and_then_two(self):
        call = self.asking()
        for seconds in (1, 2):
            call.hear(errors("server_error"))
            assert types(call.wait(seconds - 0.1)) == []
            assert types(call.wait(0.1)) == ["response.create"]

    def test_the_third_refusal_in_a_row_ends_the_call(self):
        call = self.asking()
        for _ in range(2):
            call.hear(errors("rate_limit_exceeded", message="Sorry."))
            call.wait(2)
        assert call.ever(ReportError) == []
        call.hear(errors("rate_limit_exceeded", message="Sorry."))
        assert call.ever(ReportError) == [ReportError("model_rate_limit_exceeded", "Sorry.")]

    def test_a_refusal_while_the_caller_speaks_counts_once(self):
        call = self.asking()
        call.listen()
        call.hear(errors("server_error"))
        call.wait(30)
        assert call.notes("response_failed") == [("response_failed", {"code": "server_error"})]

    def test_a_request_without_a_reaction_is_retried(self):
        call = self.asking()
        assert types(call.wait(11)) == ["response.create"]
        assert call.notes("response_failed") == [("response_failed", {"code": "no_response"})]

    def test_a_failed_greeting_is_retried_with_its_instructions(self):
        call = Conversation(greeting="Hello!")
        call.respond()
        call.done(status="failed", error_code="server_error")
        call.wait(1)
        first, second = call.asked()
        assert second["response"] == first["response"]

    def test_a_refused_greeting_is_retried_with_its_instructions(self):
        call = Conversation(greeting="Hello!")
        call.hear(errors("rate_limit_exceeded"))
        call.wait(1)
        first, second = call.asked()
        assert second["response"] == first["response"]
        assert second["event_id"] != first["event_id"]

    def test_a_late_response_is_not_requested_twice(self):
        call = Conversation(greeting="Hello!")
        call.wait(10.5)
        call.respond()
        call.say(400, text="Hello!", ended=True)
        call.done(spoke=True)
        assert len(call.asked()) == 1

    def test_a_late_response_to_a_retried_request_is_not_requested_twice(self):
        call = Conversation(greeting="Hello!")
        call.wait(11.5)
        assert len(call.asked()) == 2
        call.respond()
        call.hear(errors("conversation_already_has_active_response"))
        call.say(400, text="Hello!", ended=True)
        call.done(spoke=True)
        assert len(call.asked()) == 2

    @pytest.mark.parametrize(
        "items", [[speech("Hello.")], [text("Hello.")], [call_item()], []], ids=repr
    )
    def test_failures_are_counted_in_a_row(self, items):
        call = Conversation()
        for _ in range(2):
            call.answer(status="failed")
            call.wait(2)
        call.answer(*items)
        for _ in range(2):
            call.answer(status="failed")
            call.wait(2)
        assert call.ever(ReportError) == []
        call.answer(status="failed", status_details={"error": {"code": "x", "message": "Sorry."}})
        assert call.ever(ReportError) == [ReportError("model_x", "Sorry.")]

    def test_a_request_that_meets_an_unknown_response_waits_for_its_end(self):
        call = self.asking()
        call.hear(errors("conversation_already_has_active_response"))
        assert types(call.wait(5)) == []
        call.receive(ResponseDone("unheard of", "completed"))
        assert call.told() == ["response.create"]
        assert call.notes("model_error", "response_failed") == []

    def test_the_wait_for_the_end_of_an_unknown_response_has_a_limit(self):
        call = self.asking()
        call.hear(errors("conversation_already_has_active_response"))
        assert types(call.wait(31)) == ["response.create"]

    @pytest.mark.parametrize(
        "code", ["response_cancel_not_active", "input_audio_buffer_commit_empty"]
    )
    def test_an_error_about_a_crossed_message_is_ignored(self, code):
        call = self.asking()
        assert call.hear(errors(code)) == []

    def test_an_error_that_names_nothing_may_be_about_something_else(self):
        call = greeted()
        call.hear(errors("server_error"))
        call.respond()
        call.done(spoke=True)
        call.wait(5)
        assert len(call.asked()) == 1

    def test_a_repeated_collision_leads_to_one_request(self):
        call = greeted()
        for _ in range(3):
            call.hear(errors("conversation_already_has_active_response"))
        for _ in range(4):
            call.answer(speech("Hello."))
        assert len(call.asked()) == 2

    def test_a_collision_after_the_response_began_leads_to_no_request(self):
        call = greeted()
        call.answer(speech("Hello!"))
        call.hear(errors("conversation_already_has_active_response"))
        call.answer(speech("Yes?"))
        assert len(call.asked()) == 1

    @pytest.mark.parametrize("is_over", [True, False])
    def test_the_failure_of_another_response_does_not_retry_the_greeting(self, is_over):
        call = greeted()
        call.respond("r1")
        if is_over:
            call.receive(ResponseDone("r1", "completed", spoke=True))
        call.receive(ResponseDone("unheard of", "failed"))
        call.receive(ResponseDone("r1", "completed", spoke=True))
        call.wait(3)
        assert ["response" in event for event in call.asked()] == [True, False]

    def test_the_end_of_a_lost_response_does_not_end_the_next(self):
        call = Conversation()
        call.call_tool()
        call.respond("r2")
        call.receive(ToolReturned("c1", "ok"))
        call.wait(31)
        (asked,) = call.asked()
        call.receive(ResponseDone("r2", "completed", spoke=True))
        call.hear(errors("invalid_value", event_id=asked["event_id"]))
        assert types(call.wait(2)) == ["response.create"]


class TestWaits:
    """Each wait for an event from a peer has its own deadline."""

    def test_marks_that_never_come_back_do_not_hang_the_call(self):
        call = Conversation(inactivity_timeout_ms=5_000)
        call.respond()
        call.receive(AgentAudioStarted("a1"))
        call.say(2_000, ended=True)
        call.done(spoke=True)
        call.wait(2 + 5 + 4.9)
        assert call.ever(Finish) == []
        assert call.notes("marks_lost") == [("marks_lost", {})]
        assert CloseCaller(None) in call.wait(0.1)

    def test_the_wait_for_marks_includes_the_length_of_the_audio(self):
        call = Conversation(inactivity_timeout_ms=5_000)
        call.respond()
        call.receive(AgentAudioStarted("a1"))
        call.say(60_000, ended=True)
        call.done(spoke=True)
        call.wait(64)
        assert call.notes("marks_lost") == []

    def test_the_wait_for_marks_continues_while_more_audio_follows(self):
        call = Conversation()
        call.respond()
        call.say(1_000)
        call.receive(AgentAudioStarted("a1"))
        call.wait(3)
        call.say(10_000)  # audio bypasses the session
        call.wait(9)
        assert call.notes("marks_lost") == []
        assert call.session.playback.is_outstanding

    def test_marks_of_interrupted_audio_do_not_count_as_lost(self):
        call = Conversation()
        call.respond()
        call.say(2_000)
        call.receive(AgentAudioStarted("a1"))
        call.listen()
        call.wait(20)
        assert call.notes("marks_lost") == []

    def test_a_mark_that_arrives_too_late_changes_nothing(self):
        call = Conversation()
        call.respond()
        call.say(2_000, ended=True)
        call.done(spoke=True)
        call.wait(8)
        call.listen()
        call.receive(MarkPlayed("2"))
        assert call.notes("interrupted") == []

    def test_audio_whose_end_is_not_reported_ends_with_its_response(self):
        call = Conversation()
        call.respond()
        call.say(400)
        call.done(spoke=True)
        assert call.took(SendMark) == [SendMark("1")]
        call.receive(MarkPlayed("1"))
        assert not call.session.playback.is_outstanding

    def test_audio_after_its_own_end_is_marked(self):
        call = Conversation(inactivity_timeout_ms=5_000)
        call.respond()
        call.say(400)
        call.receive(AgentAudioEnded("a1"))
        call.say(400)
        call.done(spoke=True)
        assert call.took(SendMark) == [SendMark("2")]

    def test_audio_after_its_response_is_marked(self):
        call = Conversation(inactivity_timeout_ms=5_000)
        call.respond()
        call.say(400, ended=True)
        call.done(spoke=True)
        call.receive(MarkPlayed("1"))
        call.say(400)
        call.receive(AgentAudioStarted("a1"))
        assert CloseCaller(None) in call.wait(11)

    def test_a_later_event_shows_the_end_of_speech_that_was_not_reported(self):
        for follows in (
            {"type": "input_audio_buffer.committed", "item_id": "u1"},
            {
                "type": "conversation.item.added",
                "item": {"id": "u1", "type": "message", "role": "user"},
            },
            {
                "type": "conversation.item.input_audio_transcription.completed",
                "item_id": "u1",
                "transcript": "Hello?",
            },
        ):
            call = Conversation()
            call.call_tool()
            call.listen("u1")
            call.receive(ToolReturned("c1", "ok"))
            call.hear(follows)
            assert types(call.wait(2)) == ["response.create"]

    def test_events_about_other_items_do_not_end_the_speech(self):
        call = Conversation()
        call.listen("u2")
        call.hear({"type": "input_audio_buffer.committed", "item_id": "u1"})
        assert call.notes("caller_spoke") == []

    def test_speech_that_has_ended_does_not_end_again(self):
        call = Conversation(inactivity_timeout_ms=600_000)
        call.listen("u1")
        call.heard("Hello?", "u1")
        call.wait(70)
        assert call.notes("speech_end_lost") == []

    def test_the_wait_for_a_response_begins_once(self):
        call = Conversation()
        call.listen("u1")
        call.heard("Hello?", "u1")
        call.wait(0.6)
        call.hear({"type": "input_audio_buffer.committed", "item_id": "u1"})
        call.receive(AgentAudioStarted("a1"))
        assert call.notes("agent_spoke") == [("agent_spoke", {"latencyMs": 600})]

    def test_the_wait_for_the_end_of_speech_has_a_limit(self):
        call = Conversation()
        call.call_tool()
        call.listen("u1")
        call.receive(ToolReturned("c1", "ok"))
        assert types(call.wait(62)) == ["response.create"]
        assert call.notes("speech_end_lost")

    def test_a_caller_who_speaks_for_a_minute_does_not_count_as_silent_at_once(self):
        call = Conversation(inactivity_timeout_ms=1_000)
        call.listen("u1")
        call.wait(119)
        assert call.ever(Finish) == []
        assert CloseCaller(None) in call.wait(1)

    def test_a_response_whose_end_is_not_reported_is_lost(self):
        call = Conversation()
        call.call_tool()
        call.respond()
        call.receive(ToolReturned("c1", "ok"))
        assert types(call.wait(31)) == ["response.create"]
        assert call.notes("response_lost")

    def test_a_lost_response_without_audio_is_requested_again(self):
        call = greeted()
        call.respond()
        call.wait(31)
        first, second = call.asked()
        assert second["response"] == first["response"]

    def test_a_lost_response_with_audio_is_not_requested_again(self):
        call = greeted()
        call.respond()
        call.say(400)
        call.receive(MarkPlayed("1"))
        call.wait(58)
        assert call.notes("response_lost") == []
        call.wait(3)
        assert call.notes("response_lost")
        assert len(call.asked()) == 1

    def spoken_to(self):
        call = Conversation()
        call.listen()
        call.heard("Are you there?")
        return call

    def test_a_response_that_does_not_begin_is_requested(self):
        call = self.spoken_to()
        assert types(call.wait(4.9)) == []
        assert types(call.wait(0.2)) == ["response.create"]
        assert call.notes("response_lost")

    def test_a_response_that_an_error_refused_is_requested(self):
        call = self.spoken_to()
        call.hear(errors("rate_limit_exceeded"))
        assert types(call.wait(5)) == ["response.create"]

    @pytest.mark.parametrize("is_over", [True, False])
    def test_a_response_that_begins_is_not_requested(self, is_over):
        call = self.spoken_to()
        call.respond("r1")
        if is_over:
            call.done(spoke=True)
        assert types(call.wait(20)) == []

    def test_the_wait_for_a_response_ends_when_it_begins(self):
        call = self.spoken_to()
        call.respond("r1")
        assert call.session.deadline == call.now + 30  # for it to go on

    def test_a_response_whose_beginning_is_not_reported_is_not_requested(self):
        call = self.spoken_to()
        call.done(spoke=True)
        assert types(call.wait(20)) == []

    def test_the_wait_for_a_response_ends_when_the_caller_speaks_again(self):
        call = self.spoken_to()
        call.listen("u2")
        assert types(call.wait(20)) == []
        assert call.notes("response_lost") == []

    def test_a_response_that_does_not_continue_is_requested_a_second_later(self):
        call = Conversation(greeting="Hello!")
        call.respond()
        assert types(call.wait(30)) == []
        assert types(call.wait(1)) == ["response.create"]
        assert call.notes("response_failed") == [("response_failed", {"code": "no_response"})]

    def test_a_response_that_crosses_our_request_is_the_only_one(self):
        call = self.spoken_to()
        call.wait(5)
        call.hear(errors("conversation_already_has_active_response"))
        call.answer(speech("Yes."))
        assert len(call.asked()) == 1

    def test_an_owed_response_is_retried_when_it_fails(self):
        call = self.spoken_to()
        call.wait(5)
        call.answer(status="failed")
        assert types(call.wait(1)) == ["response.create"]

    def test_the_wait_for_a_response_continues_while_it_has_audio(self):
        call = Conversation()
        call.respond()
        call.receive(DigitPressed("#"))
        for _ in range(4):
            call.say(30_000)
            call.wait(29)
        assert call.notes("response_lost") == []
        assert call.asked() == []

    def test_the_end_of_audio_is_not_marked_while_the_response_continues(self):
        call = Conversation()
        call.respond()
        call.say(20_500)
        call.wait(30)
        assert call.ever(SendMark) == []

    def test_the_wait_for_a_response_ends_when_its_audio_stops(self):
        call = Conversation()
        call.respond()
        call.receive(DigitPressed("#"))
        call.say(20_000)
        call.wait(59)
        assert call.asked() == []
        assert types(call.wait(1)) == ["response.create"]
        assert call.notes("response_lost") == [("response_lost", {})]

    def test_the_late_end_of_a_lost_answer_ends_no_wait_for_the_next_one(self):
        call = Conversation(greeting="Hello!", inactivity_timeout_ms=600_000)
        call.respond("r1")
        call.wait(31)
        assert len(call.asked()) == 2
        call.receive(ResponseDone("r1", "completed"))
        assert types(call.wait(12)) == ["response.create"]

    def test_nor_does_the_end_of_an_interrupted_answer(self):
        call = Conversation()
        call.respond("r1")
        call.say(400)
        call.listen()
        call.heard("Wait.")
        call.receive(ResponseDone("r1", "cancelled", reason="turn_detected"))
        assert types(call.wait(5)) == ["response.create"]
        assert call.notes("response_lost")

    def test_a_response_that_has_ended_is_not_lost(self):
        call = Conversation(inactivity_timeout_ms=600_000)
        call.answer(speech("Hello."))
        call.wait(40)
        assert call.notes("response_lost") == []

    def test_the_end_of_another_response_does_not_end_the_wait(self):
        call = Conversation(inactivity_timeout_ms=600_000)
        call.respond("r1")
        call.receive(ResponseDone("r2", "completed"))
        call.wait(30)
        assert call.notes("response_lost") == [("response_lost", {})]

    def test_the_models_own_response_replaces_the_request(self):
        call = Conversation()
        call.listen("u1")
        call.receive(DigitPressed("#"))
        call.receive(ItemAdded("sh_1", None, "user"))
        call.heard("Hello?", "u1")
        assert call.session.deadline == call.now + 2
        call.respond()
        assert call.session.deadline > call.now + 2

    def test_a_response_whose_beginning_is_not_reported_ends_the_request(self):
        call = Conversation()
        call.call_tool()
        call.receive(ToolReturned("c1", "ok"))
        call.done(spoke=True)
        call.receive(DigitPressed("1"))
        call.receive(DigitPressed("#"))
        assert call.told() == ["conversation.item.create", "response.create"]

    def test_a_response_whose_beginning_is_not_reported_has_not_failed(self):
        call = Conversation(greeting="Hello!")
        call.done(spoke=True)
        call.wait(11)
        assert call.notes("response_failed") == []

    def test_a_response_whose_beginning_is_not_reported_may_be_text(self):
        call = Conversation()
        call.done(written="Hello there.")
        assert call.told() == ["response.create"]


class TestWhatComesTwice:
    def test_a_tool_call(self):
        call = Conversation()
        call.answer(call_item("c1"))
        call.answer(call_item("c1"))
        assert call.ever(RunTool) == [RunTool("c1", "look_up", {})]
        call.receive(ToolReturned("c1", "ok"))
        call.answer(call_item("c1"))
        assert len(call.ever(RunTool)) == 1
        assert call.outputs() == ["ok"]

    def test_a_tool_call_within_one_response(self):
        call = Conversation()
        call.answer(call_item("c1"), call_item("c1"))
        assert len(call.ever(RunTool)) == 1
        assert call.notes("repeated")

    def test_what_the_caller_said(self):
        call = Conversation()
        for seconds in (1.5, 1.5):
            call.receive(CallerTranscribed("u1", "Hello?", seconds))
        assert call.session.usage == TokenUsage(transcribed_seconds=1.5)
        assert [line.text for line in call.session.lines()] == ["Hello?"]
        assert call.notes("repeated") == [("repeated", {"what": "a transcript"})]

    def test_words_whose_length_is_not_told(self):
        call = Conversation()
        call.receive(CallerTranscribed("u1", "Hello?"))
        call.receive(CallerTranscribed("u1", "Hello there?"))
        assert [line.text for line in call.session.lines()] == ["Hello?"]

    def test_speech_without_a_word_in_it(self):
        call = Conversation()
        for _ in range(2):
            call.receive(CallerTranscribed("u1", "", 1.5))
        assert call.session.usage == TokenUsage(transcribed_seconds=1.5)

    def test_the_end_of_a_response(self):
        call = Conversation()
        call.respond()
        done = ResponseDone("r1", "completed", usage=TokenUsage(audio_out=5))
        call.receive(done)
        call.receive(done)
        assert call.session.usage == TokenUsage(audio_out=5)
        assert call.notes("response_done") == [("response_done", {"status": "completed"})]
        assert call.notes("repeated") == [("repeated", {"what": "the end of a response"})]

    def test_the_end_of_a_response_after_the_call(self):
        call = Conversation()
        call.listen()
        call.respond("r1")
        call.receive(CallerHungUp())
        done = ResponseDone("r1", "cancelled", usage=TokenUsage(audio_out=5))
        call.receive(done)
        call.receive(done)
        call.wait(5)
        assert call.ever(Finish)[0].usage == TokenUsage(audio_out=5)

    def test_the_end_of_another_response_does_not_end_the_active_one(self):
        call = Conversation()
        call.respond("r1")
        call.receive(ResponseDone("r1", "completed"))
        call.respond("r2")
        call.receive(DigitPressed("1"))
        call.receive(DigitPressed("#"))
        call.receive(ResponseDone("r1", "completed"))
        assert call.told() == []
        call.receive(ResponseDone("r2", "completed"))
        assert call.told() == ["response.create"]

    def test_the_beginning_of_a_response_that_has_ended(self):
        call = Conversation()
        call.respond("r1")
        call.receive(ResponseDone("r1", "completed"))
        call.receive(ResponseStarted("r1"))
        assert call.notes("repeated") == [("repeated", {"what": "the start of a response"})]
        call.receive(DigitPressed("1"))
        call.receive(DigitPressed("#"))
        assert call.told() == ["conversation.item.create", "response.create"]


class TestLeaving:
    TO = '{"to": "+15551234567"}'

    def leaving(self, name="end_call", arguments="{}"):
        call = Conversation()
        call.respond()
        call.say(400, text="One moment.", ended=True)
        call.done(FunctionCall("c1", name, arguments), spoke=True)
        return call

    def test_a_caller_who_speaks_before_the_goodbye_continues_the_call(self):
        call = Conversation()
        call.call_tool("end_call")
        call.respond()
        call.listen()
        call.done(status="cancelled")
        call.heard("One more thing.")
        call.answer(speech("Yes?"))
        assert [action for action in call.wait(20) if isinstance(action, CloseCaller)] == []

    def test_the_model_is_told_that_the_caller_was_not_transferred(self):
        call = self.leaving("transfer_call", self.TO)
        call.listen()
        (item,) = [each.event["item"] for each in call.took(Sent) if "item" in each.event]
        assert item["role"] == "system"
        assert "call the tool again" in item["content"][0]["text"]
        call.heard("All right.")
        call.call_tool("transfer_call", self.TO, id="c2")
        call.answer(speech("One moment."))
        assert call.ever(CloseCaller) == [CloseCaller(Dial("+15551234567"))]

    def test_repeated_calls_of_end_call_lead_to_one_goodbye(self):
        call = Conversation()
        for number in range(3):
            call.call_tool("end_call", id=f"c{number}")
        assert len(call.asked()) == 1
        assert call.ever(CloseCaller) == [CloseCaller(None)]

    @pytest.mark.parametrize("order", [1, -1])
    def test_a_transfer_takes_precedence_over_a_hang_up(self, order):
        calls = [FunctionCall("c1", "transfer_call", self.TO), FunctionCall("c2", "end_call", "{}")]
        call = Conversation()
        call.respond()
        call.done(*calls[::order], spoke=True)
        assert call.took(CloseCaller) == [CloseCaller(Dial("+15551234567"))]
        assert call.took(Finish)[0].reason == "transferred"
        assert len(call.outputs()) == 2

    @pytest.mark.parametrize("code", [1000, 1001, 1006, 1011, 4000])
    @pytest.mark.parametrize(
        ("name", "arguments", "after"),
        [("end_call", "{}", None), ("transfer_call", TO, Dial("+15551234567"))],
    )
    def test_the_call_ends_as_planned_when_the_model_disconnects(
        self, name, arguments, after, code
    ):
        call = self.leaving(name, arguments)
        call.receive(ModelClosed(code))
        assert call.ever(CloseCaller) == []
        call.wait(0.4)
        call.receive(MarkPlayed("1"))
        assert call.took(CloseCaller) == [CloseCaller(after)]
        assert call.took(Finish)
        assert call.ever(ReportError) == []

    def test_a_goodbye_that_was_not_said_to_its_end_is_reported(self):
        call = Conversation()
        call.call_tool("end_call")
        call.respond()
        call.say(400, text="Good")
        call.receive(ModelClosed(1006))
        assert [error.code for error in call.ever(ReportError)] == ["model_disconnected"]
        assert call.ever(CloseCaller) == []
        call.wait(GOODBYE_S)
        assert call.ever(CloseCaller) == [CloseCaller(None)]

    def test_a_call_whose_model_says_no_goodbye_ends_at_once(self):
        call = Conversation()
        call.call_tool("end_call")
        call.receive(ModelClosed(1006))
        assert call.took(CloseCaller) == [CloseCaller(None)]
        assert call.took(ReportError)[0].code == "model_disconnected"

    def test_the_call_ends_as_planned_when_the_goodbye_fails(self):
        call = Conversation()
        call.call_tool("transfer_call", self.TO)
        for _ in range(3):
            call.answer(status="failed")
            call.wait(2)
        assert call.ever(CloseCaller) == [CloseCaller(Dial("+15551234567"))]

    def test_the_end_waits_for_a_running_tool_after_a_transfer(self):
        call = Conversation()
        call.call_tool()
        call.respond()
        call.done(FunctionCall("c2", "transfer_call", self.TO), spoke=True)
        assert call.took(CloseCaller) == [CloseCaller(Dial("+15551234567"))]
        assert call.took(Finish) == []
        call.receive(ToolReturned("c1", "ok"))
        assert [run.status for run in call.took(Finish)[0].tool_runs] == ["succeeded"]


class TestNothingIsLost:
    """Keys, speech and tool calls are processed or stored, or their loss is noted."""

    def words(self, call):
        return [line.text for line in call.session.lines()]

    @pytest.mark.parametrize("is_ready", [True, False])
    def test_keys_pressed_just_before_the_end_are_in_the_transcript(self, is_ready):
        call = Conversation(ready=is_ready)
        for digit in "4#7":
            call.receive(DigitPressed(digit))
        call.receive(CallerHungUp())
        assert [line.text for line in call.took(Finish)[0].transcript] == [
            "[The caller pressed on the keypad: 4#]",
            "[The caller pressed on the keypad: 7]",
        ]

    def test_keys_pressed_before_the_model_is_ready_have_a_limit(self):
        call = Conversation(ready=False)
        for _ in range(200):
            call.receive(DigitPressed("#"))
        assert len(self.words(call)) == 200

    @pytest.mark.parametrize("status", ["cancelled", "failed"])
    def test_dropped_calls_of_a_failed_or_cancelled_response_are_noted(self, status):
        call = Conversation()
        call.answer(call_item(), status=status)
        assert call.notes("tools_dropped") == [("tools_dropped", {"count": 1})]
        assert call.ever(RunTool) == []

    def test_dropped_calls_after_the_end_are_noted(self):
        call = Conversation()
        call.respond()
        call.receive(CallerHungUp())
        call.done(FunctionCall("c1", "book", "{}"))
        assert call.notes("tools_dropped") == [("tools_dropped", {"count": 1})]
        assert call.ever(RunTool) == []

    @pytest.mark.parametrize("status", ["in_progress", "incomplete", "done"])
    def test_an_incomplete_call_in_a_completed_response_is_noted(self, status):
        call = Conversation()
        call.answer(call_item(status=status))
        assert call.told() == ["response.create"]
        assert call.notes("not_understood")

    def test_a_transcript_after_a_failed_transcription_is_stored(self):
        call = Conversation()
        call.listen()
        kind = "conversation.item.input_audio_transcription"
        call.hear({"type": f"{kind}.failed", "item_id": "u1"})
        call.hear({"type": f"{kind}.completed", "item_id": "u1", "transcript": "Hello?"})
        assert self.words(call) == ["Hello?"]

    @pytest.mark.parametrize("is_over", [True, False])
    def test_speech_that_only_the_end_of_a_response_has_is_stored(self, is_over):
        call = Conversation()
        call.respond("r1")
        call.say(400)
        if is_over:
            call.receive(CallerHungUp())
        response = {"id": "r1", "status": "completed", "output": [{**speech("Yes."), "id": "a1"}]}
        call.hear({"type": "response.done", "response": response})
        assert self.words(call) == ["Yes."]
        assert bool(call.ever(Finish)) == is_over

    def test_the_end_of_a_response_does_not_replace_a_transcript(self):
        call = Conversation()
        call.respond("r1")
        call.say(400, text="Yes, please.")
        response = {"id": "r1", "status": "completed", "output": [{**speech("Yes"), "id": "a1"}]}
        call.hear({"type": "response.done", "response": response})
        assert self.words(call) == ["Yes, please."]


class TestNothingAtAll:
    """A requested response that is empty, or whose calls cannot run, is requested once more."""

    def test_an_empty_greeting_is_requested_again(self):
        call = greeted()
        call.answer()
        first, second = call.asked()
        assert second["response"] == first["response"]
        assert call.notes("not_spoken") == [("not_spoken", {"why": "nothing"})]

    @pytest.mark.parametrize("item", [message(), text(""), call_item(call_id=None)])
    def test_an_empty_response_to_a_tool_result_is_requested_again(self, item):
        call = Conversation()
        call.call_tool()
        call.receive(ToolReturned("c1", "ok"))
        for _ in range(3):
            call.answer(item)
        assert len(call.asked()) == 2

    def test_a_call_whose_id_was_used_before(self):
        call = Conversation()
        call.call_tool()
        call.receive(ToolReturned("c1", "ok"))
        call.answer(speech("It is done."))
        call.answer(call_item(name="book"))
        assert len(call.asked()) == 2
        call.answer(call_item(name="book"))
        assert len(call.asked()) == 2
        assert len(call.ever(RunTool)) == 1

    def test_a_call_whose_id_is_that_of_one_that_runs(self):
        call = Conversation()
        call.call_tool()
        call.answer(call_item(name="book"))
        assert call.asked() == []
        call.receive(ToolReturned("c1", "ok"))
        assert len(call.asked()) == 1

    def test_an_empty_response_to_speech_is_not_requested_again(self):
        call = Conversation()
        call.answer()
        assert call.asked() == []

    def test_an_empty_goodbye_is_requested_again(self):
        call = Conversation()
        call.answer(message(), call_item(name="end_call"))
        assert len(call.asked()) == 1
        assert call.ever(Finish) == []


class TestTextInsteadOfAudio:
    def test_text_is_requested_aloud(self):
        call = Conversation()
        call.answer(text("Hello there."))
        assert call.told() == ["response.create"]
        assert call.asked()[-1]["response"] == {"output_modalities": ["audio"]}

    def test_the_second_time_text_is_spoken_word_for_word(self):
        call = Conversation()
        call.answer(text("Hello there."))
        call.answer(text('Hello "there".'))
        assert call.asked()[-1]["response"] == {
            "instructions": "Speak to the caller, saying exactly this, and nothing else: "
            '"Hello \\"there\\"."',
            "tool_choice": "none",
        }

    def test_text_is_not_requested_aloud_a_third_time(self):
        call = Conversation()
        for _ in range(3):
            call.answer(text("Hello there."))
        assert call.told() == []
        assert call.notes("not_spoken") == [("not_spoken", {"why": "text"})] * 3

    def test_a_goodbye_is_not_requested_aloud_a_third_time(self):
        call = Conversation()
        for _ in range(4):
            call.answer(text("Goodbye!"), call_item(name="end_call"))
        assert len(call.asked()) == 2
        assert call.ever(CloseCaller) == [CloseCaller(None)]

    def test_the_count_of_texts_starts_again_after_speech(self):
        call = Conversation()
        for _ in range(3):
            call.answer(text("Hello there."))
            call.answer(speech("Hello there."))
        assert [event["response"] for event in call.asked()] == [
            {"output_modalities": ["audio"]}
        ] * 3

    def test_earlier_audio_does_not_count_for_a_later_response(self):
        call = Conversation()
        call.respond()
        call.say(400, ended=True)
        call.done(spoke=True)
        call.answer(text("Hello there."))
        assert call.told() == ["response.create"]

    def test_text_with_end_call_is_spoken_before_the_end(self):
        call = Conversation()
        call.answer(text("Goodbye!"), call_item(name="end_call"))
        assert call.ever(CloseCaller) == []
        assert '"Goodbye!"' in call.asked()[-1]["response"]["instructions"]
        call.respond()
        call.say(400, text="Goodbye!", ended=True)
        call.done(spoke=True)
        call.receive(MarkPlayed("1"))
        assert call.took(CloseCaller) == [CloseCaller(None)]
        assert [line.text for line in call.ever(Finish)[0].transcript] == ["Goodbye!"]

    def test_a_message_without_readable_content_counts_as_spoken(self):
        call = Conversation()
        call.answer({"type": "message", "role": "assistant"})
        assert call.notes("not_spoken") == []

    def test_text_beside_audio_is_not_spoken_again(self):
        call = Conversation()
        call.answer(message({"type": "output_audio"}, {"type": "output_text", "text": "Hello."}))
        assert call.told() == []

    def test_text_beside_a_tool_call_is_not_spoken_since_a_response_follows(self):
        call = Conversation()
        call.answer(text("Let me look."), call_item())
        assert call.told() == []
        call.receive(ToolReturned("c1", "ok"))
        assert "response" not in call.asked()[-1]

    def test_text_beside_an_unknown_tool_is_not_spoken_since_a_response_follows(self):
        call = Conversation()
        call.answer(text("Let me look."), call_item(name="fly"))
        assert call.told() == ["conversation.item.create", "response.create"]
        call.answer(speech("I cannot."))
        assert call.told() == []
        assert call.notes("not_spoken") == []

    def test_text_while_a_tool_runs_is_requested_aloud(self):
        call = Conversation()
        call.answer(call_item())
        call.answer(text("It takes a moment."))
        assert call.asked()[-1]["response"] == {"output_modalities": ["audio"]}

    def test_text_whose_audio_was_heard_is_not_spoken_again(self):
        call = Conversation()
        call.respond("r1")
        call.say(400)
        response = {"id": "r1", "status": "completed", "output": [text("Hello.")]}
        call.hear({"type": "response.done", "response": response})
        assert call.told() == []


class TestIncompleteResponses:
    FILTERED = {"type": "incomplete", "reason": "content_filter"}

    def test_a_filtered_response_is_not_silence(self):
        call = Conversation()
        call.answer(status="incomplete", status_details=self.FILTERED)
        assert "cannot say that" in call.asked()[-1]["response"]["instructions"]
        assert call.notes("not_spoken") == [("not_spoken", {"why": "content_filter"})]

    def test_the_call_continues_when_all_responses_are_filtered(self):
        call = Conversation()
        for _ in range(10):
            call.answer(status="incomplete", status_details=self.FILTERED)
        assert len(call.asked()) == 2
        assert call.ever(CloseCaller) == []

    def test_an_incomplete_response_with_audio_is_not_requested_again(self):
        call = Conversation()
        call.answer(speech("Well,"), status="incomplete", status_details=self.FILTERED)
        assert call.told() == []

    def test_an_incomplete_response_without_audio_is_requested_again(self):
        call = Conversation()
        call.answer(status="incomplete", status_details={"reason": "max_output_tokens"})
        assert call.notes("not_understood") == []
        assert types(call.wait(1)) == ["response.create"]

    def test_retries_of_incomplete_responses_have_a_limit(self):
        call = Conversation()
        for _ in range(2):
            call.answer(status="incomplete", status_details={"reason": "max_output_tokens"})
            call.wait(2)
        assert call.ever(ReportError) == []
        call.answer(status="incomplete", status_details={"reason": "max_output_tokens"})
        assert call.ever(ReportError)[0].code == "model_incomplete"
        assert call.ever(CloseCaller) == [CloseCaller(Say(APOLOGY))]


class TestToolsBesideEachOther:
    def test_a_built_in_tool_shares_the_response_of_the_other(self):
        call = Conversation()
        call.answer(call_item("c1"), call_item("c2", "send_dtmf", '{"digits": "1"}'))
        assert call.told() == ["conversation.item.create"]
        call.receive(ToolReturned("c1", "ok"))
        assert call.told() == ["conversation.item.create", "response.create"]
        assert len(call.asked()) == 1

    def test_an_unknown_tool_shares_the_response_of_the_other(self):
        call = Conversation()
        call.answer(call_item("c1", "fly"), call_item("c2"))
        assert call.told() == ["conversation.item.create"]
        call.receive(ToolReturned("c2", "ok"))
        assert len(call.asked()) == 1

    def test_a_tool_beside_the_goodbye_runs_without_another_response(self):
        call = Conversation()
        call.answer(speech("Bye."), call_item("c1", "book"), call_item("c2", "end_call"))
        assert call.took(RunTool) == [RunTool("c1", "book", {})]
        assert call.took(CloseCaller) == [CloseCaller(None)]
        assert call.ever(Finish) == []
        call.receive(ToolReturned("c1", "booked"))
        assert [run.status for run in call.took(Finish)[0].tool_runs] == ["succeeded"]


class TestInCircles:
    def test_a_model_that_calls_invalid_tools_in_a_loop_gets_no_more_requests(self):
        call = Conversation(inactivity_timeout_ms=5_000)
        for number in range(200):
            call.call_tool("fly", id=f"c{number}")
            call.wait(1)
        assert len(call.asked()) == 10
        assert ("not_spoken", {"why": "tools"}) in call.notes("not_spoken")
        assert CloseCaller(None) in call.all or CloseCaller(None) in call.wait(5)

    def test_a_model_that_speaks_meanwhile_may_continue(self):
        call = Conversation()
        for number in range(30):
            call.respond()
            call.say(20, item=f"a{number}")
            call.done(FunctionCall(f"c{number}", "fly", "{}"), spoke=True)
        assert len(call.asked()) == 30

    def test_the_count_starts_at_the_last_audio(self):
        call = Conversation()
        call.call_tool("fly", id="before")
        call.respond()
        call.say(20)
        call.done(FunctionCall("heard", "fly", "{}"), spoke=True)
        for number in range(12):
            call.call_tool("fly", id=f"c{number}")
        assert len(call.asked()) == 2 + 10

    def test_the_count_starts_at_the_last_tool_that_ran(self):
        call = Conversation()
        call.call_tool("fly", id="before")
        call.call_tool()
        call.receive(ToolReturned("c1", "ok"))
        for number in range(12):
            call.call_tool("fly", id=f"after {number}")
        assert len(call.asked()) == 2 + 10

    def test_a_model_whose_tools_run_may_continue(self):
        call = Conversation()
        for number in range(30):
            call.call_tool(id=f"c{number}")
            call.receive(ToolReturned(f"c{number}", "ok"))
        assert len(call.asked()) == 30


class TestTheTimeline:
    def test_three_thousand_errors_are_limited(self):
        call = Conversation()
        for _ in range(3_000):
            call.hear(errors("odd"))
        assert len(call.notes("model_error")) == 100
        assert call.notes("model_error")[-1] == ("model_error", {"code": "odd", "more": "not kept"})

    def test_events_that_cannot_be_read_are_noted(self):
        call = Conversation()
        for odd in (None, 7, [], {}, {"type": 7}):
            call.hear(odd)
        call.hear({"type": "conversation.item.added", "item": "x"})
        assert [detail["what"] for _, detail in call.notes("not_understood")] == [
            *["an event without a type"] * 5,
            "conversation.item.added",
        ]


def test_messages_end_with_one_full_stop():
    from telephony.engine.events import ModelClosed, ModelUnreachable

    ends = [
        ModelUnreachable("No connection within 8 seconds."),
        ModelUnreachable("The upgrade was refused with 503.", 503),
        ModelClosed(1011, "Sorry."),
        ModelClosed(1006),
        errored("session_expired", "It is over.."),
    ]
    for event in ends:
        call = Conversation()
        call.disconnect(event)
        (error,) = call.ever(ReportError)
        assert error.message.endswith(".")
        assert not error.message.endswith("..")


def test_speech_without_an_item_id_interrupts_nothing():
    call = Conversation()
    call.receive(SpeechStarted(""))
    call.receive(SpeechStarted(""))
    assert call.notes("interrupted") == []
