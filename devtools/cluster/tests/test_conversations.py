"""The conversations of ``bin/cluster``: what is said in them, and what is missed."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from devtools.cluster import dialogue
from devtools.cluster.participants import Reported
from devtools.cluster.talkers import Told
from devtools.cluster.talking_model import TalkingSession
from devtools.cluster.talks import Talk, lost_turns, repeated_turns
from sandbox import speech
from sandbox.model.script import Script
from sandbox.tests.models import heard
from sandbox.tests.realtime import PAUSE, appends, judge, session_update, user_text

SID = f"CA{7:032x}"
WHOLE = dialogue.lines(6)


class Client:
    """An engine that has taken up a call: it tells the model what was said before."""

    def __init__(self) -> None:
        self.session = TalkingSession(dialogue.MODEL, Script())
        self.session.open()
        tools = [dialogue.TOOL]
        self.send(session_update(instructions=dialogue.prompt(SID), tools=tools))
        said = {"type": "message", "role": "assistant"}
        content = [{"type": "output_text", "text": dialogue.answer(3)}]
        self.send(user_text(dialogue.question(3)))
        self.send({"type": "conversation.item.create", "item": {**said, "content": content}})

    def send(self, *events: Any) -> list[Any]:
        for event in events:
            self.session.receive(json.dumps(event, separators=(",", ":")))
            self.session.advance(math.inf)
        outputs = self.session.take()
        for output in outputs:
            judge(output)
        return outputs

    def say(self, text: str) -> list[Any]:
        return self.send(*appends([*speech.frames(text), *PAUSE]))


def test_the_model_answers_the_last_question_and_tells_what_it_used(
    capsys: pytest.CaptureFixture[str],
) -> None:
    client = Client()
    assert heard(client.say(dialogue.question(4))) == dialogue.answer(4)
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {each["call"] for each in told} == {SID}
    assert "hears_at" in told[0]
    assert sorted(each["used"] for each in told[1:]) == ["speech", "transcript"]


def test_the_model_says_what_the_backend_answers() -> None:
    client = Client()
    [done] = [each for each in client.say(dialogue.question(5)) if each["type"] == "response.done"]
    [call] = done["response"]["output"]
    assert (call["type"], call["name"]) == ("function_call", dialogue.TOOL["name"])
    assert json.loads(call["arguments"]) == {"number": 5}
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "Found 5."}
    client.send({"type": "conversation.item.create", "item": output})
    assert heard(client.send({"type": "response.create"})) == dialogue.answer(5)
    # Asked to go on after an interruption, it says it again.
    assert heard(client.send({"type": "response.create"})) == dialogue.answer(5)


def test_lost_and_repeated_turns_are_found() -> None:
    assert (lost_turns(WHOLE, 6), repeated_turns(WHOLE)) == (set(), set())
    assert lost_turns([line for line in WHOLE if line != ("user", "Find 5.")], 6) == {5}
    assert lost_turns([(role, text.replace("Told 2", "To")) for role, text in WHOLE], 6) == {2}
    assert repeated_turns([*WHOLE, ("user", "Tell 6.")]) == {6}


def test_a_silence_lasts_until_the_model_hears_the_caller_again() -> None:
    told = Told(SID, "+1", 0.0, opened=[1.0, 10.5, 20.5], closed=[10.0, 20.0, 30.0])
    assert Talk(told, Reported(hears_at=[1.5, 10.75])).silences == [0.75, None]


def test_used_is_the_price_of_all_that_was_reported() -> None:
    talk = Talk(Told(SID, "+1", 0.0), Reported())
    talk.reported.used.update(["speech", "speech", "call", "transcript"])
    usage = dialogue.all_used(talk.reported.used.elements())
    assert (usage.audio_out, usage.text_cached, usage.transcribed_seconds) == (42, 448, 0.75)
    # Twice 3,251.2 for speech, 1,750.4 for the call, and 56.25 millionths for the transcript.
    assert talk.used == 0.008309
