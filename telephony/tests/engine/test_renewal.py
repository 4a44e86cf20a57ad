"""A session of the model that breaks, fails or is too old is followed by another."""

from __future__ import annotations

import math

import pytest

from telephony.engine.actions import ClearAudio, CloseCaller, ConnectModel, Finish, ReportError
from telephony.engine.after_stream import APOLOGY, Say
from telephony.engine.codecs.live.codec import LiveCodec
from telephony.engine.codecs.realtime.codec import RealtimeCodec
from telephony.engine.codes import EndedReason
from telephony.engine.events import (
    CallerHungUp,
    CallerTranscribed,
    DigitPressed,
    MarkPlayed,
    ModelClosed,
    ModelConfigured,
    ModelReady,
    ModelUnreachable,
    ResponseStarted,
    SpeechStarted,
    SpeechStopped,
    ToolReturned,
    Transcribing,
)
from telephony.engine.hearing import CUT
from telephony.engine.phase import Phase
from telephony.engine.startup import LIFETIME_S, LOST, RENEW_AFTER, SPEAKS_WITHIN_S
from telephony.engine.state import LEAST_SILENCE_S
from telephony.tests.engine.conversation import PLAN, UNIX_AHEAD, Conversation, Sent, errored
from telephony.tests.engine.test_moving import ask, message, recalled, speak, talked

LONG = 14_100
RENEW_AFTER_S = LIFETIME_S * RENEW_AFTER


def broken(call, event=None):
    """Break the session; afterwards, ``all`` has only what followed."""
    call.all = []
    call.receive(event or ModelClosed(1006))


def renewed(call, expires_at=None):
    """Let another session accept its configuration and its history."""
    call._items = []
    call.receive(ModelReady())
    call.acknowledge()
    call.receive(ModelConfigured(expires_at))


class TestBreaks:
    @pytest.mark.parametrize(
        ("event", "why"),
        [
            (ModelClosed(1000), "closed"),
            (ModelClosed(1006), "closed"),
            (errored("session_expired", "Over."), "session_expired"),
        ],
    )
    def test_another_session_goes_on(self, event, why):
        call = talked()
        broken(call, event)
        assert len(call.took(ConnectModel)) == 1
        assert call.notes("model_renewed") == [("model_renewed", {"why": why})]
        renewed(call)
        assert [item.get("role") for item in recalled(call)] == [
            *("assistant", "user", None, None, "assistant")
        ]
        assert call.asked() == []
        assert call.ever(ReportError) == []

    def test_the_third_break_within_a_minute_ends_the_call(self):
        call = talked()
        for _ in range(2):
            call.receive(ModelClosed(1006))
            assert call.took(ConnectModel)
            renewed(call)
            call.wait(20)
        call.receive(ModelClosed(1006))
        assert call.took(ReportError)[0].code == "model_disconnected"
        assert call.took(CloseCaller) == [CloseCaller(Say(APOLOGY))]
        assert call.took(Finish)[0].reason == EndedReason.MODEL_DISCONNECTED

    def test_earlier_breaks_are_forgotten(self):
        call = talked(inactivity_timeout_ms=600_000)
        for _ in range(6):
            call.receive(ModelClosed(1006))
            renewed(call)
            call.wait(31)
        assert call.ever(Finish) == []

    def test_a_session_that_breaks_before_it_is_configured_counts(self):
        call = talked()
        for _ in range(2):
            call.receive(ModelClosed(1006))
            call.receive(ModelReady())
            assert call.ever(Finish) == []
        call.receive(ModelClosed(1006))
        assert call.ever(Finish)

    def test_the_next_session_learns_where_the_caller_interrupted_the_last_one(self):
        call = talked()
        call.respond()
        call.say(1_000, item="a3", text="Do you need anything else?", ended=True)
        call.done(spoke=True)
        call.wait(0.5)
        call.receive(ModelClosed(1006))
        renewed(call)
        assert recalled(call)[-1] == message("assistant", "Do you need anything else?")
        call.receive(SpeechStarted("u9"))
        [told] = [sent.event["item"] for sent in call.took(Sent)]
        assert told["role"] == "system"
        assert told["content"][0]["text"] == CUT.format("Do you need")

    def test_silence_while_a_session_starts_does_not_end_the_call(self):
        call = talked(inactivity_timeout_ms=3_000)
        call.respond()
        call.say(1_000, item="a3", text="Anything else?", ended=True)
        call.done(spoke=True)
        call.receive(ModelClosed(1006))
        call.receive(MarkPlayed("3"))
        call.wait(5)
        assert call.session.phase is Phase.STARTING

    @pytest.mark.parametrize("greeting", ["", "Hello!"])
    def test_a_first_session_that_breaks_before_it_is_configured_counts(self, greeting):
        call = Conversation(ready=False, greeting=greeting)
        for _ in range(2):
            call.receive(ModelReady())
            assert call.told()[0] == "session.update"
            assert len(call.told()) == (2 if greeting else 1)
            call.receive(ModelClosed(1006))
            assert call.took(ConnectModel)
        call.receive(ModelReady())
        call.receive(ModelClosed(1006))
        assert call.took(ReportError)[0].code == "model_disconnected"
        assert call.session.billed_from is None

    def test_sessions_that_do_not_start_share_the_time_of_the_first(self):
        call = Conversation(ready=False)
        for _ in range(2):
            call.wait(4)
            call.receive(ModelReady())
            call.receive(ModelClosed(1006))
        call.wait(1.9)
        assert call.ever(Finish) == []
        call.wait(0.2)
        assert call.ever(ReportError)[0].code == "model_unreachable"

    def test_a_call_whose_first_session_broke_is_like_any_other(self):
        call = Conversation(ready=False, greeting="Hello!")
        call.receive(DigitPressed("#"))
        call.receive(ModelReady())
        call.receive(ModelClosed(1006))
        renewed(call)
        assert [item.get("role") for item in recalled(call)] == ["user"]
        assert [bool(asked.get("response")) for asked in call.asked()[1:]] == [True]
        speak(call, "Hello!", "a1", ms=400)
        assert len(call.asked()) == 3  # then the answer to the keys
        assert [detail["model"] for _, detail in call.notes("model_ready")] == [PLAN.model]

    @pytest.mark.parametrize("is_late", [False, True])
    def test_a_model_that_cannot_be_reached_again_ends_the_call(self, is_late):
        call = talked()
        call.receive(ModelClosed(1006))
        if is_late:
            call.wait(10)
        else:
            call.receive(ModelUnreachable("No.", 503))
        assert [error.code for error in call.ever(ReportError)] == ["model_unreachable"]
        assert call.session.billed_from == 100.0


class TestFailures:
    def fail(self, call):
        for _ in range(3):
            call.respond()
            call.done(status="failed", error_code="server_error", error_message="Sorry.")
            call.wait(3)

    def test_a_session_whose_every_response_fails_is_replaced_once(self):
        call = talked()
        ask(call, "And yesterday?", "u2")
        self.fail(call)
        assert call.ever(ReportError) == []
        assert call.notes("model_renewed") == [("model_renewed", {"why": "server_error"})]
        renewed(call)
        self.fail(call)
        assert call.ever(ReportError) == [ReportError("model_server_error", "Sorry.")]

    def test_it_is_replaced_again_if_that_had_helped(self):
        call = talked(inactivity_timeout_ms=600_000)
        self.fail(call)
        renewed(call)
        speak(call, "Better.", "a3", ms=400)
        call.wait(60)
        self.fail(call)
        assert len(call.notes("model_renewed")) == 2

    def test_a_session_that_responds_no_more_is_replaced(self):
        call = talked()
        call.receive(DigitPressed("#"))
        call.wait(40)
        assert call.notes("model_renewed") == [("model_renewed", {"why": "no_response"})]
        call.all = []
        renewed(call)
        assert len(call.asked()) == 1


class TestAnyMoment:
    def test_while_the_greeting_is_spoken(self):
        call = Conversation(greeting="Hello!")
        call.respond()
        call.say(400, item="a1")
        broken(call)
        assert call.took(ClearAudio)
        renewed(call)
        [asked] = call.asked()
        assert "Hello!" in asked["response"]["instructions"]
        speak(call, "Hello!", "b1", ms=400)
        call.wait(10)
        assert call.asked() == [asked]

    def test_while_the_caller_speaks(self):
        call = talked()
        call.listen("u2")
        broken(call)
        renewed(call)
        assert recalled(call)[-1] == message("system", LOST)
        assert call.asked() == []
        call.wait(SPEAKS_WITHIN_S)
        assert len(call.asked()) == 1
        call.respond()
        call.done(spoke=True)
        call.wait(59)
        assert call.ever(Finish) == []
        call.wait(2)
        assert [finish.reason for finish in call.ever(Finish)] == [EndedReason.INACTIVITY]

    def test_a_caller_who_goes_on_speaking_is_answered_once(self):
        call = talked()
        call.listen("u2")
        broken(call)
        broken(call)
        renewed(call)
        call.listen("u3")
        call.wait(SPEAKS_WITHIN_S)
        call.heard("and yesterday?", "u3")
        speak(call, "Nine dollars.", "a3", ms=400)
        assert call.asked() == []

    def test_a_caller_whose_words_had_not_been_transcribed_is_asked_to_repeat_them(self):
        call = talked()
        call.wait(1)
        call.listen("u2")
        call.receive(SpeechStopped("u2"))
        broken(call)
        renewed(call)
        assert recalled(call)[-1] == message("system", LOST)
        assert len(call.asked()) == 1
        call.respond()
        call.done(spoke=True)
        call.receive(ModelClosed(1006))
        call.all = []
        renewed(call)
        assert message("system", LOST) not in recalled(call)

    def test_after_the_caller_has_spoken(self):
        call = talked()
        ask(call, "And yesterday?", "u2")
        broken(call)
        renewed(call)
        assert recalled(call)[-1] == message("user", "And yesterday?")
        assert len(call.asked()) == 1

    def test_while_the_model_speaks(self):
        call = talked()
        ask(call, "And yesterday?", "u2")
        call.respond()
        call.say(2000, item="a3")
        broken(call)
        assert call.took(ClearAudio)
        renewed(call)
        assert len(call.asked()) == 1

    def test_what_was_spoken_to_its_end_is_played_to_its_end(self):
        call = talked()
        call.respond()
        call.say(2000, item="a3", text="Anything else?", ended=True)
        call.done(spoke=True)
        broken(call)
        renewed(call)
        assert (call.ever(ClearAudio), call.asked()) == ([], [])
        call.wait(2)
        call.receive(MarkPlayed(str(call.session.playback._number)))
        call.receive(CallerHungUp())
        assert [line.interrupted for line in call.took(Finish)[0].transcript] == [False] * 4

    def test_the_next_session_is_not_told_where_a_turn_of_the_last_one_was_interrupted(self):
        call = talked()
        call.respond()
        call.say(2000, item="a3", text="Anything else?", ended=True)
        call.done(spoke=True)
        broken(call)
        renewed(call)
        call.listen("u3")
        assert call.took(ClearAudio)
        assert not [each for each in call.ever(Sent) if "truncate" in each.event["type"]]

    @pytest.mark.parametrize("is_early", [False, True])
    def test_while_a_tool_runs(self, is_early):
        call = talked()
        call.call_tool("book", id="c2")
        broken(call)
        if is_early:
            call.receive(ToolReturned("c2", "booked"))
        renewed(call)
        if not is_early:
            assert recalled(call)[-1]["type"] == "function_call"
            assert call.asked() == []
            call.receive(ToolReturned("c2", "booked"))
        told = [item["output"] for item in recalled(call) if "output" in item]
        assert told == ['{"balance": 12}', "booked"]
        assert len(call.asked()) == 1

    @pytest.mark.parametrize("is_connected", [False, True])
    def test_a_result_that_comes_before_another_model_takes_over(self, is_connected):
        call = talked(fallback_models=("gpt-realtime-2",))
        call.call_tool("book", id="c2")
        call.receive(ModelClosed(1006))
        if is_connected:
            call.receive(ModelReady())
        call.receive(ToolReturned("c2", "booked"))
        broken(call)
        renewed(call)
        assert recalled(call)[-1]["output"] == "booked"
        assert len(call.asked()) == 1

    def test_while_the_agent_says_goodbye_the_call_ends_as_planned(self):
        call = talked()
        call.respond()
        call.say(400, item="a3", text="Goodbye.", ended=True)
        call.answer({"type": "function_call", "call_id": "c2", "name": "end_call"})
        broken(call)
        assert call.ever(ConnectModel) == []
        assert call.ever(CloseCaller) == []
        call.wait(0.4)
        call.receive(MarkPlayed(str(call.session.playback._number)))
        assert call.took(CloseCaller) == [CloseCaller(None)]
        assert [line.interrupted for line in call.took(Finish)[0].transcript] == [False] * 4

    @pytest.mark.parametrize("breaks_again", [False, True])
    def test_keys_that_were_pressed_meanwhile_are_a_turn(self, breaks_again):
        call = talked()
        broken(call)
        call.receive(DigitPressed("#"))
        if breaks_again:
            broken(call)
        renewed(call)
        texts = [item for item in recalled(call) if "keypad" in str(item)]
        assert len(texts) == 1
        assert len(call.asked()) == 1

    def test_late_events_of_the_old_session_begin_no_wait(self):
        call = talked()
        broken(call)
        call.receive(ResponseStarted("old"))
        renewed(call)
        assert call.ever(Finish) == []


class TestSilence:
    """Of a caller who says nothing: a new session of the model does not make it longer."""

    def test_it_goes_on_where_it_was(self):
        call = talked(inactivity_timeout_ms=20_000)
        call.wait(12)
        broken(call)
        call.wait(5)  # while nobody could have answered
        renewed(call)
        call.wait(7.9)
        assert call.ever(Finish) == []
        call.wait(0.2)
        assert [finish.reason for finish in call.ever(Finish)] == [EndedReason.INACTIVITY]

    def test_the_caller_has_the_time_to_be_heard(self):
        call = talked(inactivity_timeout_ms=20_000)
        call.wait(19.9)
        broken(call)
        renewed(call)
        call.wait(LEAST_SILENCE_S - 0.1)
        call.listen("u2")
        call.wait(30)
        assert call.ever(Finish) == []

    def test_what_happens_meanwhile_begins_it_anew(self):
        call = talked(inactivity_timeout_ms=20_000)
        call.wait(19)
        broken(call)
        call.receive(DigitPressed("1"))
        renewed(call)
        call.wait(1.5)  # the keys are complete
        call.respond()
        call.done()
        call.wait(17)
        assert call.ever(Finish) == []


class TestAge:
    def test_a_session_is_replaced_before_it_is_too_old(self):
        call = talked(max_duration_seconds=LONG, inactivity_timeout_ms=LONG * 1_000)
        call.all = []
        call.wait(RENEW_AFTER_S)
        assert call.notes("model_renewed") == [("model_renewed", {"why": "age"})]
        renewed(call)
        call.wait(RENEW_AFTER_S - 1)
        assert len(call.ever(ConnectModel)) == 1
        call.wait(2)
        assert len(call.ever(ConnectModel)) == 2

    @pytest.mark.parametrize(
        ("lifetime_s", "after_s"),
        [
            (1_800, 1_650),
            (7_200, 6_600),
            (121, 110.9),
            # This engine's clock is wrong.
            (119, RENEW_AFTER_S),
            (-7_200, RENEW_AFTER_S),
        ],
    )
    def test_a_session_may_say_when_it_expires(self, lifetime_s, after_s):
        call = talked(max_duration_seconds=LONG, inactivity_timeout_ms=LONG * 1_000)
        broken(call)
        renewed(call, call.now + UNIX_AHEAD + lifetime_s)
        call.all = []
        call.wait(after_s - 1)
        assert call.ever(ConnectModel) == []
        call.wait(1.1)
        assert call.notes("model_renewed") == [("model_renewed", {"why": "age"})]

    def test_the_last_moment_follows_from_that_too(self):
        call = talked(max_duration_seconds=LONG, inactivity_timeout_ms=LONG * 1_000)
        broken(call)
        renewed(call, call.now + UNIX_AHEAD + 900)
        call.all = []
        call.wait(820)
        for number in range(5):
            call.listen(f"v{number}")
            call.wait(10)
        assert call.notes("model_renewed") == []
        call.wait(2)
        assert call.notes("model_renewed") == [("model_renewed", {"why": "age"})]

    @pytest.mark.parametrize(
        ("codec", "kind"), [(LiveCodec, "session.started"), (RealtimeCodec, "session.updated")]
    )
    @pytest.mark.parametrize(
        ("sent", "read"),
        [
            (1_788_555_600, 1_788_555_600),
            (1, 1),
            (10_000_000_000, 10_000_000_000),
            (10_000_000_001, None),
            *((invalid, None) for invalid in (None, "soon", True, 0, -1, math.inf, math.nan)),
        ],
    )
    def test_every_protocol_says_when(self, codec, kind, sent, read):
        events = codec().decode({"type": kind, "session": {"id": "s", "expires_at": sent}})
        assert list(events) == [ModelConfigured(read)]

    def test_it_waits_until_nobody_speaks(self):
        call = talked(max_duration_seconds=LONG, inactivity_timeout_ms=LONG * 1_000)
        call.wait(RENEW_AFTER_S - 10)
        call.listen("u2")
        call.wait(20)
        assert call.ever(ConnectModel) == []
        call.heard("Well.", "u2")
        speak(call, "Yes?", "a3", ms=400)
        call.wait(1)
        assert len(call.ever(ConnectModel)) == 1

    @pytest.mark.parametrize("comes", [True, False])
    def test_it_waits_for_what_was_said_last(self, comes):
        call = talked(max_duration_seconds=LONG, inactivity_timeout_ms=LONG * 1_000)
        call.wait(RENEW_AFTER_S - 10)
        call.listen("u2")
        call.receive(SpeechStopped("u2"))
        speak(call, "Yes?", "a3", ms=400)
        call.wait(8)
        assert call.ever(ConnectModel) == []
        if comes:
            call.receive(CallerTranscribed("u2", "Well.", 1.5))
            call.wait(1)
        else:
            call.wait(5)
        assert len(call.ever(ConnectModel)) == 1
        call.receive(CallerHungUp())
        [finish] = call.ever(Finish)
        assert ("Well." in [line.text for line in finish.transcript]) == comes

    def test_but_not_for_ever(self):
        call = talked(max_duration_seconds=LONG, inactivity_timeout_ms=LONG * 1_000)
        call.wait(RENEW_AFTER_S - 10)
        for number in range(10):
            call.listen(f"v{number}")
            call.wait(30)
        assert call.notes("model_renewed") == [("model_renewed", {"why": "age"})]

    def test_the_words_of_the_turn_that_it_cuts_are_kept(self):
        call = talked(max_duration_seconds=LONG, inactivity_timeout_ms=LONG * 1_000)
        call.wait(RENEW_AFTER_S - 10)
        for number in range(6):
            call.listen(f"v{number}")
            call.wait(29)
        call.heard("Go on.", "v5")
        call.respond()
        call.say(20_000, item="a3")
        call.receive(Transcribing("a3", "assistant", "One two three four five six"))
        call.wait(10)
        call.receive(MarkPlayed(str(call.session.playback._number - 10)))
        while not call.ever(ConnectModel):
            call.wait(1)
        call.all = []
        renewed(call)
        words = recalled(call)[-1]["content"][0]["text"]
        assert words in ("One two three", "One two three four")
        assert call.session.lines()[-1].text == "One two three four five six"
        assert call.session.lines()[-1].interrupted
        assert len(call.asked()) == 1

    def test_two_hours_are_one_call(self):
        call = talked(max_duration_seconds=LONG)
        for number in range(195):  # of 40 seconds: two hours and ten minutes
            ask(call, f"Question {number}?", f"q{number}")
            speak(call, f"Answer {number}.", f"r{number}", ms=400)
            for _ in range(8):
                call.wait(4.7)
                if call.session.phase is Phase.STARTING:
                    renewed(call)
        call.receive(CallerHungUp())
        [finish] = call.ever(Finish)
        assert len(call.notes("model_renewed")) == 2
        assert len(finish.transcript) == 3 + 390
        assert len({line.text for line in finish.transcript}) == 393
