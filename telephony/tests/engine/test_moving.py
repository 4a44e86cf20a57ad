"""A conversation that another engine takes up, with a new session of the model."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telephony.engine.actions import CloseCaller, Finish, GiveOut, RunTool
from telephony.engine.after_stream import APOLOGY, Dial, Say
from telephony.engine.codes import EndedReason
from telephony.engine.costs import TokenUsage
from telephony.engine.events import (
    AgentAudioStarted,
    CallerHungUp,
    CallerTranscribed,
    CallerTyped,
    DigitPressed,
    FunctionCall,
    MarkPlayed,
    ModelClosed,
    ModelReady,
    ModelUnreachable,
    MoveDue,
    SpeechStarted,
    SpeechStopped,
    StreamBroke,
    ToolReturned,
)
from telephony.engine.history import MOST_CHARACTERS, heard_of
from telephony.engine.snapshot import VERSION, Snapshot
from telephony.engine.speaking import MOVES_WITHIN_S
from telephony.engine.startup import LOST, SPEAKS_WITHIN_S
from telephony.engine.state import LEAST_SILENCE_S
from telephony.engine.timeline import MOST_NOTES
from telephony.engine.told_calls import LONGEST, ToldCall, ToldCalls
from telephony.engine.told_calls import MOST_CHARACTERS as MOST_TOLD
from telephony.engine.transcript import Line
from telephony.tests.engine.conversation import PLAN, Conversation, Sent, types
from telephony.tests.engine.test_any_order import moving


def talked(**plan):
    """Return a call with a greeting, a question, a tool and an answer, at a turn boundary."""
    call = Conversation(greeting="Hello!", **plan)
    speak(call, "Hello!", "a1", ms=400)
    ask(call, "What is my balance?", "u1")
    call.call_tool("look_up", '{"id": 7}', id="c1")
    call.wait(0.5)
    call.receive(ToolReturned("c1", {"balance": 12}))
    speak(call, "Twelve dollars.", "a2", ms=800)
    return call


def speak(call, text, item, *, ms):
    """Let the agent speak, and the caller hear all of it."""
    call.acknowledge()
    call.respond()
    call.say(ms, item=item, text=text, ended=True)
    call.receive(AgentAudioStarted(item))
    call.done(spoke=True, usage=TokenUsage(audio_out=ms))
    call.wait(ms / 1000)
    call.receive(MarkPlayed(str(call.session.playback._number)))


def ask(call, text, item):
    call.wait(1)
    call.listen(item)
    call.wait(1)
    call.heard(text, item)


def recalled(call):
    """Return the items of the history that the new session of the model got."""
    items = [sent.event["item"] for sent in call.ever(Sent) if "item" in sent.event]
    return [{key: value for key, value in item.items() if key != "id"} for item in items]


def message(role, text):
    kind = "output_text" if role == "assistant" else "input_text"
    return {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}


def finished(call):
    call.receive(CallerHungUp())
    call.wait(40)
    [finish] = call.ever(Finish)
    return finish


class TestHistory:
    def test_the_model_learns_what_was_said_and_done(self):
        call = talked()
        call.move()
        assert recalled(call) == [
            message("assistant", "Hello!"),
            message("user", "What is my balance?"),
            {
                "type": "function_call",
                "call_id": "c1",
                "name": "look_up",
                "arguments": '{"id": 7}',
            },
            {"type": "function_call_output", "call_id": "c1", "output": '{"balance": 12}'},
            message("assistant", "Twelve dollars."),
        ]

    def test_it_comes_after_the_configuration(self):
        call = talked()
        call.move()
        told = [sent.event["type"] for sent in call.ever(Sent)]
        assert told == ["session.update"] + ["conversation.item.create"] * 5

    def test_a_turn_that_was_cut_short_has_the_words_that_were_heard(self):
        call = Conversation()
        call.respond()
        call.say(2000, item="a1", text="One two three four five six.", ended=True)
        call.wait(1.0)
        call.listen("u1")
        call.done(status="cancelled")
        call.heard("Stop.", "u1")
        call.move()
        assert recalled(call) == [message("assistant", "One two three"), message("user", "Stop.")]

    @pytest.mark.parametrize(
        ("text", "heard", "words"),
        [("One two", 1.0, "One two"), ("One two", 0.9, "One"), ("One", 0.9, ""), ("One", 0.0, "")],
    )
    def test_only_whole_words_are_heard(self, text, heard, words):
        assert heard_of(Line("assistant", 0.0, text, interrupted=True, heard=heard)) == words

    def test_a_turn_of_which_nothing_was_heard_is_left_out(self):
        call = Conversation()
        call.respond()
        call.say(2000, item="a1", text="One two three.")
        call.move()
        assert recalled(call) == []

    def test_results_of_builtin_and_refused_calls_are_told_too(self):
        call = Conversation()
        call.respond()
        call.done(
            FunctionCall("c1", "send_dtmf", '{"digits": "?"}'), FunctionCall("c2", "fly", "{")
        )
        call.move()
        outputs = {item["call_id"]: item["output"] for item in recalled(call) if "output" in item}
        assert "0-9" in outputs["c1"]
        assert "no tool" in outputs["c2"]

    def test_arguments_that_were_not_text_are_empty(self):
        call = Conversation()
        call.respond()
        call.done(FunctionCall("c1", "look_up", None))
        call.move()
        assert recalled(call)[0]["arguments"] == "{}"

    def test_only_the_newest_turns_are_told(self):
        call = Conversation()
        for number in range(5):
            ask(call, f"{number}" * (MOST_CHARACTERS // 4), f"u{number}")
            speak(call, "Yes.", f"a{number}", ms=20)
        call.move()
        texts = [item["content"][0]["text"] for item in recalled(call)]
        assert [text[0] for text in texts] == ["Y", "2", "Y", "3", "Y", "4", "Y"]
        assert len(finished(call).transcript) == 10

    def test_the_oldest_tool_calls_are_forgotten(self):
        call = Conversation()
        for number in range(20):
            call.call_tool("look_up", id=f"c{number}")
            call.receive(ToolReturned(f"c{number}", "x" * LONGEST))
        snapshot = call.move()
        kept = MOST_TOLD // LONGEST
        assert [told.call_id for told in snapshot.calls] == [f"c{n}" for n in range(20 - kept, 20)]

    def test_a_large_result_does_not_take_the_place_of_everything_else(self):
        call = talked()
        arguments = json.dumps({"note": "y" * LONGEST})
        call.call_tool("look_up", arguments, id="c2")
        call.receive(ToolReturned("c2", "x" * 2 * MOST_TOLD))
        call.move()
        [_, question, _, balance, _, large, result] = recalled(call)
        assert question["content"][0]["text"] == "What is my balance?"
        assert balance["output"] == '{"balance": 12}'
        assert (large["call_id"], large["arguments"]) == ("c2", "{}")
        assert result["output"] == "x" * (LONGEST - 1) + "…"

    def test_an_id_that_comes_again_is_one_call(self):
        told = ToldCalls()
        for _ in range(2 * MOST_TOLD // LONGEST):
            told.keep(ToldCall("c1", "look_up", "{}", 0.0, "x" * LONGEST))
        assert [call.call_id for call in told] == ["c1"]

    def test_the_models_items_of_the_history_are_not_new_turns(self):
        call = talked()
        call.move()
        call.acknowledge()
        ask(call, "Thanks.", "u2")
        call.receive(CallerHungUp())
        [finish] = call.took(Finish)
        assert [line.text for line in finish.transcript] == [
            "Hello!",
            "What is my balance?",
            "Twelve dollars.",
            "Thanks.",
        ]


class TestWhoseTurnItIs:
    def test_at_a_turn_boundary_the_agent_waits(self):
        call = talked()
        call.move()
        assert call.asked() == []

    def test_the_greeting_is_not_repeated(self):
        call = Conversation(greeting="Hello!")
        speak(call, "Hello!", "a1", ms=400)
        call.move()
        assert call.asked() == []

    def test_a_greeting_that_nobody_heard_is_spoken(self):
        call = Conversation(greeting="Hello!")
        call.respond()
        call.move()
        [asked] = call.asked()
        assert "Hello!" in asked["response"]["instructions"]

    def test_a_question_that_was_not_answered_is_answered(self):
        call = talked()
        ask(call, "And yesterday?", "u2")
        call.move()
        assert [asked.get("response") for asked in call.asked()] == [None]

    def test_a_turn_that_the_caller_did_not_hear_to_its_end_is_continued(self):
        call = talked()
        call.respond()
        call.say(2000, item="a3", text="Let me explain.", ended=True)
        call.done(spoke=True)
        call.move()
        assert len(call.asked()) == 1
        [*_, line] = finished(call).transcript
        assert line.interrupted

    def test_who_chose_not_to_answer_is_not_asked_again(self):
        call = talked()
        ask(call, "Hm.", "u2")
        call.respond()
        call.done()
        call.move()
        assert call.asked() == []

    def test_keys_that_were_pressed_while_a_session_was_replaced_are_answered(self):
        call = talked()
        call.receive(ModelClosed(1006))
        call.receive(DigitPressed("#"))
        call.move()
        assert recalled(call)[-1] == message("user", "[The caller pressed on the keypad: #]")
        assert len(call.asked()) == 1

    def test_it_stays_the_models_turn_if_the_call_moves_twice(self):
        call = talked()
        ask(call, "And yesterday?", "u2")
        call.move(ready=False)
        call.move()
        assert len(call.asked()) == 1

    def test_it_stays_the_models_turn_if_another_model_takes_over(self):
        call = talked(fallback_models=("gpt-realtime-2",))
        ask(call, "And yesterday?", "u2")
        call.move(ready=False)
        call.receive(ModelReady())
        call.all = []
        call.receive(ModelClosed(1006))
        call.receive(ModelReady())
        assert len(call.asked()) == 1
        assert message("assistant", "Hello!") in recalled(call)

    def test_keys_that_were_pressed_before_are_a_turn(self):
        call = talked()
        call.receive(DigitPressed("4"))
        call.move()
        call.wait(2)
        assert message("user", "[The caller pressed on the keypad: 4]") in recalled(call)
        assert len(call.asked()) == 1

    def test_text_that_waits_for_the_model_is_answered(self):
        call = Conversation(ready=False, is_test=True, greeting="Hello!")
        call.receive(CallerTyped("Anyone there?"))
        call.move()
        assert message("user", "Anyone there?") in recalled(call)
        call.respond()
        call.done(spoke=True)
        assert len(call.asked()) == 2  # the greeting, and the answer

    def test_words_that_were_not_transcribed_are_asked_for_again(self):
        call = talked()
        call.listen("u2")
        call.move(ready=False)
        call.move()
        assert recalled(call)[-1] == message("system", LOST)
        assert "response.create" in types(call.wait(SPEAKS_WITHIN_S))


class TestTools:
    def test_a_running_tool_is_not_run_again(self):
        call = talked()
        call.call_tool("book", id="c2")
        snapshot = call.move()
        assert call.ever(RunTool) == []
        made, answered = recalled(call)[-2:]
        assert (made["call_id"], made["name"], answered["call_id"]) == ("c2", "book", "c2")
        assert "may have done its work" in answered["output"]
        assert len(call.asked()) == 1
        assert [run.status for run in snapshot.tool_runs] == ["succeeded", "unknown"]

    def test_a_late_result_of_the_earlier_session_changes_nothing(self):
        call = talked()
        call.call_tool("book", id="c2")
        call.move()
        assert call.receive(ToolReturned("c2", "booked")) == []

    def test_runs_are_reported_once(self):
        call = talked()
        call.move()
        call.call_tool("book", id="c2")
        call.receive(ToolReturned("c2", "booked"))
        assert [run.name for run in finished(call).tool_runs] == ["look_up", "book"]


class TestTime:
    def test_the_maximum_duration_counts_from_the_start_of_the_call(self):
        call = talked(max_duration_seconds=60, inactivity_timeout_ms=300_000)
        call.wait(30 - (call.now - 100))
        call.move(ago=5.0)
        call.wait(24.9)
        assert call.ever(Finish) == []
        call.wait(0.2)
        assert [finish.reason for finish in call.ever(Finish)] == [EndedReason.MAX_DURATION]

    def test_what_happened_before_keeps_its_time(self):
        call = talked()
        before = call.session.lines(), call.session.tool_runs(), call.session.billed_from
        call.move(ago=2.0)
        after = call.session.lines(), call.session.tool_runs(), call.session.billed_from
        for lines, others in zip(before[:2], after[:2], strict=True):
            assert [replace(each, at=0) for each in lines] == [
                replace(each, at=0) for each in others
            ]
            assert [each.at + 1_002 - 2 for each in lines] == pytest.approx(
                [each.at for each in others]
            )
        assert after[2] == pytest.approx(before[2] + 1_000)

    def test_minutes_before_the_move_are_billed_even_if_the_next_model_fails(self):
        call = talked()
        billed_from = call.session.billed_from
        call.move(ready=False)
        call.receive(ModelUnreachable("No.", 503))
        assert call.session.billed_from == pytest.approx(billed_from + 1_000)
        assert call.ever(CloseCaller) == [CloseCaller(Say(APOLOGY))]
        assert call.ever(Finish)[0].usage.audio_out == 1_200

    def test_a_model_that_is_not_ready_in_time_ends_the_call(self):
        call = talked()
        call.move(ready=False)
        call.wait(10)
        assert [finish.reason for finish in call.ever(Finish)] == [EndedReason.MODEL_ERROR]

    def test_silence_goes_on_but_the_caller_has_the_time_to_be_heard(self):
        call = talked(inactivity_timeout_ms=20_000)
        call.wait(4)
        call.move(ago=3.0)
        call.move()
        call.wait(12.9)
        assert call.ever(Finish) == []
        call.move(ago=30.0)
        call.wait(LEAST_SILENCE_S - 0.1)
        assert call.ever(Finish) == []
        call.wait(0.2)
        assert [finish.reason for finish in call.ever(Finish)] == [EndedReason.INACTIVITY]

    def test_who_was_not_silent_has_the_whole_time(self):
        call = talked(inactivity_timeout_ms=5_000)
        call.listen("u2")
        call.move(ago=3.0)
        call.wait(4.9)
        assert call.ever(Finish) == []

    def test_the_timeline_says_how_long_it_took(self):
        call = talked()
        call.move(ago=0.75)
        assert call.notes("moved") == [("moved", {"why": "engine_stopping", "ms": 750})]
        assert call.notes("greeted") == []

    def test_the_timeline_has_one_limit(self):
        call = talked()
        for _ in range(60):
            call.move()
            call.hear({"type": "error", "error": {"code": "odd"}})
            call.hear({"type": "error", "error": {"code": "odd"}})
        assert call.session._state.context.timeline.counts()["model_error"] == 120
        assert call.notes("model_error") == []


class TestGoodbye:
    @pytest.mark.parametrize(
        ("name", "arguments", "reason", "after"),
        [
            ("end_call", "{}", EndedReason.AGENT_HANGUP, None),
            (
                "transfer_call",
                '{"to": "+15551234567"}',
                EndedReason.TRANSFERRED,
                Dial("+15551234567"),
            ),
        ],
    )
    def test_a_call_that_was_ending_ends(self, name, arguments, reason, after):
        call = talked()
        call.respond()
        call.say(400, item="a3", text="Goodbye.", ended=True)
        call.done(FunctionCall("c2", name, arguments), spoke=True)
        call.move(ready=False)
        call.wait(0)
        assert call.ever(CloseCaller) == [CloseCaller(after)]
        assert [finish.reason for finish in call.ever(Finish)] == [reason]

    def test_a_call_that_is_over_cannot_move(self):
        call = talked()
        call.receive(CallerHungUp())
        assert call.session.snapshot("engine_lost", call.now) is None


class TestWithoutATurnBoundary:
    def test_the_response_in_progress_is_ended_first(self):
        call = talked()
        call.respond()
        call.receive(MoveDue())
        assert call.told() == ["response.cancel"]
        assert call.session.is_responding
        call.done(status="cancelled", usage=TokenUsage(audio_out=5))
        assert not call.session.is_responding
        assert call.told() == []
        assert call.move().usage.audio_out == 1_205
        assert len(call.asked()) == 1  # the rest of what was said

    def test_a_call_that_stays_after_all_gets_another_response(self):
        call = talked()
        call.respond()
        call.receive(MoveDue())
        call.done(status="cancelled")
        assert "response.create" in types(call.wait(MOVES_WITHIN_S))

    def test_without_a_response_there_is_nothing_to_end(self):
        call = talked()
        assert call.receive(MoveDue()) == []

    def test_a_call_with_a_running_tool_or_a_goodbye_is_not_cut(self):
        call = talked()
        assert call.session.may_be_cut
        call.call_tool("book", id="c2")
        assert not call.session.may_be_cut
        call.receive(ToolReturned("c2", "booked"))
        assert call.session.may_be_cut
        call.call_tool("end_call", id="c3")
        assert not call.session.may_be_cut


class TestBrokenStreams:
    def test_a_call_goes_on_in_another_stream(self):
        call = talked()
        assert call.receive(StreamBroke()) == [GiveOut()]
        assert not call.session.is_over

    def test_the_third_break_within_a_minute_ends_the_call_wherever_the_others_were(self):
        call = talked(inactivity_timeout_ms=600_000)
        for _ in range(2):
            call.receive(StreamBroke())
            call.move(ago=1.0)
            call.wait(20)
        call.receive(StreamBroke())
        assert [finish.reason for finish in call.ever(Finish)] == [EndedReason.CALLER_HANGUP]
        assert call.ever(GiveOut) == []

    def test_earlier_breaks_are_forgotten(self):
        call = talked(inactivity_timeout_ms=600_000)
        for _ in range(6):
            assert call.receive(StreamBroke()) == [GiveOut()]
            call.move(ago=1.0)
            call.wait(31)

    def test_one_that_breaks_during_the_goodbye_is_followed_by_the_end(self):
        call = talked()
        call.call_tool("end_call", id="c2")
        call.receive(StreamBroke())
        call.move(ready=False)
        call.wait(0)
        assert [finish.reason for finish in call.ever(Finish)] == [EndedReason.AGENT_HANGUP]

    def test_after_the_end_it_changes_nothing(self):
        call = talked()
        call.receive(CallerHungUp())
        assert call.receive(StreamBroke()) == []


class TestAsJson:
    def snapshot(self):
        call = talked()
        call.receive(DigitPressed("4"))
        call.receive(StreamBroke())
        snapshot = call.session.snapshot("engine_lost", call.now)
        return replace(snapshot, leave=(EndedReason.TRANSFERRED, Dial("+15551234567")))

    def test_it_survives_being_sealed(self):
        snapshot = self.snapshot()
        assert Snapshot.from_dict(json.loads(json.dumps(snapshot.to_dict()))) == snapshot

    def test_fields_of_another_release_are_ignored_and_missing_ones_get_their_default(self):
        sealed = self.snapshot().to_dict()
        for entry in (sealed, sealed["plan"], *sealed["lines"], *sealed["tool_runs"]):
            entry["mood"] = "cheerful"
        sealed["usage"]["odours"] = 1
        sealed["leave"]["reason"] = "of_another_release"
        for name in ("calls", "digits", "notes", "owes"):
            del sealed[name]
        restored = Snapshot.from_dict(sealed)
        assert (restored.calls, restored.digits, restored.notes) == ((), "", {})
        assert restored.lines == self.snapshot().lines
        assert restored.leave == (EndedReason.AGENT_HANGUP, Dial("+15551234567"))

    @pytest.mark.parametrize(
        ("change", "error"), [({"version": VERSION + 1}, ValueError), ({"plan": {}}, TypeError)]
    )
    def test_what_cannot_be_taken_up_is_refused(self, change, error):
        with pytest.raises(error):
            Snapshot.from_dict(self.snapshot().to_dict() | change)

    def test_unknown_kinds_of_events_still_count(self):
        call = talked()
        snapshot = replace(self.snapshot(), notes={"of_another_release": MOST_NOTES})
        call.session = type(call.session).resume(snapshot, call.now)
        call.all = []
        call.receive(SpeechStarted("u9"))
        call.receive(SpeechStopped("u9"))
        assert call.notes("caller_spoke") == []

    def test_it_prints_neither_credentials_nor_what_was_said(self):
        text = repr(self.snapshot())
        for secret in (PLAN.openai_api_key, PLAN.system_prompt, "balance", "dollars", "'4'"):
            assert secret not in text


# What happens in a call, turn by turn; at each boundary, it may move.
turns = st.lists(
    st.tuples(st.sampled_from(["ask", "tool", "interrupt", "keys"]), st.booleans()), max_size=6
)


def play(kinds, *, moves):
    """Play a call of these turns, and move it where ``moves`` says; return how it finished."""
    call = Conversation(greeting="Hello!")
    speak(call, "Hello!", "a0", ms=400)
    for number, (kind, does_move) in enumerate(kinds, 1):
        if moves and does_move:
            call.move()
        take_turn(call, kind, number)
    finish = finished(call)
    times = finish.transcript, finish.tool_runs
    lines, runs = (
        [replace(each, at=round(each.at - finish.ended_at, 3)) for each in some] for some in times
    )
    return lines, runs, finish.usage


def take_turn(call, kind, number):
    if kind == "keys":
        call.receive(DigitPressed("1"))
        call.receive(DigitPressed("#"))
    else:
        ask(call, f"Question {number}?", f"u{number}")
    if kind == "tool":
        call.call_tool("look_up", id=f"c{number}")
        call.receive(ToolReturned(f"c{number}", number))
    if kind != "interrupt":
        speak(call, f"Answer {number}.", f"a{number}", ms=400)
        return
    call.respond()
    call.say(2_000, item=f"a{number}", text="A long answer.")
    call.wait(0.6)
    call.listen(f"v{number}")
    call.done(status="cancelled", usage=TokenUsage(audio_out=7))
    call.heard("Stop.", f"v{number}")
    call.receive(CallerTranscribed(f"v{number}", "Stop.", 1.5))
    speak(call, "Fine.", f"b{number}", ms=400)


@moving
@given(turns)
def test_a_call_that_moves_is_the_same_call(kinds):
    assert play(kinds, moves=True) == play(kinds, moves=False)
