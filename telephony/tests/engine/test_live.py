"""Calls with GPT-Live, with the sandbox's model; OpenAI's types judge every message to it."""

from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox import speech
from sandbox.model import (
    Call,
    Drop,
    Error,
    Expire,
    Fail,
    Hold,
    Incomplete,
    Say,
    Script,
    Stall,
    Wait,
    When,
)
from sandbox.tests.live import judge_client
from telephony.engine import actions, events
from telephony.engine.codecs.live.codec import CUSHION_MS, LiveCodec
from telephony.engine.codes import EndedReason, EventKind
from telephony.engine.commands import AddText, AddToolCall, AddToolResult, Configure, Respond
from telephony.engine.costs import openai_cost
from telephony.engine.leaving import STAYED
from telephony.engine.playback import BYTES_PER_MS, Playback
from telephony.engine.snapshot import Snapshot
from telephony.engine.twilio_codec import Encoder
from telephony.tests.engine.conversation import PLAN, Sent, Took
from telephony.tests.engine.invariants import CheckedConversation
from telephony.tests.engine.live_call import LiveCall
from telephony.tests.engine.test_any_order import (
    generated,
    json_values,
    paths,
    replaced,
)


def returned(call: LiveCall, value: Any) -> None:
    """Let the customer's backend return the value for the last tool call."""
    call.receive(events.ToolReturned(call.ever(actions.RunTool)[-1].call_id, value))


def renewals(call: LiveCall) -> list[dict[str, Any]]:
    return [n.detail for n in call.ever(actions.Note) if n.kind is EventKind.MODEL_RENEWED]


def backstage(*inner: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the backend's events as the model sends them."""
    return [{"type": "response.event", "delegation_id": None, "event": event} for event in inner]


def begun() -> LiveCodec:
    """Return the codec of a session whose backend has made a call."""
    codec = LiveCodec()
    codec.encode(Configure(PLAN))
    for message in ({"type": "session.started"}, *backstage(*_WITH_CALL)):
        codec.decode(message)
    return codec


_CALL = {"type": "function_call", "call_id": "c1", "name": "book", "arguments": "{}"}
_CREATED = {"type": "response.created", "response": {"id": "r1"}}
_WITH_CALL: list[dict[str, Any]] = [
    _CREATED,
    {"type": "response.output_item.done", "item": {**_CALL, "status": "completed"}},
    {"type": "response.completed", "response": {"id": "r1"}},
]
_FAILED = {
    "type": "response.failed",
    "response": {"id": "r1", "error": {"code": "server_error", "message": "No."}},
}
_SOUND = {"type": "session.output_audio.delta", "delta": "/v7+fn5+"}
_SILENT = {"type": "session.output_audio.delta", "delta": "/" * 1_066 + "w=="}


def test_it_works() -> None:
    call = LiveCall()

    assert call.say("Hello there", 7.0).startswith("I understood: Hello there.")
    assert call.lines() == [
        ("user", "Hello there"),
        ("assistant", "I understood: Hello there. What else can I do for you?"),
    ]


def test_the_greeting_is_said_when_the_session_has_started() -> None:
    call = LiveCall(greeting="Welcome to Ada's.")

    assert [message["type"] for message in call.sent] == [
        "session.start",
        "session.instructions.append",
    ]
    assert call.wait(3.0) == "Welcome to Ada's."
    assert call.wait(10.0) == ""
    assert call.lines() == [("assistant", "Welcome to Ada's.")]


def test_a_tool() -> None:
    call = LiveCall()
    assert call.say("Please look up my order") == "One moment."
    [run] = call.ever(actions.RunTool)
    returned(call, {"status": "shipped"})

    assert run.name == "look_up"
    assert call.wait(4.0) == "The result is: status shipped."
    assert [role for role, _ in call.lines()] == ["user", "assistant", "assistant"]


def test_parallel_tools_are_continued_once() -> None:
    call = LiveCall((Call("look_up", {}), Call("book", {})))
    call.say("Hello")
    one, two = call.ever(actions.RunTool)
    call.receive(events.ToolReturned(two.call_id, "2"))
    assert call.wait(2.0) == ""
    call.receive(events.ToolReturned(one.call_id, "1"))

    assert "The result is: " in call.wait(4.0)
    assert [m["type"] for m in call.sent].count("response.create") == 1


def test_a_tool_that_fails() -> None:
    call = LiveCall()
    call.say("Please look up my order")
    [run] = call.ever(actions.RunTool)
    call.receive(events.ToolFailed(run.call_id, "It is closed."))

    assert "did not work: It is closed." in call.wait(5.0)


def test_a_slow_tool_and_a_caller_who_speaks_meanwhile() -> None:
    call = LiveCall()
    call.say("Please look up my order", 6.0)
    assert call.say("Hello are you there", 6.0) == ""
    returned(call, "shipped")

    said = call.wait(12.0)
    assert said.startswith("The result is: shipped. I understood: Hello are you there.")
    assert not call.session.is_over


def test_keys_during_a_slow_tool_are_read_with_its_result() -> None:
    """Until then no response can begin, and that is no failure."""
    call = LiveCall()
    call.say("Please look up my order")
    for key in "7#":
        call.receive(events.DigitPressed(key))
    call.wait(25.0)
    returned(call, "shipped")

    assert call.wait(6.0) == "The result is: shipped."
    kinds = [message["type"] for message in call.sent]
    assert kinds[1:] == ["response.item.create"] * 2 + ["response.create"]
    assert EventKind.RESPONSE_FAILED not in [note.kind for note in call.ever(actions.Note)]


def test_a_caller_who_asks_again_and_again_during_a_slow_tool() -> None:
    """The model does not react while a call is open, and that is no failure."""
    call = LiveCall()
    call.say("Please look up my order", 2.0)
    for _ in range(3):
        call.say("Hello?", 7.0)
    returned(call, "shipped")

    assert call.wait(6.0).startswith("The result is: shipped.")
    kinds = {note.kind for note in call.ever(actions.Note)}
    assert not kinds & {EventKind.RESPONSE_FAILED, EventKind.MODEL_ERROR}


def test_a_result_that_is_larger_than_the_budget() -> None:
    call = LiveCall()
    call.say("Please look up my order")
    returned(call, "x" * 50_000)

    assert "too long" in call.wait(5.0)
    assert not [m for m in call.sent if len(str(m)) > 20_000]


def test_many_results_at_once_exhaust_the_budget_and_the_agent_stays_healthy() -> None:
    turns = [Call("look_up", {"n": n}) for n in range(8)]
    call = LiveCall(turns[0], *turns[1:], Say("That is all."))
    call.say("Hello")
    for _ in turns:
        returned(call, "x" * 7_000)
        said = call.wait(4.0)

    assert said == "That is all."


def test_a_session_that_is_nearly_full_is_followed_by_another_in_the_next_pause() -> None:
    turn = [Call("look_up", {}), Say("There you are")]
    call = LiveCall(*turn * 3)
    call.scripts = [Script(turns=turn * 3)]
    for number in range(5):
        call.say("Please look up my order")
        returned(call, f"{number} " + "x" * 6_900)
        assert call.wait(8.0) == "There you are"

    outputs = [m["item"]["output"] for m in call.sent if m["type"] == "response.item.create"]
    assert [output[0] for output in outputs] == ["3", "4"]
    assert renewals(call) == [{"why": "full"}]
    history = [m["content"][0]["text"] for m in call.sent[0]["session"]["input"]]
    assert history[-1] == "There you are"
    assert [line for _, line in call.lines()].count("There you are") == 5


def test_keys_fill_a_session_too() -> None:
    call = LiveCall()
    for _ in range(80):
        call.receive(events.DigitPressed("#"))
        call.wait(0.1)
    call.wait(9.0)

    assert renewals(call) == [{"why": "full"}]


def test_a_result_that_openai_does_not_take_is_told_to_the_next_session() -> None:
    full = When("response.item.create", (Error("response_input_buffer_full"),), instead=True)
    call = LiveCall(script=Script(turns=[Call("look_up", {})], when=[full]))
    call.scripts = [Script(turns=[Say("It has shipped")])]
    call.say("Please look up my order")
    returned(call, "shipped")

    assert call.wait(4.0) == "It has shipped"
    assert renewals(call) == [{"why": "response_input_buffer_full"}]
    history = [m["content"][0]["text"] for m in call.sent[0]["session"]["input"]]
    assert "The result of the tool was: shipped" in history


def test_an_interruption() -> None:
    call = LiveCall(Say("This is a very long story about a little dog"), Say("Sorry"))
    call.say("Hello", 2.0)
    assert "dog" not in call.say("Stop it please", 0.3)

    assert call.wait(4.0).endswith("Sorry")
    [story] = [line for line in call.session.lines() if line.text.startswith("This")]
    assert "dog" not in story.text


def test_end_call_after_the_goodbye_was_heard() -> None:
    call = LiveCall()
    said = call.say("Thank you, goodbye", 5.0)

    assert said == "Goodbye."
    assert call.finished().reason is EndedReason.AGENT_HANGUP


@pytest.mark.parametrize(
    ("turns", "goodbye"),
    [
        ([Call("end_call", {}), Say("It was nice to talk to you")], "It was nice to talk to you"),
        ([(Call("end_call", {}), Say("Goodbye my dear friend"))], "Goodbye my dear friend"),
    ],
)
def test_a_goodbye_that_the_backend_writes_is_heard(turns: list[Any], goodbye: str) -> None:
    call = LiveCall(*turns)
    said = call.say("Please hang up", 8.0)

    assert said == f"One moment. {goodbye}"
    assert call.finished().reason is EndedReason.AGENT_HANGUP


def test_a_caller_who_speaks_during_the_goodbye_stays_and_the_model_learns_it() -> None:
    call = LiveCall((Say("Goodbye my dear friend and thank you"), Call("end_call", {})))
    call.say("That is all", 2.5)
    call.say("Wait a moment", 6.0)

    assert not call.session.is_over
    assert STAYED in [m["content"] for m in call.sent if m["type"] == "session.instructions.append"]


def test_openai_stores_nothing_of_a_call() -> None:
    assert LiveCall().sent[0]["session"]["store"] is False


def test_a_transfer() -> None:
    call = LiveCall()
    said = call.say("Transfer me to +19805550123", 6.0)

    assert said == "I will put you through."
    assert call.finished().reason is EndedReason.TRANSFERRED


def test_keys_of_the_caller_are_read_by_the_backend() -> None:
    call = LiveCall()
    call.wait(0.5)
    call.receive(events.DigitPressed("7"))
    call.receive(events.DigitPressed("#"))

    assert call.wait(6.0) == "You pressed 7#."


def test_keys_that_the_agent_presses() -> None:
    call = LiveCall()
    call.say("Please press 1 2")
    assert call.ever(actions.PlayAudio)
    assert "sent" in call.wait(5.0)


def test_after_a_stall_the_call_is_not_late() -> None:
    call = LiveCall((Hold(3_000), Say("Here I am")))
    call.say("Hello", 5.0)

    assert call.heard() == "Here I am"
    assert call.delay_s == 0
    assert call.say("And now", 7.0).startswith("I understood: And now")


def test_a_burst_after_a_stall_is_caught_up_within_five_seconds() -> None:
    story = "a very long story about a little dog " * 3
    call = LiveCall(Say(story))
    call.say("Hello", 1.5)
    call.model.disturb(Hold(3_000))
    delays = []
    for _ in range(85):
        call.wait(0.1)
        delays.append(call.delay_s)

    burst = delays.index(max(delays))
    assert delays[burst] > 2.5  # with silence as well, this would be the delay for good
    assert max(delays[burst + 50 :]) == 0
    assert call.heard() == story.strip()


def test_the_last_words_of_the_caller_are_written_down() -> None:
    call = LiveCall()
    call.say("Hello there", 0.2)
    hung_up_at = call.now
    call.receive(events.CallerHungUp())

    assert call.finished().reason is EndedReason.CALLER_HANGUP
    assert call.lines() == [("user", "Hello there")]
    assert call.now - hung_up_at < 1


def test_words_that_were_not_yet_transcribed_are_written_down_and_all_seconds_billed() -> None:
    call = LiveCall()
    call.wait(2.0)
    call.play(b"".join(speech.frames("Goodbye")))
    assert call.lines() == []
    call.receive(events.CallerHungUp())
    call.finished()

    assert call.lines() == [("user", "Goodbye")]
    assert call.session.usage.session_seconds == pytest.approx(call.model.used_s, abs=0.001)


def test_the_last_words_of_the_agent_are_written_down() -> None:
    call = LiveCall(Say("This is a very long story about a little dog"))
    call.say("Hello", 1.5)
    call.receive(events.CallerHungUp())

    assert call.finished().reason is EndedReason.CALLER_HANGUP
    assert call.lines()[1][1].startswith("This")
    assert call.session.lines()[1].interrupted


def test_a_configuration_that_is_refused() -> None:
    call = LiveCall(voice="nobody")

    assert call.finished().reason is EndedReason.MODEL_ERROR
    [error] = call.ever(actions.ReportError)
    assert error.code == "model_rejected_configuration"


@pytest.mark.parametrize("end", [Drop(), Expire(), Error("credit_balance_exhausted")])
def test_what_was_said_before_a_session_ends_is_kept(end: Any) -> None:
    call = LiveCall((Say("Well"), end))
    call.say("Hello")

    assert call.lines()[:2] == [("user", "Hello"), ("assistant", "Well")]


@pytest.mark.parametrize("end", [Drop(), Expire(), Error("session_expired")])
def test_a_session_that_ends_while_the_agent_speaks_is_followed_by_one_that_goes_on(
    end: Any,
) -> None:
    call = LiveCall(Say("This is a very long story about a little dog"))
    call.scripts = [Script(turns=[Say("Where was I")])]
    call.say("Hello", 2.0)
    call.model.disturb(end)
    call.wait(4.0)

    assert call.heard().endswith("Where was I")
    story = call.session.lines()[1]
    assert story.text.startswith("This is a very long")
    assert story.interrupted
    told = call.sent[0]["session"]["input"][-1]["content"][0]["text"]
    assert told.startswith("This is")
    assert story.text.startswith(told)


def test_an_account_without_credit_ends_the_call() -> None:
    call = LiveCall((Say("Well"), Error("credit_balance_exhausted")))
    call.say("Hello")

    assert call.finished().reason is EndedReason.MODEL_ERROR


def test_a_backend_that_fails_once() -> None:
    call = LiveCall((Call("look_up", {}), Fail("server_error")), Say("Here I am"))
    call.say("Hello", 5.0)

    assert not call.ever(actions.RunTool)
    assert call.heard() == "One moment. Here I am"
    assert call.say("Hello?", 7.0).startswith("I understood")
    assert not call.ever(actions.ConnectModel)


def test_a_backend_that_does_not_complete_is_asked_again() -> None:
    call = LiveCall((Call("look_up", {}), Incomplete()), Say("Here I am"))
    call.say("Hello", 5.0)

    assert call.heard() == "One moment. Here I am"


def test_a_backend_that_fails_again_and_again_is_followed_by_another_session() -> None:
    call = LiveCall((Call("look_up", {}), Fail("server_error")), *[Fail("server_error")] * 2)
    call.scripts = [Script(turns=[Say("Where were we")])]
    call.say("Please look up my order", 10.0)

    assert [m["type"] for m in call.sent] == ["session.start", "session.instructions.append"]
    assert call.heard() == "One moment. Where were we"
    assert renewals(call) == [{"why": "server_error"}]
    assert call.lines()[0] == ("user", "Please look up my order")


def test_a_backend_that_has_no_chance_ends_the_call_with_its_code() -> None:
    call = LiveCall((Call("look_up", {}), Fail("slow_down")), *[Fail("slow_down")] * 2)
    call.say("Hello")

    assert call.finished().reason is EndedReason.MODEL_ERROR
    assert [error.code for error in call.ever(actions.ReportError)] == ["model_slow_down"]


def test_a_voice_that_speaks_meanwhile_hides_no_failure() -> None:
    failing = (Say("Well then"), Call("look_up", {}), Fail("slow_down"))
    when = [When("response.create", (Hold(0),), nth=n) for n in (1, 2)]
    call = LiveCall(script=Script(turns=[failing] * 9, when=when))
    for _ in range(4):
        call.say("Hello", 6.0)

    assert call.finished().reason is EndedReason.MODEL_ERROR


def test_if_a_failed_response_cannot_be_continued_the_voice_goes_on() -> None:
    """It has to know the results that the backend got."""
    codec = begun()
    codec.encode(AddToolResult("sh_1", "c1", "shipped"))
    codec.encode(Respond("sh_response_1"))
    for message in backstage(_CREATED, _FAILED):
        codec.decode(message)
    [repeated] = codec.encode(Respond("sh_response_2"))
    about = {"code": "no_task", "message": "No.", "client_event_id": "sh_response_2"}
    codec.decode({"type": "error", "error": about})
    known, order = codec.encode(Respond("sh_response_3"))

    assert repeated == {"type": "response.create", "event_id": "sh_response_2"}
    assert (known["type"], known["content"]) == ("session.thinking.append", "shipped")
    assert order["type"] == "session.instructions.append"


def test_a_failed_response_is_not_repeated_after_an_apology() -> None:
    codec = begun()
    for message in backstage(_CREATED, _FAILED):
        codec.decode(message)
    [apology] = codec.encode(Respond("sh_response_1", "Say that you are sorry."))

    assert (apology["event_id"], apology["content"]) == ("sh_response_1", "Say that you are sorry.")
    assert codec.encode(Respond("sh_response_2")) == []


def test_a_request_without_a_reaction_is_repeated() -> None:
    codec = begun()
    codec.encode(AddToolResult("sh_1", "c1", "shipped"))

    for request_id in ("sh_response_1", "sh_response_2"):
        [request] = codec.encode(Respond(request_id))
        assert request == {"type": "response.create", "event_id": request_id}


def test_a_backend_that_stalls_is_given_up_and_the_voice_goes_on() -> None:
    call = LiveCall((Call("look_up", {}), Stall()), Say("It takes too long"))
    call.say("Please look up my order", 40.0)

    assert call.heard().endswith("It takes too long")
    assert not call.session.is_over


def test_what_a_voice_says_by_itself_is_no_response_to_a_result() -> None:
    """Else the backend would never be asked to continue."""
    codec = LiveCodec()
    conversation = CheckedConversation(codec=codec)
    conversation.receive(events.ModelReady())
    for message in ({"type": "session.started"}, *backstage(*_WITH_CALL)):
        conversation.hear(message)
    conversation.listen("u1")
    conversation.receive(events.SpeechStopped("u1"))
    conversation.receive(events.ToolReturned("c1", "booked"))  # while the answer is expected
    conversation.hear(_SOUND)
    for _ in range(9):
        conversation.hear(_SILENT)

    assert len(conversation.asked()) == 1


def test_a_request_that_is_refused_for_a_moment_is_sent_again() -> None:
    when = When("response.create", (Error("rate_limit_exceeded"),), instead=True)
    script = Script(turns=[Call("look_up", {}), Say("It has shipped")], when=[when])
    call = LiveCall(script=script)
    call.say("Hello")
    returned(call, "shipped")

    assert call.wait(5.0) == "It has shipped"
    assert [m["type"] for m in call.sent].count("response.create") == 2


def test_no_silence_goes_before_a_sound_that_is_not_sent() -> None:
    sent: list[bytes] = []
    playback = Playback()
    audio = LiveCodec().agent_audio(sent.append, Encoder("MZ1"), playback, lambda: 0.0)
    playback.close(0.0)

    assert not audio.play("agent_1", b"AAAA")
    assert sent == []


def test_silence_ends_the_call() -> None:
    call = LiveCall(inactivity_timeout_ms=10_000)
    call.say("Hello", 30.0)

    assert call.finished().reason is EndedReason.INACTIVITY


def test_a_refused_start_is_not_waited_for() -> None:
    when = When("session.start", (Error("model_not_found"),), instead=True)
    call = LiveCall(script=Script(when=[when]))

    assert call.finished().reason is EndedReason.MODEL_ERROR


# As OpenAI writes them. A test replaces any part of them with any JSON value.
MESSAGES: list[dict[str, Any]] = [
    {"type": "session.started", "session": {"id": "live_1", "expires_at": 1}},
    {"type": "session.output_audio.delta", "delta": "/v7+fn5+"},
    {"type": "session.output_audio.delta", "delta": "/////w=="},
    {"type": "session.input_transcript.delta", "delta": " Hi", "start_ms": 0, "end_ms": 200},
    {"type": "session.output_transcript.delta", "delta": " Hi", "start_ms": 0, "end_ms": 200},
    *backstage(*_WITH_CALL, _FAILED),
    {"type": "session.usage.updated", "usage": {"seconds": 15}},
    {"type": "session.closed", "reason": "expired", "usage": {"seconds": 1.5}},
    {"type": "error", "error": {"type": "x", "code": "y", "message": "z", "client_event_id": "w"}},
]


PLACES = [(message, path) for message in MESSAGES for path in paths(message)]
odd_messages = st.builds(
    lambda place, part: replaced(*place, part), st.sampled_from(PLACES), json_values
)


class CheckedLive(CheckedConversation):
    """A call that checks the invariants, and whose every session is ready at once."""

    def __init__(self) -> None:
        super().__init__(model="gpt-live-1.1", greeting="Hello.")
        self.receive(events.ModelReady())

    def hear(self, message: object) -> list[Took]:
        if not (self.is_finished or self.session.is_over):
            super().hear(message)
            self.codec.audio(message)
            self.actions = [*self.actions, *map(Sent, self.codec.due())]
            for action in self.took(Sent):
                judge_client(action.event)
        return self.actions

    def receive(self, event: events.Event) -> list[Took]:
        took = super().receive(event)
        if self.took(actions.ConnectModel):
            self.receive(events.ModelReady())
        return took

    def move(self, ago: float = 0.0, *, ready: bool = False) -> Snapshot | None:
        if (snapshot := super().move(ago, ready=ready)) is not None:
            self.receive(events.ModelReady())
        return snapshot


live_step = st.one_of(
    *[st.tuples(st.just("hear"), st.sampled_from(MESSAGES) | odd_messages)] * 6,
    *[st.tuples(st.just("hear"), st.sampled_from([_SOUND, _SILENT]))] * 3,
    st.tuples(st.just("receive"), st.builds(events.DigitPressed, st.just("#"))),
    st.tuples(st.just("wait"), st.sampled_from([0.1, 1.6, 6.0, 35.0])),
    st.tuples(st.just("return_tool"), st.integers(0, 3)),
    st.tuples(st.just("move"), st.sampled_from([0.0, 20.0])),
)


@settings(generated, max_examples=generated.max_examples // 5)
@given(st.lists(live_step, max_size=20))
def test_a_call_ends_after_any_message_and_any_move(steps: list[Any]) -> None:
    call = CheckedLive()
    call.hear(MESSAGES[0])
    call.take(steps)
    call.end()


def test_a_call_that_goes_on_in_a_new_session_is_told_what_was_said() -> None:
    history = (
        AddText("sh_1", "Where is my order?"),
        AddToolCall("sh_2", "c1", "look_up", "{}"),
        AddToolResult("sh_3", "c1", "shipped"),
        AddText("sh_4", "It is on its way.", role="assistant"),
    )
    codec = LiveCodec()
    [start] = codec.encode(Configure(replace(PLAN, model="gpt-live-1"), history))
    assert codec.encode(Respond("sh_response_1")) == []
    codec.decode({"type": "session.started"})
    [order] = codec.due()

    judge_client(start)
    messages = start["session"]["input"]
    assert [(m["role"], m["content"][0]["text"]) for m in messages] == [
        ("user", "Where is my order?"),
        ("developer", "The tool look_up was called with {}."),
        ("developer", "The result of the tool was: shipped"),
        ("assistant", "It is on its way."),
    ]
    assert order["type"] == "session.instructions.append"


def test_a_result_for_a_session_that_is_over_is_spoken_by_the_next_one() -> None:
    codec = LiveCodec()
    codec.encode(Configure(PLAN, (AddToolCall("sh_1", "c1", "look_up", "{}"),)))
    codec.decode({"type": "session.started"})
    [known] = codec.encode(AddToolResult("sh_2", "c1", "shipped"))
    [order] = codec.encode(Respond("sh_response_1"))

    assert (known["type"], known["content"]) == ("session.thinking.append", "shipped")
    assert (order["type"], order["event_id"]) == ("session.instructions.append", "sh_response_1")
    assert codec.encode(Respond("sh_response_2")) == []


def test_what_waited_for_the_session_is_sent_once() -> None:
    codec = LiveCodec()
    codec.encode(Configure(PLAN))
    codec.encode(Respond("sh_response_1", "Say hello."))
    sent = []
    for _ in range(2):
        codec.decode({"type": "session.started"})
        sent += codec.due()

    assert [message["event_id"] for message in sent] == ["sh_response_1"]


def test_a_configuration_that_is_sent_again_has_the_history_again() -> None:
    codec = LiveCodec()
    first = codec.encode(Configure(PLAN, (AddText("sh_1", "Where is my order?"),)))

    assert codec.encode(Configure(PLAN)) == first


@pytest.mark.parametrize("text", ["x" * 1_000, "\N{CJK UNIFIED IDEOGRAPH-4F60}" * 333])
def test_only_the_newest_history_fits(text: str) -> None:
    history = tuple(AddText(f"sh_{n}", f"{n} {text}") for n in range(200))
    [start] = LiveCodec().encode(Configure(PLAN, history))

    messages = start["session"]["input"]
    assert 15 < len(messages) < 20
    assert messages[-1]["content"][0]["text"].startswith("199 ")


def test_the_session_is_billed_by_the_second_and_the_backend_by_tokens() -> None:
    call = LiveCall()
    call.say("Please look up my order")
    returned(call, "x" * 400)
    call.wait(40.0)
    call.receive(events.CallerHungUp())
    call.finished()

    usage = call.session.usage
    seconds = call.model.used_s
    assert usage.session_seconds == pytest.approx(seconds, abs=0.001)
    assert usage.text_in > 100
    assert usage.audio_in == usage.audio_out == 0
    tokens = Decimal(usage.text_in) / 10 + Decimal(usage.text_cached) / 100
    expected = Decimal(str(seconds)) / 1200 + (tokens + Decimal(usage.text_out) / 2) / 1_000_000
    assert openai_cost("gpt-live-1.1", usage) == pytest.approx(expected, abs=Decimal("0.000001"))


def test_the_last_part_of_a_second_is_billed_of_a_session_that_breaks() -> None:
    call = LiveCall()
    call.wait(2.7)
    call.model.disturb(Drop())
    call.wait(0.1)

    assert call.session.usage.session_seconds == pytest.approx(2.7)


def test_a_sound_that_comes_a_little_late_leaves_no_gap() -> None:
    """Silence is sent before the first sound of an utterance only."""
    call = LiveCall((Say("Good morning"), Wait(2_000), Say("Goodbye")))
    call.say("Hello", 6.0)

    lengths = [len(audio) for _, audio in call.played]
    assert lengths.count(CUSHION_MS * BYTES_PER_MS) == 2
    assert lengths[0] == CUSHION_MS * BYTES_PER_MS
    gaps = [later - at - len(audio) / 8_000 for (at, audio), (later, _) in pairwise(call.played)]
    assert [gap for gap in gaps if gap > 0.001] == [pytest.approx(2.0, abs=0.3)]


def test_a_call_moves_between_two_turns() -> None:
    call = LiveCall(Say("Welcome"), greeting="Good day.")
    call.wait(3.0)
    call.say("Hello")
    before = call.lines()
    call.move(Say("Here I am"))
    assert call.wait(3.0) == ""
    assert call.say("Are you there") == "Here I am"

    [start, *others] = call.sent
    assert [m["content"][0]["text"] for m in start["session"]["input"]] == [
        "Good day.",
        "Hello",
        "Welcome",
    ]
    assert others == []
    assert call.lines() == [*before, ("user", "Are you there"), ("assistant", "Here I am")]
    # The codec reports each full second, and OpenAI's final number does not come.
    assert call.session.usage.session_seconds == pytest.approx(call.now - 100.0, abs=1.0)


def test_a_call_moves_while_the_model_owes_an_answer() -> None:
    call = LiveCall()
    call.say("Please look up my order")
    call.move(Say("It has shipped"))

    assert call.wait(3.0) == "It has shipped"
    texts = [m["content"][0]["text"] for m in call.sent[0]["session"]["input"]]
    assert any("look_up" in text for text in texts)


# Seconds after the question: the voice thinks, says "one moment", the backend calls the tool, has
# its result, has written the answer, the voice says it, has said it.
@pytest.mark.parametrize("moment", [0.2, 0.9, 1.3, 2.0, 3.3, 4.1, 4.6, 5.0, 9.0])
def test_a_call_moves_at_any_moment_of_a_delegation(moment: float) -> None:
    call = LiveCall()
    call.say("Please look up my order", min(moment, 3.0))
    if moment > 3.0:
        returned(call, "shipped")
        call.wait(moment - 3.0)
    has_answered = call.heard().endswith("shipped.")
    runs = len(call.ever(actions.RunTool))
    call.move(Say("It has shipped"))
    said = call.wait(5.0)

    assert said == ("" if has_answered and call.heard() else "It has shipped")
    assert len(call.ever(actions.RunTool)) == runs
    assert "Please look up my order".startswith(call.lines()[0][1])
    told = [m["content"][0]["text"] for m in call.sent[0]["session"]["input"]]
    assert sum("was called with" in text for text in told) == runs


_TURNS = st.lists(
    st.tuples(st.sampled_from(["say", "tool", "keys", "interrupt"]), st.booleans()), max_size=3
)


def played(kinds: list[tuple[str, bool]], *, moves: bool) -> tuple[Any, ...]:
    """Play a call of these turns, and move it where ``moves`` says; return what became of it."""
    call = LiveCall(Say("Hello."))
    call.say("Hello", 4.0)
    for number, (kind, does_move) in enumerate(kinds):
        answer = Say(f"Answer {number} of all that you want to know")
        turns = [Call("look_up", {"n": number}), answer] if kind == "tool" else [answer]
        if moves and does_move:
            assert call.session.is_at_rest
            call.move(*turns, Say("Fine"))
        else:
            call.model.script = Script(turns=[*turns, Say("Fine")])
            call.model._turns_taken = 0
        take_turn(call, kind, number)
    call.receive(events.CallerHungUp())
    call.finished()
    return call.lines(), [run.result for run in call.session.tool_runs()], call.heard()


def take_turn(call: LiveCall, kind: str, number: int) -> None:
    if kind == "keys":
        call.receive(events.DigitPressed("#"))
        call.wait(7.0)
        return
    call.say(f"Question {number}", 1.5 if kind == "interrupt" else 3.0)
    if kind == "tool":
        returned(call, number)
        call.wait(8.0)
    elif kind == "interrupt":
        call.say("Stop", 5.0)
    call.wait(3.0)


@settings(generated, max_examples=max(1, generated.max_examples // 100))
@given(_TURNS)
def test_a_call_that_moves_is_the_same_call(kinds: list[tuple[str, bool]]) -> None:
    assert played(kinds, moves=True) == played(kinds, moves=False)


def test_the_wait_for_a_response_begins_when_the_caller_stopped() -> None:
    """The model reports no end of speech: its transcript comes late, and says when."""
    call = LiveCall()
    call.say("Hello there", 7.0)

    [spoke] = [n.detail for n in call.ever(actions.Note) if n.kind is EventKind.AGENT_SPOKE]
    # Half a second of silence, and the time that the model thinks.
    assert 600 <= spoke["latencyMs"] <= 1_000
    [said] = [n.detail for n in call.ever(actions.Note) if n.kind is EventKind.CALLER_SPOKE]
    assert said["ms"] == pytest.approx(speech.duration_ms("Hello there"), abs=300)


def test_a_model_that_is_refused_is_followed_by_the_next() -> None:
    when = When("session.start", (Error("model_not_found"),), instead=True)
    call = LiveCall(script=Script(when=[when]), fallback_models=("gpt-live-1",), greeting="Hi.")

    assert call.wait(3.0) == "Hi."
    assert call.sent[0]["session"]["model"] == "gpt-live-1"
    assert call.say("Hello", 7.0).startswith("I understood: Hello.")
