"""What the model is asked to say, before it can be asked."""

from __future__ import annotations

from telephony.engine.answers import Answers
from telephony.engine.desk import Desk
from telephony.engine.playback import Playback
from telephony.tests.engine.conversation import types


def test_what_is_wanted_before_the_model_is_there_is_asked_for_then():
    desk = Desk(0.0)
    answers = Answers(desk, Playback())
    answers.ask()
    assert not answers.is_asked
    desk.is_connected = True
    answers.send_due()
    assert types(desk.actions) == ["response.create"]
    assert answers.is_asked
