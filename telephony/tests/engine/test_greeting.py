"""A greeting from the cache, and one that is recorded for it."""

from __future__ import annotations

import base64

import pytest

from telephony.engine.actions import (
    ClearAudio,
    CloseCaller,
    ConnectModel,
    Finish,
    KeepGreeting,
    PlayAudio,
    SendMark,
)
from telephony.engine.after_stream import APOLOGY, Say
from telephony.engine.codecs.realtime.relay import DeltaRelay
from telephony.engine.codes import EndedReason
from telephony.engine.costs import TokenUsage
from telephony.engine.events import (
    AgentTranscribed,
    CallerHungUp,
    GreetingRecalled,
    ItemAdded,
    MarkPlayed,
    ModelClosed,
    ModelConfigured,
    ModelErrored,
    ModelReady,
    ModelUnreachable,
    ResponseCollided,
    SpeechStarted,
)
from telephony.engine.hearing import CUT, UNHEARD
from telephony.engine.phase import Phase
from telephony.engine.playback import BYTES_PER_MS
from telephony.engine.spoken import LONGEST_BYTES, GreetingAudio, SpokenGreeting, has_same_words
from telephony.engine.twilio_codec import Encoder
from telephony.tests.engine.conversation import Conversation, Sent
from telephony.tests.engine.test_moving import finished, message, recalled

WORDS = "Good evening! How can I help you?"
AUDIO = bytes(range(256)) * 78 + b"\x7f" * 32  # 2.5 s
SPOKEN = SpokenGreeting(AUDIO, WORDS)
AT_ONCE = GreetingRecalled(SPOKEN)


def played(call):
    """Return the audio that the caller was sent."""
    return b"".join(base64.b64decode(each.payload) for each in call.ever(PlayAudio))


def greeted(*, ready=True, **plan):
    """Return a call that begins with the greeting of the cache."""
    call = Conversation(ready=False, greeting=WORDS, greeting_cache=True, **plan)
    call.receive(AT_ONCE)
    if ready:
        call.receive(ModelReady())
        call.receive(ModelConfigured())
    return call


def hear_out(call):
    """Let the caller hear the greeting to its end."""
    call.wait(2.5)
    for mark in ("1", "2", "3"):
        call.receive(MarkPlayed(mark))


def hear_half(call):
    """Let the caller hear the first half of the greeting."""
    call.wait(1.0)
    call.receive(MarkPlayed("1"))
    call.wait(0.25)


class TestFromTheCache:
    def test_the_caller_hears_it_before_the_model_is_connected(self):
        call = greeted(ready=False)
        assert played(call) == AUDIO
        assert call.notes("greeted") == [("greeted", {"ms": 0, "cached": True})]

    def test_a_mark_follows_each_second_and_the_end(self):
        sent = [
            action.name if isinstance(action, SendMark) else len(action.payload)
            for action in greeted(ready=False).all
            if isinstance(action, SendMark | PlayAudio)
        ]
        assert sent == [10_668, "1", 10_668, "2", 5_336, "3"]

    def test_the_model_knows_that_it_said_it_and_is_not_asked_for_it(self):
        call = greeted()
        call.acknowledge()
        hear_out(call)
        assert recalled(call) == [message("assistant", WORDS)]
        assert call.asked() == []

    def test_it_comes_first_in_the_transcript_and_costs_nothing(self):
        call = greeted()
        call.acknowledge()
        hear_out(call)
        call.listen("u1")
        call.wait(1)
        call.heard("A table for two.", "u1")
        finish = finished(call)
        assert [(line.text, line.interrupted) for line in finish.transcript] == [
            (WORDS, False),
            ("A table for two.", False),
        ]
        assert finish.usage == TokenUsage(transcribed_seconds=1.5)

    def test_the_first_turn_has_its_order_even_if_the_model_names_none_before_it(self):
        call = greeted()
        hear_out(call)
        call.receive(ItemAdded("u1", None, "user"))
        call.heard("Hello?", "u1")
        assert [line.text for line in call.session.lines()] == [WORDS, "Hello?"]

    def test_silence_after_it_ends_the_call(self):
        call = greeted(inactivity_timeout_ms=5_000)
        call.wait(2.5)
        hear_out(call)
        call.wait(4.9)
        assert call.session.phase is Phase.TALKING
        call.wait(0.2)
        assert call.session.is_over

    def test_a_short_one_does_not_end_a_call_that_is_still_connecting(self):
        call = greeted(ready=False, inactivity_timeout_ms=1_000)
        hear_out(call)
        call.wait(4)
        assert call.session.phase is Phase.STARTING

    def test_it_is_not_played_twice_nor_after_the_model_is_connected(self):
        call = greeted(ready=False)
        assert call.receive(AT_ONCE) == []
        call = Conversation(greeting=WORDS, greeting_cache=True)
        assert call.receive(AT_ONCE) == []
        assert len(call.asked()) == 1

    def test_it_is_heard_even_if_no_mark_comes_back(self):
        call = greeted(ready=False)
        call.wait(8)
        assert call.notes("marks_lost") == [("marks_lost", {})]

    def test_one_without_audio_is_requested_from_the_model(self):
        call = Conversation(ready=False, greeting=WORDS, greeting_cache=True)
        call.receive(GreetingRecalled(SpokenGreeting(b"", WORDS)))
        call.receive(ModelReady())
        assert len(call.asked()) == 1

    def test_a_caller_who_has_hung_up_hears_nothing(self):
        call = Conversation(ready=False, greeting=WORDS, greeting_cache=True)
        call.receive(CallerHungUp())
        assert call.receive(AT_ONCE) == []


class TestInterrupted:
    def test_speech_stops_it_and_the_model_learns_what_was_heard(self):
        call = greeted()
        call.acknowledge()
        hear_half(call)
        call.receive(SpeechStarted("u1"))
        assert call.took(ClearAudio)
        [told] = call.took(Sent)
        cut = CUT.format("Good evening!")
        assert told.event["item"]["role"] == "system"
        assert told.event["item"]["content"] == [{"type": "input_text", "text": cut}]
        assert call.notes("interrupted") == [("interrupted", {"heardMs": 1250})]

    def test_the_transcript_says_so(self):
        call = greeted()
        call.acknowledge()
        call.listen("u1")
        call.heard("Stop.", "u1")
        [line, _] = finished(call).transcript
        assert (line.text, line.interrupted, line.heard) == (WORDS, True, 0.0)

    def test_one_of_which_nothing_was_heard(self):
        call = greeted()
        call.receive(SpeechStarted("u1"))
        [told] = call.took(Sent)
        assert told.event["item"]["content"][0]["text"] == UNHEARD

    def test_the_next_session_gets_only_what_was_heard(self):
        call = greeted()
        hear_half(call)
        call.listen("u1")
        call.heard("Stop.", "u1")
        call.move()
        assert recalled(call) == [message("assistant", "Good evening!"), message("user", "Stop.")]


class TestMoved:
    def test_in_the_middle_of_it_the_next_engine_goes_on_from_what_was_heard(self):
        call = greeted()
        call.acknowledge()
        hear_half(call)
        call.move()
        assert recalled(call) == [message("assistant", "Good evening!")]
        assert len(call.asked()) == 1
        assert "response" not in call.asked()[0]  # and not for the greeting again
        assert (call.ever(PlayAudio), call.notes("greeted")) == ([], [])

    def test_before_anything_was_heard_the_next_model_is_asked_for_it(self):
        call = greeted(ready=False)
        call.move()
        assert recalled(call) == []
        [asked] = call.asked()
        assert WORDS in asked["response"]["instructions"]

    def test_before_the_model_was_there(self):
        call = greeted(ready=False)
        hear_half(call)
        call.move()
        assert recalled(call) == [message("assistant", "Good evening!")]

    def test_after_it_the_next_engine_waits_for_the_caller(self):
        call = greeted()
        hear_out(call)
        call.move()
        assert recalled(call) == [message("assistant", WORDS)]
        assert call.asked() == []

    def test_to_another_session_of_the_model(self):
        call = greeted()
        call.receive(ModelClosed(1006))
        call.receive(ModelReady())
        assert recalled(call)[-1] == message("assistant", WORDS)
        assert call.asked() == []


class TestTheModelFails:
    def test_another_model_follows_and_knows_the_greeting(self):
        call = greeted(ready=False, fallback_models=("gpt-realtime-2",))
        call.receive(ModelUnreachable("No.", 503))
        [another] = call.took(ConnectModel)
        call.receive(ModelReady())
        assert another.plan.model == "gpt-realtime-2"
        assert recalled(call) == [message("assistant", WORDS)]
        assert call.asked() == []

    def test_a_call_without_a_word_of_its_own_model_is_not_billed(self):
        call = greeted()
        call.receive(ModelErrored("insufficient_quota", "You have no credit."))
        assert call.took(CloseCaller) == [CloseCaller(Say(APOLOGY))]
        assert call.session.billed_from is None
        [finish] = call.ever(Finish)
        assert finish.reason is EndedReason.MODEL_ERROR

    def test_nor_is_one_that_has_moved(self):
        call = greeted()
        call.move()
        call.receive(ModelErrored("insufficient_quota", "You have no credit."))
        assert call.session.billed_from is None


class Recorded(Conversation):
    """A call whose model says the greeting, through the relay."""

    def __init__(self, **plan):
        plan = {"greeting": WORDS, "greeting_cache": True} | plan
        super().__init__(**plan)
        self.sent = []
        playback = self.session.playback
        self.relay = DeltaRelay(self.sent.append, Encoder("MZ1"), playback, lambda: self.now)

    def receive(self, event):
        relay = getattr(self, "relay", None)
        if relay is None:
            return super().receive(event)
        relay.settle()
        actions = super().receive(event)
        relay.resume()
        return actions

    def sound(self, audio, item="a1"):
        """Send frames of 100 ms as OpenAI does; return how many did not need to be parsed."""
        frames = [audio[at : at + 800] for at in range(0, len(audio), 800)]
        passed = 0
        for frame in map(base64.b64encode, frames):
            text = b'{"type":"response.output_audio.delta","item_id":"%s","delta":"%s"}'
            if self.relay.take(text % (item.encode(), frame)) is not None:
                passed += 1
            else:
                self.relay.play(item, frame)
        return passed

    def greet(self, audio=AUDIO, text=WORDS, item="a1", **done):
        self.respond()
        self._add(item, "assistant")
        self.sound(audio, item)
        return self.done(**({"spoke": True, "said": (AgentTranscribed(item, text),)} | done))

    @property
    def kept(self):
        return [action.spoken for action in self.ever(KeepGreeting)]


class TestForTheCache:
    def test_a_greeting_is_kept_as_it_was_said(self):
        call = Recorded()
        call.greet(text="Good evening. How can I help you?")
        assert call.kept == [SpokenGreeting(AUDIO, "Good evening. How can I help you?")]

    def test_what_follows_takes_the_short_way_again(self):
        call = Recorded()
        call.respond()
        assert call.sound(AUDIO) == 0
        call.done(spoke=True, said=(AgentTranscribed("a1", WORDS),))
        call.listen("u1")
        call.heard("Hello.", "u1")
        call.respond()
        assert call.sound(AUDIO[:8_000], "a2") == 8  # all but the first, and the one for a mark

    @pytest.mark.parametrize(
        "plan", [{"greeting_cache": False}, {"greeting": "", "greeting_cache": True}]
    )
    def test_none_without_the_field_or_a_greeting(self, plan):
        call = Recorded(**plan)
        call.respond()
        assert call.sound(AUDIO[:4_000]) == 4
        call.done(spoke=True, said=(AgentTranscribed("a1", WORDS),))
        assert call.kept == []

    @pytest.mark.parametrize("status", ["incomplete", "cancelled"])
    def test_none_that_the_model_did_not_complete(self, status):
        call = Recorded()
        call.greet(status=status)
        assert call.kept == []

    def test_none_in_other_words(self):
        call = Recorded()
        call.greet(text="Good evening! How may I help you?")
        assert call.kept == []

    def test_none_in_two_parts(self):
        call = Recorded()
        parts = (AgentTranscribed("a0", "Hm."), AgentTranscribed("a1", WORDS))
        call.greet(said=parts)
        assert call.kept == []

    def test_none_that_the_caller_interrupted(self):
        call = Recorded()
        call.respond()
        call.sound(AUDIO[:8_000])
        call.listen("u1")
        call.sound(AUDIO[8_000:])  # which is not sent
        call.done(spoke=True, said=(AgentTranscribed("a1", WORDS),))
        assert call.kept == []

    def test_none_of_another_response(self):
        call = Recorded()
        call.greet()
        call.listen("u1")
        call.heard("Again, please.", "u1")
        call.greet(item="a2")
        assert len(call.kept) == 1

    def test_one_that_the_model_had_to_say_again_is_kept_as_it_was_said_last(self):
        call = Recorded()
        call.respond()
        call.sound(AUDIO[::-1])
        call.done(status="failed", error_code="server_error")
        call.wait(1)
        call.greet(item="a2")
        assert call.kept == [SPOKEN]

    def test_none_that_is_too_long(self):
        call = Recorded()
        call.greet(audio=bytes(LONGEST_BYTES + 800))
        assert call.kept == []

    def test_none_of_a_response_that_was_not_requested_so(self):
        call = Recorded()
        call.receive(ResponseCollided())
        call.greet()
        assert call.kept == []

    def test_none_from_the_cache_after_which_all_takes_the_short_way(self):
        call = Recorded()
        call.session = greeted().session
        call.relay = DeltaRelay(call.sent.append, Encoder("MZ1"), call.session.playback, float)
        hear_out(call)
        call.respond()
        assert call.sound(AUDIO[:8_000]) == 8
        call.done(spoke=True, said=(AgentTranscribed("a1", WORDS),))
        assert call.kept == []

    def test_none_that_moved(self):
        call = Recorded()
        call.move()
        call.relay = DeltaRelay(
            call.sent.append, Encoder("MZ1"), call.session.playback, lambda: call.now
        )
        call.greet()
        assert call.kept == []


class TestGreetingAudio:
    def test_audio_that_is_no_base64_is_not_kept(self):
        collected = GreetingAudio()
        collected.add("a1", b"AAAA")
        collected.add("a1", b"A")
        assert collected.audio_of("a1") == b""

    def test_it_has_only_the_item_that_came_last(self):
        collected = GreetingAudio()
        collected.add("a1", b"AAAA")
        collected.add("a2", b"////")
        assert (collected.audio_of("a1"), collected.audio_of("a2")) == (b"", b"\xff" * 3)

    @pytest.mark.parametrize("more", [0, 1])
    def test_its_limit_is_exact(self, more):
        audio = bytes(LONGEST_BYTES + more)
        collected = GreetingAudio()
        collected.add("a1", base64.b64encode(audio))
        assert collected.audio_of("a1") == (b"" if more else audio)

    def test_it_stops_at_its_limit(self):
        collected = GreetingAudio()
        second = base64.b64encode(bytes(1000 * BYTES_PER_MS))
        for _ in range(40):
            collected.add("a1", second)
        assert (collected.is_full, len(collected._frames)) == (True, 31)


@pytest.mark.parametrize(
    ("said", "same"),
    [
        ("good evening how can I help you", True),
        ("GOOD EVENING — how can I help you?!", True),
        ("Good evening! How can I help?", False),
        ("", False),
    ],
)
def test_words_are_compared_and_not_what_is_between_them(said, same):
    assert has_same_words(said, WORDS) is same


def test_a_greeting_without_words_is_like_no_other():
    assert not has_same_words("…", "👋")
