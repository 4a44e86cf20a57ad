"""Requests before the model is connected."""

from __future__ import annotations

from telephony.engine.answers import Answers
from telephony.engine.context import CallContext
from telephony.engine.playback import Playback
from telephony.tests.engine.conversation import encoded, types


def test_a_request_waits_until_the_model_is_connected():
    context = CallContext(0.0)
    answers = Answers(context, Playback())
    answers.ask()
    assert not answers.is_asked
    context.is_connected = True
    answers.send_due()
    assert types(encoded(context.actions)) == ["response.create"]
    assert answers.is_asked
