"""The call session, event by event."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest

from telephony.engine import startup
from telephony.engine.actions import (
    CancelTool,
    ClearAudio,
    CloseCaller,
    Finish,
    Note,
    PlayAudio,
    ReportError,
    RunTool,
    SendMark,
)
from telephony.engine.after_stream import APOLOGY, Dial, Say
from telephony.engine.costs import TokenUsage
from telephony.engine.events import (
    AgentAudioStarted,
    AgentTranscribed,
    CallerHungUp,
    CallerTranscribed,
    CallerTyped,
    DigitPressed,
    FunctionCall,
    HangupRequested,
    ItemAdded,
    MarkPlayed,
    ModelClosed,
    ModelConfigured,
    ModelErrored,
    ModelReady,
    ModelUnreachable,
    ResponseCollided,
    ResponseDone,
    ResponseStarted,
    SpeechStarted,
    SpeechStopped,
    ToolFailed,
    ToolReturned,
)
from telephony.engine.session import CallSession
from telephony.engine.timeline import MOST_NOTES
from telephony.engine.tool_runs import ToolRun
from telephony.engine.transcript import Line
from telephony.tests.engine.conversation import Conversation, Sent, errored, types


def test_a_whole_call():
    call = Conversation(greeting="Hello!")
    call.respond()
    call.say(400, item="a1", text="Hello!", ended=True)
    call.done(spoke=True, usage=TokenUsage(audio_out=8))
    call.wait(0.4)
    call.receive(MarkPlayed("1"))
    call.wait(1)
    call.listen("u1")
    call.wait(2)
    call.heard("What is my balance?", "u1")
    call.call_tool("look_up", '{"id": 7}', id="c1")
    assert call.took(RunTool) == [RunTool("c1", "look_up", {"id": 7})]
    call.receive(ToolReturned("c1", {"balance": 12}))
    assert call.told() == ["conversation.item.create", "response.create"]
    call.respond("r3")
    call.say(800, item="a2", text="Twelve dollars.", ended=True)
    call.done(spoke=True)
    call.wait(0.8)
    call.receive(MarkPlayed("2"))
    call.receive(CallerHungUp())
    (finish,) = call.took(Finish)
    assert finish == Finish(
        reason="caller_hangup",
        ended_at=104.2,
        transcript=(
            Line("assistant", 100.0, "Hello!"),
            Line("user", 101.4, "What is my balance?"),
            Line("assistant", 103.4, "Twelve dollars."),
        ),
        tool_runs=(ToolRun("look_up", 103.4, "succeeded", 0, '{"balance": 12}'),),
        usage=TokenUsage(audio_out=8, transcribed_seconds=1.5),
    )
    assert call.session.deadline is None


class TestStart:
    def test_the_session_is_configured_as_soon_as_the_model_connects(self):
        call = Conversation(ready=False)
        call.receive(ModelReady())
        assert call.told() == ["session.update"]

    def test_a_greeting_is_spoken_first(self):
        call = Conversation(ready=False, greeting='Hi, "friend"!')
        call.receive(ModelReady())
        assert call.told() == ["session.update", "response.create"]
        response = call.took(Sent)[1].event["response"]
        assert response["instructions"].endswith(
            r'saying exactly this, and nothing else: "Hi, \"friend\"!"'
        )
        assert response["tool_choice"] == "none"

    def test_a_greeting_is_not_escaped_to_ascii(self):
        call = Conversation(greeting="Grüezi!")
        assert call.asked()[0]["response"]["instructions"].endswith('"Grüezi!"')

    def test_without_a_greeting_the_model_waits_for_the_caller(self):
        call = Conversation()
        assert [action.event["type"] for action in call.ever(Sent)] == ["session.update"]

    def test_a_model_that_is_not_ready_in_time_ends_the_call(self):
        call = Conversation(ready=False)
        call.receive(ModelReady())
        done = call.wait(10)
        assert ReportError("model_unreachable", "The model was not ready in time.") in done
        assert CloseCaller(Say(APOLOGY)) in done

    def test_a_model_that_cannot_be_reached_ends_the_call(self):
        call = Conversation(ready=False)
        call.receive(ModelUnreachable("Service Unavailable", 503))
        (error,) = call.took(ReportError)
        assert error.code == "model_unreachable"
        assert "503" in error.message
        assert call.took(Finish)[0].reason == "model_error"

    def test_a_key_that_openai_refuses_is_named(self):
        call = Conversation(ready=False)
        call.receive(ModelUnreachable("Unauthorized", 401))
        assert call.took(ReportError)[0].code == "model_invalid_api_key"

    def test_a_configuration_that_openai_refuses_ends_the_call(self):
        call = Conversation(ready=False)
        call.receive(ModelReady())
        call.receive(errored("invalid_value", "Invalid voice.", param="session.audio"))
        assert call.took(ReportError) == [
            ReportError("model_rejected_configuration", "Invalid voice.")
        ]
        assert call.took(CloseCaller) == [CloseCaller(Say(APOLOGY))]


class TestAudio:
    def test_frames_pass_with_a_mark_every_second_and_at_the_end(self):
        call = Conversation()
        call.respond()
        answers = call.say(2500, ended=True)
        assert [index for index, mark in enumerate(answers) if mark] == [49, 99]
        assert set(answers) == {"", "1", "2"}
        assert call.took(SendMark) == [SendMark("3")]

    def test_nothing_passes_once_the_call_has_ended(self):
        call = Conversation()
        call.respond()
        call.receive(CallerHungUp())
        assert call.session.playback.sent("a1", 160, call.now) is None


class TestInterruption:
    def test_an_interruption_clears_and_truncates_at_what_was_heard(self):
        call = Conversation()
        call.respond()
        call.say(3000, text="A long answer.", ended=True)
        call.wait(1.01)
        call.receive(MarkPlayed("1"))
        call.wait(0.25)
        call.listen()
        assert call.took(ClearAudio) == [ClearAudio()]
        assert call.took(Sent) == [
            Sent(
                {
                    "type": "conversation.item.truncate",
                    "item_id": "a1",
                    "content_index": 0,
                    "audio_end_ms": 1250,
                }
            )
        ]
        call.receive(CallerHungUp())
        call.wait(5)
        (finish,) = call.ever(Finish)
        assert finish.transcript == (
            Line("assistant", 100.0, "A long answer.", interrupted=True, heard=1250 / 3000),
        )

    def test_heard_audio_ends_before_the_next_mark_and_the_end_of_what_was_sent(self):
        call = Conversation()
        call.respond()
        call.say(1200)
        call.wait(5)  # the network is slow: the first mark should be back by now
        call.listen()
        assert call.took(Sent)[0].event["audio_end_ms"] == 1000

    def test_later_audio_of_the_interrupted_item_is_dropped(self):
        call = Conversation()
        call.respond()
        call.say(500)
        call.listen()
        assert set(call.say(500)) == {None}
        assert set(call.say(100, item="a2")) == {""}

    def test_marks_that_clear_sends_back_do_not_count_as_heard(self):
        call = Conversation()
        call.respond()
        call.say(2000)
        call.listen()
        call.receive(MarkPlayed("1"))
        call.receive(MarkPlayed("2"))
        call.receive(SpeechStopped("u1"))
        call.respond("r2")
        call.say(800, item="a2")
        call.wait(0.1)
        call.listen("u2")
        assert call.took(Sent)[0].event["audio_end_ms"] == 100

    def test_every_item_that_waits_for_the_first_is_truncated_too(self):
        call = Conversation()
        call.respond()
        call.say(400, item="a1")
        call.say(400, item="a2")
        call.wait(0.2)
        call.listen()
        events = [action.event for action in call.took(Sent)]
        assert [(event["item_id"], event["audio_end_ms"]) for event in events] == [
            ("a1", 200),
            ("a2", 0),
        ]
        assert call.notes("interrupted") == [("interrupted", {"heardMs": 200})]

    def test_speech_after_everything_was_heard_interrupts_nothing(self):
        call = Conversation()
        call.respond()
        call.say(400, ended=True)
        call.wait(0.4)
        call.receive(MarkPlayed("1"))
        call.listen()
        assert call.actions == []

    @pytest.mark.parametrize("name", ["", "x", "-1", "99", "0", "1²"])
    def test_unknown_marks_change_nothing(self, name):
        call = Conversation()
        call.respond()
        call.say(800)
        call.wait(0.1)
        call.receive(MarkPlayed(name))
        call.listen()
        assert call.took(Sent)[0].event["audio_end_ms"] == 100


class TestOneResponseAtATime:
    def test_a_request_waits_for_the_active_response(self):
        call = Conversation()
        call.call_tool()
        call.respond("r2")
        call.receive(ToolReturned("c1", "ok"))
        assert call.told() == ["conversation.item.create"]
        call.done()
        assert call.told() == ["response.create"]

    def test_results_of_two_tools_lead_to_one_response(self):
        call = Conversation()
        call.respond()
        call.done(FunctionCall("c1", "look_up", "{}"), FunctionCall("c2", "book", "{}"))
        call.receive(ToolReturned("c1", 1))
        assert call.told() == ["conversation.item.create"]
        call.receive(ToolReturned("c2", 2))
        assert call.told() == ["conversation.item.create", "response.create"]

    def test_a_refused_request_is_made_again_after_the_active_response(self):
        call = Conversation()
        call.call_tool()
        call.receive(ToolReturned("c1", "ok"))
        call.respond("server's own")
        call.receive(ResponseCollided())
        assert call.told() == []
        call.done()
        assert call.told() == ["response.create"]

    def test_a_tool_result_during_speech_is_sent_at_once_and_spoken_afterwards(self):
        call = Conversation()
        call.call_tool()
        call.listen()
        call.receive(ToolReturned("c1", "ok"))
        assert call.told() == ["conversation.item.create"]
        call.receive(ItemAdded("sh_1", None, ""))
        call.receive(SpeechStopped("u1"))
        assert call.told() == []
        call.respond("r2")  # the model's own answer to the speech: it knows the result
        call.done(spoke=True)
        assert call.told() == []

    def test_a_tool_result_is_spoken_even_if_the_model_does_not_respond_to_the_speech(self):
        call = Conversation()
        call.call_tool()
        call.listen()
        call.receive(ToolReturned("c1", "ok"))
        call.receive(SpeechStopped("u1"))
        assert types(call.wait(2)) == ["response.create"]

    def test_another_response_follows_one_that_did_not_consider_the_result(self):
        call = Conversation()
        call.call_tool()
        call.listen()
        call.receive(SpeechStopped("u1"))
        call.receive(ToolReturned("c1", "ok"))
        call.respond("r2")  # began before the model had added our item
        call.receive(ItemAdded("sh_1", None, ""))
        call.done(spoke=True)
        assert call.told() == ["response.create"]


class TestTools:
    def test_the_model_gets_the_error_of_a_tool(self):
        call = Conversation()
        call.call_tool()
        call.receive(ToolFailed("c1", "The backend answered with status 500."))
        assert call.outputs() == ['{"error": "The backend answered with status 500."}']
        assert "response.create" in call.told()

    def test_the_model_gets_the_timeout_of_a_tool_and_a_late_result_is_ignored(self):
        call = Conversation()
        call.call_tool()
        done = call.wait(30)
        assert CancelTool("c1") in done
        assert types(done) == ["conversation.item.create", "response.create"]
        assert call.outputs() == ['{"error": "The tool did not respond in time."}']
        call.receive(ToolReturned("c1", "late"))
        assert call.actions == []

    def test_a_tool_that_returned_does_not_time_out(self):
        call = Conversation()
        call.call_tool()
        call.receive(ToolReturned("c1", "ok"))
        call.wait(31)
        assert call.ever(CancelTool) == []
        assert call.notes("tool_timeout") == []

    def test_a_call_may_have_any_id(self):
        call = Conversation()
        call.call_tool(id="call of a tool")
        assert CancelTool("call of a tool") in call.wait(30)

    def test_the_timeline_has_only_the_name_of_a_tool(self):
        call = Conversation()
        call.call_tool("look_up", '{"secret": 1}')
        assert call.notes("tool_called") == [("tool_called", {"tool": "look_up"})]

    def test_tool_runs_are_available_during_the_call(self):
        call = Conversation()
        call.call_tool()
        assert call.session.tool_runs() == (ToolRun("look_up", 100.0),)

    def test_unknown_tools_and_invalid_arguments_get_an_error_at_once(self):
        call = Conversation()
        call.respond()
        call.done(
            FunctionCall("c1", "fly", "{}"),
            FunctionCall("c2", "book", "{"),
            FunctionCall("c3", "book", "[]"),
        )
        assert call.ever(RunTool) == []
        assert call.outputs() == [
            '{"error": "There is no tool named fly."}',
            '{"error": "The arguments are not a JSON object."}',
            '{"error": "The arguments are not a JSON object."}',
        ]
        assert call.told().count("response.create") == 1

    def test_calls_of_a_cancelled_response_do_not_run(self):
        call = Conversation()
        call.respond()
        call.done(FunctionCall("c1", "book", "{}"), status="cancelled")
        assert call.took(RunTool) == []

    def test_a_text_result_is_passed_on_unchanged(self):
        call = Conversation()
        call.call_tool()
        call.receive(ToolReturned("c1", "Zürich"))
        assert call.outputs() == ["Zürich"]

    def test_text_within_a_json_result_is_passed_on_unchanged(self):
        call = Conversation()
        call.call_tool()
        call.receive(ToolReturned("c1", {"city": "Zürich"}))
        assert call.outputs() == ['{"city": "Zürich"}']

    def test_numbers_arrive_as_they_were_written(self):
        call = Conversation()
        call.call_tool("book", '{"n": 1.5}')
        assert call.took(RunTool) == [RunTool("c1", "book", {"n": 1.5})]


class TestKeypad:
    def test_digits_reach_the_model_as_text_after_a_pause(self):
        call = Conversation()
        for digit in "12":
            call.receive(DigitPressed(digit))
            call.wait(1)
        done = call.wait(1)
        events = [action.event for action in done if isinstance(action, Sent)]
        assert events[0]["item"]["content"] == [
            {"type": "input_text", "text": "[The caller pressed on the keypad: 12]"}
        ]
        assert events[1] == {"type": "response.create", "event_id": "sh_response_1"}

    def test_the_hash_key_ends_a_sequence_at_once(self):
        call = Conversation()
        call.receive(DigitPressed("7"))
        call.receive(DigitPressed("#"))
        assert call.told() == ["conversation.item.create", "response.create"]
        assert not [action for action in call.wait(5) if isinstance(action, Sent)]

    def test_the_timeline_does_not_say_which_key(self):
        call = Conversation()
        call.receive(DigitPressed("7"))
        assert call.took(Note) == [Note("digit_pressed")]

    def test_send_dtmf_plays_tones_with_a_mark(self):
        call = Conversation()
        call.call_tool("send_dtmf", '{"digits": "1w#"}')
        (audio,) = call.took(PlayAudio)
        assert len(base64.b64decode(audio.payload)) == (200 + 500 + 200) * 8
        assert call.took(SendMark) == [SendMark("1")]
        assert call.outputs() == ['{"sent": "1w#"}']
        assert call.told() == ["conversation.item.create", "response.create"]

    def test_tones_of_more_than_a_second_have_their_mark_as_well(self):
        call = Conversation()
        call.call_tool("send_dtmf", '{"digits": "1ww#"}')
        assert call.took(SendMark) == [SendMark("1")]
        call.receive(MarkPlayed("1"))
        assert not call.session.playback.is_outstanding

    def test_interrupted_tones_are_not_truncated_at_the_model(self):
        call = Conversation()
        call.call_tool("send_dtmf", '{"digits": "123"}')
        call.listen()
        assert call.took(ClearAudio)
        assert call.told() == []

    @pytest.mark.parametrize("digits", ['""', "5", '"1x"', "null"])
    def test_invalid_keys_are_refused(self, digits):
        call = Conversation()
        call.call_tool("send_dtmf", f'{{"digits": {digits}}}')
        assert call.ever(PlayAudio) == []
        assert "error" in call.outputs()[0]


class TestLeaving:
    def test_end_call_waits_for_the_goodbye_to_be_heard(self):
        call = Conversation()
        call.respond()
        call.say(400, text="Goodbye!", ended=True)
        call.done(FunctionCall("c1", "end_call", "{}"), spoke=True)
        assert call.told() == ["conversation.item.create"]
        assert call.outputs() == ['{"ok": true}']
        call.wait(0.4)
        call.receive(MarkPlayed("1"))
        assert call.took(CloseCaller) == [CloseCaller(None)]
        assert call.took(Finish)[0].reason == "agent_hangup"

    def test_end_call_without_a_word_asks_for_a_goodbye_first(self):
        call = Conversation()
        call.call_tool("end_call")
        assert call.told() == ["conversation.item.create", "response.create"]
        assert json.loads(call.outputs()[0])["ok"] is True
        call.respond("r2")
        call.say(400, text="Goodbye!", ended=True)
        call.done(spoke=True)
        assert call.took(CloseCaller) == []
        call.receive(MarkPlayed("1"))
        assert call.took(CloseCaller) == [CloseCaller(None)]

    def test_a_caller_who_speaks_during_the_goodbye_continues_the_call(self):
        call = Conversation()
        call.respond()
        call.say(2000, text="Goodbye!", ended=True)
        call.done(FunctionCall("c1", "end_call", "{}"), spoke=True)
        call.listen()
        call.heard("One more thing…")
        call.receive(MarkPlayed("1"))
        call.receive(MarkPlayed("2"))
        call.wait(30)
        assert call.ever(CloseCaller) == []

    def test_a_goodbye_whose_marks_never_come_back_still_ends_the_call(self):
        call = Conversation()
        call.respond()
        call.say(400, ended=True)
        call.done(FunctionCall("c1", "end_call", "{}"), spoke=True)
        assert CloseCaller(None) in call.wait(0.4 + 5)

    def test_the_wait_for_a_goodbye_that_is_never_said_lasts_15_seconds(self):
        call = Conversation()
        call.call_tool("end_call")
        call.respond()
        assert CloseCaller(None) not in call.wait(14.9)
        assert CloseCaller(None) in call.wait(0.1)

    def test_a_long_goodbye_is_heard_to_its_end(self):
        call = Conversation()
        call.respond()
        call.say(40_000, ended=True)
        call.done(FunctionCall("c1", "end_call", "{}"), spoke=True)
        for number in range(1, 41):
            assert call.ever(CloseCaller) == []
            call.wait(1)
            call.receive(MarkPlayed(str(number)))
        assert call.took(CloseCaller) == [CloseCaller(None)]

    def test_transfer_call_dials_once_the_announcement_is_heard(self):
        call = Conversation()
        call.respond()
        call.say(400, text="I will put you through.", ended=True)
        call.done(FunctionCall("c1", "transfer_call", '{"to": "+15559876543"}'), spoke=True)
        call.receive(MarkPlayed("1"))
        assert call.took(CloseCaller) == [CloseCaller(Dial("+15559876543"))]
        assert call.ever(Finish)[0].reason == "transferred"

    def test_transfer_call_dials_a_number_of_the_plan(self):
        call = Conversation(transfer_numbers=("+15551234567", "+15559876543"))
        call.respond()
        call.done(FunctionCall("c1", "transfer_call", '{"to": "+15559876543"}'), spoke=True)
        assert call.took(CloseCaller) == [CloseCaller(Dial("+15559876543"))]

    @pytest.mark.parametrize("to", ['"+15550000000"', '"the boss"', "null", "[]", "{}"])
    def test_transfer_call_dials_no_other_number(self, to):
        call = Conversation(transfer_numbers=("+15551234567", "+15559876543"))
        call.call_tool("transfer_call", f'{{"to": {to}}}')
        error = "This call may only be transferred to +15551234567 or +15559876543."
        assert json.loads(call.outputs()[0]) == {"error": error}
        assert call.ever(CloseCaller) == []

    def test_a_number_of_the_plan_that_may_not_be_called_is_refused(self):
        call = Conversation(transfer_numbers=("+15551234567",))
        call.session._state.may_call = lambda number: False
        call.call_tool("transfer_call", '{"to": "+15551234567"}')
        assert "may be called" in call.outputs()[0]

    @pytest.mark.parametrize("to", ['"the boss"', "null", "5", "[]", "{}"])
    @pytest.mark.parametrize("may_call", [None, lambda number: True])
    def test_transfer_call_to_an_invalid_number_is_refused(self, to, may_call):
        call = Conversation()
        call.session._state.may_call = may_call or call.session._state.may_call
        call.call_tool("transfer_call", f'{{"to": {to}}}')
        assert "E.164" in call.outputs()[0]
        assert call.told() == ["conversation.item.create", "response.create"]
        assert call.ever(CloseCaller) == []


class TestModelTrouble:
    @pytest.mark.parametrize(
        "code",
        [
            "insufficient_quota",
            "invalid_api_key",
            "account_deactivated",
            "billing_hard_limit_reached",
        ],
    )
    def test_an_unrecoverable_model_error_ends_the_call_with_an_apology(self, code):
        call = Conversation()
        call.receive(ModelErrored(code, "Why."))
        assert call.took(ReportError) == [ReportError(f"model_{code}", "Why.")]
        assert call.took(CloseCaller) == [CloseCaller(Say(APOLOGY))]
        assert isinstance(call.actions[-1], Finish)
        assert call.took(Finish)[0].reason == "model_error"

    def test_any_other_model_error_is_only_noted(self):
        call = Conversation()
        call.receive(errored("invalid_value", "…"))
        assert call.actions == [Note("model_error", {"code": "invalid_value"})]

    @pytest.mark.parametrize(
        ("reason", "message"),
        [
            ("", "The connection to OpenAI was closed (code 1006)."),
            ("Sorry.", "The connection to OpenAI was closed (code 1006): Sorry."),
        ],
    )
    def test_a_closed_connection_is_reported_with_its_reason(self, reason, message):
        call = Conversation()
        call.disconnect(ModelClosed(1006, reason))
        assert call.ever(ReportError) == [ReportError("model_disconnected", message)]

    def test_a_failed_response_is_retried(self):
        call = Conversation()
        call.respond()
        call.done(status="failed", error_code="server_error")
        assert types(call.wait(1)) == ["response.create"]
        call.respond("r2")
        call.done()
        assert call.ever(ReportError) == []

    def test_the_third_failure_in_a_row_ends_the_call(self):
        call = Conversation()
        for _ in range(2):
            call.respond()
            call.done(status="failed", error_code="rate_limit_exceeded", error_message="Sorry.")
            assert call.ever(ReportError) == []
            call.wait(2)
        call.respond()
        call.done(status="failed", error_code="rate_limit_exceeded", error_message="Sorry.")
        assert call.ever(ReportError) == [ReportError("model_rate_limit_exceeded", "Sorry.")]
        assert call.ever(CloseCaller) == [CloseCaller(Say(APOLOGY))]

    def test_a_response_that_fails_for_lack_of_money_ends_the_call_at_once(self):
        call = Conversation()
        call.respond()
        call.done(status="failed", error_code="insufficient_quota")
        assert call.took(ReportError)[0].code == "model_insufficient_quota"

    def test_model_disconnect_ends_the_call_with_an_apology(self):
        call = Conversation()
        call.respond()
        call.say(400, text="Well,")
        call.disconnect()
        assert call.ever(ReportError)[0].code == "model_disconnected"
        assert call.ever(CloseCaller) == [CloseCaller(Say(APOLOGY))]
        assert call.ever(Finish)[0].transcript == (
            Line("assistant", 100.0, "Well,", interrupted=True, heard=0.0),
        )


class TestBilling:
    """The platform's minutes begin when the model has accepted its configuration."""

    def test_nothing_is_billed_before_the_model_is_ready(self):
        call = _starting()
        assert call.session.billed_from is None
        call.now += 1.5
        call.receive(ModelReady())
        assert call.session.billed_from is None
        call.now += 0.5
        call.receive(ModelConfigured())
        assert call.session.billed_from == 102.0
        call.now += 3
        call.receive(ModelConfigured())
        assert call.session.billed_from == 102.0

    @pytest.mark.parametrize(
        "event",
        [
            ModelUnreachable("refused", 401),
            errored("invalid_value", "No such voice.", param="session.audio"),
            errored("insufficient_quota", "No money."),
            ModelClosed(1013, "insufficient_quota"),
            CallerHungUp(),
            HangupRequested(),
        ],
    )
    def test_a_call_that_ends_before_that_is_free(self, event):
        call = _starting()
        call.receive(ModelReady())
        call.disconnect(event)
        call.receive(ModelConfigured())
        assert call.ever(Finish)
        assert call.session.billed_from is None

    def test_a_model_that_is_never_ready_is_free(self):
        call = _starting()
        call.wait(startup.STARTUP_S)
        assert call.ever(Finish)[0].reason == "model_error"
        assert call.session.billed_from is None

    @pytest.mark.parametrize(
        "event",
        [
            ResponseDone("r1", "failed", error_code="insufficient_quota"),
            errored("insufficient_quota", "No money."),
            ModelClosed(1011),
        ],
    )
    def test_a_call_whose_model_fails_before_the_agent_did_anything_is_free(self, event):
        call = Conversation()
        call.listen()
        call.heard("Hello?")
        call.respond("r1")
        call.disconnect(event)
        assert call.ever(ReportError)
        assert call.session.billed_from is None

    def test_a_call_whose_model_fails_after_a_word_is_billed(self):
        call = Conversation()
        call.respond()
        call.say(20)
        call.receive(ModelClosed(1011))
        assert call.session.billed_from == 100.0

    def test_a_call_whose_model_fails_after_a_tool_call_is_billed(self):
        call = Conversation()
        call.call_tool()
        call.receive(ToolReturned("c1", "ok"))
        call.receive(ModelClosed(1011))
        assert call.session.billed_from == 100.0

    @pytest.mark.parametrize("status", ["completed", "cancelled", "incomplete"])
    @pytest.mark.parametrize("event", [ModelClosed(1011), errored("session_expired", "Over.")])
    def test_a_call_whose_agent_only_listens_is_billed(self, status, event):
        call = Conversation()
        call.listen()
        call.heard("Dictate this, please.")
        call.respond()
        call.done(status=status)
        call.now += 3_000
        call.disconnect(event)
        assert call.ever(ReportError)
        assert call.session.billed_from == 100.0

    def test_a_call_whose_model_fails_after_a_tool_of_ours_is_billed(self):
        call = Conversation()
        call.call_tool("transfer_call", '{"to": "+15551234567"}')
        call.receive(ModelClosed(1011))
        assert call.session.billed_from == 100.0

    def test_a_call_that_ends_without_a_failure_is_billed(self):
        call = Conversation()
        call.receive(CallerHungUp())
        assert call.session.billed_from == 100.0


def _starting():
    return Conversation(ready=False)


def _quiet():
    return Conversation()


def _agent_speaks():
    call = Conversation()
    call.respond()
    call.say(400)
    return call


def _caller_speaks():
    call = Conversation()
    call.listen()
    return call


def _tool_runs():
    call = Conversation()
    call.call_tool()
    return call


def _leaving():
    call = Conversation()
    call.respond()
    call.say(400, ended=True)
    call.done(FunctionCall("c1", "end_call", "{}"), spoke=True)
    return call


STATES = [_starting, _quiet, _agent_speaks, _caller_speaks, _tool_runs, _leaving]


class TestTheEnd:
    @pytest.mark.parametrize("state", STATES)
    def test_caller_hang_up_in_every_state_finishes_once(self, state):
        call = state()
        call.receive(CallerHungUp())
        call.wait(30)
        (finish,) = call.ever(Finish)
        assert finish.reason == "caller_hangup"
        assert finish.ended_at == 100.0
        assert call.ever(CloseCaller) == []
        assert call.session.deadline is None
        for event in (CallerHungUp(), ModelClosed(1000), HangupRequested(), SpeechStarted("u9")):
            assert call.receive(event) == []

    @pytest.mark.parametrize("state", STATES)
    def test_a_hang_up_over_the_api_in_every_state_closes_the_stream(self, state):
        call = state()
        call.receive(HangupRequested())
        call.wait(30)
        assert call.ever(CloseCaller) == [CloseCaller(None)]
        assert [finish.reason for finish in call.ever(Finish)] == ["api_hangup"]

    def test_a_running_tool_finishes_after_the_caller_hangs_up(self):
        call = _tool_runs()
        call.wait(1)
        call.receive(CallerHungUp())
        assert call.actions == []
        call.wait(20)
        call.receive(ToolReturned("c1", "booked"))
        (finish,) = call.took(Finish)
        assert finish.ended_at == 101.0
        assert finish.tool_runs == (ToolRun("look_up", 100.0, "succeeded", 21_000, "booked"),)
        assert call.told() == []
        assert ("tool_returned", {"tool": "look_up", "ms": 21_000}) in call.notes("tool_returned")

    @pytest.mark.parametrize("end", [CallerHungUp(), ModelClosed(1006), HangupRequested()])
    def test_a_running_tool_finishes_however_the_call_ends(self, end):
        call = _tool_runs()
        call.disconnect(end)
        assert call.ever(Finish) == []
        call.receive(ToolFailed("c1", "It failed."))
        (finish,) = call.took(Finish)
        assert finish.tool_runs == (ToolRun("look_up", 100.0, "failed", 0, "It failed."),)

    def test_a_tool_that_does_not_respond_delays_the_end_only_until_its_timeout(self):
        call = _tool_runs()
        call.wait(10)
        call.receive(CallerHungUp())
        done = call.wait(20)
        assert CancelTool("c1") in done
        (finish,) = call.ever(Finish)
        assert [run.status for run in finish.tool_runs] == ["timed_out"]

    def test_the_end_waits_for_the_last_transcript_of_the_caller(self):
        call = _caller_speaks()
        call.receive(CallerHungUp())
        assert call.told() == ["input_audio_buffer.commit"]
        call.wait(1)
        assert call.ever(Finish) == []
        call.receive(CallerTranscribed("u1", "Bye."))
        (finish,) = call.actions
        assert finish.transcript == (Line("user", 100.0, "Bye."),)
        assert finish.ended_at == 100.0

    def test_the_end_waits_for_the_last_transcript_of_the_agent(self):
        call = Conversation()
        call.respond()
        call.receive(ItemAdded("a1", None, "assistant"))
        call.done(spoke=True)
        call.receive(CallerHungUp())
        assert call.took(Finish) == []
        call.receive(AgentTranscribed("a1", "Goodbye!"))
        assert call.took(Finish)[0].transcript == (Line("assistant", 100.0, "Goodbye!"),)

    @pytest.mark.parametrize(
        ("kind", "role"),
        [("message", "user"), ("function_call", "assistant"), ("function_call_output", "")],
    )
    def test_the_end_does_not_wait_for_an_item_without_speech(self, kind, role):
        call = Conversation()
        item = {"id": "x1", "type": kind, "role": role}
        call.hear({"type": "conversation.item.added", "previous_item_id": None, "item": item})
        call.receive(CallerHungUp())
        assert len(call.took(Finish)) == 1

    def test_a_transcript_after_the_end_has_its_place(self):
        call = _caller_speaks()
        call.receive(CallerHungUp())
        call.receive(ItemAdded("a1", None, "assistant"))
        call.receive(ItemAdded("u1", "a1", "user"))
        call.receive(CallerTranscribed("u1", "Bye."))
        call.receive(AgentTranscribed("a1", "Goodbye!"))
        assert [line.text for line in call.took(Finish)[0].transcript] == ["Goodbye!", "Bye."]

    def test_the_end_waits_only_for_transcripts(self):
        call = Conversation(max_duration_seconds=3)
        call.listen()
        call.receive(CallerHungUp())
        assert call.session.deadline == call.now + 5

    def test_a_call_ends_once(self):
        call = Conversation(inactivity_timeout_ms=5_000, max_duration_seconds=5)
        call.wait(5)
        assert len(call.ever(CloseCaller)) == 1
        assert len(call.ever(Finish)) == 1

    def test_a_transcript_that_arrives_three_seconds_later_is_stored(self):
        call = _caller_speaks()
        call.receive(CallerHungUp())
        call.wait(3)
        call.receive(CallerTranscribed("u1", "Bye."))
        assert call.took(Finish)[0].transcript == (Line("user", 100.0, "Bye."),)

    def test_the_end_waits_at_most_five_seconds_for_the_last_transcript(self):
        call = _caller_speaks()
        call.receive(CallerHungUp())
        assert [type(action) for action in call.wait(5)] == [Finish]

    def test_the_active_response_is_cancelled_and_its_usage_counted(self):
        call = _agent_speaks()
        call.receive(CallerHungUp())
        assert call.told() == ["response.cancel"]
        call.done(status="cancelled", usage=TokenUsage(audio_out=5))
        call.wait(5)
        assert call.ever(Finish)[0].usage == TokenUsage(audio_out=5)

    def test_a_response_that_begins_after_the_end_is_cancelled(self):
        call = _caller_speaks()
        call.receive(CallerHungUp())
        call.receive(ResponseStarted("r9"))
        assert call.told() == ["response.cancel"]
        call.receive(CallerTranscribed("u1", "Bye."))
        assert call.took(Finish) == []
        call.receive(ResponseDone("r9", "cancelled", usage=TokenUsage(audio_out=5)))
        assert call.took(Finish)[0].usage == TokenUsage(audio_out=5)

    def test_an_error_after_the_end_does_not_lose_the_last_transcript(self):
        call = _caller_speaks()
        call.receive(CallerHungUp())
        call.hear({"type": "error", "error": {"code": "input_audio_buffer_commit_empty"}})
        call.receive(CallerTranscribed("u1", "Bye."))
        assert call.took(Finish)[0].transcript == (Line("user", 100.0, "Bye."),)

    def test_a_model_that_disconnects_after_the_end_finishes_the_call(self):
        call = _caller_speaks()
        call.receive(CallerHungUp())
        call.receive(ModelClosed(1000))
        assert call.took(ReportError) == []
        assert [finish.reason for finish in call.took(Finish)] == ["caller_hangup"]


class TestSilence:
    def test_silence_ends_the_call(self):
        call = Conversation(inactivity_timeout_ms=5_000)
        assert call.wait(4.9) == []
        done = call.wait(0.1)
        assert CloseCaller(None) in done
        assert done[-1].reason == "inactivity"

    def test_silence_begins_when_the_caller_has_heard_everything(self):
        call = Conversation(inactivity_timeout_ms=5_000)
        call.respond()
        call.say(400, ended=True)
        call.done(spoke=True)
        call.wait(4)
        call.receive(MarkPlayed("1"))
        assert call.wait(4.9) == []
        assert call.wait(0.1)

    def test_there_is_no_silence_while_the_caller_speaks(self):
        call = Conversation(inactivity_timeout_ms=5_000)
        call.listen()
        call.wait(29)
        assert call.ever(CloseCaller) == []

    def test_silence_begins_when_the_caller_has_spoken(self):
        call = Conversation(inactivity_timeout_ms=5_000)
        call.listen()
        call.wait(3)
        call.receive(SpeechStopped("u1"))
        assert CloseCaller(None) not in call.wait(4.9)
        assert CloseCaller(None) in call.wait(0.1)

    def test_there_is_no_silence_while_a_tool_runs(self):
        call = Conversation(inactivity_timeout_ms=5_000)
        call.call_tool()
        call.wait(29)
        assert call.ever(CloseCaller) == []

    def test_silence_begins_when_the_tool_has_returned(self):
        call = Conversation(inactivity_timeout_ms=5_000)
        call.call_tool()
        call.wait(10)
        call.receive(ToolReturned("c1", "ok"))
        assert CloseCaller(None) not in call.wait(4.9)
        assert CloseCaller(None) in call.wait(0.1)

    def test_a_response_that_begins_breaks_the_silence(self):
        call = Conversation(inactivity_timeout_ms=5_000)
        call.wait(4)
        call.respond()
        call.wait(4)
        assert call.ever(CloseCaller) == []

    def test_pressed_keys_break_the_silence(self):
        call = Conversation(inactivity_timeout_ms=5_000)
        call.wait(4)
        call.receive(DigitPressed("1"))
        call.wait(4)
        assert call.ever(Finish) == []

    def test_a_response_without_audio_is_silence(self):
        call = Conversation(inactivity_timeout_ms=5_000)
        call.respond()
        assert CloseCaller(None) in call.wait(5)


def test_the_maximum_duration_ends_the_call_whoever_speaks():
    call = Conversation(max_duration_seconds=60)
    call.wait(30)
    call.listen()
    assert call.wait(29.9) == []
    assert CloseCaller(None) in call.wait(0.1)
    call.wait(5)
    assert call.ever(Finish)[0].reason == "max_duration"


def test_a_second_configured_event_changes_nothing():
    call = Conversation()
    call.receive(ModelConfigured())
    assert call.actions == []


class TestTimeline:
    """The timeline has events and their times; it never has what was said."""

    def test_how_soon_the_model_is_ready_and_the_greeting_is_heard(self):
        call = Conversation(ready=False, greeting="Hello!")
        call.receive(ModelReady())
        call.wait(0.3)
        call.receive(ModelConfigured())
        call.wait(0.5)
        call.receive(AgentAudioStarted("a1"))
        call.receive(AgentAudioStarted("a2"))
        assert call.notes("model_ready", "greeted", "agent_spoke") == [
            ("model_ready", {"model": "gpt-realtime-1.5", "ms": 300}),
            ("greeted", {"ms": 800}),
        ]

    def test_how_long_the_caller_spoke_and_waited_for_the_response(self):
        call = Conversation()
        call.listen("u1")
        call.wait(2)
        call.heard("Where is my order?", "u1")
        call.wait(0.45)
        call.receive(AgentAudioStarted("a1"))
        assert call.notes("caller_spoke", "agent_spoke") == [
            ("caller_spoke", {"ms": 2000}),
            ("agent_spoke", {"latencyMs": 450}),
        ]

    def test_only_the_first_audio_counts_as_a_response(self):
        call = Conversation()
        call.heard("Hello?", "u1")
        call.receive(AgentAudioStarted("a1"))
        call.wait(3)
        call.receive(AgentAudioStarted("a2"))
        assert len(call.notes("agent_spoke")) == 1

    def test_a_caller_who_continues_to_speak_has_not_waited(self):
        call = Conversation()
        call.heard("Hello,", "u1")
        call.wait(0.2)
        call.listen("u2")
        call.receive(AgentAudioStarted("a1"))
        assert call.notes("agent_spoke", "greeted") == []

    def test_keys_have_a_latency_as_well(self):
        call = Conversation()
        call.receive(DigitPressed("1"))
        call.receive(DigitPressed("#"))
        call.wait(0.6)
        call.receive(AgentAudioStarted("a1"))
        assert call.notes("agent_spoke") == [("agent_spoke", {"latencyMs": 600})]

    def test_when_the_response_was_heard_follows_from_its_first_mark(self):
        call = Conversation()
        call.heard("Where is my order?", "u1")
        call.wait(0.45)
        call.say(1000, item="a1")
        call.receive(AgentAudioStarted("a1"))
        call.wait(1.2)
        call.receive(MarkPlayed("1"))
        assert call.notes("agent_heard") == [("agent_heard", {"latencyMs": 650})]
        call.say(1000, item="a1")
        call.wait(1)
        call.receive(MarkPlayed("2"))
        assert len(call.notes("agent_heard")) == 1

    def test_audio_before_the_response_does_not_count_as_the_response(self):
        call = Conversation()
        call.say(1000, item="a1")
        call.heard("Where is my order?", "u1")
        call.say(1000, item="a2")
        call.receive(AgentAudioStarted("a2"))
        call.wait(1)
        call.receive(MarkPlayed("1"))
        assert call.notes("agent_heard") == []
        call.wait(1)
        call.receive(MarkPlayed("2"))
        assert call.notes("agent_heard") == [("agent_heard", {"latencyMs": 1000})]

    def test_a_caller_who_interrupts_at_once_has_heard_no_response(self):
        call = Conversation()
        call.heard("Where is", "u1")
        call.say(1000, item="a1")
        call.receive(AgentAudioStarted("a1"))
        call.listen("u2")
        call.receive(MarkPlayed("1"))
        assert call.notes("agent_heard") == []

    def test_speech_after_all_was_sent_ends_the_wait_for_the_response(self):
        call = Conversation()
        call.heard("Where is", "u1")
        call.say(1000, item="a1", ended=True)
        call.receive(AgentAudioStarted("a1"))
        call.session.playback.give_up()
        call.listen("u2")
        call.heard("my order?", "u2")
        call.say(1000, item="a1")
        call.receive(MarkPlayed("2"))
        assert call.notes("agent_heard") == []

    def test_a_mark_that_comes_too_early_makes_no_negative_latency(self):
        call = Conversation()
        call.heard("Where is my order?", "u1")
        call.say(1000, item="a1")
        call.receive(AgentAudioStarted("a1"))
        call.receive(MarkPlayed("1"))
        assert call.notes("agent_heard") == [("agent_heard", {"latencyMs": 0})]

    def test_how_much_was_heard_before_an_interruption(self):
        call = Conversation()
        call.say(2000)
        call.wait(0.7)
        call.listen("u1")
        assert call.notes("interrupted") == [("interrupted", {"heardMs": 700})]

    def test_how_long_a_tool_took(self):
        call = Conversation()
        call.call_tool("look_up", id="c1")
        call.wait(1.5)
        call.receive(ToolReturned("c1", {"secret": 1}))
        call.call_tool("book", id="c2")
        call.wait(0.25)
        call.receive(ToolFailed("c2", "The tool book failed."))
        call.call_tool("look_up", id="c3")
        call.wait(30)
        assert call.notes("tool_returned", "tool_failed", "tool_timeout") == [
            ("tool_returned", {"tool": "look_up", "ms": 1500}),
            ("tool_failed", {"tool": "book", "ms": 250, "message": "The tool book failed."}),
            ("tool_timeout", {"tool": "look_up", "ms": 30000}),
        ]


class TestBounds:
    """Limits of what the model and a typing caller may send."""

    @pytest.mark.parametrize(
        ("arguments", "why"),
        [
            ('{"a": "' + "a" * 32_761 + '"}', "The arguments have more than 32,768 characters."),
            ("[" * 16_000, "The arguments are not a JSON object."),
            ('{"a": ' + "[" * 16_000, "The arguments are not a JSON object."),
            ('{"a": ' + "[" * 40 + "]" * 40 + "}", "The arguments are nested more than 32 deep."),
            ('{"a": NaN}', "The arguments are not a JSON object."),
            ('{"a": -Infinity}', "The arguments are not a JSON object."),
            ('{"a": 1e999}', "The arguments are not a JSON object."),
            ('{"a": ' + "9" * 5_000 + "}", "The arguments are not a JSON object."),
        ],
        ids=lambda value: value[:12],
    )
    def test_arguments_over_a_limit_are_refused(self, arguments, why):
        call = Conversation()
        call.call_tool("book", arguments)
        assert call.ever(RunTool) == []
        assert json.loads(call.outputs()[0]) == {"error": why}

    def test_the_longest_arguments_are_accepted(self):
        call = Conversation()
        call.call_tool("book", '{"a": "' + "a" * 32_759 + '"}')
        assert len(call.took(RunTool)) == 1

    def test_a_built_in_tool_needs_valid_arguments(self):
        call = Conversation()
        call.call_tool("end_call", "[]")
        assert json.loads(call.outputs()[0]) == {"error": "The arguments are not a JSON object."}

    def test_a_long_name_of_an_unknown_tool_is_clipped(self):
        call = Conversation()
        call.call_tool("x" * 1_000_000)
        assert len(call.outputs()[0]) < 200

    def test_the_number_of_tools_that_run_at_the_same_time(self):
        call = Conversation()
        call.respond()
        call.done(*(FunctionCall(f"c{number}", "book", "{}") for number in range(10_000)))
        assert len(call.ever(RunTool)) == 64
        assert call.outputs() == []
        assert call.notes("tools_dropped") == [("tools_dropped", {"count": 9_936})]
        call.call_tool("book", id="another")
        assert len(call.ever(RunTool)) == 64
        assert "Too many tools" in call.outputs()[-1]

    def test_the_most_tools_in_one_response_all_run(self):
        call = Conversation()
        call.respond()
        call.done(*(FunctionCall(f"c{number}", "book", "{}") for number in range(64)))
        assert len(call.ever(RunTool)) == 64
        assert call.notes("tools_dropped") == []

    def test_one_more_tool_in_one_response_is_dropped(self):
        call = Conversation()
        call.respond()
        call.done(*(FunctionCall(f"c{number}", "book", "{}") for number in range(65)))
        assert call.notes("tools_dropped") == [("tools_dropped", {"count": 1})]

    def test_the_first_tool_runs_are_stored(self):
        call = Conversation()
        for number in range(501):
            call.call_tool(id=f"c{number}")
            call.receive(ToolReturned(f"c{number}", str(number)))
        assert [run.result for run in call.session.tool_runs()] == [str(n) for n in range(500)]

    def test_errors_of_openai_are_clipped(self):
        call = Conversation()
        call.receive(errored("insufficient_quota", "é\0" * 1_000_000))
        [error] = call.ever(ReportError)
        assert len(error.message) == 4_000
        assert "\0" not in error.message

    def test_notes_are_clipped_and_counted(self):
        call = Conversation()
        call.call_tool("book")
        call.receive(ToolFailed("c1", "a" * 1_000_000))
        assert max(len(str(note.detail)) for note in call.ever(Note)) < 5_000
        snapshot = call.session.snapshot("engine_stopping", call.now)
        almost = replace(snapshot, notes={"tool_called": MOST_NOTES - 10})
        call.session = CallSession.resume(almost, call.now)
        call.all = []
        for _ in range(50):
            call.receive(DigitPressed("#"))
        assert len(call.ever(Note)) == 10
        assert call.ever(Note)[-1].detail == {"more": "not kept"}

    def test_a_sequence_of_keys_has_a_limit(self):
        call = Conversation()
        for _ in range(101):
            call.receive(DigitPressed("12345"))
        texts = [text for text in typed(call) if "keypad" in text]
        assert texts == [f"[The caller pressed on the keypad: {'1' * 100}]"]

    def test_the_number_of_typed_messages(self):
        call = Conversation(is_test=True)
        for _ in range(600):
            call.receive(CallerTyped("a" * 10_000))
        assert len(typed(call)) == 500
        assert {len(text) for text in typed(call)} == {2_000}
        assert sum(len(line.text) for line in call.session.lines()) <= 250_000


def typed(call):
    """Return the turns that the model got as text."""
    items = [action.event.get("item", {}) for action in call.ever(Sent)]
    return [item["content"][0]["text"] for item in items if item.get("role") == "user"]
